"""What each compiled algorithm cannot do, and where dispatch should pass over it.

A threshold says where it was measured; docs/performance.md has the figures.
"""

from __future__ import annotations

from typing import Any


def takes_all(*problem: Any) -> None:
    """No restriction."""

"""What each compiled algorithm cannot do, and where dispatch should pass over it.

A threshold says where it was measured; docs/performance.md has the figures.
"""

from __future__ import annotations

from typing import Any


def takes_all(*problem: Any) -> None:
    """No restriction."""


def blocked_unsupported(pass_name: str, spec: Any) -> str | None:
    return None if spec.channels_last or pass_name == "filter_grad" else "channels-first is being written"

"""What each compiled algorithm cannot do, and where dispatch should pass over it.

A threshold says where it was measured; docs/performance.md has the figures.
"""

from __future__ import annotations

from typing import Any


def takes_all(*problem: Any) -> None:
    """No restriction."""


def winograd_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim != 2:
        return "it takes two spatial axes"
    if spec.window not in ((3, 3), (5, 5)):
        return f"the window is {spec.window}, not (3, 3) or (5, 5)"
    if spec.stride != (1, 1):
        return f"the stride is {spec.stride}, not 1"
    return None


def winograd_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    """Transforms pay from about a vector of channels on each side (docs/performance.md)."""
    c, k = spec.c // spec.groups, spec.k // spec.groups
    if min(c, k) < 12:
        return f"with {c} channels and {k} filters a group the transforms cost more than they save"
    return None


def depthwise_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim != 2:
        return "it takes two spatial axes"
    if not spec.groups == spec.c == spec.k:
        return "it takes one input channel and one filter a group"
    return None


def depthwise_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    """A vector holds 4 to 16 channels; fewer leave most of its lanes empty (one channel: 12 times slower)."""
    if spec.c < 4:
        return f"{spec.c} channels leave most of a vector empty"
    return None

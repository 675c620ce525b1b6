"""What each algorithm cannot do, and where dispatch should pass over it; nothing here imports Numba."""

from __future__ import annotations

import math
from typing import Any


def takes_all(*problem: Any) -> None:
    """No restriction."""


def winograd_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim != 2:
        return "it takes two spatial axes"
    if spec.window != (3, 3):
        return f"the window is {spec.window}, not (3, 3)"
    if spec.stride != (1, 1):
        return f"the stride is {spec.stride}, not 1"
    if spec.dilation != (1, 1):
        return f"the dilation is {spec.dilation}, not 1"
    return None


def depthwise_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim == 3:
        return "it takes one or two spatial axes"
    if not spec.groups == spec.c == spec.k:
        return "it takes one input channel and one filter a group"
    return None

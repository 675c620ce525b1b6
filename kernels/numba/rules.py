"""What each algorithm cannot do, and where dispatch should pass over it; nothing here imports Numba."""

from __future__ import annotations

import math
from typing import Any

from fastconv.kernels.kernel import CONV_PASSES, winograd_grad_refusal


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
    return winograd_grad_refusal(pass_name, spec)


def depthwise_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim == 3:
        return "it takes one or two spatial axes"
    if not spec.groups == spec.c == spec.k:
        return "it takes one input channel and one filter a group"
    return None


# Thresholds below were measured on one core of a Zen 4 server, AVX-512, on the problems of
# benchmarks/problems.py.


def winograd_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    c, k = spec.c // spec.groups, spec.k // spec.groups
    if min(c, k) < 12:  # 16 channels gain 1.3x, 3 lose 2x
        return f"with {c} channels and {k} filters a group the transforms cost more than they save"
    tiles = spec.n * math.prod(-(-o // 4) for o in spec.out_size)
    # 16 tiles of 512 channels: 2x forward, 1.3x in the filter gradient (Zen 5)
    if tiles < 16:
        return f"{tiles} tiles do not pay for the transform of the filters"
    return None


def blocked_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    c, k = spec.c // spec.groups, spec.k // spec.groups
    rows, name = (k, "filters") if pass_name == "forward" else (min(c, k), "channels or filters")
    if rows < 8:  # 4 a group: direct loops are 2x to 5x as fast; 3 input channels: 2x in the gradients
        return f"{rows} {name} a group leave most of a register tile empty"
    return None


def im2col_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    if pass_name not in CONV_PASSES:
        return None
    k = spec.k // spec.groups
    if spec.channels_last:  # where blocked gains nothing, direct loops are 3x to 10x as fast
        return "direct loops over channels-last pixels need no column matrix"
    if k < 8:
        return f"{k} filters a group leave most of a register tile empty"
    return None

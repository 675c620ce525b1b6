"""What a kernel is to the dispatcher: a name, its passes, and a reason where it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CONV_PASSES = ("forward", "input_grad", "filter_grad")
POOL_PASSES = ("max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad")
PASSES = CONV_PASSES + POOL_PASSES


def _takes_all(*problem: Any) -> None:
    return None


def _no_workspace(pass_name: str, spec: Any, threads: int) -> int:
    return 0


def _as_it_is(pass_name: str, spec: Any, w: Any) -> Any:
    return w


@dataclass(frozen=True)
class Kernel:
    """`backend.algorithm` with one function a pass; see the package docstring for their arguments.

    Attributes
    ----------
    name : str
        "backend.algorithm", or "reference".
    passes : mapping of str to callable
        The passes it implements; empty where the backend is not available.
    unsupported : callable (pass name, spec) -> str or None
        The property of the problem that it lacks, or None where it can do it.
    avoid : callable (pass name, spec, threads) -> str or None
        Why automatic choice should pass over it although it can do the problem: another will be faster.
    sums_products : bool
        False for fast algorithms (Winograd) whose rounding is not that of a plain sum of products.
    missing : str or None
        Why the kernel is not available here.
    isa : str
        The instruction set it runs on.
    workspace : callable (pass name, spec, threads) -> int
        Bytes it allocates during a call beside its arguments.
    prepared : mapping of str to callable
        Of forward and input_grad, those passes that take, in w's place, what `prepare` made of it.
    prepare : callable (pass name, spec, w) -> object
        The filters packed or transformed once for many calls of a pass in `prepared`.
    """

    name: str
    passes: Mapping[str, Callable[..., None]]
    unsupported: Callable[[str, Any], str | None] = _takes_all
    avoid: Callable[[str, Any, int], str | None] = _takes_all
    sums_products: bool = True
    missing: str | None = None
    isa: str = "any"
    workspace: Callable[[str, Any, int], int] = _no_workspace
    prepared: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    prepare: Callable[[str, Any, Any], Any] = _as_it_is


# Winograd's rounding error averages out over the positions that a filter gradient sums. In thousands of
# draws of normal data it was at worst 28 eps of the plane's largest value for 1 position, 15 for 16, 6 for 64
# and 3.5 for 144; the documented bound is 16 (docs/performance.md).
WINOGRAD_GRAD_POSITIONS = 32


def winograd_grad_refusal(pass_name: str, spec: Any) -> str | None:
    """Why a filter gradient by Winograd would round too much, or None."""
    positions: int = spec.n * math.prod(spec.out_size)
    if pass_name == "filter_grad" and positions < WINOGRAD_GRAD_POSITIONS:
        least = WINOGRAD_GRAD_POSITIONS
        return f"a filter gradient over {positions} positions rounds too much: it takes at least {least}"
    return None


def unwritten(pass_name: str, spec: Any) -> tuple[Any, ...]:
    """Arrays without content in the order of a pass's arguments; untouched, they take no memory."""
    x, y = (np.empty(shape, spec.dtype) for shape in (spec.x_shape, spec.y_shape))
    if pass_name in CONV_PASSES:
        w, k = np.empty(spec.w_shape, spec.dtype), np.empty(spec.k, spec.dtype)
        return {"forward": (x, w, k, y, None), "input_grad": (y, w, x), "filter_grad": (x, y, w, k)}[
            pass_name
        ]
    if pass_name.startswith("avg"):
        return (x, y) if pass_name == "avg_pool" else (y, x)
    argmax = np.empty(spec.y_shape, spec.argmax_dtype)
    return (x, y, argmax) if pass_name == "max_pool" else (y, argmax, x)

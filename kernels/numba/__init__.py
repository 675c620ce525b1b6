"""The just-in-time compiled kernels; they need no compiler on the machine.

Numba is imported, and a pass compiled, when a kernel is first called. Machine code is cached on disk.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

from fastconv.kernels.kernel import CONV_PASSES, POOL_PASSES, Kernel, unwritten
from fastconv.kernels.numba import rules


def lazily(module: str, function: str) -> Callable[..., Any]:
    """A function of one of this package's modules, imported when it is first called."""

    @cache
    def find() -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(
            importlib.import_module(f"fastconv.kernels.numba.{module}"), function
        )
        return found

    def call(*arguments: Any) -> Any:
        return find()(*arguments)

    call.__name__ = call.__qualname__ = f"{module}.{function}"
    return call


allocated = lazily("jit", "allocated")

ALGORITHMS = {
    "depthwise": CONV_PASSES,
    "winograd": CONV_PASSES,
    "blocked": CONV_PASSES,
    "im2col": CONV_PASSES + POOL_PASSES,
    "direct": CONV_PASSES + POOL_PASSES,
}


def kernels() -> tuple[Kernel, ...]:
    """The Numba kernels; without Numba, their names and why they are missing."""
    missing = None
    if importlib.util.find_spec("numba") is None:
        missing = "numba is not installed (pip install fastconv[numba])"
    return tuple(_kernel(algorithm, passes, missing) for algorithm, passes in ALGORITHMS.items())


def _kernel(algorithm: str, passes: tuple[str, ...], missing: str | None) -> Kernel:
    run = {} if missing else {p: lazily("pool" if p in POOL_PASSES else algorithm, p) for p in passes}

    def workspace(pass_name: str, spec: Any, threads: int) -> int:
        arguments = (spec, *unwritten(pass_name, spec), threads)
        return int(allocated(run[pass_name], arguments))

    return Kernel(
        f"numba.{algorithm}",
        run,
        unsupported=getattr(rules, f"{algorithm}_unsupported", rules.takes_all),
        avoid=getattr(rules, f"{algorithm}_avoid", rules.takes_all),
        sums_products=algorithm != "winograd",
        missing=missing,
        workspace=workspace,
    )


FUNCTIONS = (
    "conv2d_nchw",
    "conv2d_nchw_filter_grad",
    "conv2d_nchw_input_grad",
    "conv2d_nhwc",
    "conv2d_nhwc_filter_grad",
    "conv2d_nhwc_input_grad",
    "max_pool2d_nchw",
)


def __getattr__(name: str) -> Any:
    """The functions for a user's own compiled code (functions.py), imported with Numba when first asked
    for.
    """
    if name in FUNCTIONS:
        return getattr(importlib.import_module("fastconv.kernels.numba.functions"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The just-in-time compiled kernels; they need no compiler on the machine.

Numba is imported, and a pass compiled, when a kernel is first called. Machine code is cached on disk.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

from fastconv.kernels.kernel import CONV_PASSES, POOL_PASSES, Kernel


def lazily(module: str, function: str) -> Callable[..., Any]:
    """A function of one of this package's modules, imported when it is first called."""

    @cache
    def find() -> Callable[..., Any]:
        return getattr(importlib.import_module(f"fastconv.kernels.numba.{module}"), function)  # type: ignore[no-any-return]

    def call(*arguments: Any) -> Any:
        return find()(*arguments)

    call.__name__ = call.__qualname__ = f"{module}.{function}"
    return call


ALGORITHMS = ("blocked", "im2col", "direct")


def kernel(algorithm: str) -> Kernel:
    passes = {name: lazily(algorithm, name) for name in CONV_PASSES}
    if algorithm in ("im2col", "direct"):
        passes |= {name: lazily("pool", name) for name in POOL_PASSES}
    return Kernel(f"numba.{algorithm}", passes)


def kernels() -> tuple[Kernel, ...]:
    """The Numba kernels; without Numba, their names and why they are missing."""
    if importlib.util.find_spec("numba") is None:
        missing = "numba is not installed (pip install fastconv[numba])"
        return tuple(Kernel(f"numba.{algorithm}", {}, missing=missing) for algorithm in ALGORITHMS)
    return tuple(kernel(algorithm) for algorithm in ALGORITHMS)

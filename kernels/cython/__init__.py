"""The compiled kernels: `engine.pxi` built once per instruction set."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from fastconv.kernels.kernel import Kernel

ALGORITHMS: tuple[str, ...] = ()


@cache
def kernels(isa: str | None) -> tuple[Kernel, ...]:
    """The kernels on one instruction set; without compiled code, their names and why they are missing."""
    if isa is None:
        missing = "fastconv was installed without its compiled kernels"
        return tuple(Kernel(f"cython.{algorithm}", {}, missing=missing) for algorithm in ALGORITHMS)
    engine: Any = importlib.import_module(f"fastconv.kernels.cython._{isa}")
    return ()

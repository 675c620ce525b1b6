"""The compiled kernels: `engine.pxi` built once per instruction set."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from fastconv.kernels.cython import rules
from fastconv.kernels.kernel import CONV_PASSES, POOL_PASSES, Kernel, unwritten

try:
    from fastconv.kernels.cython._cpu import empty as empty
except ImportError:  # installed without compiled code
    empty = np.empty

ALGORITHMS = {
    "blocked": CONV_PASSES,
    "im2col": CONV_PASSES + POOL_PASSES,
    "direct": CONV_PASSES + POOL_PASSES,
    "winograd": CONV_PASSES,
    "winograd_depthwise": ("forward", "input_grad"),
    "depthwise": CONV_PASSES,
}


@cache
def engine(isa: str | None) -> Any:
    """The compiled module of an instruction set; None without compiled code."""
    return None if isa is None else importlib.import_module(f"fastconv.kernels.cython._{isa}")


@cache
def kernels(isa: str | None) -> tuple[Kernel, ...]:
    """The kernels on one instruction set; without compiled code, their names and why they are missing.

    Pass p of algorithm a is the engine's function ``a_p``, with prepared filters ``a_p_prepared``.
    """
    if isa is None:
        missing = "fastconv was installed without its compiled kernels"
        return tuple(Kernel(f"cython.{algorithm}", {}, missing=missing) for algorithm in ALGORITHMS)
    functions = engine(isa)
    return tuple(_kernel(functions, isa, algorithm, passes) for algorithm, passes in ALGORITHMS.items())


def _kernel(functions: Any, isa: str, algorithm: str, passes: tuple[str, ...]) -> Kernel:
    def found(names: Mapping[str, str]) -> dict[str, Any]:
        return {key: getattr(functions, name) for key, name in names.items() if hasattr(functions, name)}

    run = found({p: f"{algorithm}_{p}" for p in passes})

    def workspace(pass_name: str, spec: Any, threads: int) -> int:
        allocated: int = functions.allocated(run[pass_name], (spec, *unwritten(pass_name, spec), threads))
        return allocated

    avoid = getattr(rules, f"{algorithm}_avoid", rules.takes_all)
    if algorithm == "winograd":
        avoid = partial(avoid, functions.blocked_nanoseconds)
    return Kernel(
        f"cython.{algorithm}",
        run,
        unsupported=getattr(rules, f"{algorithm}_unsupported", rules.takes_all),
        avoid=avoid,
        sums_products=not algorithm.startswith("winograd"),
        isa=isa,
        prepared=found({p: f"{algorithm}_{p}_prepared" for p in ("forward", "input_grad")}),
        **({"workspace": workspace} | found({"prepare": f"{algorithm}_prepare"})),
    )

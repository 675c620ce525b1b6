"""The machine and the versions that a measurement belongs to."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import numpy as np

import fastconv
from fastconv.dispatch import runtime, settings

OPTIONAL = ("numba", "scikit-learn", "matplotlib", "threadpoolctl")


def describe() -> dict[str, Any]:
    """CPU, instruction sets, threads, system and versions, as plain values for printing or JSON."""
    return {
        "cpu": runtime.cpu_name(),
        "isa": runtime.chosen_isa() or "none (no compiled kernels)",
        "supported isas": ", ".join(runtime.supported_isas()) or "none",
        "threads": settings.current().threads,
        "openmp": openmp(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "fastconv": fastconv.__version__,
        "numpy": np.__version__,
    }


def openmp() -> str:
    """Whether the compiled kernels run in parallel."""
    if not runtime.supported_isas():
        return "no compiled kernels"
    from fastconv.kernels.cython import _cpu

    threads: int = _cpu.openmp_threads()
    return f"up to {threads} threads" if threads else "built without OpenMP: one thread"


def installed(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

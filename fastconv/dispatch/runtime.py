"""The machine: instruction sets, the number of threads, and what changes in a forked child.

The only place that reads CPU features or the environment.
"""

from __future__ import annotations

import os
import platform
import warnings
from functools import cache

ISAS = ("avx512", "avx2", "baseline")


@cache
def supported_isas() -> tuple[str, ...]:
    """The instruction sets that the CPU, the operating system and this build support, best first."""
    try:
        from fastconv.kernels.cython import _cpu
    except ImportError:
        return ()
    return tuple(isa for isa in ISAS if _cpu.supports(isa) and _built(isa))


def _built(isa: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(f"fastconv.kernels.cython._{isa}") is not None


@cache
def chosen_isa() -> str | None:
    """The best supported instruction set, or the one FASTCONV_ISA names; None without compiled kernels."""
    supported = supported_isas()
    wanted = os.environ.get("FASTCONV_ISA")
    if not wanted:
        return supported[0] if supported else None
    if wanted not in ISAS:
        raise ValueError(f"FASTCONV_ISA is {wanted!r}: it must be one of {', '.join(ISAS)}")
    if wanted not in supported:
        warnings.warn(f"FASTCONV_ISA={wanted} is not supported here; using {supported[:1]}", stacklevel=2)
        return supported[0] if supported else None
    return wanted


@cache
def default_threads() -> int:
    """FASTCONV_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use."""
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
            return min(int(value), 1024)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's own name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def no_compiler_notice() -> None:
    """Said once at import where the compiled kernels are missing."""
    if not supported_isas():
        warnings.warn(
            "fastconv was installed without its compiled kernels (no C++ compiler?); "
            "it uses Numba where installed, else plain NumPy. Reinstall with a C++ compiler for full speed.",
            stacklevel=3,
        )


_in_forked_child = False


def _after_fork() -> None:
    # A GNU OpenMP team does not survive fork: a parallel region in the child of a process that has computed
    # in parallel waits forever for threads that are not there. One thread needs no team.
    global _in_forked_child
    _in_forked_child = True


def threads_allowed(wanted: int) -> int:
    """The threads a call may start now."""
    return 1 if _in_forked_child else wanted


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""The just-in-time compiled kernels; they need no compiler on the machine."""

from __future__ import annotations

from fastconv.kernels.kernel import Kernel


def kernels() -> tuple[Kernel, ...]:
    """The Numba kernels; without Numba, their names and why they are missing."""
    return ()

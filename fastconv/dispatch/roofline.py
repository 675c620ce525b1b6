"""What the hardware allows: the measured FMA peak and bandwidth, and the least time a problem takes at them.

The roofline model of Williams, Waterman and Patterson (2009): a computation takes at least its arithmetic at
the peak rate, and at least its compulsory traffic at the bandwidth. Both are measured once a process, on
first use, in some tens of milliseconds.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import runtime
from fastconv.kernels import cython
from fastconv.ops.spec import ConvSpec

# Rates are the best of this many short samples: a neighbour's load disturbs some, rarely all.
SAMPLES = 5


class Peak(NamedTuple):
    """The fastest multiply-adds measured here, and by what."""

    gflops: float
    source: str


class Roofline(NamedTuple):
    """The least time for a number of operations and of bytes, and which of them sets it."""

    seconds: float
    limit: str


def fma_peak(itemsize: int, threads: int, isa: str | None = None) -> Peak:
    """GFLOP/s of fused multiply-adds in registers for elements of 4 or 8 bytes.

    Without compiled kernels, of a large matrix product instead, which comes close to it.
    """
    return _fma_peak(itemsize, threads, isa or runtime.chosen_isa())


@cache
def _fma_peak(itemsize: int, threads: int, isa: str | None) -> Peak:
    engine = cython.engine(isa)
    if hasattr(engine, "fma_gflops"):
        with ThreadPoolExecutor(threads) as pool:
            rates = [sum(pool.map(engine.fma_gflops, [itemsize] * threads)) for _ in range(SAMPLES)]
        return Peak(max(rates), f"{isa} FMA loop")
    return Peak(_matmul_gflops(itemsize, threads), "np.matmul")


def bandwidth(nbytes: int, threads: int) -> float:
    """Bytes per second, read plus written, of copies of `nbytes` in all: of cache or memory, by size."""
    return _copy_rate(min(max(nbytes.bit_length(), 19), 28), threads)


def least_bytes(pass_name: str, spec: Any) -> int:
    """Bytes that the pass must move even with an infinite cache: each argument and the result once."""
    elements = math.prod(spec.x_shape) + math.prod(spec.y_shape)
    if isinstance(spec, ConvSpec):
        elements += math.prod(spec.w_shape)
    argmax = math.prod(spec.y_shape) * spec.argmax_dtype.itemsize if pass_name.startswith("max_pool") else 0
    return int(elements * spec.dtype.itemsize + argmax)


def roofline(flops: int, nbytes: int, itemsize: int, threads: int, isa: str | None = None) -> Roofline:
    """The least time on this machine, as measured."""
    compute = flops / (fma_peak(itemsize, threads, isa).gflops * 1e9)
    traffic = nbytes / bandwidth(nbytes, threads)
    return Roofline(max(compute, traffic), "compute" if compute >= traffic else "bandwidth")


def _matmul_gflops(itemsize: int, threads: int, size: int = 768) -> float:
    a = np.ones((size, size), f"f{itemsize}")
    out = np.empty_like(a)
    best = math.inf
    with _blas_threads(threads):
        for _ in range(SAMPLES):
            start = perf_counter()
            np.matmul(a, a, out=out)
            best = min(best, perf_counter() - start)
    return 2 * size**3 / best / 1e9


def _blas_threads(threads: int) -> AbstractContextManager[Any]:
    """BLAS held to `threads` where threadpoolctl is installed."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(threads, "blas")  # type: ignore[no-any-return]


@cache
def _copy_rate(bits: int, threads: int) -> float:
    """The rate of copies that read and write about 2**bits bytes in all, shared out over the threads."""
    elements = max(2**bits // 16 // threads, 1)
    repeats = max(2**28 >> bits, 1)
    arrays = [(np.ones(elements), np.ones(elements)) for _ in range(threads)]

    def copy(thread: int) -> float:
        source, target = arrays[thread]
        for _ in range(repeats):
            np.copyto(target, source)
        return 2.0 * source.nbytes * repeats

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(SAMPLES):
            start = perf_counter()
            moved = sum(pool.map(copy, range(threads)))
            best = max(best, moved / (perf_counter() - start))
    return best

"""Max- and average-pooling and their gradients: loops over the taps of a row of windows.

A row is an output row of a channel where channels come first, and the channels of an output pixel where they
come last; either way its inner loop is over memory in order, which LLVM vectorizes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.geometry import (
    LAST,
    OUT,
    SIZE,
    STRIDE,
    WINDOW,
    C,
    add_run,
    clear_run,
    end_inside,
    first_inside,
    product,
    tap_offset,
)  # fmt: skip
from fastconv.kernels.numba.jit import jit, run, unpack, useful_threads, workspace
from fastconv.kernels.numba.vector import at, cast, put
from fastconv.kernels.reference import divisor

Array = NDArray[Any]


@jit
def keep_larger(y, index, i, x, j, step, place, place_step, count):
    """y = max(y, x) and the place of the winner for elements t < count; NaN wins, an empty index is not
    kept.
    """
    if index.size > 0:
        for t in range(count):
            value, best, here = at(x, j + t * step), at(y, i + t), at(index, i + t)
            wins = (value > best) | (value != value) | (here < 0)
            put(y, i + t, value if wins else best)
            put(index, i + t, cast(index, place + t * place_step) if wins else here)
    else:
        for t in range(count):
            value, best = at(x, j + t * step), at(y, i + t)
            put(y, i + t, value if (value > best) | (value != value) else best)


@jit
def fill(a, i, value, count):
    for t in range(count):
        put(a, i + t, value)


@jit
def input_row(g, row, tap):
    """Where the input row starts that output row (od, oh) meets at a tap, or -1 outside."""
    R, S = g[WINDOW + 1], g[WINDOW + 2]
    d = row // g[OUT + 1] * g[STRIDE] + tap_offset(g, 0, tap // S // R)
    h = row % g[OUT + 1] * g[STRIDE + 1] + tap_offset(g, 1, tap // S % R)
    if 0 <= d < g[SIZE] and 0 <= h < g[SIZE + 1]:
        return (d * g[SIZE + 1] + h) * g[SIZE + 2]
    return -1


@jit
def columns_inside(g, tap):
    """Output columns [low, high) whose tap is inside the row, and the tap's offset."""
    offset = tap_offset(g, 2, tap % g[WINDOW + 2])
    high = min(g[OUT + 2], end_inside(offset, g[STRIDE + 2], g[SIZE + 2]))
    return min(first_inside(offset, g[STRIDE + 2]), high), high, offset


def max_pool_job(begin, end, thread, arguments):
    """A job: the output rows of a channel (channels-first), or one output row of all channels (channels-
    last).
    """
    g, x, y, argmax = unpack(arguments)
    taps, plane, rows, OW, step = (
        product(g, WINDOW),
        product(g, SIZE),
        g[OUT] * g[OUT + 1],
        g[OUT + 2],
        g[STRIDE + 2],
    )
    for job in range(begin, end):
        if g[LAST]:
            n, row = job // rows, job % rows
            first = job * OW * g[C]
            start_row(y, argmax, first, OW * g[C])
            for tap in range(taps):
                low, high, offset = columns_inside(g, tap)
                source = input_row(g, row, tap) + offset
                if input_row(g, row, tap) >= 0:
                    for ow in range(low, high):
                        place = source + ow * step
                        keep_larger(
                            y, argmax, first + ow * g[C], x, (n * plane + place) * g[C], 1, place, 0, g[C]
                        )
        else:
            for row in range(rows):
                first = (job * rows + row) * OW
                start_row(y, argmax, first, OW)
                for tap in range(taps):
                    low, high, offset = columns_inside(g, tap)
                    source = input_row(g, row, tap)
                    if source >= 0:
                        place = source + offset + low * step
                        keep_larger(
                            y, argmax, first + low, x, job * plane + place, step, place, step, high - low
                        )


@jit
def start_row(y, argmax, i, count):
    fill(y, i, cast(y, -np.inf), count)
    if argmax.size > 0:
        fill(argmax, i, cast(argmax, -1), count)


def max_pool(spec: Any, x: Array, y: Array, argmax: Array | None, threads: int) -> None:
    jobs = spec.n * (math.prod(spec.out_size[:-1]) if spec.channels_last else spec.c)
    if argmax is None:
        argmax = np.empty(0, np.int32)
    run(max_pool_job, jobs, useful_threads(threads, jobs, work(spec)), spec.geometry, x, y, argmax)


def work(spec: Any) -> float:
    """Elements a pooling pass looks at, in units of `useful_threads`."""
    return 2.0 * spec.n * spec.c * math.prod(spec.out_size) * math.prod(spec.window)


# Channels of a job of the channels-last gradients, which own all pixels of theirs.
CHANNELS = 64


def max_pool_grad_job(begin, end, thread, arguments):
    """A job: a channel of an image (channels-first), or some of its channels (channels-last)."""
    g, dy, argmax, dx = unpack(arguments)
    plane, pixels = product(g, SIZE), product(g, OUT)
    blocks = (g[C] + CHANNELS - 1) // CHANNELS
    for job in range(begin, end):
        if g[LAST]:
            n, c0 = job // blocks, job % blocks * CHANNELS
            count = min(CHANNELS, g[C] - c0)
            for p in range(n * plane, (n + 1) * plane):
                clear_run(dx, p * g[C] + c0, 1, count)
            for p in range(n * pixels, (n + 1) * pixels):
                for c in range(c0, c0 + count):
                    target = (n * plane + at(argmax, p * g[C] + c)) * g[C] + c
                    put(dx, target, at(dx, target) + at(dy, p * g[C] + c))
        else:
            clear_run(dx, job * plane, 1, plane)
            for p in range(job * pixels, (job + 1) * pixels):
                target = job * plane + at(argmax, p)
                put(dx, target, at(dx, target) + at(dy, p))


def gradient_jobs(spec: Any) -> int:
    return int(spec.n * (-(-spec.c // CHANNELS) if spec.channels_last else spec.c))


def max_pool_grad(spec: Any, dy: Array, argmax: Array, dx: Array, threads: int) -> None:
    jobs = gradient_jobs(spec)
    threads = useful_threads(threads, jobs, 4.0 * (dx.size + dy.size))
    run(max_pool_grad_job, jobs, threads, spec.geometry, dy, argmax, dx)


def avg_pool_job(begin, end, thread, arguments):
    """Jobs as in max_pool_job; `divisors` has one number for each output pixel."""
    g, x, divisors, y = unpack(arguments)
    taps, plane, rows, OW, step = (
        product(g, WINDOW),
        product(g, SIZE),
        g[OUT] * g[OUT + 1],
        g[OUT + 2],
        g[STRIDE + 2],
    )
    for job in range(begin, end):
        if g[LAST]:
            n, row = job // rows, job % rows
            first = job * OW * g[C]
            clear_run(y, first, 1, OW * g[C])
            for tap in range(taps):
                low, high, offset = columns_inside(g, tap)
                source = input_row(g, row, tap)
                if source >= 0:
                    for ow in range(low, high):
                        place = n * plane + source + offset + ow * step
                        add_run(y, first + ow * g[C], 1, x, place * g[C], 1, g[C])
            for ow in range(OW):
                divisor = at(divisors, row * OW + ow)
                for i in range(first + ow * g[C], first + (ow + 1) * g[C]):
                    put(y, i, at(y, i) / divisor)
        else:
            for row in range(rows):
                first = (job * rows + row) * OW
                clear_run(y, first, 1, OW)
                for tap in range(taps):
                    low, high, offset = columns_inside(g, tap)
                    source = input_row(g, row, tap)
                    if source >= 0:
                        place = job * plane + source + offset + low * step
                        add_run(y, first + low, 1, x, place, step, high - low)
                for ow in range(OW):
                    put(y, first + ow, at(y, first + ow) / at(divisors, row * OW + ow))


def flat_divisors(spec: Any, dtype: Any) -> Array:
    return np.ascontiguousarray(np.broadcast_to(divisor(spec, dtype), spec.out_size))


def avg_pool(spec: Any, x: Array, y: Array, threads: int) -> None:
    jobs = spec.n * (math.prod(spec.out_size[:-1]) if spec.channels_last else spec.c)
    threads = useful_threads(threads, jobs, work(spec))
    run(avg_pool_job, jobs, threads, spec.geometry, x, flat_divisors(spec, x.dtype), y)


def avg_pool_grad_job(begin, end, thread, arguments):
    """Jobs as in max_pool_grad_job; `share` is scratch for a row of dy / divisor."""
    g, dy, divisors, dx, share = unpack(arguments)
    taps, plane, rows, OW, step = (
        product(g, WINDOW),
        product(g, SIZE),
        g[OUT] * g[OUT + 1],
        g[OUT + 2],
        g[STRIDE + 2],
    )
    blocks = (g[C] + CHANNELS - 1) // CHANNELS
    for job in range(begin, end):
        if g[LAST]:
            n, c0 = job // blocks, job % blocks * CHANNELS
            count = min(CHANNELS, g[C] - c0)
            for p in range(n * plane, (n + 1) * plane):
                clear_run(dx, p * g[C] + c0, 1, count)
            scratch = thread * CHANNELS
            for row in range(rows):
                for ow in range(OW):
                    p = row * OW + ow
                    for c in range(count):
                        put(share, scratch + c, at(dy, (n * rows * OW + p) * g[C] + c0 + c) / at(divisors, p))
                    for tap in range(taps):
                        low, high, offset = columns_inside(g, tap)
                        target = input_row(g, row, tap)
                        if target >= 0 and low <= ow < high:
                            place = n * plane + target + offset + ow * step
                            add_run(dx, place * g[C] + c0, 1, share, scratch, 1, count)
        else:
            clear_run(dx, job * plane, 1, plane)
            scratch = thread * OW
            for row in range(rows):
                for ow in range(OW):
                    value = at(dy, (job * rows + row) * OW + ow)
                    put(share, scratch + ow, value / at(divisors, row * OW + ow))
                for tap in range(taps):
                    low, high, offset = columns_inside(g, tap)
                    target = input_row(g, row, tap)
                    if target >= 0:
                        place = job * plane + target + offset + low * step
                        add_run(dx, place, step, share, scratch + low, 1, high - low)


def avg_pool_grad(spec: Any, dy: Array, dx: Array, threads: int) -> None:
    jobs = gradient_jobs(spec)
    threads = useful_threads(threads, jobs, work(spec))
    share = workspace(threads * max(CHANNELS, spec.out_size[-1]), dy.dtype)
    run(avg_pool_grad_job, jobs, threads, spec.geometry, dy, flat_divisors(spec, dy.dtype), dx, share)

"""Jobs on filters and their gradients: packing into panels, sums of partial gradients, the bias gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.geometry import LAST, OUT, K, N, clear_run, copy_run, product, transpose
from fastconv.kernels.numba.jit import jit, run, unpack, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.vector import at, lanes, load, load_part, put, splat, store, store_part, total

Array = NDArray[Any]


# Rows of filters in a job that packs them: runs of memory long enough where rows are what lies together.
ROWS = 128


@jit
def pack_rows(packed, to, panel, width, w, source, row_stride, column_stride, rows, columns):
    """Filters by strides -> packed (rows, width), one panel of columns `panel` elements behind the other;
    zeros where the columns end.
    """
    L = lanes(w)
    if column_stride == 1 and width % L == 0:  # row by row, as they lie in memory
        for row in range(rows):
            at, left = to + row * width, 0
            for j in range(0, columns, L):
                if left == width:
                    at, left = at + panel, 0
                if j + L <= columns:
                    store(packed, at + left, load(w, source + j))
                else:
                    store(packed, at + left, load_part(w, source + j, 0, columns - j))
                left += L
            for j in range(left, width, L):
                store(packed, at + j, splat(w, 0.0))
            source += row_stride
        return
    for j in range(0, columns, width):
        count = min(width, columns - j)
        if column_stride == 1:
            for row in range(rows):
                copy_run(packed, to + row * width, 1, w, source + row * row_stride, 1, count)
        elif row_stride == 1:
            transpose(packed, to, width, w, source, column_stride, count, rows)
        else:
            for i in range(count):
                copy_run(packed, to + i, width, w, source + i * column_stride, row_stride, rows)
        if count < width:
            for row in range(rows):
                clear_run(packed, to + row * width + count, 1, width - count)
        source += width * column_stride
        to += panel


def pack_job(begin, end, thread, arguments):
    """w[group, tap, row, column] by strides -> packed[group, panel, tap, row, width], zeros behind."""
    p, w, packed = unpack(arguments)
    taps, rows, columns, width, start = p[0], p[1], p[2], p[3], p[4]
    group_stride, tap_stride, row_stride, column_stride = p[5], p[6], p[7], p[8]
    chunks, panels = (rows + ROWS - 1) // ROWS, (columns + width - 1) // width
    for job in range(begin, end):
        row, tap, group = job % chunks * ROWS, job // chunks % taps, job // chunks // taps
        source = start + group * group_stride + tap * tap_stride + row * row_stride
        pack_rows(
            packed, ((group * panels * taps + tap) * rows + row) * width, taps * rows * width, width,
            w, source, row_stride, column_stride, min(ROWS, rows - row), columns,
        )  # fmt: skip


def pack(
    w: Array,
    threads: int,
    *,
    shape: tuple[int, int, int, int],
    strides: tuple[int, int, int, int],
    width: int,
    start: int = 0,
) -> Array:
    """Filters as (group, tap, row, column) of some shape and strides -> panels of `width` columns, flat."""
    groups, taps, rows, columns = shape
    panels = -(-columns // width)
    packed = workspace(groups * taps * panels * rows * width, w.dtype)
    p = np.array([taps, rows, columns, width, start, *strides], np.int64)
    jobs = groups * taps * -(-rows // ROWS)
    run(pack_job, jobs, useful_threads(threads, jobs, 4.0 * packed.size), p, w, packed)
    return packed


def pack_panels(spec: Any, w: Array, width: int, threads: int, *, backward: bool) -> Array:
    """Filters of either layout as (group, panel, tap, depth, width) for the forward pass or the input
    gradient.

    Depth is what the pass sums over: C, or K backward, where the taps are also in reverse.
    """
    c, k, taps = spec.c // spec.groups, spec.k // spec.groups, math.prod(spec.window)
    if spec.channels_last:
        group, tap, channel, column = k, c * spec.k, spec.k, 1
    else:
        group, tap, channel, column = k * c * taps, 1, taps, c * taps
    if backward:
        shape, strides, start = (spec.groups, taps, k, c), (group, -tap, column, channel), (taps - 1) * tap
    else:
        shape, strides, start = (spec.groups, taps, c, k), (group, tap, channel, column), 0
    return pack(w, threads, shape=shape, strides=strides, width=width, start=start)


def sum_parts_job(begin, end, thread, arguments):
    """out[i] = parts[0, i] + parts[1, i] + ..., in this order; a job is p[0] elements."""
    p, parts, out = unpack(arguments)
    for i in range(begin * p[0], min(end * p[0], out.size)):
        value = at(parts, i)
        for part in range(1, p[1]):
            value += at(parts, part * out.size + i)
        put(out, i, value)


def sum_parts(parts: Array, out: Array, threads: int) -> None:
    """Sum partial results (parts, *out.shape) in a fixed order."""
    jobs = -(-out.size // 4096)
    run(
        *(sum_parts_job, jobs, useful_threads(threads, jobs, float(parts.size))),
        *(np.array([4096, len(parts)], np.int64), parts, out),
    )


def bias_grad_job(begin, end, thread, arguments):
    """db[k] = the sum of dy over images and pixels; a job is one vector of channels."""
    g, dy, db = unpack(arguments)
    L = lanes(dy)
    pixels = product(g, OUT)
    for job in range(begin, end):
        first = job * L
        count = min(L, g[K] - first)
        if g[LAST]:
            sums = splat(dy, 0.0)
            for p in range(g[N] * pixels):
                sums = sums + load_part(dy, p * g[K] + first, 0, count)
            store_part(db, first, count, sums)
        else:
            for k in range(first, first + count):
                sums = splat(dy, 0.0)
                for n in range(g[N]):
                    row = (n * g[K] + k) * pixels
                    whole = pixels - pixels % L
                    for p in range(0, whole, L):
                        sums = sums + load(dy, row + p)
                    sums = sums + load_part(dy, row + whole, 0, pixels - whole)
                put(db, k, total(sums))


def bias_grad(spec: Any, dy: Array, db: Array, threads: int) -> None:
    """The gradient of the bias, (K,)."""
    jobs = -(-spec.k * db.itemsize // vector_bytes())
    run(bias_grad_job, jobs, useful_threads(threads, jobs, float(dy.size)), spec.geometry, dy, db)

"""Implicit GEMM: the register tile over pixels taken straight from the input, no column matrix.

Forward pass and input gradient are one operation over a view (views.py); the filter gradient is its
transpose.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba import blocked_bands as bands
from fastconv.kernels.numba import blocked_filter_grad as transposed
from fastconv.kernels.numba import blocked_first as first
from fastconv.kernels.numba import blocked_last as last
from fastconv.kernels.numba.epilogue import ACTIVATIONS
from fastconv.kernels.numba.filters import bias_grad, pack_panels, sum_parts
from fastconv.kernels.numba.jit import in_python, run, up, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.tile import MR, NV, panel_width
from fastconv.kernels.numba.views import AXIS, PHASES, PHASES_AT, forward_view, input_grad_view

Array = NDArray[Any]

width_of = in_python(panel_width)


def window_of(spec: Any) -> tuple[int, ...]:
    """(T, R, S)"""
    return (1,) * (3 - spec.ndim) + tuple(spec.window)


def most_positions(view: Array) -> int:
    """Positions of the largest phase, in one image: the first one of each axis."""
    return int(np.prod([view[view[AXIS * a + PHASES_AT]] for a in range(3)]))


def phase_count(view: Array) -> int:
    return int(np.prod(view[[AXIS * a + PHASES for a in range(3)]]))


def gather_last(
    spec: Any,
    view: Array,
    source: Array,
    w: Array,
    bias: Array,
    to: Array,
    activation: int,
    threads: int,
    backward: bool,
) -> None:
    c, k, taps = spec.c // spec.groups, spec.k // spec.groups, math.prod(spec.window)
    depth, columns = (k, c) if backward else (c, k)
    width = width_of(columns, vector_bytes() // w.itemsize)
    panels, kc = up(columns, width), min(taps * depth, last.KC)
    blocks = up(spec.n * most_positions(view), last.PIXELS)
    pieces = phase_count(view) * spec.groups * blocks
    # the filters of a part stay in L2; and several jobs for each thread, where the pixels alone give too few
    parts = min(panels, up(kc * panels * width * w.itemsize, last.FILTER_BYTES))
    if threads > 1:
        parts = max(parts, min(panels, up(4 * threads, pieces)))
    threads = useful_threads(threads, pieces * parts, spec.flops)
    packed = pack_panels(spec, w, width, threads, backward=backward)
    options = np.array(
        [depth * spec.groups, columns * spec.groups, depth, columns, activation, blocks, parts,
         *window_of(spec)[1:], taps, spec.n]
    )  # fmt: skip
    run(
        *(last.gather_last_job, pieces * parts, threads, options, view, source, packed, bias, to),
        workspace(threads * MR * last.KC, w.dtype),
        workspace(threads * in_python(last.index_size)(taps), np.int64),
    )


def gather_first(
    spec: Any,
    view: Array,
    source: Array,
    w: Array,
    bias: Array,
    to: Array,
    activation: int,
    threads: int,
    backward: bool,
) -> None:
    c, k, taps = spec.c // spec.groups, spec.k // spec.groups, math.prod(spec.window)
    depth, rows = (k, c) if backward else (c, k)
    L = vector_bytes() // w.itemsize
    positions = spec.n * most_positions(view)
    blocks = up(positions, width_of(positions, L))
    pieces = phase_count(view) * spec.groups * blocks
    parts = max(up(rows, first.ROWS), 1 if threads == 1 else min(up(rows, MR), up(4 * threads, pieces)))
    options = np.array(
        [depth * spec.groups, rows * spec.groups, depth, rows, activation, blocks, parts,
         *window_of(spec)[1:], taps, spec.n, backward]
    )  # fmt: skip
    if backward:
        panels = up(rows, MR)
        packed = workspace(spec.groups * panels * MR * depth * taps, w.dtype)
        jobs = phase_count(view) * spec.groups * panels
        helpers = useful_threads(threads, jobs, 4.0 * packed.size)
        run(
            *(first.pack_first_job, jobs, helpers, options, view, w, packed),
            workspace(helpers * taps * first.TAP, np.int64),
        )
        w = packed
    threads = useful_threads(threads, pieces * parts, spec.flops)
    col = workspace(threads * (first.KC + first.ROWS) * NV * L, w.dtype)
    index = workspace(threads * in_python(first.index_size)(taps, L), np.int64)
    run(first.gather_first_job, pieces * parts, threads, options, view, source, w, bias, to, col, index)


def band_forward(spec: Any, x: Array, w: Array, bias: Array, y: Array, activation: int, threads: int) -> None:
    L = vector_bytes() // x.itemsize
    width, taps, pixels = width_of(spec.k, L), math.prod(spec.window), spec.out_size[1]
    rows = bands.rows_of_job(spec)
    blocks = up(spec.out_size[0], rows)
    packed = pack_panels(spec, w, width, threads, backward=False)
    threads = useful_threads(threads, spec.n * blocks, spec.flops)
    run(
        *(bands.forward_job, spec.n * blocks, threads, spec.geometry),
        *(np.array([activation, rows, blocks, threads]), x, packed, bias, y),
        workspace(threads * bands.band_size(spec, rows), x.dtype),
        workspace(threads * pixels * width, x.dtype),
        workspace(threads * in_python(bands.forward_index)(taps, pixels), np.int64),
    )


def forward(
    spec: Any, x: Array, w: Array, bias: Array | None, y: Array, activation: str | None, threads: int
) -> None:
    gather = gather_last if spec.channels_last else gather_first
    bias = np.empty(0, x.dtype) if bias is None else bias
    if bands.takes(spec, bands.PIXELS):
        band_forward(spec, x, w, bias, y, ACTIVATIONS.index(activation), threads)
        return
    gather(spec, forward_view(spec), x, w, bias, y, ACTIVATIONS.index(activation), threads, False)


def input_grad(spec: Any, dy: Array, w: Array, dx: Array, threads: int) -> None:
    gather = gather_last if spec.channels_last else gather_first
    gather(spec, input_grad_view(spec), dy, w, np.empty(0, dy.dtype), dx, 0, threads, True)


def band_filter_grad(spec: Any, x: Array, dy: Array, dw: Array, threads: int) -> None:
    width, depth = width_of(spec.k, vector_bytes() // x.itemsize), dw.size // spec.k
    rows = bands.rows_of_sum(spec)
    blocks = up(spec.out_size[0], rows)
    threads = useful_threads(threads, spec.n * blocks, spec.flops)
    parts = 1 if threads == 1 else min(spec.n * blocks, 2 * threads)
    in_place = parts == 1 and spec.channels_last
    sums = dw if in_place else workspace(parts * dw.size, dw.dtype)
    run(
        *(bands.filter_grad_job, parts, threads, spec.geometry),
        *(np.array([0, rows, blocks, threads, parts]), x, dy, sums),
        workspace(threads * bands.band_size(spec, rows), x.dtype),
        workspace(threads * rows * spec.out_size[1] * width, x.dtype),
        workspace(threads * in_python(bands.grad_index)(depth, rows), np.int64),
    )
    gather_parts(spec, sums, dw, parts, threads)


def gather_parts(spec: Any, sums: Array, dw: Array, parts: int, threads: int) -> None:
    """Parts of a gradient, each channels-last (tap, channel, filter), summed into dw of either layout."""
    if not spec.channels_last:
        run(
            *(transposed.gather_sums_job, spec.k, min(threads, spec.k), spec.geometry),
            *(np.array([parts]), sums, dw),
        )
    elif parts > 1:
        sum_parts(sums.reshape(parts, -1), dw, threads)


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
    if bands.takes(spec, bands.MOST_DEPTH):
        band_filter_grad(spec, x, dy, dw, threads)
    else:
        gather_filter_grad(spec, x, dy, dw, threads)
    if db is not None:
        bias_grad(spec, dy, db, threads)


def gather_filter_grad(spec: Any, x: Array, dy: Array, dw: Array, threads: int) -> None:
    c, k, taps = spec.c // spec.groups, spec.k // spec.groups, math.prod(spec.window)
    width = width_of(k, vector_bytes() // x.itemsize)
    tiles = taps * up(c, MR)
    out_width = spec.out_size[-1]
    lines = spec.n * math.prod(spec.out_size[:-1])
    blocks = up(lines, max(1, transposed.KC // out_width)) * up(out_width, transposed.KC)
    # several jobs for each thread: shares of the rows while each packed panel still meets some tiles,
    # then of dy
    pieces = spec.groups * up(k, width)
    splits = 1 if threads == 1 else min(up(tiles, 8), up(4 * threads, pieces))
    pieces *= splits
    parts = 1 if threads == 1 else min(up(2 * threads, pieces), blocks)
    threads = useful_threads(threads, pieces * parts, spec.flops)
    in_place = parts == 1 and spec.channels_last
    sums = dw if in_place else workspace(parts * dw.size, dw.dtype)
    size = in_python(transposed.index_size)(lines)
    run(
        *(
            transposed.filter_grad_job,
            pieces * parts,
            threads,
            spec.geometry,
            np.array([splits, parts]),
            x,
            dy,
            sums,
        ),
        *(workspace(threads * transposed.KC * NV * vector_bytes() // x.itemsize, x.dtype),),
        workspace(threads * size, np.int64),
    )
    gather_parts(spec, sums, dw, parts, threads)

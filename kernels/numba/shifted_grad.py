"""The filter gradient over padded bands: rows of the register tile are taps, each a shift of the band.

    (depth x taps, positions) @ (positions, filters) -> (depth x taps, filters)

dy is transposed a band at a time, so that a position's filters are vectors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.geometry import add_run, clear_run, transpose
from fastconv.kernels.numba.jit import run, unpack, up, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.shifted import (
    BAND,
    BAND_SIZE,
    BANDS,
    BEFORE_H,
    CHANNELS,
    DEPTH,
    IN_H,
    IN_W,
    OUT_H,
    OUT_W,
    PITCH,
    ROWS,
    TO_CHANNELS,
    fill_band,
    plan_of,
)
from fastconv.kernels.numba.tile import MR, NV, SEGMENT, tile
from fastconv.kernels.numba.vector import lanes

Array = NDArray[Any]


@lru_cache(maxsize=1024)
def grad_plan_of(spec: Any) -> tuple[Array, Array, Array] | None:
    """(options of the forward pass, segments: the lines of a band, taps: offsets in it), or None."""
    plan = plan_of(spec, backward=False)
    lanes_filled = 3 * (spec.k // spec.groups) * spec.dtype.itemsize
    if plan is None or lanes_filled < vector_bytes():  # below a third of a vector `direct` is faster
        return None
    options, rows = plan
    lines = np.arange(options[BAND])
    segments = np.stack(
        [np.full_like(lines, options[OUT_W]), lines * options[PITCH], lines * options[OUT_W]], 1
    )
    taps = rows.reshape(-1, SEGMENT)[:, 2:] + np.arange(spec.window[-1])
    return options, segments.reshape(-1), taps.reshape(-1)


def filter_grad_job(begin, end, thread, arguments):
    """A job: a part of the bands of all images and groups -> sums[part, group, tap, filter]."""
    o, segments, taps, parts, x, dy, sums, band, gradients, index = unpack(arguments)
    L = lanes(x)
    width, groups, pixels = NV * L, o[CHANNELS] // o[DEPTH], o[OUT_H] * o[OUT_W]
    wide = (o[ROWS] + L - 1) // L * L
    at, at_index, size = thread * o[BAND_SIZE], thread * 2 * MR, taps.size * wide
    at_dy, units = thread * o[BAND] * o[OUT_W] * wide, parts[1]
    for part in range(begin, end):
        clear_run(sums, part * groups * size, 1, groups * size)
        for unit in range(units * part // parts[0], units * (part + 1) // parts[0]):
            number, group, n = unit % o[BANDS], unit // o[BANDS] % groups, unit // o[BANDS] // groups
            first = number * o[BAND]
            lines = min(o[BAND], o[OUT_H] - first)
            if lines <= 0:
                continue
            source = (n * o[CHANNELS] + group * o[DEPTH]) * o[IN_H] * o[IN_W]
            fill_band(o, x, source, first - o[BEFORE_H], band, at)
            source = (n * o[TO_CHANNELS] + group * o[ROWS]) * pixels + first * o[OUT_W]
            transpose(gradients, at_dy, wide, dy, source, pixels, o[ROWS], lines * o[OUT_W])
            to = (part * groups + group) * size
            for tap in range(0, taps.size, MR):
                rows = min(MR, taps.size - tap)
                for i in range(rows):
                    index[at_index + i] = at + taps[tap + i]
                    index[at_index + MR + i] = to + (tap + i) * wide
                for k in range(0, wide, width):
                    tile(
                        rows, band, index, at_index, 1, segments, 0, lines, gradients, at_dy + k, wide,
                        sums, index, at_index + MR, k, min(width, wide - k), True,
                    )  # fmt: skip


def sum_job(begin, end, thread, arguments):
    """A job: the filters of a group, from all parts."""
    o, parts, taps, sums, dw = unpack(arguments)
    L = lanes(sums)
    wide, groups = (o[ROWS] + L - 1) // L * L, o[CHANNELS] // o[DEPTH]
    size = taps.size * wide
    for group in range(begin, end):
        for part in range(1, parts[0]):
            add_run(sums, group * size, 1, sums, (part * groups + group) * size, 1, size)
        transpose(dw, group * o[ROWS] * taps.size, taps.size, sums, group * size, wide, taps.size, o[ROWS])


def filter_grad(
    plan: tuple[Array, Array, Array], spec: Any, x: Array, dy: Array, dw: Array, threads: int
) -> None:
    options, segments, taps = plan
    L = vector_bytes() // x.itemsize
    wide = up(int(options[ROWS]), L) * L
    units = spec.n * spec.groups * int(options[BANDS])
    parts = useful_threads(threads, units, spec.flops)
    sums = workspace(parts * spec.groups * taps.size * wide, x.dtype)
    numbers = np.array([parts, units], np.int64)
    run(
        *(filter_grad_job, parts, parts, options, segments, taps, numbers, x, dy, sums),
        workspace(parts * int(options[BAND_SIZE]), x.dtype),
        workspace(parts * int(options[BAND] * options[OUT_W]) * wide, x.dtype),
        workspace(parts * 2 * MR, np.int64),
    )
    run(sum_job, spec.groups, 1, options, numbers, taps, sums, dw)

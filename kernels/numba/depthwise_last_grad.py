"""Depthwise filter gradient of channels-last images in place: sums stay in registers over some lines."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.depthwise_last import (
    ALL_TAPS,
    BANDS,
    CHANNELS,
    COLUMNS,
    FIELDS,
    OUT_H,
    OUT_W,
    OUT_X,
    OUT_Y,
    R_TAPS,
    ROWS,
    RUN,
    S_TAPS,
    STEP_X,
    STEP_Y,
    TABLE,
    WIDTH,
    lattices,
    look_up,
    plane_sizes,
    row_of,
    vector_start,
)
from fastconv.kernels.numba.depthwise_tile import correlate
from fastconv.kernels.numba.geometry import clear_run
from fastconv.kernels.numba.jit import run, unpack, up, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.vector import lanes, load, splat, store
from fastconv.kernels.numba.views import forward_view

Array = NDArray[Any]

POSITIONS = 64  # whose products stay in registers together, about
PARTS, STEP_H, LINES = 10, 11, 12  # beside the forward pass's options


class GradShape(NamedTuple):
    """The numbers that shape the job's code."""

    tap_rows: int
    taps: int
    runs: int
    rest: int
    step_w: int


class GradPlan(NamedTuple):
    shape: GradShape
    lattices: Array
    bands: int  # of lines, of the longest lattice
    lines: int
    step_h: int
    table: int


@lru_cache(maxsize=1024)
def plan_of(spec: Any) -> GradPlan:
    view = forward_view(spec)
    pairs = [(h, w) for h in lattices(view, 1) for w in lattices(view, 2)]
    rows = np.array([row_of(h, w, 0) for h, w in pairs], np.int64)
    h, w = pairs[0]
    taps, columns = len(w.taps), min(COLUMNS, w.positions)
    # rows of taps: with 32 registers 21 sums, 4 gradients and 7 pixels are live, with 16 a third of them
    wide, run_taps = vector_bytes() == 64, min(taps, RUN)
    tap_rows = (3 if run_taps <= 5 else 2) if wide else (3 if run_taps <= 3 else 1)
    runs, rest = (taps // RUN, taps % RUN) if taps > RUN else (1, 0)
    lines = max(1, min(POSITIONS // w.positions, h.positions))
    table = ((lines - 1) * h.step + len(h.taps)) * ((columns - 1) * w.step + taps)
    shape = GradShape(tap_rows, run_taps, runs, rest, w.step)
    return GradPlan(shape, rows, up(h.positions, lines), lines, h.step, up(table, 8) * 8)


@cache
def filter_grad_job_of(shape: GradShape) -> Any:
    """The job for a shape."""
    TAP_ROWS, TAPS, RUNS, REST, STEP = shape

    def filter_grad_job(begin, end, thread, arguments):
        """A job: all taps and channels, over a part of the bands of lines: sums[part, vector, tap, lane]."""
        o, lattice, x, zeros, dy, sums, table = unpack(arguments)
        L = lanes(x)
        C, taps, step_h = o[CHANNELS], o[ALL_TAPS], o[STEP_H]
        vectors, count = (C + L - 1) // L, lattice.size // FIELDS
        at, units = thread * o[TABLE], o[0] * o[BANDS] * count
        for part in range(begin, end):
            total = part * vectors * taps * L
            clear_run(sums, total, 1, vectors * taps * L)
            for unit in range(units * part // o[PARTS], units * (part + 1) // o[PARTS]):
                p = lattice[unit % count * FIELDS : (unit % count + 1) * FIELDS]
                line, image = unit // count % o[BANDS] * o[LINES], unit // count // o[BANDS]
                lines, R, S = min(o[LINES], p[ROWS] - line), p[R_TAPS], p[S_TAPS]
                if lines <= 0:
                    continue
                dy_row, dy_step = p[STEP_Y] * o[OUT_W] * C, p[STEP_X] * C
                dy_line = ((image * o[OUT_H] + p[OUT_Y] + line * p[STEP_Y]) * o[OUT_W] + p[OUT_X]) * C
                for column in range(0, p[WIDTH], COLUMNS):
                    positions = min(COLUMNS, p[WIDTH] - column)
                    pitch, rows = (positions - 1) * STEP + S, (lines - 1) * step_h + R
                    look_up(o, p, x, zeros, image, line * step_h, column * STEP, rows, pitch, table, at)
                    for v in range(vectors):
                        c = vector_start(C, v, L)
                        from_dy = dy_line + column * dy_step + c
                        for r in range(0, R, TAP_ROWS):
                            here, to = at + r * pitch, total + (v * taps + r * S) * L
                            if r + TAP_ROWS <= R:
                                for s in range(RUNS):
                                    correlate(
                                        TAP_ROWS, TAPS, STEP, x, zeros, c, table, here + s * TAPS, pitch,
                                        step_h, dy, from_dy, dy_row, dy_step, lines, positions, sums,
                                        to + s * TAPS * L, S * L,
                                    )  # fmt: skip
                                if REST > 0:
                                    correlate(
                                        TAP_ROWS, REST, STEP, x, zeros, c, table, here + S - REST, pitch,
                                        step_h, dy, from_dy, dy_row, dy_step, lines, positions, sums,
                                        to + (S - REST) * L, S * L,
                                    )  # fmt: skip
                            else:
                                for i in range(R - r):
                                    one, add = here + i * pitch, to + i * S * L
                                    for s in range(RUNS):
                                        correlate(
                                            1, TAPS, STEP, x, zeros, c, table, one + s * TAPS, pitch,
                                            step_h, dy, from_dy, dy_row, dy_step, lines, positions, sums,
                                            add + s * TAPS * L, 0,
                                        )  # fmt: skip
                                    if REST > 0:
                                        correlate(
                                            1, REST, STEP, x, zeros, c, table, one + S - REST, pitch,
                                            step_h, dy, from_dy, dy_row, dy_step, lines, positions, sums,
                                            add + (S - REST) * L, 0,
                                        )  # fmt: skip

    filter_grad_job.__qualname__ = filter_grad_job.__name__ = "filter_grad_job_" + "_".join(map(str, shape))
    return filter_grad_job


def sum_job(begin, end, thread, arguments):
    """A job: a vector of channels; o is (channels, taps, parts)."""
    o, sums, dw = unpack(arguments)
    L = lanes(sums)
    C, taps, size = o[0], o[1], sums.size // o[2]
    for v in range(begin, end):
        for tap in range(taps):
            value = splat(sums, 0.0)
            for part in range(o[2]):
                value = value + load(sums, part * size + (v * taps + tap) * L)
            store(dw, tap * C + vector_start(C, v, L), value)


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, threads: int) -> None:
    plan, taps = plan_of(spec), dw.size // spec.c
    vectors = up(spec.c * x.itemsize, vector_bytes())
    units = spec.n * plan.bands * len(plan.lattices)
    parts = useful_threads(threads, units, spec.flops)
    sums = workspace(parts * vectors * taps * vector_bytes() // x.itemsize, x.dtype)
    table = workspace(parts * plan.table, np.int64)
    options = np.array(
        [spec.n, spec.c, *plane_sizes(forward_view(spec)), 0, taps, plan.table, plan.bands, parts,
         plan.step_h, plan.lines]
    )  # fmt: skip
    zeros = np.zeros(spec.c, x.dtype)
    run(
        *(filter_grad_job_of(plan.shape), parts, parts, options, plan.lattices, x, zeros, dy, sums, table),
    )
    run(sum_job, vectors, 1, np.array([spec.c, taps, parts]), sums, dw)

"""Depthwise convolution of channels-last images in place: tiles of neighbouring pixels, through all channels.

The taps of an axis are evenly spaced, so that outputs whose sources are whole spacings apart lie on a lattice
on which every problem, strided, dilated or backward, has neighbouring taps: a loaded pixel serves all the
taps, and both rows of a tile, that meet it. The pixels under two rows of outputs are looked up once; what is
outside the image leads to zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.depthwise_tile import distance, tile
from fastconv.kernels.numba.epilogue import finish
from fastconv.kernels.numba.jit import inline, run, unpack, up, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.vector import lanes, load, put, splat, store
from fastconv.kernels.numba.views import AXIS, PHASE, PHASES, PHASES_AT, SOURCE, STEP, TO, TO_STRIDE

Array = NDArray[Any]

# With 32 registers 14 sums leave room for 9 pixels and the weights; with 16, 8 sums for 6 pixels.
TILE, LINE = (7, 12) if vector_bytes() == 64 else (4, 6)
RUN = 7  # taps of a row that one pass takes
UNROLLED = 5  # square windows up to this size need no loops; each has code of its own
COLUMNS = 56  # of a line at a time: the table of its pixels stays in the level 1 cache

# What a job knows of the problem, and of a lattice's outputs.
IMAGES, CHANNELS, IN_H, IN_W, OUT_H, OUT_W, ACTIVATION, ALL_TAPS, TABLE, BANDS = range(10)
FIELDS = 14
ROWS, WIDTH, R_TAPS, S_TAPS, TAPS_AT, IN_Y, GAP_Y, JUMP_Y, IN_X, GAP_X, OUT_Y, STEP_Y, OUT_X, STEP_X = range(
    FIELDS
)


class Lattice(NamedTuple):
    """Of one axis: positions, taps (numbers in the window), gap and step between sources, places.

    Position k reads from `source` + k * step * gap on, tap t being t * gap further, and is written at
    `to` + k * to_step.
    """

    positions: int
    taps: tuple[int, ...]
    gap: int
    step: int
    source: int
    to: int
    to_step: int


def lattices(view: Array, axis: int) -> list[Lattice]:
    step, to_stride = int(view[AXIS * axis + STEP]), int(view[AXIS * axis + TO_STRIDE])
    found = []
    for phase in range(view[AXIS * axis + PHASES]):
        at = view[AXIS * axis + PHASES_AT] + PHASE * phase
        positions, first, count, taps_at = view[at : at + PHASE].tolist()
        taps = sorted(view[taps_at : taps_at + 2 * count].reshape(count, 2).tolist(), key=lambda tap: tap[1])
        gap = taps[1][1] - taps[0][1] if count > 1 else max(1, step)
        common = math.gcd(step, gap)
        for q in range(min(gap // common, positions)):
            found.append(
                Lattice(
                    up(positions - q, gap // common),
                    tuple(tap for tap, _ in taps),
                    gap,
                    step // common,
                    q * step + (taps[0][1] if taps else 0),
                    first + to_stride * q,
                    to_stride * (gap // common),
                )
            )
    return found


def plane_sizes(view: Array) -> list[int]:
    """Height and width of what a view reads and of what it writes."""
    sizes: list[int] = view[[AXIS * axis + field for field in (SOURCE, TO) for axis in (1, 2)]].tolist()
    return sizes


class Shape(NamedTuple):
    """The numbers that shape a job's code."""

    height: int
    width: int
    taps: int
    runs: int
    rest: int
    unrolled: int
    step_h: int
    step_w: int


class Plan(NamedTuple):
    """Lattices that share a shape, the taps of all lattices, and the sizes of a table of pixels."""

    parts: tuple[tuple[Shape, Array], ...]
    taps: Array
    table: int


def shape_of(h: Lattice, w: Lattice) -> Shape:
    rows, taps = len(h.taps), len(w.taps)
    height, width = (1, LINE) if h.positions == 1 else (2, TILE)
    unrolled = rows if rows == taps <= UNROLLED and h.step == w.step <= 2 else 0
    runs, rest = (taps // RUN, taps % RUN) if taps > RUN else (1, 0)
    return Shape(height, width, min(taps, RUN), runs, rest, unrolled, h.step if unrolled else 0, w.step)


def row_of(h: Lattice, w: Lattice, taps_at: int) -> list[int]:
    return [
        *(
            h.positions,
            w.positions,
            len(h.taps),
            len(w.taps),
            taps_at,
            h.source,
            h.gap,
            h.step,
            w.source,
            w.gap,
        ),
        *(h.to, h.to_step, w.to, w.to_step),
    ]


@lru_cache(maxsize=1024)
def plan_of(spec: Any, of: Callable[[Any], Array], backward: bool) -> Plan:
    view = of(spec)
    window_w, last = spec.window[-1], math.prod(spec.window) - 1
    parts: dict[Shape, list[list[int]]] = {}
    taps: list[int] = []
    table = 0
    for h in lattices(view, 1):
        for w in lattices(view, 2):
            parts.setdefault(shape_of(h, w), []).append(row_of(h, w, len(taps)))
            numbers = [r * window_w + s for r in h.taps for s in w.taps]
            taps += [last - tap for tap in numbers] if backward else numbers
            columns = (min(w.positions, COLUMNS) + LINE - 1) * w.step + len(w.taps)
            table = max(table, (h.step + len(h.taps)) * columns)
    rows = {shape: np.array(of_shape, np.int64) for shape, of_shape in parts.items()}
    return Plan(tuple(rows.items()), np.array(taps, np.int64), up(table, 8) * 8)


def takes(spec: Any) -> bool:
    """Whether a whole vector of channels fits a pixel."""
    whole: bool = spec.channels_last and spec.c * spec.dtype.itemsize >= vector_bytes()
    return whole


@inline
def vector_start(channels, v, L):
    """The vectors that cover the channels; the last overlaps the one before where they are no whole ones."""
    return min(v * L, channels - L)


def pack_job(begin, end, thread, arguments):
    """A job: the filters of a vector of channels -> (tap, lane), taps in the order of a list."""
    taps, w, packed, o = unpack(arguments)
    L = lanes(w)
    for v in range(begin, end):
        for i in range(taps.size):
            store(packed, (v * taps.size + i) * L, load(w, taps[i] * o[0] + vector_start(o[0], v, L)))


@inline
def look_up(o, p, x, zeros, image, line, column, rows, columns, table, at):
    """Where the pixels under some positions of a lattice are: table[at + row * columns + column]."""
    outside = distance(x, zeros)
    for i in range(rows):
        h = p[IN_Y] + (line + i) * p[GAP_Y]
        first = p[IN_X] + column * p[GAP_X]
        inside = 0 <= h < o[IN_H]
        start = ((image * o[IN_H] + h) * o[IN_W] + first) * o[CHANNELS]
        for k in range(columns):
            w = first + k * p[GAP_X]
            here = start + k * p[GAP_X] * o[CHANNELS] if inside and 0 <= w < o[IN_W] else outside
            put(table, at + i * columns + k, here)


@cache
def gather_job_of(shape: Shape) -> Any:
    """The job of lattices of a shape."""
    OH, WIDE, TAPS, RUNS, REST, LOOPLESS, STEP_H, STEP_W = shape

    def gather_job(begin, end, thread, arguments):
        """A job: one or two rows of outputs of a lattice, all channels."""
        o, lattice, x, zeros, w, bias, y, table = unpack(arguments)
        L = lanes(x)
        C, none = o[CHANNELS], splat(x, 0.0)
        vectors, many = (C + L - 1) // L, lattice.size // FIELDS
        at = thread * o[TABLE]
        for job in range(begin, end):
            p = lattice[job % many * FIELDS : (job % many + 1) * FIELDS]
            line, image = job // many % o[BANDS] * OH, job // many // o[BANDS]
            if line >= p[ROWS]:
                continue
            R, S, step_h = p[R_TAPS], p[S_TAPS], p[JUMP_Y]
            both = OH == 2 and line + 1 < p[ROWS]
            y_row, y_step = p[STEP_Y] * o[OUT_W] * C if both else 0, p[STEP_X] * C
            y_line = ((image * o[OUT_H] + p[OUT_Y] + line * p[STEP_Y]) * o[OUT_W] + p[OUT_X]) * C
            for column in range(0, p[WIDTH], COLUMNS):
                positions = min(COLUMNS, p[WIDTH] - column)
                pitch = ((positions + WIDE - 1) // WIDE * WIDE - 1) * STEP_W + S
                rows = (OH - 1) * step_h + R
                look_up(o, p, x, zeros, image, line * step_h, column * STEP_W, rows, pitch, table, at)
                for ow in range(0, positions, WIDE):
                    count = min(WIDE, positions - ow)
                    for v in range(vectors):
                        c = vector_start(C, v, L)
                        start = load(bias, c) if bias.size > 0 else none
                        w_at, to = (v * o[ALL_TAPS] + p[TAPS_AT]) * L, y_line + (column + ow) * y_step + c
                        pixels = at + ow * STEP_W
                        for r in range(RUNS):
                            tile(
                                OH, WIDE, TAPS, LOOPLESS, STEP_H, STEP_W, step_h, x, zeros, c, table,
                                pixels + r * TAPS, pitch, R, w, w_at + r * TAPS * L, S * L,
                                y, to, y_row, y_step, count, r > 0, start,
                            )  # fmt: skip
                        if REST > 0:
                            tile(
                                OH, WIDE, REST, LOOPLESS, STEP_H, STEP_W, step_h, x, zeros, c, table,
                                pixels + S - REST, pitch, R, w, w_at + (S - REST) * L, S * L,
                                y, to, y_row, y_step, count, True, start,
                            )  # fmt: skip
            if o[ACTIVATION] > 0:
                for j in range(2 if both else 1):
                    for i in range(p[WIDTH]):
                        finish(y, y_line + j * y_row + i * y_step, C, zeros[:0], 0, 0, o[ACTIVATION])

    gather_job.__qualname__ = gather_job.__name__ = "gather_job_" + "_".join(map(str, shape))
    return gather_job


def gather(
    spec: Any,
    of: Callable[[Any], Array],
    x: Array,
    w: Array,
    bias: Array,
    y: Array,
    activation: int,
    threads: int,
    backward: bool,
) -> None:
    """The forward pass or the input gradient over a view."""
    L, plan = vector_bytes() // x.itemsize, plan_of(spec, of, backward)
    n, sizes = spec.n, plane_sizes(of(spec))
    zeros = np.zeros(spec.c, x.dtype)
    packed = workspace(up(spec.c, L) * max(1, plan.taps.size) * L, x.dtype)
    run(pack_job, up(spec.c, L), 1, plan.taps, w, packed, np.array([spec.c]))
    for shape, rows in plan.parts:
        bands = up(int(rows[:, ROWS].max()), shape.height)
        jobs = len(rows) * bands * n
        active = useful_threads(threads, jobs, spec.flops)
        options = np.array([n, spec.c, *sizes, activation, plan.taps.size, plan.table, bands])
        table = workspace(active * plan.table, np.int64)
        run(gather_job_of(shape), jobs, active, options, rows, x, zeros, packed, bias, y, table)

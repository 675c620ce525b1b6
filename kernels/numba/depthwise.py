"""One filter a channel: vectors of channels, taps in turn over a slab of the input.

A slab holds one vector of channels of some rows, channels last and with the padding filled in, whatever the
layout; so a tap is a plain offset and no inner loop knows about borders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba import depthwise_last as last
from fastconv.kernels.numba import depthwise_last_grad as last_grad
from fastconv.kernels.numba.blocked_filter_grad import gather_sums_job
from fastconv.kernels.numba.epilogue import ACTIVATIONS, finish
from fastconv.kernels.numba.filters import bias_grad, sum_parts
from fastconv.kernels.numba.geometry import clear_run, copy_run, transpose
from fastconv.kernels.numba.jit import inline, jit, run, unpack, up, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.vector import (
    at,
    fma,
    gather_part,
    lanes,
    load,
    load_part,
    splat,
    store,
    store_part,
)
from fastconv.kernels.numba.views import (
    AXIS,
    FIRST,
    PHASES,
    PHASES_AT,
    POSITIONS,
    SOURCE,
    STEP,
    TAPS,
    TAPS_AT,
    TO,
    TO_STRIDE,
    forward_view,
    input_grad_view,
    phase_numbers,
)  # fmt: skip
from fastconv.kernels.numba.winograd_tiles import copy_slab

Array = NDArray[Any]

PIXELS = 8  # positions of a block: as many sums in registers hide the latency of the multiply-add
TAPS_OF_BLOCK = 5  # taps of a block of the filter gradient; odd squares are near multiples of 5
SLAB_BYTES = 512 * 1024  # all slabs of a job: half of a level 2 cache
LINES = 4  # of output that a band should have before its slabs are fewer: neighbours share input rows
IMAGES, CHANNELS, LAST, ACTIVATION, BAND, BANDS, SLAB, STRIP, PARTS, R_TAPS, S_TAPS, VECTORS = range(12)


@inline
def reach(view, phase):
    """The first offset of an axis' taps, and how many input positions they span."""
    first = view[phase + TAPS_AT] + 1
    count = view[phase + TAPS]
    return (view[first], view[first + 2 * (count - 1)] - view[first] + 1) if count > 0 else (0, 0)


@jit
def list_taps(view, ph, pw, row, window_w, L, index, taps_at):
    """The taps of a phase as pairs (offset in the slab, offset in the filters); returns how many."""
    h_first, w_first = view[view[ph + TAPS_AT] + 1], view[view[pw + TAPS_AT] + 1]
    i = taps_at
    for th in range(view[ph + TAPS]):
        tap_h = view[ph + TAPS_AT] + 2 * th
        for tw in range(view[pw + TAPS]):
            tap_w = view[pw + TAPS_AT] + 2 * tw
            index[i] = (view[tap_h + 1] - h_first) * row + (view[tap_w + 1] - w_first) * L
            index[i + 1] = (view[tap_h] * window_w + view[tap_w]) * L
            i += 2
    return (i - taps_at) // 2


@inline
def convolve_eight(slab, at_x, far, w, at_w, index, taps_at, taps, start):
    """Sums of eight positions over all taps, from `start`; `at_x` is where the first one's first tap lies."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = start
    for i in range(taps_at, taps_at + 2 * taps, 2):
        x, v = at_x + at(index, i), load(w, at_w + at(index, i + 1))
        s0 = fma(load(slab, x), v, s0)
        s1 = fma(load(slab, x + far), v, s1)
        s2 = fma(load(slab, x + 2 * far), v, s2)
        s3 = fma(load(slab, x + 3 * far), v, s3)
        s4 = fma(load(slab, x + 4 * far), v, s4)
        s5 = fma(load(slab, x + 5 * far), v, s5)
        s6 = fma(load(slab, x + 6 * far), v, s6)
        s7 = fma(load(slab, x + 7 * far), v, s7)
    return s0, s1, s2, s3, s4, s5, s6, s7


@inline
def store8(a, i, s):
    L = lanes(a)
    store(a, i, s[0])
    store(a, i + L, s[1])
    store(a, i + 2 * L, s[2])
    store(a, i + 3 * L, s[3])
    store(a, i + 4 * L, s[4])
    store(a, i + 5 * L, s[5])
    store(a, i + 6 * L, s[6])
    store(a, i + 7 * L, s[7])


@jit
def write_row(o, y, to, to_step, plane, channel, count, strip, at_strip, positions, bias):
    """A row of sums (positions, lanes) -> y, with bias and activation; `to` is the row's first pixel."""
    L = lanes(y)
    if o[ACTIVATION] > 0:
        finish(strip, at_strip, positions * L, bias[:0], 0, 0, o[ACTIVATION])
    if o[LAST]:
        for p in range(positions):
            store_part(y, (to + p * to_step) * o[CHANNELS] + channel, count, load(strip, at_strip + p * L))
    elif to_step == 1:
        transpose(y, to + channel * plane, plane, strip, at_strip, L, positions, count)
    else:
        for c in range(count):
            copy_run(y, to + (channel + c) * plane, to_step, strip, at_strip + c, L, positions)


@jit
def fill_slabs(o, a, H, W, image, channel, vectors, h0, w0, rows, columns, slab, to):
    """One slab for each vector of channels; row by row, so that memory is read in longer runs."""
    L = lanes(a)
    shape = (o[CHANNELS], H, W, o[LAST])
    for r in range(rows):
        for v in range(vectors):
            c, at_row = channel + v * L, to + (v * rows + r) * columns * L
            copy_slab(a, shape, c, min(L, o[CHANNELS] - c), image, h0 + r, w0, 1, columns, slab, at_row)


def gather_job(begin, end, thread, arguments):
    """A job: a band of rows of one phase, some vectors of channels of an image."""
    o, view, x, w, bias, y, slab, strip, index = unpack(arguments)
    L = lanes(x)
    all_vectors = (o[CHANNELS] + L - 1) // L
    blocks = (all_vectors + o[VECTORS] - 1) // o[VECTORS]
    H, W, step_h, step = (
        view[AXIS + SOURCE],
        view[2 * AXIS + SOURCE],
        view[AXIS + STEP],
        view[2 * AXIS + STEP],
    )
    plane = view[AXIS + TO] * view[2 * AXIS + TO]
    at_slab, at_strip, all_taps = thread * o[SLAB] * o[VECTORS], thread * o[STRIP], o[R_TAPS] * o[S_TAPS]
    taps_at, far = thread * 2 * all_taps, step * L
    for job in range(begin, end):
        band, block, image = job % o[BANDS], job // o[BANDS] % blocks, job // o[BANDS] // blocks % o[IMAGES]
        _, ph, pw = phase_numbers(view, job // o[BANDS] // blocks // o[IMAGES])
        first = block * o[VECTORS]
        vectors = min(o[VECTORS], all_vectors - first)
        positions = view[pw + POSITIONS]
        line0, line1 = band * o[BAND], min(view[ph + POSITIONS], (band + 1) * o[BAND])
        if line0 >= line1:
            continue
        (h_first, h_span), (w_first, w_span) = reach(view, ph), reach(view, pw)
        taps = 0
        whole = (positions + PIXELS - 1) // PIXELS * PIXELS
        columns, rows = (whole - 1) * step + w_span, (line1 - line0 - 1) * step_h + h_span
        if h_span > 0 and w_span > 0:
            taps = list_taps(view, ph, pw, columns * L, o[S_TAPS], L, index, taps_at)
            h = line0 * step_h + h_first
            fill_slabs(o, x, H, W, image, first * L, vectors, h, w_first, rows, columns, slab, at_slab)
        for v in range(vectors):
            channel = (first + v) * L
            count = min(L, o[CHANNELS] - channel)
            start = load_part(bias, channel, 0, count) if bias.size > 0 else splat(x, 0.0)
            for line in range(line0, line1):
                at_line = at_slab + (v * rows + (line - line0) * step_h) * columns * L
                for ow in range(0, positions, PIXELS):
                    sums = convolve_eight(
                        slab,
                        at_line + ow * far,
                        far,
                        w,
                        (first + v) * all_taps * L,
                        index,
                        taps_at,
                        taps,
                        start,
                    )
                    store8(strip, at_strip + ow * L, sums)
                to_h = view[ph + FIRST] + line * view[AXIS + TO_STRIDE]
                to = (
                    image * plane * (1 if o[LAST] else o[CHANNELS])
                    + to_h * view[2 * AXIS + TO]
                    + view[pw + FIRST]
                )
                write_row(
                    o,
                    y,
                    to,
                    view[2 * AXIS + TO_STRIDE],
                    plane,
                    channel,
                    count,
                    strip,
                    at_strip,
                    positions,
                    bias,
                )


def pack_job(begin, end, thread, arguments):
    """A job: the filters of a vector of channels -> (tap, lanes); o: taps, channels, strides of both,
    reversed?
    """
    o, w, packed = unpack(arguments)
    L = lanes(w)
    for job in range(begin, end):
        for tap in range(o[0]):
            source = (o[0] - 1 - tap if o[4] else tap) * o[2] + job * L * o[3]
            store(packed, (job * o[0] + tap) * L, gather_part(w, source, o[3], 0, o[1] - job * L))


def packed_filters(spec: Any, w: Array, *, backward: bool) -> Array:
    L = vector_bytes() // w.itemsize
    taps, vectors = math.prod(spec.window), up(spec.c, L)
    packed = workspace(vectors * taps * L, w.dtype)
    strides = (spec.c, 1) if spec.channels_last else (1, taps)
    run(pack_job, vectors, 1, np.array([taps, spec.c, *strides, backward]), w, packed)
    return packed


def plane_window(spec: Any) -> tuple[int, int]:
    """(R, S)"""
    return (1, *spec.window)[-2:]  # type: ignore[no-any-return]


class Slabs(NamedTuple):
    """How a plane is cut: lines of a band, bands, elements of a slab, vectors of channels of a job, jobs an
    image.
    """

    band: int
    bands: int
    slab: int
    vectors: int
    pieces: int


def cut(spec: Any, view: Array, positions: int, itemsize: int, jobs: int, times: int) -> Slabs:
    """Slabs of at most SLAB_BYTES, and at least some jobs where `times` pieces of work are cut alike."""
    L = vector_bytes() // itemsize
    step_h, step_w = (int(view[AXIS * a + STEP]) for a in (1, 2))
    lines = int(view[view[AXIS + PHASES_AT]])
    spans = [(f - 1) * d + 1 for f, d in zip(plane_window(spec), (1, *spec.dilation)[-2:], strict=True)]
    columns = (positions - 1) * step_w + spans[1]
    row_bytes, vectors = columns * vector_bytes(), up(spec.c, L)

    def rows(band: int) -> int:
        return (band - 1) * step_h + spans[0]

    together = 1
    if (
        spec.channels_last
    ):  # a pixel's channels lie together: read as many of them as a band of a few lines allows
        together = max(
            1, min(vectors, times * vectors // jobs, SLAB_BYTES // (rows(min(lines, LINES)) * row_bytes))
        )
    band = max(1, min(lines, (SLAB_BYTES // (together * row_bytes) - spans[0]) // step_h + 1))
    pieces = times * up(vectors, together)
    if pieces < jobs:
        band = min(band, up(lines, up(jobs, pieces)))
    return Slabs(band, up(lines, band), rows(band) * columns * L, together, pieces)


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
    L, view = vector_bytes() // x.itemsize, of(spec)
    positions = up(int(view[view[AXIS * 2 + PHASES_AT]]), PIXELS) * PIXELS
    phases = math.prod(int(view[AXIS * a + PHASES]) for a in range(3))
    s = cut(spec, view, positions, x.itemsize, 1 if threads == 1 else 2 * threads, phases * spec.n)
    strip = positions * L
    options = np.array(
        [
            spec.n,
            spec.c,
            spec.channels_last,
            activation,
            s.band,
            s.bands,
            s.slab,
            strip,
            0,
            *plane_window(spec),
            s.vectors,
        ]
    )
    threads = useful_threads(threads, s.pieces * s.bands, spec.flops)
    run(
        *(
            gather_job,
            s.pieces * s.bands,
            threads,
            options,
            view,
            x,
            packed_filters(spec, w, backward=backward),
            bias,
        ),
        *(y, workspace(threads * s.slab * s.vectors, x.dtype), workspace(threads * strip, x.dtype)),
        workspace(threads * 2 * math.prod(spec.window), np.int64),
    )


def forward(
    spec: Any, x: Array, w: Array, bias: Array | None, y: Array, activation: str | None, threads: int
) -> None:
    bias = np.empty(0, x.dtype) if bias is None else bias
    run_over = last.gather if last.takes(spec) else gather
    run_over(spec, forward_view, x, w, bias, y, ACTIVATIONS.index(activation), threads, False)


def input_grad(spec: Any, dy: Array, w: Array, dx: Array, threads: int) -> None:
    run_over = last.gather if last.takes(spec) else gather
    run_over(spec, input_grad_view, dy, w, np.empty(0, dy.dtype), dx, 0, threads, True)


@jit
def correlate(
    slab, x, row_x, step_h, far, gradients, y, row_y, lines, positions, t0, t1, t2, t3, t4, sums, to
):
    """sums[to + i] += the sum over positions of dy * x at tap i, for five taps at offsets t0 ... t4."""
    L = lanes(slab)
    s0 = s1 = s2 = s3 = s4 = splat(slab, 0.0)
    for line in range(lines):
        i, j = x + line * step_h * row_x, y + line * row_y
        for _p in range(positions):
            v = load(gradients, j)
            s0 = fma(load(slab, i + t0), v, s0)
            s1 = fma(load(slab, i + t1), v, s1)
            s2 = fma(load(slab, i + t2), v, s2)
            s3 = fma(load(slab, i + t3), v, s3)
            s4 = fma(load(slab, i + t4), v, s4)
            i += far
            j += L
    store(sums, to, load(sums, to) + s0)
    store(sums, to + L, load(sums, to + L) + s1)
    store(sums, to + 2 * L, load(sums, to + 2 * L) + s2)
    store(sums, to + 3 * L, load(sums, to + 3 * L) + s3)
    store(sums, to + 4 * L, load(sums, to + 4 * L) + s4)


@inline
def tap_at(view, tap, taps, window_w, columns, L):
    """Where a tap (or the last one) lies in the slab."""
    tap = min(tap, taps - 1)
    h, w = view[AXIS + PHASES_AT], view[2 * AXIS + PHASES_AT]
    first_h, first_w = view[h + TAPS_AT] + 1, view[w + TAPS_AT] + 1
    line = view[first_h + 2 * (tap // window_w)] - view[first_h]
    return (line * columns + view[first_w + 2 * (tap % window_w)] - view[first_w]) * L


def filter_grad_job(begin, end, thread, arguments):
    """A job: some vectors of channels, over a part of the bands of rows."""
    o, view, x, dy, parts, slab, gradients, sums = unpack(arguments)
    L = lanes(x)
    all_vectors = (o[CHANNELS] + L - 1) // L
    blocks = (all_vectors + o[VECTORS] - 1) // o[VECTORS]
    H, W, step_h, step = (
        view[AXIS + SOURCE],
        view[2 * AXIS + SOURCE],
        view[AXIS + STEP],
        view[2 * AXIS + STEP],
    )
    ph, pw = view[AXIS + PHASES_AT], view[2 * AXIS + PHASES_AT]
    lines, positions, window_w = view[ph + POSITIONS], view[pw + POSITIONS], o[S_TAPS]
    (h_first, h_span), (w_first, w_span) = reach(view, ph), reach(view, pw)
    columns, taps = (positions - 1) * step + w_span, o[R_TAPS] * window_w
    at_slab, at_gradients = thread * o[SLAB] * o[VECTORS], thread * o[STRIP] * o[VECTORS]
    sums_size = (taps + TAPS_OF_BLOCK) * L
    at_sums = thread * sums_size * o[VECTORS]
    bands = o[IMAGES] * o[BANDS]
    for job in range(begin, end):
        part, first = job // blocks, job % blocks * o[VECTORS]
        vectors = min(o[VECTORS], all_vectors - first)
        clear_run(sums, at_sums, 1, vectors * sums_size)
        for number in range(bands * part // o[PARTS], bands * (part + 1) // o[PARTS]):
            image, line0 = number // o[BANDS], number % o[BANDS] * o[BAND]
            line1 = min(lines, line0 + o[BAND])
            rows, h = (line1 - line0 - 1) * step_h + h_span, line0 * step_h + h_first
            fill_slabs(o, x, H, W, image, first * L, vectors, h, w_first, rows, columns, slab, at_slab)
            fill_slabs(
                o, dy, view[AXIS + TO], view[2 * AXIS + TO], image, first * L, vectors, line0, 0,
                line1 - line0,
                positions, gradients, at_gradients,
            )  # fmt: skip
            for v in range(vectors):
                at_x, at_y = (
                    at_slab + v * rows * columns * L,
                    at_gradients + v * (line1 - line0) * positions * L,
                )
                for tap in range(0, taps, TAPS_OF_BLOCK):
                    t0, t1, t2, t3, t4 = (
                        tap_at(view, tap, taps, window_w, columns, L), tap_at(view, tap + 1, taps,
                        window_w, columns, L),
                        tap_at(view, tap + 2, taps, window_w, columns, L), tap_at(view, tap + 3, taps,
                        window_w, columns, L),
                        tap_at(view, tap + 4, taps, window_w, columns, L),
                    )  # fmt: skip
                    correlate(
                        slab, at_x, columns * L, step_h, step * L, gradients, at_y, positions * L,
                        line1 - line0, positions,
                        t0, t1, t2, t3, t4, sums, at_sums + v * sums_size + tap * L,
                    )  # fmt: skip
        for v in range(vectors):
            channel = (first + v) * L
            for tap in range(taps):
                value = load(sums, at_sums + v * sums_size + tap * L)
                store_part(parts, (part * taps + tap) * o[CHANNELS] + channel, o[CHANNELS] - channel, value)


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
    if last.takes(spec):
        last_grad.filter_grad(spec, x, dy, dw, threads)
    else:
        filter_grad_by_slabs(spec, x, dy, dw, threads)
    if db is not None:
        bias_grad(spec, dy, db, threads)


def filter_grad_by_slabs(spec: Any, x: Array, dy: Array, dw: Array, threads: int) -> None:
    view, L = forward_view(spec), vector_bytes() // x.itemsize
    positions = int(view[view[AXIS * 2 + PHASES_AT]])
    s = cut(spec, view, positions, x.itemsize, 1, 1)
    window = plane_window(spec)
    strip = s.band * positions * L
    parts = 1 if threads == 1 else min(up(2 * threads, s.pieces), spec.n * s.bands)
    options = np.array(
        [spec.n, spec.c, spec.channels_last, 0, s.band, s.bands, s.slab, strip, parts, *window, s.vectors]
    )
    sums = workspace(parts * dw.size, dw.dtype).reshape(parts, -1)
    threads = useful_threads(threads, s.pieces * parts, spec.flops)
    sizes = (s.slab, strip, (window[0] * window[1] + TAPS_OF_BLOCK) * L)
    run(
        *(filter_grad_job, s.pieces * parts, threads, options, view, x, dy, sums),
        *(workspace(threads * s.vectors * size, x.dtype) for size in sizes),
    )
    if spec.channels_last:
        sum_parts(sums, dw, threads)
    else:
        run(gather_sums_job, spec.k, min(threads, spec.k), spec.geometry, np.array([parts]), sums, dw)

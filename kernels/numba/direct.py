"""Direct loops over the definition, four rows by two vectors at a time; no packing, no buffers.

Vectors run along the width where channels come first and along the channels where they come last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba import shifted, shifted_grad
from fastconv.kernels.numba.epilogue import ACTIVATIONS, finish
from fastconv.kernels.numba.filters import bias_grad, pack_panels
from fastconv.kernels.numba.geometry import (
    GROUPS,
    OUT,
    SIZE,
    STRIDE,
    WINDOW,
    C,
    K,
    N,
    end_inside,
    first_inside,
    product,
    tap_offset,
)  # fmt: skip
from fastconv.kernels.numba.jit import inline, jit, run, unpack, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.vector import (
    at,
    cast,
    fma,
    gather_part,
    lanes,
    load,
    load_part,
    put,
    splat,
    store_part,
    total,
)  # fmt: skip
from fastconv.kernels.numba.views import (
    AXIS,
    FIRST,
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
    phases_of,
)  # fmt: skip

Array = NDArray[Any]

ROWS = 4  # filters or pixels of a tile: with 2 vectors 8 sums, enough to hide the latency of the multiply-add
# What the gathering jobs know beside the view: channels of source and destination, depth and columns of a
# group, the weights' strides, the activation, in how many parts an image's rows are shared out, and the
# window.
(
    CHANNELS,
    TO_CHANNELS,
    DEPTH,
    COLUMNS,
    W_START,
    W_GROUP,
    W_COLUMN,
    W_DEPTH,
    W_TAP,
    ACTIVATION,
    PARTS,
    R_TAPS,
    S_TAPS,
) = range(13)


@inline
def zeros(a):
    z = splat(a, 0.0)
    return z, z, z, z, z, z, z, z


@inline
def outer(a, sums, s0, s1, s2, s3, v0, v1):
    """sums[i, j] + s[i] * v[j]"""
    r0, r1, r2, r3 = splat(a, s0), splat(a, s1), splat(a, s2), splat(a, s3)
    return (
        fma(r0, v0, sums[0]), fma(r0, v1, sums[1]), fma(r1, v0, sums[2]), fma(r1, v1, sums[3]),
        fma(r2, v0, sums[4]), fma(r2, v1, sums[5]), fma(r3, v0, sums[6]), fma(r3, v1, sums[7]),
    )  # fmt: skip


@inline
def store_rows(y, i, row, rows, count, sums):
    """The first `rows` of four rows of two vectors, `count` elements of each."""
    L = lanes(y)
    store_part(y, i, count, sums[0])
    store_part(y, i + L, count - L, sums[1])
    if rows > 1:
        store_part(y, i + row, count, sums[2])
        store_part(y, i + row + L, count - L, sums[3])
    if rows > 2:
        store_part(y, i + 2 * row, count, sums[4])
        store_part(y, i + 2 * row + L, count - L, sums[5])
    if rows > 3:
        store_part(y, i + 3 * row, count, sums[6])
        store_part(y, i + 3 * row + L, count - L, sums[7])


@jit
def window_first(o, view, source, image, w, w_at, j1, j2, j3, d, h, phase_d, phase_h, phase_w, w0, w1):
    """Four filters on positions [w0, w1) of a row: the sums over all taps and channels of the group."""
    L = lanes(source)
    D, H, W = view[SOURCE], view[AXIS + SOURCE], view[2 * AXIS + SOURCE]
    R, S, step = o[R_TAPS], o[S_TAPS], view[2 * AXIS + STEP]
    sums = zeros(source)
    for td in range(view[phase_d + TAPS]):
        tap_d = view[phase_d + TAPS_AT] + 2 * td
        sd = d * view[STEP] + view[tap_d + 1]
        if not 0 <= sd < D:
            continue
        for th in range(view[phase_h + TAPS]):
            tap_h = view[phase_h + TAPS_AT] + 2 * th
            sh = h * view[AXIS + STEP] + view[tap_h + 1]
            if not 0 <= sh < H:
                continue
            for tw in range(view[phase_w + TAPS]):
                tap_w = view[phase_w + TAPS_AT] + 2 * tw
                start = w0 * step + view[tap_w + 1]
                at_x = image + (sd * H + sh) * W + start
                at_w = w_at + ((view[tap_d] * R + view[tap_h]) * S + view[tap_w]) * o[W_TAP]
                # lanes of both vectors that are inside the row and among the positions
                low, high = first_inside(start, step), min(end_inside(start, step, W), w1 - w0)
                whole = step == 1 and low == 0 and high >= 2 * L
                for _c in range(o[DEPTH]):
                    if whole:
                        v0, v1 = load(source, at_x), load(source, at_x + L)
                    elif step == 1:
                        v0, v1 = (
                            load_part(source, at_x, low, high),
                            load_part(source, at_x + L, low - L, high - L),
                        )
                    else:
                        v0 = gather_part(source, at_x, step, low, high)
                        v1 = gather_part(source, at_x + L * step, step, low - L, high - L)
                    sums = outer(
                        source,
                        sums,
                        at(w, at_w),
                        at(w, at_w + j1),
                        at(w, at_w + j2),
                        at(w, at_w + j3),
                        v0,
                        v1,
                    )
                    at_x += D * H * W
                    at_w += o[W_DEPTH]
    return sums


def gather_first_job(begin, end, thread, arguments):
    """A job: four channels written of an image's group, in a part of the rows, channels-first."""
    o, view, source, w, bias, to, scratch = unpack(arguments)
    L = lanes(source)
    blocks = (o[COLUMNS] + ROWS - 1) // ROWS
    groups, parts = o[CHANNELS] // o[DEPTH], o[PARTS]
    plane = view[SOURCE] * view[AXIS + SOURCE] * view[2 * AXIS + SOURCE]
    to_plane = view[TO] * view[AXIS + TO] * view[2 * AXIS + TO]
    to_step, row = view[2 * AXIS + TO_STRIDE], thread * 2 * L * ROWS
    for job in range(begin, end):
        n, group = job // parts // blocks // groups, job // parts // blocks % groups
        part, first = job % parts, job // parts % blocks * ROWS
        rows = min(ROWS, o[COLUMNS] - first)
        image = (n * o[CHANNELS] + group * o[DEPTH]) * plane
        channel = group * o[COLUMNS] + first
        w_at = o[W_START] + group * o[W_GROUP] + first * o[W_COLUMN]
        # filters beyond the last repeat the first: their sums are not stored
        j1, j2, j3 = (
            o[W_COLUMN] if rows > 1 else 0,
            2 * o[W_COLUMN] if rows > 2 else 0,
            3 * o[W_COLUMN] if rows > 3 else 0,
        )
        for number in range(phases_of(view)):
            pd, ph, pw = phase_numbers(view, number)
            lines = view[pd + POSITIONS] * view[ph + POSITIONS]
            columns = view[pw + POSITIONS]
            for line in range(lines * part // parts, lines * (part + 1) // parts):
                d, h = line // view[ph + POSITIONS], line % view[ph + POSITIONS]
                to_d, to_h = (
                    view[pd + FIRST] + d * view[TO_STRIDE],
                    view[ph + FIRST] + h * view[AXIS + TO_STRIDE],
                )
                to_row = (to_d * view[AXIS + TO] + to_h) * view[2 * AXIS + TO] + view[pw + FIRST]
                to_row += (n * o[TO_CHANNELS] + channel) * to_plane
                for w0 in range(0, columns, 2 * L):
                    w1 = min(columns, w0 + 2 * L)
                    sums = window_first(o, view, source, image, w, w_at, j1, j2, j3, d, h, pd, ph, pw, w0, w1)
                    if to_step == 1:
                        store_rows(to, to_row + w0, to_plane, rows, w1 - w0, sums)
                    else:
                        store_rows(scratch, row, 2 * L, rows, w1 - w0, sums)
                        for i in range(rows):
                            for t in range(w1 - w0):
                                put(
                                    to,
                                    to_row + i * to_plane + (w0 + t) * to_step,
                                    at(scratch, row + i * 2 * L + t),
                                )
                for i in range(rows):
                    finish(to, to_row + i * to_plane, columns, bias, channel + i, 0, o[ACTIVATION])


@jit
def window_last(o, view, source, image, w, w_at, d, h, phase_d, phase_h, phase_w, q0, rows):
    """Two vectors of channels of four positions from q0 on: the sums over all taps and channels of the
    group.
    """
    L = lanes(source)
    D, H, W = view[SOURCE], view[AXIS + SOURCE], view[2 * AXIS + SOURCE]
    R, S, step, depth = o[R_TAPS], o[S_TAPS], view[2 * AXIS + STEP], o[DEPTH]
    sums = zeros(source)
    for td in range(view[phase_d + TAPS]):
        tap_d = view[phase_d + TAPS_AT] + 2 * td
        sd = d * view[STEP] + view[tap_d + 1]
        if not 0 <= sd < D:
            continue
        for th in range(view[phase_h + TAPS]):
            tap_h = view[phase_h + TAPS_AT] + 2 * th
            sh = h * view[AXIS + STEP] + view[tap_h + 1]
            if not 0 <= sh < H:
                continue
            for tw in range(view[phase_w + TAPS]):
                tap_w = view[phase_w + TAPS_AT] + 2 * tw
                x = q0 * step + view[tap_w + 1]
                at_x = image + ((sd * H + sh) * W + x) * o[CHANNELS]
                at_w = w_at + ((view[tap_d] * R + view[tap_h]) * S + view[tap_w]) * o[W_TAP]
                far = step * o[CHANNELS]
                in0, in1 = 0 <= x < W, rows > 1 and 0 <= x + step < W
                in2, in3 = rows > 2 and 0 <= x + 2 * step < W, rows > 3 and 0 <= x + 3 * step < W
                if in0 and in1 and in2 and in3:
                    for c in range(at_x, at_x + depth):
                        s0, s1, s2, s3 = (
                            at(source, c),
                            at(source, c + far),
                            at(source, c + 2 * far),
                            at(source, c + 3 * far),
                        )
                        sums = outer(source, sums, s0, s1, s2, s3, load(w, at_w), load(w, at_w + L))
                        at_w += 2 * L
                elif in0 or in1 or in2 or in3:
                    zero = cast(source, 0.0)
                    for c in range(at_x, at_x + depth):
                        s0 = at(source, c) if in0 else zero
                        s1 = at(source, c + far) if in1 else zero
                        s2 = at(source, c + 2 * far) if in2 else zero
                        s3 = at(source, c + 3 * far) if in3 else zero
                        sums = outer(source, sums, s0, s1, s2, s3, load(w, at_w), load(w, at_w + L))
                        at_w += 2 * L
    return sums


def gather_last_job(begin, end, thread, arguments):
    """A job: two vectors of channels written of an image's group, in a part of the rows, channels-last."""
    o, view, source, w, bias, to = unpack(arguments)
    L = lanes(source)
    blocks = (o[COLUMNS] + 2 * L - 1) // (2 * L)
    groups, parts = o[CHANNELS] // o[DEPTH], o[PARTS]
    plane = view[SOURCE] * view[AXIS + SOURCE] * view[2 * AXIS + SOURCE]
    to_plane = view[TO] * view[AXIS + TO] * view[2 * AXIS + TO]
    to_step = view[2 * AXIS + TO_STRIDE] * o[TO_CHANNELS]
    for job in range(begin, end):
        n, group, block = (
            job // parts // blocks // groups,
            job // parts // blocks % groups,
            job // parts % blocks,
        )
        part = job % parts
        count = min(2 * L, o[COLUMNS] - block * 2 * L)
        image = n * plane * o[CHANNELS] + group * o[DEPTH]
        channel = group * o[COLUMNS] + block * 2 * L
        w_at = o[W_START] + group * o[W_GROUP] + block * o[W_COLUMN]
        for number in range(phases_of(view)):
            pd, ph, pw = phase_numbers(view, number)
            lines = view[pd + POSITIONS] * view[ph + POSITIONS]
            for line in range(lines * part // parts, lines * (part + 1) // parts):
                d, h = line // view[ph + POSITIONS], line % view[ph + POSITIONS]
                to_d, to_h = (
                    view[pd + FIRST] + d * view[TO_STRIDE],
                    view[ph + FIRST] + h * view[AXIS + TO_STRIDE],
                )
                to_row = (to_d * view[AXIS + TO] + to_h) * view[2 * AXIS + TO] + view[pw + FIRST]
                to_row = (n * to_plane + to_row) * o[TO_CHANNELS] + channel
                for q0 in range(0, view[pw + POSITIONS], ROWS):
                    rows = min(ROWS, view[pw + POSITIONS] - q0)
                    sums = window_last(o, view, source, image, w, w_at, d, h, pd, ph, pw, q0, rows)
                    store_rows(to, to_row + q0 * to_step, to_step, rows, count, sums)
                    for i in range(rows):
                        finish(to, to_row + (q0 + i) * to_step, count, bias, channel, 1, o[ACTIVATION])


def gather(
    spec: Any,
    view: Array,
    source: Array,
    w: Array,
    bias: Array | None,
    to: Array,
    activation: str | None,
    threads: int,
    *,
    backward: bool,
) -> None:
    """The forward pass or the input gradient over a view."""
    c, k, taps = spec.c // spec.groups, spec.k // spec.groups, math.prod(spec.window)
    depth, columns = (k, c) if backward else (c, k)
    block, scratch = ROWS, []
    pair = 2 * vector_bytes() // w.itemsize
    if spec.channels_last:
        block = pair
        w = pack_panels(spec, w, block, threads, backward=backward)
        w_strides = (
            0,
            taps * depth * -(-columns // block) * block,
            taps * depth * block,
            block,
            depth * block,
        )
    elif backward:
        w_strides = (taps - 1, k * c * taps, taps, c * taps, -1)
    else:
        w_strides = (0, k * c * taps, c * taps, taps, 1)
    pieces = spec.n * spec.groups * -(-columns // block)
    parts = 1 if threads == 1 else -(-4 * threads // pieces)
    threads = useful_threads(threads, pieces * parts, spec.flops)
    if not spec.channels_last:
        scratch = [workspace(threads * ROWS * pair, w.dtype)]
    options = np.array(
        [
            *(depth * spec.groups, columns * spec.groups, depth, columns, *w_strides),
            *(ACTIVATIONS.index(activation), parts, *padded_window(spec)[1:]),
        ]
    )
    bias = np.empty(0, w.dtype) if bias is None else bias
    job = gather_last_job if spec.channels_last else gather_first_job
    run(job, pieces * parts, threads, options, view, source, w, bias, to, *scratch)


def padded_window(spec: Any) -> tuple[int, ...]:
    """(T, R, S)"""
    return (1,) * (3 - spec.ndim) + tuple(spec.window)


def forward(
    spec: Any, x: Array, w: Array, bias: Array | None, y: Array, activation: str | None, threads: int
) -> None:
    plan = shifted.plan_of(spec, backward=False)
    if plan is not None:
        shifted.gather(plan, spec, x, w, bias, y, activation, threads)
        return
    gather(spec, forward_view(spec), x, w, bias, y, activation, threads, backward=False)


def input_grad(spec: Any, dy: Array, w: Array, dx: Array, threads: int) -> None:
    plan = shifted.plan_of(spec, backward=True)
    if plan is not None:
        shifted.gather(plan, spec, dy, w, None, dx, None, threads)
        return
    gather(spec, input_grad_view(spec), dy, w, None, dx, None, threads, backward=True)


@inline
def tap_rows(g, axis, tap):
    """Output positions [low, high) of an axis that meet the input at a tap, and the tap's offset."""
    offset = tap_offset(g, axis, tap)
    high = min(g[OUT + axis], end_inside(offset, g[STRIDE + axis], g[SIZE + axis]))
    return min(first_inside(offset, g[STRIDE + axis]), high), high, offset


def filter_grad_first_job(begin, end, thread, arguments):
    """A job: all taps of four filters and two channels, channels-first."""
    g, x, dy, dw = unpack(arguments)
    L = lanes(x)
    c_group, k_group = g[C] // g[GROUPS], g[K] // g[GROUPS]
    k_blocks, c_blocks = (k_group + ROWS - 1) // ROWS, (c_group + 1) // 2
    taps, plane, pixels, step = product(g, WINDOW), product(g, SIZE), product(g, OUT), g[STRIDE + 2]
    R, S = g[WINDOW + 1], g[WINDOW + 2]
    for job in range(begin, end):
        group = job // c_blocks // k_blocks
        k0, c0 = job // c_blocks % k_blocks * ROWS, job % c_blocks * 2
        rows, c1 = min(ROWS, k_group - k0), min(1, c_group - c0 - 1)
        k1, k2, k3 = min(1, rows - 1), min(2, rows - 1), min(3, rows - 1)
        for tap in range(taps):
            d0, d1, d_offset = tap_rows(g, 0, tap // S // R)
            h0, h1, h_offset = tap_rows(g, 1, tap // S % R)
            w0, w1, w_offset = tap_rows(g, 2, tap % S)
            sums = zeros(x)
            for n in range(g[N]):
                y_image = (n * g[K] + group * k_group + k0) * pixels
                x_image = (n * g[C] + group * c_group + c0) * plane
                for d in range(d0, d1):
                    for h in range(h0, h1):
                        line = (d * g[STRIDE] + d_offset) * g[SIZE + 1] + h * g[STRIDE + 1] + h_offset
                        at_x = x_image + line * g[SIZE + 2] + w_offset
                        at_y = y_image + (d * g[OUT + 1] + h) * g[OUT + 2]
                        for w in range(w0, w1, L):
                            count, i, j = w1 - w, at_x + w * step, at_y + w
                            if step == 1:
                                v0 = load_part(x, i, 0, count)
                                v1 = load_part(x, i + c1 * plane, 0, count)
                            else:
                                v0 = gather_part(x, i, step, 0, count)
                                v1 = gather_part(x, i + c1 * plane, step, 0, count)
                            r0 = load_part(dy, j, 0, count)
                            r1 = load_part(dy, j + k1 * pixels, 0, count)
                            r2 = load_part(dy, j + k2 * pixels, 0, count)
                            r3 = load_part(dy, j + k3 * pixels, 0, count)
                            sums = (
                                fma(r0, v0, sums[0]), fma(r0, v1, sums[1]), fma(r1, v0, sums[2]), fma(r1,
                                v1, sums[3]),
                                fma(r2, v0, sums[4]), fma(r2, v1, sums[5]), fma(r3, v0, sums[6]), fma(r3,
                                v1, sums[7]),
                            )  # fmt: skip
            # rows beyond the last wrote the last one's own value
            to = ((group * k_group + k0) * c_group + c0) * taps + tap
            far, next_c = c_group * taps, c1 * taps
            put(dw, to + next_c, total(sums[1]))
            put(dw, to, total(sums[0]))
            put(dw, to + k1 * far + next_c, total(sums[3]))
            put(dw, to + k1 * far, total(sums[2]))
            put(dw, to + k2 * far + next_c, total(sums[5]))
            put(dw, to + k2 * far, total(sums[4]))
            put(dw, to + k3 * far + next_c, total(sums[7]))
            put(dw, to + k3 * far, total(sums[6]))


def filter_grad_last_job(begin, end, thread, arguments):
    """A job: one tap of four channels and two vectors of filters, channels-last."""
    g, x, dy, dw = unpack(arguments)
    L = lanes(x)
    c_group, k_group = g[C] // g[GROUPS], g[K] // g[GROUPS]
    c_blocks, k_blocks = (c_group + ROWS - 1) // ROWS, (k_group + 2 * L - 1) // (2 * L)
    taps, plane, pixels = product(g, WINDOW), product(g, SIZE), product(g, OUT)
    R, S, step = g[WINDOW + 1], g[WINDOW + 2], g[STRIDE + 2] * g[C]
    for job in range(begin, end):
        tap, group = job // k_blocks // c_blocks % taps, job // k_blocks // c_blocks // taps
        c0, k0 = job // k_blocks % c_blocks * ROWS, job % k_blocks * 2 * L
        rows, count = min(ROWS, c_group - c0), min(2 * L, k_group - k0)
        c1, c2, c3 = min(1, rows - 1), min(2, rows - 1), min(3, rows - 1)
        d0, d1, d_offset = tap_rows(g, 0, tap // S // R)
        h0, h1, h_offset = tap_rows(g, 1, tap // S % R)
        w0, w1, w_offset = tap_rows(g, 2, tap % S)
        sums = zeros(x)
        for n in range(g[N]):
            for d in range(d0, d1):
                for h in range(h0, h1):
                    line = (d * g[STRIDE] + d_offset) * g[SIZE + 1] + h * g[STRIDE + 1] + h_offset
                    i = (n * plane + line * g[SIZE + 2] + w_offset) * g[C] + w0 * step + group * c_group + c0
                    j = (n * pixels + (d * g[OUT + 1] + h) * g[OUT + 2] + w0) * g[K] + group * k_group + k0
                    for _ in range(w0, w1):
                        if count == 2 * L:
                            v0, v1 = load(dy, j), load(dy, j + L)
                        else:
                            v0, v1 = load_part(dy, j, 0, count), load_part(dy, j + L, 0, count - L)
                        sums = outer(x, sums, at(x, i), at(x, i + c1), at(x, i + c2), at(x, i + c3), v0, v1)
                        i += step
                        j += g[K]
        store_rows(dw, (tap * c_group + c0) * g[K] + group * k_group + k0, g[K], rows, count, sums)


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
    plan = shifted_grad.grad_plan_of(spec)
    if plan is None:
        filter_grad_in_place(spec, x, dy, dw, threads)
    else:
        shifted_grad.filter_grad(plan, spec, x, dy, dw, threads)
    if db is not None:
        bias_grad(spec, dy, db, threads)


def filter_grad_in_place(spec: Any, x: Array, dy: Array, dw: Array, threads: int) -> None:
    c, k = spec.c // spec.groups, spec.k // spec.groups
    if spec.channels_last:
        pair = 2 * vector_bytes() // x.itemsize
        jobs = spec.groups * math.prod(spec.window) * -(-c // ROWS) * -(-k // pair)
    else:
        jobs = spec.groups * -(-k // ROWS) * -(-c // 2)
    job = filter_grad_last_job if spec.channels_last else filter_grad_first_job
    run(job, jobs, useful_threads(threads, jobs, spec.flops), spec.geometry, x, dy, dw)

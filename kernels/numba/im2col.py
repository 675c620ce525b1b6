"""im2col and GEMM, a block of the column matrix at a time (Chellapilla et al. 2006).

Column matrix X^: one row for each weight of a filter, one column for each output pixel; channels-last
problems use its transpose. Each pass is one product with it:

    forward       Y   = W X^            X^ is filled block by block
    input_grad    X^' = W^T dY          and added back to where its elements came from (col2im)
    filter_grad   dW  = dY X^T
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.epilogue import ACTIVATIONS, finish
from fastconv.kernels.numba.filters import bias_grad, pack, sum_parts
from fastconv.kernels.numba.gemm import INDEX, gemm_panel, index_of
from fastconv.kernels.numba.geometry import (
    GROUPS,
    OUT,
    SIZE,
    STRIDE,
    WINDOW,
    C,
    K,
    N,
    add_run,
    clear_run,
    copy_run,
    end_inside,
    first_inside,
    product,
    tap_offset,
)  # fmt: skip
from fastconv.kernels.numba.jit import (
    in_python,
    jit,
    run,
    unpack,
    up,
    useful_threads,
    vector_bytes,
    workspace,
)
from fastconv.kernels.numba.tile import MR, NV, panel_width
from fastconv.kernels.numba.vector import lanes

Array = NDArray[Any]

# Depth of a block: 8 rows and 3 vectors of it (16 + 96 KB in float32) stay in a level 2 cache of 256 KB
# or more.
KC = 512
# Pixels of a channels-last block: each packed panel of filters serves this many.
PIXELS = 96
# Channels-last filter gradient: rows of filters and pixels of a block.
ROWS, KC_LAST = 64, 256


@jit
def fill_columns(g, x, x_at, q0, q1, p0, p1, col, at, row, step):
    """Rows [q0, q1) and pixels [p0, p1) of the column matrix of a channels-first group -> col[at + q*row +
    p*step].
    """
    taps, plane = product(g, WINDOW), product(g, SIZE)
    R, S, H, W, OH, OW = g[WINDOW + 1], g[WINDOW + 2], g[SIZE + 1], g[SIZE + 2], g[OUT + 1], g[OUT + 2]
    for q in range(q0, q1):
        tap = q % taps
        source = x_at + q // taps * plane
        d_offset = tap_offset(g, 0, tap // (R * S))
        h_offset = tap_offset(g, 1, tap // S % R)
        w_offset = tap_offset(g, 2, tap % S)
        low, high = first_inside(w_offset, g[STRIDE + 2]), end_inside(w_offset, g[STRIDE + 2], W)
        to = at + (q - q0) * row
        p = p0
        while p < p1:
            ow = p % OW
            count = min(OW - ow, p1 - p)
            d = p // OW // OH * g[STRIDE] + d_offset
            h = p // OW % OH * g[STRIDE + 1] + h_offset
            if 0 <= d < g[SIZE] and 0 <= h < H:
                start = min(max(low - ow, 0), count)
                end = max(min(high - ow, count), start)
                clear_run(col, to, step, start)
                w = (d * H + h) * W + (ow + start) * g[STRIDE + 2] + w_offset
                copy_run(col, to + start * step, step, x, source + w, g[STRIDE + 2], end - start)
                clear_run(col, to + end * step, step, count - end)
            else:
                clear_run(col, to, step, count)
            to += count * step
            p += count


@jit
def add_columns(g, col, at, row, q0, q1, p0, p1, dx, dx_at):
    """col2im, the transpose of fill_columns: col[at + (q - q0)*row + p - p0] is added to where X^[q, p]
    came from.
    """
    taps, plane = product(g, WINDOW), product(g, SIZE)
    R, S, H, W, OH, OW = g[WINDOW + 1], g[WINDOW + 2], g[SIZE + 1], g[SIZE + 2], g[OUT + 1], g[OUT + 2]
    for q in range(q0, q1):
        tap = q % taps
        target = dx_at + q // taps * plane
        d_offset = tap_offset(g, 0, tap // (R * S))
        h_offset = tap_offset(g, 1, tap // S % R)
        w_offset = tap_offset(g, 2, tap % S)
        low, high = first_inside(w_offset, g[STRIDE + 2]), end_inside(w_offset, g[STRIDE + 2], W)
        source = at + (q - q0) * row
        p = p0
        while p < p1:
            ow = p % OW
            count = min(OW - ow, p1 - p)
            d = p // OW // OH * g[STRIDE] + d_offset
            h = p // OW % OH * g[STRIDE + 1] + h_offset
            start = min(max(low - ow, 0), count)
            end = min(high - ow, count)
            if 0 <= d < g[SIZE] and 0 <= h < H and start < end:
                w = (d * H + h) * W + (ow + start) * g[STRIDE + 2] + w_offset
                add_run(dx, target + w, g[STRIDE + 2], col, source + start, 1, end - start)
            source += count
            p += count


@jit
def fill_rows(g, x, x_at, q0, q1, p0, p1, col, at):
    """Columns [q0, q1) of pixels [p0, p1) of the transposed column matrix, channels-last -> col, densely
    from at.
    """
    channels = g[C] // g[GROUPS]
    for p in range(p0, p1):
        q = q0
        while q < q1:
            c = q % channels
            count = min(channels - c, q1 - q)
            source = input_pixel(g, p, q // channels)
            if source >= 0:
                copy_run(col, at, 1, x, x_at + source * g[C] + c, 1, count)
            else:
                clear_run(col, at, 1, count)
            at += count
            q += count


@jit
def input_pixel(g, p, tap):
    """The input pixel that output pixel p meets at a tap, or -1 in the padding."""
    R, S = g[WINDOW + 1], g[WINDOW + 2]
    d = p // g[OUT + 2] // g[OUT + 1] * g[STRIDE] + tap_offset(g, 0, tap // S // R)
    h = p // g[OUT + 2] % g[OUT + 1] * g[STRIDE + 1] + tap_offset(g, 1, tap // S % R)
    w = p % g[OUT + 2] * g[STRIDE + 2] + tap_offset(g, 2, tap % S)
    if 0 <= d < g[SIZE] and 0 <= h < g[SIZE + 1] and 0 <= w < g[SIZE + 2]:
        return (d * g[SIZE + 1] + h) * g[SIZE + 2] + w
    return -1


@jit
def add_rows(g, col, at, row, p0, p1, c0, channels, dx, dx_at):
    """col2im of col[(p - p0) * row + tap * channels + c], some channels from c0 on, channels-last."""
    for p in range(p0, p1):
        for tap in range(product(g, WINDOW)):
            target = input_pixel(g, p, tap)
            if target >= 0:
                add_run(
                    dx, dx_at + target * g[C] + c0, 1, col, at + (p - p0) * row + tap * channels, 1, channels
                )


def forward_first_job(begin, end, thread, arguments):
    """A job: one panel of pixels of a group of an image, channels-first, all filters."""
    g, x, w, bias, y, options, col, index = unpack(arguments)
    L = lanes(x)
    groups, pixels = g[GROUPS], product(g, OUT)
    c_group, k_group = g[C] // groups, g[K] // groups
    depth = c_group * product(g, WINDOW)
    width = panel_width(pixels, L)
    panels = (pixels + width - 1) // width
    at = thread * KC * NV * L
    for job in range(begin, end):
        n, group, panel = job // panels // groups, job // panels % groups, job % panels
        p0 = panel * width
        p1 = min(pixels, p0 + width)
        y_at = (n * g[K] + group * k_group) * pixels + p0
        for q0 in range(0, depth, KC):
            q1 = min(q0 + KC, depth)
            fill_columns(
                g, x, (n * g[C] + group * c_group) * product(g, SIZE), q0, q1, p0, p1, col, at, NV * L, 1
            )
            start = index_of(thread, index, depth, pixels)
            gemm_panel(
                k_group, q1 - q0, w, group * k_group * depth + q0, depth, 1, col, at, NV * L,
                y, y_at, pixels, p1 - p0, q0 > 0, index, start,
            )  # fmt: skip
        for k in range(k_group):
            finish(y, y_at + k * pixels, p1 - p0, bias, group * k_group + k, 0, options[0])


def forward_last_job(begin, end, thread, arguments):
    """A job: a block of pixels of a group of an image, channels-last, all filters."""
    g, x, w, bias, y, options, col, index = unpack(arguments)
    L = lanes(x)
    groups, pixels = g[GROUPS], product(g, OUT)
    c_group, k_group = g[C] // groups, g[K] // groups
    depth = c_group * product(g, WINDOW)
    blocks = (pixels + PIXELS - 1) // PIXELS
    width = panel_width(k_group, L)
    panels = (k_group + width - 1) // width
    at = thread * KC * (PIXELS + NV * L)
    packed = at + KC * PIXELS
    for job in range(begin, end):
        n, group, block = job // blocks // groups, job // blocks % groups, job % blocks
        p0, p1 = block * PIXELS, min(pixels, (block + 1) * PIXELS)
        y_at = (n * pixels + p0) * g[K] + group * k_group
        for q0 in range(0, depth, KC):
            q1 = min(q0 + KC, depth)
            fill_rows(g, x, n * product(g, SIZE) * g[C] + group * c_group, q0, q1, p0, p1, col, at)
            start = index_of(thread, index, q1 - q0, g[K])
            for panel in range(panels):
                k0 = panel * width
                k1 = min(k_group, k0 + width)
                for q in range(q0, q1):
                    copy_run(
                        col, packed + (q - q0) * NV * L, 1, w, q * g[K] + group * k_group + k0, 1, k1 - k0
                    )
                gemm_panel(
                    p1 - p0, q1 - q0, col, at, q1 - q0, 1, col, packed, NV * L,
                    y, y_at + k0, g[K], k1 - k0, q0 > 0, index, start,
                )  # fmt: skip
        for p in range(p1 - p0):
            finish(y, y_at + p * g[K], k_group, bias, group * k_group, 1, options[0])


def forward(
    spec: Any, x: Array, w: Array, bias: Array | None, y: Array, activation: str | None, threads: int
) -> None:
    pixels = math.prod(spec.out_size)
    L = vector_bytes() // x.itemsize
    blocks = up(pixels, PIXELS) if spec.channels_last else up(pixels, in_python(panel_width)(pixels, L))
    jobs = spec.n * spec.groups * blocks
    threads = useful_threads(threads, jobs, spec.flops)
    scratch = KC * (NV * L + (PIXELS if spec.channels_last else 0))
    run(
        *(forward_last_job if spec.channels_last else forward_first_job, jobs, threads, spec.geometry, x, w),
        *(np.empty(0, x.dtype) if bias is None else bias, y, np.array([ACTIVATIONS.index(activation)])),
        *(workspace(threads * scratch, x.dtype), workspace(threads * INDEX, np.int64)),
    )


def input_grad_first_job(begin, end, thread, arguments):
    """A job: some channels of a group of an image, channels-first; filters packed (group, crs/MR, k, MR)."""
    g, dy, packed, dx, options, col, index = unpack(arguments)
    L = lanes(dy)
    groups, pixels, plane, taps = g[GROUPS], product(g, OUT), product(g, SIZE), product(g, WINDOW)
    c_group, k_group = g[C] // groups, g[K] // groups
    channels = options[0]
    blocks = (c_group + channels - 1) // channels
    row_panels = (c_group * taps + MR - 1) // MR
    width = panel_width(pixels, L)
    panels = (pixels + width - 1) // width
    at = thread * (channels * taps + MR + k_group) * NV * L
    values = at + (channels * taps + MR) * NV * L
    for job in range(begin, end):
        n, group, block = job // blocks // groups, job // blocks % groups, job % blocks
        c0, c1 = block * channels, min(c_group, (block + 1) * channels)
        q0, q1 = c0 * taps, c1 * taps
        dx_at = (n * g[C] + group * c_group) * plane
        clear_run(dx, dx_at + c0 * plane, 1, (c1 - c0) * plane)
        for panel in range(panels):
            p0 = panel * width
            p1 = min(pixels, p0 + width)
            for k in range(k_group):
                source = (n * g[K] + group * k_group + k) * pixels + p0
                copy_run(col, values + k * NV * L, 1, dy, source, 1, p1 - p0)
            start = index_of(thread, index, 1, NV * L)
            for q in range(q0, q1, MR):
                a_at = (group * row_panels + q // MR) * k_group * MR
                gemm_panel(
                    min(MR, q1 - q), k_group, packed, a_at, 1, MR, col, values, NV * L,
                    col, at + (q - q0) * NV * L, NV * L, p1 - p0, False, index, start,
                )  # fmt: skip
            add_columns(g, col, at, NV * L, q0, q1, p0, p1, dx, dx_at)


def input_grad_last_job(begin, end, thread, arguments):
    """A job: one panel of channels of a group of an image, channels-last; filters packed (group, panel,
    tap, k, width).
    """
    g, dy, packed, dx, options, col, index = unpack(arguments)
    groups, pixels, plane, taps = g[GROUPS], product(g, OUT), product(g, SIZE), product(g, WINDOW)
    c_group, k_group = g[C] // groups, g[K] // groups
    width = options[0]
    panels = (c_group + width - 1) // width
    at = thread * MR * taps * width
    for job in range(begin, end):
        n, group, panel = job // panels // groups, job // panels % groups, job % panels
        c0 = panel * width
        channels = min(width, c_group - c0)
        dx_at = n * plane * g[C] + group * c_group
        for p in range(plane):
            clear_run(dx, dx_at + p * g[C] + c0, 1, channels)
        start = index_of(thread, index, g[K], taps * channels)
        for p in range(0, pixels, MR):
            m = min(MR, pixels - p)
            for tap in range(taps):
                b_at = ((group * panels + panel) * taps + tap) * k_group * width
                gemm_panel(
                    m, k_group, dy, (n * pixels + p) * g[K] + group * k_group, g[K], 1, packed, b_at, width,
                    col, at + tap * channels, taps * channels, channels, False, index, start,
                )  # fmt: skip
            add_rows(g, col, at, taps * channels, p, p + m, c0, channels, dx, dx_at)


def input_grad(spec: Any, dy: Array, w: Array, dx: Array, threads: int) -> None:
    c, k, taps = spec.c // spec.groups, spec.k // spec.groups, math.prod(spec.window)
    L = vector_bytes() // dy.itemsize
    if spec.channels_last:
        width = min(up(c, L), NV) * L
        packed = pack(
            w, threads, shape=(spec.groups, taps, k, c), strides=(k, c * spec.k, 1, spec.k), width=width
        )
        scratch = MR * taps * width
    else:
        # as many channels as make the packing of dY cheap, but some jobs for each thread
        width = 32 if spec.n * spec.groups * (c // 32) >= 2 * threads else MR
        packed = pack(
            w, threads, shape=(spec.groups, 1, k, c * taps), strides=(k * c * taps, 0, c * taps, 1), width=MR
        )
        scratch = (width * taps + MR + k) * NV * L
    jobs = spec.n * spec.groups * up(c, width)
    threads = useful_threads(threads, jobs, spec.flops)
    run(
        *(
            input_grad_last_job if spec.channels_last else input_grad_first_job,
            jobs,
            threads,
            spec.geometry,
            dy,
        ),
        *(
            packed,
            dx,
            np.array([width]),
            workspace(threads * scratch, dy.dtype),
            workspace(threads * INDEX, np.int64),
        ),
    )


def filter_grad_first_job(begin, end, thread, arguments):
    """A job: one panel of a group's filter columns, over a share of the blocks of pixels, channels-first."""
    g, x, dy, dw, options, col, index = unpack(arguments)
    L = lanes(x)
    groups, pixels, taps = g[GROUPS], product(g, OUT), product(g, WINDOW)
    c_group, k_group = g[C] // groups, g[K] // groups
    depth = c_group * taps
    width = panel_width(depth, L)
    panels = (depth + width - 1) // width
    blocks = (pixels + KC - 1) // KC
    parts = options[0]
    at = thread * KC * NV * L
    for job in range(begin, end):
        part, group, panel = job // panels // groups, job // panels % groups, job % panels
        q0 = panel * width
        q1 = min(depth, q0 + width)
        first, last = g[N] * blocks * part // parts, g[N] * blocks * (part + 1) // parts
        for block in range(first, last):
            n = block // blocks
            p0 = block % blocks * KC
            p1 = min(pixels, p0 + KC)
            fill_columns(
                g, x, (n * g[C] + group * c_group) * product(g, SIZE), q0, q1, p0, p1, col, at, 1, NV * L
            )
            start = index_of(thread, index, pixels, depth)
            gemm_panel(
                k_group, p1 - p0, dy, (n * g[K] + group * k_group) * pixels + p0, pixels, 1, col, at, NV * L,
                dw, (part * groups + group) * k_group * depth + q0, depth, q1 - q0, block > first, index,
                start,
            )  # fmt: skip


def filter_grad_last_job(begin, end, thread, arguments):
    """A job: some filter rows (tap, channel) of a group, over a share of the blocks of pixels, channels-
    last.
    """
    g, x, dy, dw, options, col, index = unpack(arguments)
    L = lanes(x)
    groups, pixels, taps = g[GROUPS], product(g, OUT), product(g, WINDOW)
    c_group, k_group = g[C] // groups, g[K] // groups
    depth = c_group * taps
    row_blocks = (depth + ROWS - 1) // ROWS
    blocks = (pixels + KC_LAST - 1) // KC_LAST
    width = panel_width(k_group, L)
    panels = (k_group + width - 1) // width
    parts = options[0]
    at = thread * KC_LAST * (ROWS + NV * L)
    values = at + KC_LAST * ROWS
    for job in range(begin, end):
        part, group, row_block = job // row_blocks // groups, job // row_blocks % groups, job % row_blocks
        q0, q1 = row_block * ROWS, min(depth, (row_block + 1) * ROWS)
        first, last = g[N] * blocks * part // parts, g[N] * blocks * (part + 1) // parts
        for block in range(first, last):
            n = block // blocks
            p0 = block % blocks * KC_LAST
            p1 = min(pixels, p0 + KC_LAST)
            fill_rows(g, x, n * product(g, SIZE) * g[C] + group * c_group, q0, q1, p0, p1, col, at)
            start = index_of(thread, index, 1, g[K])
            for panel in range(panels):
                k0 = panel * width
                k1 = min(k_group, k0 + width)
                source = (n * pixels + p0) * g[K] + group * k_group + k0
                for p in range(p1 - p0):
                    copy_run(col, values + p * NV * L, 1, dy, source + p * g[K], 1, k1 - k0)
                gemm_panel(
                    q1 - q0, p1 - p0, col, at, 1, q1 - q0, col, values, NV * L,
                    dw, (part * depth + q0) * g[K] + group * k_group + k0, g[K], k1 - k0, block > first,
                    index, start,
                )  # fmt: skip


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
    pixels, depth = math.prod(spec.out_size), spec.c // spec.groups * math.prod(spec.window)
    L = vector_bytes() // x.itemsize
    if spec.channels_last:
        pieces, blocks, scratch = up(depth, ROWS), up(pixels, KC_LAST), KC_LAST * (ROWS + NV * L)
    else:
        pieces, blocks, scratch = up(depth, in_python(panel_width)(depth, L)), up(pixels, KC), KC * NV * L
    pieces *= spec.groups
    # a job for every thread twice over, by shares of the pixels where the filters alone give too few
    parts = max(1, min(up(2 * threads, pieces), spec.n * blocks)) if threads > 1 else 1
    threads = useful_threads(threads, pieces * parts, spec.flops)
    sums = dw if parts == 1 else workspace(parts * dw.size, dw.dtype).reshape(parts, -1)
    run(
        *(filter_grad_last_job if spec.channels_last else filter_grad_first_job, pieces * parts, threads),
        *(spec.geometry, x, dy, sums, np.array([parts])),
        *(workspace(threads * scratch, x.dtype), workspace(threads * INDEX, np.int64)),
    )
    if parts > 1:
        sum_parts(sums, dw, threads)
    if db is not None:
        bias_grad(spec, dy, db, threads)

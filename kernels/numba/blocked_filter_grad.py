"""Implicit GEMM for the filter gradient, both layouts: depth is pixels, columns are filters.

    (taps x channels, pixels) @ (pixels, filters) -> (taps x channels, filters)

The rows of a tile are channels that meet one tap, so that the same runs of pixels are inside for all of
them: the input is read where it lies and padding is never multiplied. dy is packed a panel of filters at
a time.
"""

from __future__ import annotations

from fastconv.kernels.numba.geometry import (
    GROUPS,
    LAST,
    OUT,
    SIZE,
    STRIDE,
    WINDOW,
    C,
    K,
    N,
    clear_run,
    copy_run,
    end_inside,
    first_inside,
    product,
    tap_offset,
)  # fmt: skip
from fastconv.kernels.numba.jit import inline, jit, unpack
from fastconv.kernels.numba.tile import MR, NV, SEGMENT, panel_width, tile
from fastconv.kernels.numba.vector import at, lanes, put

# Pixels of a block: its panel of dy, KC * 48 * 4 bytes, and the rows of x that meet it fit in L2.
KC = 512
SPLITS, PARTS = 0, 1


@inline
def lines_of_block(g):
    """Output rows whose pixels make a block (wider ones are cut)."""
    return max(1, KC // g[OUT + 2])


@inline
def index_size(lines):
    """Integers of scratch: a segment for each line of a block, rows of a and c."""
    size = SEGMENT * (min(lines, KC) + 1) + 2 * MR
    return (size + SEGMENT - 1) // SEGMENT * SEGMENT


@jit
def pack_gradients(g, dy, group, k0, count, line0, line1, w0, w1, col, to, width):
    """dy of lines [line0, line1), columns [w0, w1) and some filters -> col (pixels, width), filled up with
    zeros.
    """
    pixels, rows = product(g, OUT), g[OUT] * g[OUT + 1]
    channel = group * (g[K] // g[GROUPS]) + k0
    line = line0
    while line < line1:
        n, row = line // rows, line % rows
        # whole lines of an image follow each other
        last = min(line1, (n + 1) * rows) if w1 - w0 == g[OUT + 2] else line + 1
        run = (last - line) * (w1 - w0)
        p = row * g[OUT + 2] + w0
        if g[LAST]:
            for i in range(run):
                copy_run(col, to + i * width, 1, dy, (n * pixels + p + i) * g[K] + channel, 1, count)
                for j in range(count, width):
                    put(col, to + i * width + j, 0.0)
        else:
            for j in range(count):
                copy_run(col, to + j, width, dy, (n * g[K] + channel + j) * pixels + p, 1, run)
            for j in range(count, width):
                clear_run(col, to + j, width, run)
        to += run * width
        line = last


@jit
def list_segments(g, tap, line0, line1, w0, w1, x_image, x_pixel, index, segments_at):
    """The runs of pixels that a tap meets inside, as segments for `tile`; returns how many."""
    R, S = g[WINDOW + 1], g[WINDOW + 2]
    d_offset, h_offset = tap_offset(g, 0, tap // S // R), tap_offset(g, 1, tap // S % R)
    w_offset, step = tap_offset(g, 2, tap % S), g[STRIDE + 2]
    low, high = max(w0, first_inside(w_offset, step)), min(w1, end_inside(w_offset, step, g[SIZE + 2]))
    count = 0
    if low >= high:
        return count
    OD, OH = g[OUT], g[OUT + 1]
    h, d, n = line0 % OH, line0 // OH % OD, line0 // OH // OD
    for line in range(line0, line1):
        sd, sh = d * g[STRIDE] + d_offset, h * g[STRIDE + 1] + h_offset
        if 0 <= sd < g[SIZE] and 0 <= sh < g[SIZE + 1]:
            x = (sd * g[SIZE + 1] + sh) * g[SIZE + 2] + low * step + w_offset
            i = segments_at + SEGMENT * count
            offset, row = n * x_image + x * x_pixel, (line - line0) * (w1 - w0) + low - w0
            before = i - SEGMENT
            joins = (
                count > 0 and index[before + 1] + index[before] * step * x_pixel == offset
                and index[before + 2] + index[before] == row
            )  # fmt: skip
            if joins:
                index[before] += high - low
            else:
                index[i], index[i + 1], index[i + 2] = high - low, offset, row
                count += 1
        h += 1
        if h == OH:
            h, d = 0, d + 1
            if d == OD:
                d, n = 0, n + 1
    return count


def filter_grad_job(begin, end, thread, arguments):
    """A job: a panel of filters of a group, a share of the rows (tap, channel), a part of the blocks of
    pixels.
    """
    g, o, x, dy, sums, col, index = unpack(arguments)
    L = lanes(x)
    c_group, k_group = g[C] // g[GROUPS], g[K] // g[GROUPS]
    taps, plane = product(g, WINDOW), product(g, SIZE)
    width = panel_width(k_group, L)
    panels = (k_group + width - 1) // width
    c_blocks = (c_group + MR - 1) // MR
    tiles = taps * c_blocks
    lines, per_block = g[N] * g[OUT] * g[OUT + 1], lines_of_block(g)
    cuts = (g[OUT + 2] + KC - 1) // KC
    blocks = (lines + per_block - 1) // per_block * cuts
    x_image, x_channel, x_pixel = g[C] * plane, 1 if g[LAST] else plane, g[C] if g[LAST] else 1
    segments_at = thread * index_size(lines)
    a_rows = segments_at + SEGMENT * (min(lines, KC) + 1)
    c_rows = a_rows + MR
    col_at = thread * KC * NV * L
    for job in range(begin, end):
        split, panel = job % o[SPLITS], job // o[SPLITS] % panels
        group, part = job // o[SPLITS] // panels % g[GROUPS], job // o[SPLITS] // panels // g[GROUPS]
        k0 = panel * width
        count = min(width, k_group - k0)
        tile0, tile1 = tiles * split // o[SPLITS], tiles * (split + 1) // o[SPLITS]
        first, last = blocks * part // o[PARTS], blocks * (part + 1) // o[PARTS]
        for block in range(first, last):
            line0 = block // cuts * per_block
            line1 = min(lines, line0 + per_block)
            w0 = block % cuts * KC
            w1 = min(g[OUT + 2], w0 + KC)
            pack_gradients(g, dy, group, k0, count, line0, line1, w0, w1, col, col_at, width)
            segments, listed = 0, -1
            for number in range(tile0, tile1):
                tap, c0 = number // c_blocks, number % c_blocks * MR
                m = min(MR, c_group - c0)
                if tap != listed:
                    segments = list_segments(
                        g, tap, line0, line1, w0, w1, x_image, x_pixel, index, segments_at
                    )
                    listed = tap
                for i in range(m):
                    index[a_rows + i] = (group * c_group + c0 + i) * x_channel
                    row = (part * taps + tap) * c_group + c0 + i
                    index[c_rows + i] = row * g[K] + group * k_group + k0
                if segments > 0:
                    s = segments_at // SEGMENT
                    tile(
                        m, x, index, a_rows, g[STRIDE + 2] * x_pixel, index, s, s + segments,
                        col, col_at, width, sums, index, c_rows, 0, count, block > first,
                    )  # fmt: skip
                elif block == first:
                    for i in range(m):
                        clear_run(sums, index[c_rows + i], 1, count)


def gather_sums_job(begin, end, thread, arguments):
    """A job: the gradient of one filter, channels-first, from (part, tap, channel, filter) in that order."""
    g, o, sums, dw = unpack(arguments)
    c_group, taps = g[C] // g[GROUPS], product(g, WINDOW)
    for k in range(begin, end):
        for c in range(c_group):
            for tap in range(taps):
                value = at(sums, (tap * c_group + c) * g[K] + k)
                for part in range(1, o[0]):
                    value += at(sums, ((part * taps + tap) * c_group + c) * g[K] + k)
                put(dw, (k * c_group + c) * taps + tap, value)

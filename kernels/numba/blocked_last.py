"""Implicit GEMM, channels-last: rows are pixels read in place, columns are channels of packed filters.

    (pixels, taps x depth) @ (taps x depth, columns) -> (pixels, columns)

A job is a block of pixels. Tiles of pixels whose taps are all inside read the source where it lies; the
others, along the border, are copied once with zeros in place of the padding.
"""

from __future__ import annotations

from fastconv.kernels.numba.epilogue import finish
from fastconv.kernels.numba.geometry import clear_run, copy_run
from fastconv.kernels.numba.jit import inline, jit, unpack
from fastconv.kernels.numba.tile import MR, SEGMENT, panel_width, tile_panels
from fastconv.kernels.numba.vector import lanes
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
    phase_numbers,
)  # fmt: skip

# Depth of a block, at most: a tile's pixels, KC * 8 * 4 bytes, stay in L1 for all panels. Longer sums round
# more than their bound.
KC = 512
# Filters of a depth block that the pixels of a job go through: most of L2.
FILTER_BYTES = 640 << 10
# Pixels of a job: each panel of filters that comes from memory serves this many.
PIXELS = 256
# What the job knows beside the view.
CHANNELS, TO_CHANNELS, DEPTH, COLUMNS, ACTIVATION, BLOCKS, PARTS, R_TAPS, S_TAPS, ALL_TAPS, IMAGES = range(11)
# Integers that describe a pixel and a tap.
FROM, TO_AT, D_AT, H_AT, W_AT, INSIDE, PIXEL = range(7)
NUMBER, OFFSET, D_OFFSET, H_OFFSET, W_OFFSET, TAP = range(6)


@inline
def index_size(taps):
    """Integers of scratch: pixels, taps, two lists of segments, rows of a and c, a slot for each tile."""
    size = PIXELS * PIXEL + taps * TAP + 2 * SEGMENT * (KC + 2) + 3 * PIXELS
    return (size + SEGMENT - 1) // SEGMENT * SEGMENT


@jit
def list_taps(o, view, pd, ph, pw, index, taps_at):
    """The taps of a phase, in order; returns how many."""
    count = 0
    for d in range(view[pd + TAPS]):
        for h in range(view[ph + TAPS]):
            for w in range(view[pw + TAPS]):
                tap_d, tap_h = view[pd + TAPS_AT] + 2 * d, view[ph + TAPS_AT] + 2 * h
                tap_w, i = view[pw + TAPS_AT] + 2 * w, taps_at + count * TAP
                index[i + NUMBER] = (view[tap_d] * o[R_TAPS] + view[tap_h]) * o[S_TAPS] + view[tap_w]
                index[i + D_OFFSET], index[i + H_OFFSET] = view[tap_d + 1], view[tap_h + 1]
                index[i + W_OFFSET] = view[tap_w + 1]
                line = view[tap_d + 1] * view[AXIS + SOURCE] + view[tap_h + 1]
                index[i + OFFSET] = line * view[2 * AXIS + SOURCE] + view[tap_w + 1]
                count += 1
    return count


@inline
def tap_range(view, phase):
    """The first and last offset of an axis: taps ascend."""
    at = view[phase + TAPS_AT]
    if view[phase + TAPS] == 0:
        return 0, 0
    return view[at + 1], view[at + 2 * view[phase + TAPS] - 1]


@jit
def list_pixels(o, view, pd, ph, pw, first, count, index, pixels_at):
    """Where each position of a block reads and writes, and whether all its taps are inside."""
    D, H, W = view[SOURCE], view[AXIS + SOURCE], view[2 * AXIS + SOURCE]
    nd, nh, nw = view[pd + POSITIONS], view[ph + POSITIONS], view[pw + POSITIONS]
    d_low, d_high = tap_range(view, pd)
    h_low, h_high = tap_range(view, ph)
    w_low, w_high = tap_range(view, pw)
    w, h, d, n = first % nw, first // nw % nh, first // nw // nh % nd, first // nw // nh // nd
    for q in range(count):
        i = pixels_at + q * PIXEL
        sd, sh, sw = d * view[STEP], h * view[AXIS + STEP], w * view[2 * AXIS + STEP]
        to_d = view[pd + FIRST] + d * view[TO_STRIDE]
        to_h = view[ph + FIRST] + h * view[AXIS + TO_STRIDE]
        to_w = view[pw + FIRST] + w * view[2 * AXIS + TO_STRIDE]
        to = ((n * view[TO] + to_d) * view[AXIS + TO] + to_h) * view[2 * AXIS + TO] + to_w
        index[i + FROM] = (((n * D + sd) * H + sh) * W + sw) * o[CHANNELS]
        index[i + TO_AT] = to * o[TO_CHANNELS]
        index[i + D_AT], index[i + H_AT], index[i + W_AT] = sd, sh, sw
        index[i + INSIDE] = (
            sd + d_low >= 0 and sd + d_high < D and sh + h_low >= 0
            and sh + h_high < H and sw + w_low >= 0 and sw + w_high < W
        )  # fmt: skip
        w += 1
        if w == nw:
            w, h = 0, h + 1
            if h == nh:
                h, d = 0, d + 1
                if d == nd:
                    d, n = 0, n + 1


@jit
def list_segments(o, index, taps_at, segments_at, u0, u1, copied):
    """Depth [u0, u1) as segments for `tile`, neighbours joined; `copied` pixels are dense, others lie in
    the source.
    """
    count, u = 0, u0
    while u < u1:
        tap, c = taps_at + u // o[DEPTH] * TAP, u % o[DEPTH]
        length = min(o[DEPTH] - c, u1 - u)
        offset = u - u0 if copied else index[tap + OFFSET] * o[CHANNELS] + c
        row = index[tap + NUMBER] * o[DEPTH] + c
        last = segments_at + (count - 1) * SEGMENT
        joins = count > 0 and index[last + 1] + index[last] == offset and index[last + 2] + index[last] == row
        if joins:
            index[last] += length
        else:
            index[last + 3], index[last + 4], index[last + 5] = length, offset, row
            count += 1
        u += length
    return count


@jit
def copy_pixel(o, view, source, group, index, pixel, taps_at, u0, u1, col, at):
    """Depth [u0, u1) of one pixel, with zeros for taps outside."""
    D, H, W = view[SOURCE], view[AXIS + SOURCE], view[2 * AXIS + SOURCE]
    u = u0
    while u < u1:
        tap, c = taps_at + u // o[DEPTH] * TAP, u % o[DEPTH]
        length = min(o[DEPTH] - c, u1 - u)
        d, h = index[pixel + D_AT] + index[tap + D_OFFSET], index[pixel + H_AT] + index[tap + H_OFFSET]
        w = index[pixel + W_AT] + index[tap + W_OFFSET]
        if 0 <= d < D and 0 <= h < H and 0 <= w < W:
            x = index[pixel + FROM] + index[tap + OFFSET] * o[CHANNELS] + group * o[DEPTH] + c
            copy_run(col, at + u - u0, 1, source, x, 1, length)
        else:
            clear_run(col, at + u - u0, 1, length)
        u += length


def gather_last_job(begin, end, thread, arguments):
    """A job: a block of pixels of one phase and group, a part of the panels of columns."""
    o, view, source, packed, bias, to, col, index = unpack(arguments)
    L = lanes(source)
    groups, depth, columns = o[CHANNELS] // o[DEPTH], o[DEPTH], o[COLUMNS]
    width = panel_width(columns, L)
    panels = (columns + width - 1) // width
    pixels_at = thread * index_size(o[ALL_TAPS])
    taps_at = pixels_at + PIXELS * PIXEL
    inside_at = pixels_at + (PIXELS * PIXEL + o[ALL_TAPS] * TAP + SEGMENT - 1) // SEGMENT * SEGMENT
    copied_at = inside_at + SEGMENT * (KC + 1)
    rows_at = copied_at + SEGMENT * (KC + 1)
    to_at, dense_at = rows_at + PIXELS, rows_at + 2 * PIXELS
    scratch = thread * MR * KC
    for job in range(begin, end):
        part, start = job % o[PARTS], job // o[PARTS] % o[BLOCKS] * PIXELS
        group, number = job // o[PARTS] // o[BLOCKS] % groups, job // o[PARTS] // o[BLOCKS] // groups
        pd, ph, pw = phase_numbers(view, number)
        positions = o[IMAGES] * view[pd + POSITIONS] * view[ph + POSITIONS] * view[pw + POSITIONS]
        count = min(PIXELS, positions - start)
        if count <= 0:
            continue
        taps = list_taps(o, view, pd, ph, pw, index, taps_at)
        list_pixels(o, view, pd, ph, pw, start, count, index, pixels_at)
        for q in range(count):
            index[rows_at + q] = index[pixels_at + q * PIXEL + FROM] + group * depth
            index[to_at + q] = index[pixels_at + q * PIXEL + TO_AT] + group * columns
            index[dense_at + q] = scratch + q % MR * KC
        first, last = panels * part // o[PARTS], panels * (part + 1) // o[PARTS]
        c0, c1 = first * width, min(columns, last * width)
        b_at, b_panel = (group * panels + first) * o[ALL_TAPS] * width * depth, o[ALL_TAPS] * width * depth
        if taps == 0:
            for q in range(count):
                clear_run(to, index[to_at + q], 1, columns)
        blocks = (taps * depth + KC - 1) // KC
        for block in range(blocks):
            u0, u1 = taps * depth * block // blocks, taps * depth * (block + 1) // blocks
            runs = list_segments(o, index, taps_at, inside_at, u0, u1, False)
            copied = list_segments(o, index, taps_at, copied_at, u0, u1, True)
            for q in range(0, count, MR):
                m = min(MR, count - q)
                inside = all_inside(index, pixels_at, q, m)
                if not inside:
                    for i in range(q, q + m):
                        copy_pixel(
                            o, view, source, group, index, pixels_at + i * PIXEL, taps_at, u0, u1,
                            col, scratch + (i - q) * KC,
                        )  # fmt: skip
                if inside:
                    tile_panels(
                        m, source, index, rows_at + q, 1, index, inside_at // SEGMENT,
                        inside_at // SEGMENT + runs, packed, b_at, width, b_panel,
                        to, index, to_at + q, c0, c1 - c0, u0 > 0,
                    )  # fmt: skip
                else:
                    tile_panels(
                        m, col, index, dense_at + q, 1, index, copied_at // SEGMENT,
                        copied_at // SEGMENT + copied, packed, b_at, width, b_panel,
                        to, index, to_at + q, c0, c1 - c0, u0 > 0,
                    )  # fmt: skip
        if bias.size > 0 or o[ACTIVATION] > 0:
            for q in range(count):
                finish(to, index[to_at + q] + c0, c1 - c0, bias, group * columns + c0, 1, o[ACTIVATION])


@inline
def all_inside(index, pixels_at, q, m):
    inside = 1
    for i in range(q, q + m):
        inside &= index[pixels_at + i * PIXEL + INSIDE]
    return inside == 1

"""Implicit GEMM, channels-first: rows are channels of filters, columns are pixels packed into a panel.

    (rows, depth x taps) @ (depth x taps, pixels) -> (rows, pixels)

A job is one panel of pixels, wherever they lie: a panel may span rows and images. It is packed straight
from the source, a block of depth at a time, and meets all filters while it is in the cache.
"""

from __future__ import annotations

from fastconv.kernels.numba.epilogue import finish
from fastconv.kernels.numba.geometry import clear_run, copy_run, end_inside, first_inside
from fastconv.kernels.numba.jit import inline, jit, unpack
from fastconv.kernels.numba.tile import MR, NV, SEGMENT, panel_width, tile
from fastconv.kernels.numba.vector import at, lanes, prefetch, put, splat, store
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
    phases_of,
)  # fmt: skip

# Depth of a block: its panel of pixels, KC * 48 * 4 bytes, and a few rows of filters fit in L2.
KC = 512
# Rows of a job: a packed panel serves this many, and their sums wait in scratch where they cannot be in
# place.
ROWS = 256
CHANNELS, TO_CHANNELS, DEPTH, COLUMNS, ACTIVATION, BLOCKS, PARTS, R_TAPS, S_TAPS, ALL_TAPS, IMAGES, PACKED = (
    range(12)
)
# Channels between a load and the request for its cache line.
AHEAD = 4
# Integers that describe a run of a panel's pixels.
COLUMN, COUNT, FROM, TO_AT, D_AT, H_AT, W_AT, RUN = range(8)
NUMBER, D_OFFSET, H_OFFSET, W_OFFSET, TAP = range(5)


@inline
def index_size(taps, L):
    """Integers of scratch: runs, taps, one segment, rows of a and c."""
    size = NV * L * RUN + taps * TAP + SEGMENT + 2 * MR
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
                count += 1
    return count


@jit
def list_runs(o, view, pd, ph, pw, first, count, index, runs_at):
    """The panel's positions as runs along rows; returns how many."""
    D, H, W = view[SOURCE], view[AXIS + SOURCE], view[2 * AXIS + SOURCE]
    nd, nh, nw = view[pd + POSITIONS], view[ph + POSITIONS], view[pw + POSITIONS]
    runs, column = 0, 0
    while column < count:
        p = first + column
        w, h, d, n = p % nw, p // nw % nh, p // nw // nh % nd, p // nw // nh // nd
        length = min(nw - w, count - column)
        to_d = view[pd + FIRST] + d * view[TO_STRIDE]
        to_h = view[ph + FIRST] + h * view[AXIS + TO_STRIDE]
        to_w = view[pw + FIRST] + w * view[2 * AXIS + TO_STRIDE]
        i = runs_at + runs * RUN
        index[i + COLUMN], index[i + COUNT] = column, length
        index[i + FROM] = n * o[CHANNELS] * D * H * W
        plane = view[TO] * view[AXIS + TO] * view[2 * AXIS + TO]
        index[i + TO_AT] = (
            n * o[TO_CHANNELS] * plane + (to_d * view[AXIS + TO] + to_h) * view[2 * AXIS + TO] + to_w
        )
        index[i + D_AT], index[i + H_AT] = d * view[STEP], h * view[AXIS + STEP]
        index[i + W_AT] = w * view[2 * AXIS + STEP]
        runs += 1
        column += length
    return runs


@jit
def pack_pixels(view, source, channel, index, runs_at, runs, taps_at, taps, q0, q1, col, col_at, width):
    """Depth [q0, q1) of the panel, counted channel by channel and tap by tap -> col (depth, width)."""
    L = lanes(source)
    D, H, W, step = view[SOURCE], view[AXIS + SOURCE], view[2 * AXIS + SOURCE], view[2 * AXIS + STEP]
    c, t = q0 // taps, q0 % taps
    zero = splat(source, 0.0)
    for q in range(q0, q1):
        tap, to = taps_at + t * TAP, col_at + (q - q0) * width
        for j in range(0, width, L):
            store(col, to + j, zero)
        plane = channel + c * D * H * W
        for run in range(runs_at, runs_at + runs * RUN, RUN):
            d, h = (
                at(index, run + D_AT) + at(index, tap + D_OFFSET),
                at(index, run + H_AT) + at(index, tap + H_OFFSET),
            )
            if 0 <= d < D and 0 <= h < H:
                w, count = at(index, run + W_AT) + at(index, tap + W_OFFSET), at(index, run + COUNT)
                low, high = 0, count
                if w < 0 or w + (count - 1) * step >= W:
                    low, high = first_inside(w, step), min(count, end_inside(w, step, W))
                if low < high:
                    x = plane + at(index, run + FROM) + (d * H + h) * W + w + low * step
                    if t == 0:  # the planes ahead, which hardware does not foresee
                        for j in range(0, (high - low) * step, L):
                            prefetch(source, x + AHEAD * D * H * W + j)
                    copy_run(col, to + at(index, run + COLUMN) + low, 1, source, x, step, high - low)
        t += 1
        if t == taps:
            t, c = 0, c + 1


def gather_first_job(begin, end, thread, arguments):
    """A job: one panel of pixels of a phase and group, a part of the rows."""
    o, view, source, w, bias, to, col, index = unpack(arguments)
    L = lanes(source)
    groups, depth, rows_of_group = o[CHANNELS] // o[DEPTH], o[DEPTH], o[COLUMNS]
    to_plane = view[TO] * view[AXIS + TO] * view[2 * AXIS + TO]
    plane = view[SOURCE] * view[AXIS + SOURCE] * view[2 * AXIS + SOURCE]
    runs_at = thread * index_size(o[ALL_TAPS], L)
    segment_at = runs_at + (NV * L * RUN + SEGMENT - 1) // SEGMENT * SEGMENT
    a_rows = segment_at + SEGMENT
    c_rows = a_rows + MR
    taps_at = c_rows + MR
    col_at = thread * (KC + ROWS) * NV * L
    sums_at = col_at + KC * NV * L
    panels_of_rows = (rows_of_group + MR - 1) // MR
    for job in range(begin, end):
        part, block = job % o[PARTS], job // o[PARTS] % o[BLOCKS]
        group, number = job // o[PARTS] // o[BLOCKS] % groups, job // o[PARTS] // o[BLOCKS] // groups
        pd, ph, pw = phase_numbers(view, number)
        in_image = view[pd + POSITIONS] * view[ph + POSITIONS] * view[pw + POSITIONS]
        width = panel_width(o[IMAGES] * in_image, L)
        first = block * width
        count = min(width, o[IMAGES] * in_image - first)
        if count <= 0:
            continue
        taps = list_taps(o, view, pd, ph, pw, index, taps_at)
        runs = list_runs(o, view, pd, ph, pw, first, count, index, runs_at)
        k0 = panels_of_rows * part // o[PARTS] * MR
        k1 = min(rows_of_group, panels_of_rows * (part + 1) // o[PARTS] * MR)
        in_place = phases_of(view) == 1 and first // in_image == (first + count - 1) // in_image
        all_depth = depth * taps
        # filters lie as (row, depth) in w, or packed by phase as (panel of rows, depth, MR)
        a_at, a_row, a_step = group * rows_of_group * all_depth, all_depth, 1
        if o[PACKED]:
            a_at = packed_phase(o, view, number, panels_of_rows) + group * panels_of_rows * MR * all_depth
            a_row, a_step = 1, MR
        channel = group * rows_of_group
        c_at = sums_at - k0 * NV * L
        c_row = NV * L
        if in_place:
            c_at, c_row = index[runs_at + TO_AT] + channel * to_plane, to_plane
        for i in range(MR):
            index[a_rows + i], index[c_rows + i] = i * a_row, i * c_row
        if taps == 0:
            for k in range(k0, k1):
                if in_place:
                    clear_run(to, c_at + k * c_row, 1, count)
                else:
                    clear_run(col, c_at + k * c_row, 1, count)
        for q0 in range(0, all_depth, KC):
            q1 = min(all_depth, q0 + KC)
            pack_pixels(
                view,
                source,
                group * depth * plane,
                index,
                runs_at,
                runs,
                taps_at,
                taps,
                q0,
                q1,
                col,
                col_at,
                width,
            )
            for k in range(k0, k1, MR):
                index[segment_at], index[segment_at + 1], index[segment_at + 2] = (
                    q1 - q0,
                    a_at + k * all_depth + q0 * a_step,
                    0,
                )
                m, s = min(MR, k1 - k), segment_at // SEGMENT
                if in_place:
                    tile(
                        m, w, index, a_rows, a_step, index, s, s + 1,
                        col, col_at, width, to, index, c_rows, c_at + k * c_row, count, q0 > 0,
                    )  # fmt: skip
                else:
                    tile(
                        m, w, index, a_rows, a_step, index, s, s + 1,
                        col, col_at, width, col, index, c_rows, c_at + k * c_row, count, q0 > 0,
                    )  # fmt: skip
        if in_place:
            if bias.size > 0 or o[ACTIVATION] > 0:
                for k in range(k0, k1):
                    finish(to, c_at + k * c_row, count, bias, channel + k, 0, o[ACTIVATION])
        else:
            for k in range(k0, k1):
                finish(col, c_at + k * c_row, count, bias, channel + k, 0, o[ACTIVATION])
                for run in range(runs_at, runs_at + runs * RUN, RUN):
                    copy_run(
                        to, index[run + TO_AT] + (channel + k) * to_plane, view[2 * AXIS + TO_STRIDE],
                        col, c_at + k * c_row + index[run + COLUMN], 1, index[run + COUNT],
                    )  # fmt: skip


@jit
def packed_phase(o, view, number, panels):
    """Where a phase's packed filters start: behind those of the phases before it."""
    start = 0
    for before in range(number):
        pd, ph, pw = phase_numbers(view, before)
        start += view[pd + TAPS] * view[ph + TAPS] * view[pw + TAPS]
    return start * o[DEPTH] * panels * MR * (o[CHANNELS] // o[DEPTH])


def pack_first_job(begin, end, thread, arguments):
    """A job: one panel of rows of a group, a phase: w (depth, row, tap) -> (depth, taps of the phase, MR)."""
    o, view, w, packed, index = unpack(arguments)
    groups, depth, rows, all_taps = o[CHANNELS] // o[DEPTH], o[DEPTH], o[COLUMNS], o[ALL_TAPS]
    panels = (rows + MR - 1) // MR
    taps_at = thread * all_taps * TAP
    for job in range(begin, end):
        panel, group, number = job % panels, job // panels % groups, job // panels // groups
        pd, ph, pw = phase_numbers(view, number)
        taps = list_taps(o, view, pd, ph, pw, index, taps_at)
        to = packed_phase(o, view, number, panels) + (group * panels + panel) * MR * depth * taps
        m = min(MR, rows - panel * MR)
        for k in range(depth):
            source = ((group * depth + k) * rows + panel * MR) * all_taps
            for t in range(taps):
                tap = all_taps - 1 - index[taps_at + t * TAP + NUMBER]
                for i in range(m):
                    put(packed, to + i, at(w, source + i * all_taps + tap))
                for i in range(m, MR):
                    put(packed, to + i, 0.0)
                to += MR

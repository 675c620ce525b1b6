"""Winograd's F(4x4, 3x3): 36 multiplications for 16 outputs that take 144 by the definition.

    y = A^T [(G w G^T) * (B^T x B)] A          (Lavin and Gray 2015)

on 6 x 6 tiles of x that overlap by two. Interpolation at 0, +-3/4, +-3/2 and infinity rounds five times
worse than the plain sum, half of what the usual 0, +-1, +-2 does (Barabasz et al. 2018). The input
gradient is the same on dy with turned filters; the filter gradient is the transposed algorithm, G^T [(B^T
x B) * (A dy A^T)] G.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba import winograd_filter_grad as transposed
from fastconv.kernels.numba.blocked_filter_grad import gather_sums_job
from fastconv.kernels.numba.epilogue import ACTIVATIONS, finish
from fastconv.kernels.numba.filters import bias_grad, pack_panels, sum_parts
from fastconv.kernels.numba.geometry import transpose
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
from fastconv.kernels.numba.products import multiply, odd_vectors, whole_rows
from fastconv.kernels.numba.tile import NV, panel_width
from fastconv.kernels.numba.vector import lanes, load, store_part
from fastconv.kernels.numba.winograd_tiles import (
    CHANNELS,
    COLUMNS,
    DEPTH,
    GROUPS,
    IMAGES,
    IN_H,
    IN_W,
    LAST,
    OUT_H,
    OUT_W,
    PAD_H,
    PAD_W,
    TILE_COLUMNS,
    TILE_LINES,
    TO_CHANNELS,
    copy_slab,
    transform_inputs,
    whole_vectors,
)  # fmt: skip
from fastconv.kernels.numba.winograd_transforms import transform_filter3, transform_output4

Array = NDArray[Any]
ACTIVATION = 15
# Bytes of transformed input of a job, which with its products stays in a 1 MB level 2 cache; its most tiles.
INPUT_BYTES, TILES = 512 * 1024, 128
# Of transformed filters: beyond it, a panel of filters is transformed by the one thread that multiplies it,
# some of the depth at a time, with as many tiles as a thread's share of all inputs takes.
FILTER_BYTES, PANEL_DEPTH, PANEL_INPUT_BYTES, PANEL_TILES = 12 << 20, 64, 5 << 19, 64
FIRST_LINE, GROUP = 16, 17


def transform_filters_job(begin, end, thread, arguments):
    """A job: one depth of one panel: w (9, depth, width) -> u (36, far), of which each (depth, width)."""
    o, w, u = unpack(arguments)
    L = lanes(w)
    depth, width, far = o[0], o[1], o[2]
    for job in range(begin, end):
        panel, c = job // depth, job % depth
        source, to, tap = (panel * 9 * depth + c) * width, panel * 36 * far + c * width, depth * width
        for j in range(0, width, L):
            transform_filter3(w, source + j, 3 * tap, tap, u, to + j, 6 * far, far)


@jit
def write_outputs(
    o, y, products, at_m, far, width, image, line, tile0, tiles, channel, count, bias, strip, at_strip
):
    """The products of a line of tiles -> four rows of y, for one panel of channels; at_m is the first
    tile's.
    """
    L = lanes(y)
    plane = o[OUT_H] * o[OUT_W]
    rows, first = min(4, o[OUT_H] - 4 * line), 4 * tile0
    columns = min(4 * tiles, o[OUT_W] - first)
    strip_row = 4 * o[TILE_COLUMNS] * width
    for t in range(tiles):
        for j in range(0, count, L):
            m, to_strip = at_m + t * width + j, at_strip + 4 * t * width + j
            if not o[LAST]:
                transform_output4(products, m, 6 * far, far, strip, to_strip, strip_row, width)
                continue
            to = ((image * o[OUT_H] + 4 * line) * o[OUT_W] + first + 4 * t) * o[TO_CHANNELS] + channel + j
            row, left = o[OUT_W] * o[TO_CHANNELS], min(4, columns - 4 * t)
            if rows == 4 and left == 4 and count - j >= L:
                transform_output4(products, m, 6 * far, far, y, to, row, o[TO_CHANNELS])
            else:
                transform_output4(products, m, 6 * far, far, strip, to_strip, strip_row, width)
                for i in range(rows):
                    for k in range(left):
                        value = load(strip, to_strip + i * strip_row + k * width)
                        store_part(y, to + i * row + k * o[TO_CHANNELS], count - j, value)
    for i in range(rows):
        at_row = (4 * line + i) * o[OUT_W] + first
        if o[LAST]:
            if bias.size > 0 or o[ACTIVATION] > 0:
                for p in range(columns):
                    at = (image * plane + at_row + p) * o[TO_CHANNELS] + channel
                    finish(y, at, count, bias, channel, 1, o[ACTIVATION])
        else:
            to = (image * o[TO_CHANNELS] + channel) * plane + at_row
            transpose(y, to, plane, strip, at_strip + i * 4 * o[TILE_COLUMNS] * width, width, columns, count)
            if bias.size > 0 or o[ACTIVATION] > 0:
                for k in range(count):
                    finish(y, to + k * plane, columns, bias, channel + k, 0, o[ACTIVATION])


def gather_job(begin, end, thread, arguments):
    """A job: some lines of tiles (rows of four outputs), or a part of one, of a group."""
    o, x, u, bias, y, inputs, slab, products, strip = unpack(arguments)
    L = lanes(x)
    depth, columns = o[DEPTH], o[COLUMNS]
    all_tiles = whole_rows(o[TILE_LINES] * o[TILE_COLUMNS])
    width = panel_width(columns, L)
    panels = (columns + width - 1) // width
    tile_rows, tile_columns = (o[OUT_H] + 3) // 4, (o[OUT_W] + 3) // 4
    cuts = (tile_columns + o[TILE_COLUMNS] - 1) // o[TILE_COLUMNS]
    blocks = (o[IMAGES] * tile_rows + o[TILE_LINES] - 1) // o[TILE_LINES]
    wide = whole_vectors(x, depth)
    shape = (o[CHANNELS], o[IN_H], o[IN_W], o[LAST])
    far_v, far_u = odd_vectors(all_tiles * wide, L), odd_vectors(depth * width, L)
    far_m = odd_vectors(all_tiles * width, L)
    at_inputs, at_products = thread * 36 * far_v, thread * 36 * odd_vectors(all_tiles * NV * L, L)
    at_slab = thread * 6 * (4 * o[TILE_COLUMNS] + 2) * wide
    at_strip = thread * 16 * o[TILE_COLUMNS] * NV * L
    for job in range(begin, end):
        cut, block, group = job % cuts, job // cuts % blocks, job // cuts // blocks
        line0 = block * o[TILE_LINES]
        line1 = min(o[IMAGES] * tile_rows, line0 + o[TILE_LINES])
        tile0 = cut * o[TILE_COLUMNS]
        tiles = min(o[TILE_COLUMNS], tile_columns - tile0)
        for line in range(line0, line1):
            image, row = line // tile_rows, line % tile_rows
            h, w = 4 * row - o[PAD_H], 4 * tile0 - o[PAD_W]
            copy_slab(x, shape, group * depth, depth, image, h, w, 6, 4 * tiles + 2, slab, at_slab)
            to = at_inputs + (line - line0) * tiles * wide
            transform_inputs(slab, at_slab, 4 * tiles + 2, tiles, wide, inputs, to, far_v)
        rows = (line1 - line0) * tiles
        for panel in range(panels):
            count = min(width, columns - panel * width)
            at_u = (group * panels + panel) * 36 * far_u
            for f in range(36):
                multiply(
                    rows, depth, inputs, at_inputs + f * far_v, wide, 1, u, at_u + f * far_u, width,
                    products, at_products + f * far_m, False,
                )  # fmt: skip
            for line in range(line0, line1):
                write_outputs(
                    o, y, products, at_products + (line - line0) * tiles * width, far_m, width,
                    line // tile_rows, line % tile_rows, tile0, tiles,
                    group * columns + panel * width, count, bias, strip, at_strip,
                )  # fmt: skip


def transform_job(begin, end, thread, arguments):
    """A job: a line of tiles of a group -> inputs, which all threads share."""
    o, x, inputs, slab = unpack(arguments)
    L = lanes(x)
    depth, tiles, tile_rows = o[DEPTH], o[TILE_COLUMNS], (o[OUT_H] + 3) // 4
    wide, columns = whole_vectors(x, depth), 4 * o[TILE_COLUMNS] + 2
    far = odd_vectors(whole_rows(o[TILE_LINES] * tiles) * wide, L)
    shape, at_slab = (o[CHANNELS], o[IN_H], o[IN_W], o[LAST]), thread * 6 * columns * wide
    for job in range(begin, end):
        line = o[FIRST_LINE] + job
        h = line % tile_rows * 4 - o[PAD_H]
        image, channel = line // tile_rows, o[GROUP] * depth
        copy_slab(x, shape, channel, depth, image, h, -o[PAD_W], 6, columns, slab, at_slab)
        transform_inputs(slab, at_slab, columns, tiles, wide, inputs, job * tiles * wide, far)


def panel_job(begin, end, thread, arguments):
    """A job: a panel of filters of a group, through all the tiles in `inputs`."""
    o, w, inputs, bias, y, u, products, strip = unpack(arguments)
    L = lanes(y)
    depth, columns, tiles, tile_rows = o[DEPTH], o[COLUMNS], o[TILE_COLUMNS], (o[OUT_H] + 3) // 4
    lines = min(o[TILE_LINES], o[IMAGES] * tile_rows - o[FIRST_LINE])
    most, width, wide = whole_rows(o[TILE_LINES] * tiles), panel_width(columns, L), whole_vectors(y, depth)
    panels = (columns + width - 1) // width
    far_v, far_u, far_m = (
        odd_vectors(most * wide, L), odd_vectors(PANEL_DEPTH * width, L), odd_vectors(most * width, L)
    )  # fmt: skip
    at_u, at_products = (
        thread * 36 * odd_vectors(PANEL_DEPTH * NV * L, L),
        thread * 36 * odd_vectors(most * NV * L, L),
    )
    at_strip = thread * 16 * tiles * NV * L
    for panel in range(begin, end):
        source, tap = (o[GROUP] * panels + panel) * 9 * depth * width, depth * width
        for first in range(0, depth, PANEL_DEPTH):
            count = min(PANEL_DEPTH, depth - first)
            for i in range(0, count * width, L):
                at_w = source + first * width + i
                transform_filter3(w, at_w, 3 * tap, tap, u, at_u + i, 6 * far_u, far_u)
            for f in range(36):
                multiply(
                    lines * tiles, count, inputs, f * far_v + first, wide, 1, u, at_u + f * far_u, width,
                    products, at_products + f * far_m, first > 0,
                )  # fmt: skip
        for job in range(lines):
            line = o[FIRST_LINE] + job
            write_outputs(
                o, y, products, at_products + job * tiles * width, far_m, width, line // tile_rows,
                line % tile_rows, 0, tiles, o[GROUP] * columns + panel * width,
                min(width, columns - panel * width), bias, strip, at_strip,
            )  # fmt: skip


def gather_by_panels(options: Array, x: Array, w: Array, bias: Array, y: Array, threads: int) -> None:
    """All threads transform as many lines of tiles as they have room for, then share the panels."""
    L, distance = vector_bytes() // x.itemsize, in_python(odd_vectors)
    images, groups, depth, columns, out_h, out_w = options[
        [IMAGES, GROUPS, DEPTH, COLUMNS, OUT_H, OUT_W]
    ].tolist()
    tiles, lines, wide = up(out_w, 4), images * up(out_h, 4), up(depth, L) * L
    room = threads * PANEL_INPUT_BYTES // (36 * wide * x.itemsize * tiles)
    block = max(1, min(lines, room, up(PANEL_TILES, tiles)))
    most = in_python(whole_rows)(block * tiles)
    inputs = workspace(36 * distance(most * wide, L), x.dtype)
    slab = workspace(threads * 6 * (4 * tiles + 2) * wide, x.dtype)
    sizes = (distance(PANEL_DEPTH * NV * L, L) * 36, distance(most * NV * L, L) * 36, 16 * tiles * NV * L)
    scratch = [workspace(threads * size, x.dtype) for size in sizes]
    panels = up(columns, in_python(panel_width)(columns, L))
    for group in range(groups):
        for first in range(0, lines, block):
            now = options.copy()
            now[[TILE_LINES, TILE_COLUMNS, FIRST_LINE, GROUP]] = block, tiles, first, group
            here = min(block, lines - first)
            run(transform_job, here, min(threads, here), now, x, inputs, slab)
            run(panel_job, panels, min(threads, panels), now, w, inputs, bias, y, *scratch)


def tile_block(tile_columns: int, lines: int, depth: int, itemsize: int, jobs: int) -> tuple[int, int]:
    """(lines of tiles, tiles of a line) of a job: as much input as INPUT_BYTES, but enough jobs for the
    threads.
    """
    most = max(8, min(TILES, INPUT_BYTES // (36 * depth * itemsize) // 8 * 8))
    while most > 16 and tile_columns * lines < jobs * most:
        most //= 2
    columns = up(tile_columns, up(tile_columns, most))
    return max(1, min(lines, most // columns)), columns


def gather(
    spec: Any,
    x: Array,
    w: Array,
    bias: Array | None,
    y: Array,
    activation: str | None,
    threads: int,
    *,
    backward: bool,
) -> None:
    """The forward pass, or the input gradient with dy for x."""
    c, k = spec.c // spec.groups, spec.k // spec.groups
    depth, columns = (k, c) if backward else (c, k)
    sizes = (spec.out_size, spec.size) if backward else (spec.size, spec.out_size)
    pads = [2 - before if backward else before for before, _ in spec.padding]
    L = vector_bytes() // x.itemsize
    width = in_python(panel_width)(columns, L)
    panels = spec.groups * up(columns, width)
    packed = pack_panels(spec, w, width, threads, backward=backward)
    far_u = in_python(odd_vectors)(depth * width, L)
    options = np.array(
        [spec.n, spec.groups, depth * spec.groups, columns * spec.groups, depth, columns, *sizes[0],
        *sizes[1], *pads, spec.channels_last, 0, 0, ACTIVATIONS.index(activation), 0, 0]
    )  # fmt: skip
    bias = np.empty(0, x.dtype) if bias is None else bias
    if panels * 36 * far_u * x.itemsize > FILTER_BYTES:
        gather_by_panels(options, x, packed, bias, y, useful_threads(threads, panels, spec.flops / 4))
        return
    u = workspace(panels * 36 * far_u, w.dtype)
    helpers = useful_threads(threads, panels * depth, 30.0 * u.size)
    run(transform_filters_job, panels * depth, helpers, np.array([depth, width, far_u]), packed, u)

    tile_rows, tile_columns = up(sizes[1][0], 4), up(sizes[1][1], 4)
    lines = spec.n * tile_rows
    tile_lines, block_columns = tile_block(
        tile_columns, lines, depth, x.itemsize, 1 if threads == 1 else 2 * threads
    )
    jobs = spec.groups * up(lines, tile_lines) * up(tile_columns, block_columns)
    threads = useful_threads(threads, jobs, spec.flops / 4)
    options[[TILE_LINES, TILE_COLUMNS]] = tile_lines, block_columns
    tiles, distance = in_python(whole_rows)(tile_lines * block_columns), in_python(odd_vectors)
    wide = up(depth, L) * L
    scratch = (
        36 * distance(tiles * wide, L),
        6 * (4 * block_columns + 2) * wide,
        36 * distance(tiles * NV * L, L),
        16 * block_columns * NV * L,
    )
    run(
        *(gather_job, jobs, threads, options, x, u, bias, y),
        *(workspace(threads * size, x.dtype) for size in scratch),
    )


def forward(
    spec: Any, x: Array, w: Array, bias: Array | None, y: Array, activation: str | None, threads: int
) -> None:
    gather(spec, x, w, bias, y, activation, threads, backward=False)


def input_grad(spec: Any, dy: Array, w: Array, dx: Array, threads: int) -> None:
    gather(spec, dy, w, None, dx, None, threads, backward=True)


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
    c, k = spec.c // spec.groups, spec.k // spec.groups
    L = vector_bytes() // x.itemsize
    width = in_python(panel_width)(k, L)
    channels = min(up(c, L) * L, transposed.CHANNELS_OF_JOB)
    tile_rows, tile_columns = up(spec.out_size[0], 4), up(spec.out_size[1], 4)
    lines = spec.n * tile_rows
    columns = up(tile_columns, up(tile_columns, transposed.TILES))
    tile_lines = max(1, min(lines, transposed.TILES // columns))
    blocks = up(lines, tile_lines) * up(tile_columns, columns)
    pieces = spec.groups * up(k, width) * up(c, channels)
    parts = 1 if threads == 1 else min(up(2 * threads, pieces), blocks)
    threads = useful_threads(threads, pieces * parts, spec.flops / 4)
    tiles = tile_lines * columns
    options = np.array(
        [spec.n, spec.groups, spec.c, spec.k, c, k, *spec.size, *spec.out_size, *(before for before,
        _ in spec.padding),
         spec.channels_last, tile_lines, columns, channels, parts]
    )  # fmt: skip
    sums = workspace(parts * dw.size, dw.dtype).reshape(parts, -1)
    wide, distance = max(channels, NV * L), in_python(odd_vectors)
    scratch = (
        36 * distance(tiles * channels, L),
        36 * distance(tiles * NV * L, L),
        36 * distance(channels * NV * L, L),
        6 * (4 * columns + 2) * wide,
    )
    run(
        *(transposed.filter_grad_job, pieces * parts, threads, options, x, dy, sums),
        *(workspace(threads * size, x.dtype) for size in scratch),
    )
    if spec.channels_last:
        sum_parts(sums, dw, threads)
    else:
        run(gather_sums_job, spec.k, min(threads, spec.k), spec.geometry, np.array([parts]), sums, dw)
    if db is not None:
        bias_grad(spec, dy, db, threads)

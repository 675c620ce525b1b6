"""The filter gradient by Winograd's algorithm transposed.

For each of the 36 points, (channels, tiles) @ (tiles, filters) over all tiles of all images; the result is
transformed back once.
"""

from __future__ import annotations

from fastconv.kernels.numba.jit import jit, unpack
from fastconv.kernels.numba.products import multiply, odd_vectors
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
from fastconv.kernels.numba.winograd_transforms import transform_filter4, transform_output3

JOB_CHANNELS, PARTS = 15, 16
# Channels and tiles of a job: 36 * (64 + 48) * 48 * 4 bytes of transformed x and dy, and 36 * 64 * 48 * 4
# of sums.
CHANNELS_OF_JOB, TILES = 64, 48


@jit
def transform_gradients(slab, at_slab, columns, tiles, wide, out, to, far):
    """A line's tiles of dy: slab (4, columns, wide) -> out[f * far + tile * wide + k] for f = 0..35."""
    for t in range(tiles):
        for k in range(0, wide, lanes(slab)):
            d, v = at_slab + 4 * t * wide + k, to + t * wide + k
            transform_filter4(slab, d, columns * wide, wide, out, v, 6 * far, far)


@jit
def write_filters(
    o, products, at_products, far, width, part, group, c0, channels, k0, count, sums, taps, at_taps
):
    """The products of some channels and filters -> sums[part, tap, channel, filter]."""
    L = lanes(sums)
    tap = o[DEPTH] * o[TO_CHANNELS]
    for c in range(channels):
        for j in range(0, count, L):
            to = part * 9 * tap + (c0 + c) * o[TO_CHANNELS] + group * o[COLUMNS] + k0 + j
            m = at_products + c * width + j
            if count - j >= L:
                transform_output3(products, m, 6 * far, far, sums, to, 3 * tap, tap)
            else:
                transform_output3(products, m, 6 * far, far, taps, at_taps, 3 * L, L)
                for n in range(9):
                    store_part(sums, to + n * tap, count - j, load(taps, at_taps + n * L))


def filter_grad_job(begin, end, thread, arguments):
    """A job: a panel of filters and some channels of a group, over a part of the blocks of tiles."""
    o, x, dy, sums, inputs, gradients, products, slab = unpack(arguments)
    L = lanes(x)
    all_tiles, channels = o[TILE_LINES] * o[TILE_COLUMNS], o[JOB_CHANNELS]
    width = panel_width(o[COLUMNS], L)
    panels, c_blocks = (o[COLUMNS] + width - 1) // width, (o[DEPTH] + channels - 1) // channels
    tile_rows, tile_columns = (o[OUT_H] + 3) // 4, (o[OUT_W] + 3) // 4
    cuts = (tile_columns + o[TILE_COLUMNS] - 1) // o[TILE_COLUMNS]
    lines = o[IMAGES] * tile_rows
    blocks = (lines + o[TILE_LINES] - 1) // o[TILE_LINES] * cuts
    x_shape, y_shape = (o[CHANNELS], o[IN_H], o[IN_W], o[LAST]), (o[TO_CHANNELS], o[OUT_H], o[OUT_W], o[LAST])
    far_m = odd_vectors(channels * NV * L, L)
    at_inputs = thread * 36 * odd_vectors(all_tiles * channels, L)
    at_gradients = thread * 36 * odd_vectors(all_tiles * NV * L, L)
    at_products = thread * 36 * far_m
    at_slab = thread * 6 * (4 * o[TILE_COLUMNS] + 2) * max(channels, NV * L)
    for job in range(begin, end):
        panel, c_block = job % panels, job // panels % c_blocks
        group, part = job // panels // c_blocks % o[GROUPS], job // panels // c_blocks // o[GROUPS]
        k0, c0 = panel * width, c_block * channels
        count, depth = min(width, o[COLUMNS] - k0), min(channels, o[DEPTH] - c0)
        wide, wide_k = whole_vectors(x, depth), whole_vectors(x, count)
        far_v, far_u = odd_vectors(all_tiles * wide, L), odd_vectors(all_tiles * wide_k, L)
        first, last = blocks * part // o[PARTS], blocks * (part + 1) // o[PARTS]
        for block in range(first, last):
            line0, tile0 = block // cuts * o[TILE_LINES], block % cuts * o[TILE_COLUMNS]
            line1, tiles = min(lines, line0 + o[TILE_LINES]), min(o[TILE_COLUMNS], tile_columns - tile0)
            for line in range(line0, line1):
                image, h = line // tile_rows, 4 * (line % tile_rows)
                done = (line - line0) * tiles
                copy_slab(
                    x, x_shape, group * o[DEPTH] + c0, depth, image, h - o[PAD_H], 4 * tile0 - o[PAD_W],
                    6, 4 * tiles + 2, slab, at_slab,
                )  # fmt: skip
                transform_inputs(
                    slab, at_slab, 4 * tiles + 2, tiles, wide, inputs, at_inputs + done * wide, far_v
                )
                copy_slab(
                    dy,
                    y_shape,
                    group * o[COLUMNS] + k0,
                    count,
                    image,
                    h,
                    4 * tile0,
                    4,
                    4 * tiles,
                    slab,
                    at_slab,
                )
                transform_gradients(
                    slab,
                    at_slab,
                    4 * tiles,
                    tiles,
                    wide_k,
                    gradients,
                    at_gradients + done * wide_k,
                    far_u,
                )
            for f in range(36):
                multiply(
                    depth, (line1 - line0) * tiles, inputs, at_inputs + f * far_v, 1, wide,
                    gradients, at_gradients + f * far_u, wide_k, products, at_products + f * far_m,
                    block > first,
                )  # fmt: skip
        write_filters(
            o, products, at_products, far_m, wide_k, part, group, c0, depth, k0, count, sums, slab,
            at_slab,
        )  # fmt: skip

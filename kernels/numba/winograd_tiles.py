"""The slabs of input that Winograd reads, and their transformed tiles.

A slab is six rows of an image, channels last and with the padding filled in, whatever the layout.
"""

from __future__ import annotations

from fastconv.kernels.numba.geometry import clear_run, copy_run, transpose
from fastconv.kernels.numba.jit import inline, jit
from fastconv.kernels.numba.vector import lanes, load, prefetch, store
from fastconv.kernels.numba.winograd_transforms import transform_input

# What the jobs know: sizes and channels of what they read (IN) and write (OUT), and the tiles of a job.
(
    IMAGES, GROUPS, CHANNELS, TO_CHANNELS, DEPTH, COLUMNS, IN_H, IN_W, OUT_H, OUT_W, PAD_H, PAD_W,
    LAST, TILE_LINES, TILE_COLUMNS,
) = range(15)  # fmt: skip

# Pixels from a load to the request for a cache line: pixels lie further apart than hardware looks ahead.
AHEAD = 16


@jit
def copy_slab(x, shape, c0, depth, image, h0, w0, rows, columns, slab, to):
    """Rows from h0 and columns from w0 on of some channels of an image -> slab (rows, columns, wide), zero
    outside.

    `shape` is (channels, H, W, channels last?); wide is depth in whole vectors.
    """
    channels, H, W, last = shape
    wide = whole_vectors(x, depth)
    low, high = min(max(0, -w0), columns), max(0, min(columns, W - w0))
    for r in range(rows):
        h, at_row = h0 + r, to + r * columns * wide
        if not 0 <= h < H or low >= high:
            clear_run(slab, at_row, 1, columns * wide)
            continue
        clear_run(slab, at_row, 1, low * wide)
        clear_run(slab, at_row + high * wide, 1, (columns - high) * wide)
        if last and depth == wide == channels:
            copy_run(
                slab,
                at_row + low * wide,
                1,
                x,
                ((image * H + h) * W + w0 + low) * channels,
                1,
                (high - low) * wide,
            )
        elif last and depth == wide:
            L = lanes(x)
            for w in range(low, high):
                source = ((image * H + h) * W + w0 + w) * channels + c0
                for c in range(0, depth, L):
                    prefetch(x, source + AHEAD * channels + c)
                    store(slab, at_row + w * wide + c, load(x, source + c))
        elif last:
            for w in range(low, high):
                copy_run(
                    slab, at_row + w * wide, 1, x, ((image * H + h) * W + w0 + w) * channels + c0, 1, depth
                )
        else:
            source = ((image * channels + c0) * H + h) * W + w0 + low
            transpose(slab, at_row + low * wide, wide, x, source, H * W, depth, high - low)
        if depth < wide:
            for w in range(low, high):
                clear_run(slab, at_row + w * wide + depth, 1, wide - depth)


@inline
def whole_vectors(a, depth):
    """Depth, rounded up to whole vectors."""
    L = lanes(a)
    return (depth + L - 1) // L * L


@jit
def transform_inputs(slab, at_slab, columns, tiles, wide, out, to, far):
    """B^T d B of a line's tiles: slab (6, columns, wide) -> out[f * far + tile * wide + c] for f = 0..35."""
    for t in range(tiles):
        for c in range(0, wide, lanes(slab)):
            d, v = at_slab + 4 * t * wide + c, to + t * wide + c
            transform_input(slab, d, columns * wide, wide, out, v, 6 * far, far)

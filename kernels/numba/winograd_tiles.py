"""The transforms of F(4x4, 3x3) on vectors of channels, and the slabs of input that they read.

A slab is six rows of an image, channels last and with the padding filled in, whatever the layout.
"""

from __future__ import annotations

from fastconv.kernels.numba.geometry import clear_run, copy_run, transpose
from fastconv.kernels.numba.jit import inline, jit
from fastconv.kernels.numba.vector import lanes, load, prefetch, splat, store

# What the jobs know: sizes and channels of what they read (IN) and write (OUT), and the tiles of a job.
(
    IMAGES, GROUPS, CHANNELS, TO_CHANNELS, DEPTH, COLUMNS, IN_H, IN_W, OUT_H, OUT_W, PAD_H, PAD_W,
    LAST, TILE_LINES, TILE_COLUMNS,
) = range(15)  # fmt: skip

# Pixels from a load to the request for a cache line: pixels lie further apart than hardware looks ahead.
AHEAD = 16

# Interpolation points +-P and +-Q beside 0 and infinity, and their squares.
P, Q = 5 / 8, 3 / 2
PP, QQ = P * P, Q * Q
# 1 / product of the distances to the other points, for each pair
NP, NQ = 1 / (2 * PP * (PP - QQ)), 1 / (2 * QQ * (QQ - PP))


@inline
def load3(a, i, step):
    return load(a, i), load(a, i + step), load(a, i + 2 * step)


@inline
def load4(a, i, step):
    return load(a, i), load(a, i + step), load(a, i + 2 * step), load(a, i + 3 * step)


@inline
def load6(a, i, step):
    return (
        load(a, i), load(a, i + step), load(a, i + 2 * step), load(a, i + 3 * step), load(a, i + 4 * step),
        load(a, i + 5 * step),
    )  # fmt: skip


@inline
def store6(a, i, step, v):
    store(a, i, v[0])
    store(a, i + step, v[1])
    store(a, i + 2 * step, v[2])
    store(a, i + 3 * step, v[3])
    store(a, i + 4 * step, v[4])
    store(a, i + 5 * step, v[5])


@inline
def input_transform(a, d):
    """B^T d"""
    d0, d1, d2, d3, d4, d5 = d
    pp, qq, both, total = splat(a, PP), splat(a, QQ), splat(a, PP * QQ), splat(a, PP + QQ)
    even_p, odd_p = d4 - qq * d2, splat(a, P) * (d3 - qq * d1)
    even_q, odd_q = d4 - pp * d2, splat(a, Q) * (d3 - pp * d1)
    return (
        both * d0 - total * d2 + d4, even_p + odd_p, even_p - odd_p,
        even_q + odd_q, even_q - odd_q, both * d1 - total * d3 + d5,
    )  # fmt: skip


@inline
def output_transform(a, m):
    """A^T m"""
    m0, m1, m2, m3, m4, m5 = m
    sum_p, far_p, sum_q, far_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + sum_p + sum_q,
        splat(a, P) * far_p + splat(a, Q) * far_q,
        splat(a, PP) * sum_p + splat(a, QQ) * sum_q,
        splat(a, P * PP) * far_p + splat(a, Q * QQ) * far_q + m5,
    )


@inline
def filter_transform(a, g):
    """G g"""
    g0, g1, g2 = g
    even_p, odd_p = splat(a, NP) * g0 + splat(a, NP * PP) * g2, splat(a, NP * P) * g1
    even_q, odd_q = splat(a, NQ) * g0 + splat(a, NQ * QQ) * g2, splat(a, NQ * Q) * g1
    return splat(a, 1 / (PP * QQ)) * g0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, g2


@inline
def output_transposed(a, y):
    """A y"""
    y0, y1, y2, y3 = y
    even_p, odd_p = y0 + splat(a, PP) * y2, splat(a, P) * y1 + splat(a, P * PP) * y3
    even_q, odd_q = y0 + splat(a, QQ) * y2, splat(a, Q) * y1 + splat(a, Q * QQ) * y3
    return y0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, y3


@inline
def filter_transposed(a, m):
    """G^T m"""
    m0, m1, m2, m3, m4, m5 = m
    sum_p, far_p, sum_q, far_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        splat(a, 1 / (PP * QQ)) * m0 + splat(a, NP) * sum_p + splat(a, NQ) * sum_q,
        splat(a, NP * P) * far_p + splat(a, NQ * Q) * far_q,
        splat(a, NP * PP) * sum_p + splat(a, NQ * QQ) * sum_q + m5,
    )


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
def transform_inputs(slab, at_slab, columns, tiles, wide, out, to, all_tiles):
    """B^T d B of a line's tiles: slab (6, columns, wide) -> out[f, tile, c] for f = 0..35."""
    row, far = columns * wide, all_tiles * wide
    for t in range(tiles):
        for c in range(0, wide, lanes(slab)):
            d, v = at_slab + 4 * t * wide + c, to + t * wide + c
            for s in range(6):
                store6(out, v + s * far, 6 * far, input_transform(slab, load6(slab, d + s * wide, row)))
            for i in range(0, 36, 6):
                store6(out, v + i * far, far, input_transform(slab, load6(out, v + i * far, far)))

"""Where things are: the fields of ConvSpec.geometry, the taps of a window, and runs of memory."""

from __future__ import annotations

from fastconv.kernels.numba.jit import inline, jit
from fastconv.kernels.numba.vector import (
    at,
    lanes,
    load,
    load_part,
    put,
    splat,
    store,
    store_part,
    transpose_part,
    transpose_square,
)  # fmt: skip

# Positions in the geometry array (see ops/spec.py); those of the axes hold three numbers, (D, H, W).
N, C, K, GROUPS, LAST, SIZE, WINDOW, OUT, STRIDE, DILATION, BEFORE = 0, 1, 2, 3, 4, 5, 8, 11, 14, 17, 20


@inline
def product(g, field):
    """Elements of a plane (SIZE), of a window (WINDOW), output positions (OUT)."""
    return g[field] * g[field + 1] * g[field + 2]


@inline
def tap_offset(g, axis, tap):
    """Where a tap meets the input, relative to output position times stride."""
    return tap * g[DILATION + axis] - g[BEFORE + axis]


@inline
def first_inside(offset, stride):
    """The first output position whose tap is not before the input."""
    return 0 if offset >= 0 else (stride - 1 - offset) // stride


@inline
def end_inside(offset, stride, size):
    """The first output position whose tap is behind the input."""
    return 0 if offset >= size else (size - 1 - offset) // stride + 1


@jit
def copy_run(to, i, i_step, source, j, j_step, count):
    """to[i + t * i_step] = source[j + t * j_step] for t < count"""
    if i_step == 1 and j_step == 1:
        L = lanes(to)
        whole = count - count % L
        for t in range(0, whole, L):
            store(to, i + t, load(source, j + t))
        if whole < count:
            store_part(to, i + whole, count - whole, load_part(source, j + whole, 0, count - whole))
    else:
        for t in range(count):
            put(to, i + t * i_step, at(source, j + t * j_step))


@jit
def add_run(to, i, i_step, source, j, j_step, count):
    """to[i + t * i_step] += source[j + t * j_step] for t < count"""
    if i_step == 1 and j_step == 1:
        L = lanes(to)
        whole = count - count % L
        for t in range(0, whole, L):
            store(to, i + t, load(to, i + t) + load(source, j + t))
        if whole < count:
            n = count - whole
            store_part(to, i + whole, n, load_part(to, i + whole, 0, n) + load_part(source, j + whole, 0, n))
    else:
        for t in range(count):
            put(to, i + t * i_step, at(to, i + t * i_step) + at(source, j + t * j_step))


@jit
def clear_run(to, i, i_step, count):
    """to[i + t * i_step] = 0 for t < count"""
    if i_step == 1:
        L = lanes(to)
        zero = splat(to, 0.0)
        whole = count - count % L
        for t in range(0, whole, L):
            store(to, i + t, zero)
        if whole < count:
            store_part(to, i + whole, count - whole, zero)
    else:
        for t in range(count):
            put(to, i + t * i_step, 0.0)


@jit
def transpose(to, i, to_row, source, j, from_row, rows, columns):
    """to[i + c * to_row + r] = source[j + r * from_row + c] for r < rows, c < columns"""
    L = lanes(to)
    for r in range(0, rows, L):
        for c in range(0, columns, L):
            i_here, j_here = i + c * to_row + r, j + r * from_row + c
            if r + L <= rows and c + L <= columns:
                transpose_square(to, i_here, to_row, source, j_here, from_row)
            else:
                transpose_part(to, i_here, to_row, source, j_here, from_row, rows - r, columns - c)

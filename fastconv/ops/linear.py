"""The matrix products of a fully connected layer, on the convolutions' own GEMM.

A matrix is one image of a single row, or a bank of 1x1 filters; nothing is copied. Channels-last, x (N, C)
is an image of N pixels and w (K, C) are filters from K channels to C, whose input gradient maps x to y.
Channels-first, a matrix (rows, columns) is an image of that many channels and pixels: filters (M, rows) map
it to their product, and filters (rows, M) by their input gradient to that of their transpose.

NumPy's own products run on a BLAS whose threads wait for more work, for up to 100 ms, on the cores that the
kernels' threads need (docs/performance.md). It computes what it keeps on one thread, what has no rows, and
everything where there are no compiled kernels.
"""

from __future__ import annotations

from fastconv.dispatch import runtime
from fastconv.ops.arrays import Array
from fastconv.ops.conv2d import conv2d, conv2d_input_grad

# Multiply-adds up to which NumPy is at least as fast; OpenBLAS starts threads from four times as many.
SMALL = 1 << 16
# A setting of `use` is about convolutions: it does not change these.
GEMM = "cython.blocked"


def linear(x: Array, w: Array) -> Array:
    """(N, C) @ (K, C).T -> (N, K)."""
    n, c, k = *x.shape, len(w)
    if not on_kernels(n, c, k):
        y: Array = x @ w.T
        return y
    pixels, bank = x.reshape(1, 1, n, c), w.reshape(1, 1, k, c)
    return conv2d_input_grad(pixels, bank, (1, 1, n, k), layout="NHWC", kernel=GEMM).reshape(n, k)


def linear_input_grad(dy: Array, w: Array) -> Array:
    """(N, K) @ (K, C) -> (N, C)."""
    n, k, c = *dy.shape, w.shape[1]
    if not on_kernels(n, c, k):
        dx: Array = dy @ w
        return dx
    return conv2d(channels(w), filters(dy), kernel=GEMM).reshape(n, c)


def linear_filter_grad(x: Array, dy: Array) -> Array:
    """(N, K).T @ (N, C) -> (K, C)."""
    n, c, k = *x.shape, dy.shape[1]
    if not on_kernels(n, c, k):
        dw: Array = dy.T @ x
        return dw
    return conv2d_input_grad(channels(x), filters(dy), (1, k, 1, c), kernel=GEMM).reshape(k, c)


def on_kernels(n: int, c: int, k: int) -> bool:
    # one row is a matrix-vector product, where BLAS starts threads sooner
    return n > 0 and (n == 1 or n * c * k > SMALL) and runtime.chosen_isa() is not None


def channels(a: Array) -> Array:
    """A matrix as an image: rows are channels, columns pixels."""
    return a.reshape(1, len(a), 1, -1)


def filters(a: Array) -> Array:
    return a.reshape(*a.shape, 1, 1)

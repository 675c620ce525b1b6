"""The matrix products of a fully connected layer, on the convolutions' own GEMM.

Rows are the pixels of one channels-last image (1, 1, N, channels), and w (K, C) is a bank of 1x1 filters from
K channels to C, whose convolution maps dy to dx. Its input gradient maps x to y, its filter gradient is dw;
nothing is copied.

NumPy's own products run on a BLAS whose threads wait for more work, for up to 100 ms, on the cores that the
kernels' threads need (docs/performance.md). It computes what it keeps on one thread, what has no rows, and
everything where there are no compiled kernels.
"""

from __future__ import annotations

from typing import Any

from fastconv.dispatch import runtime
from fastconv.ops.arrays import Array
from fastconv.ops.conv2d import conv2d, conv2d_filter_grad, conv2d_input_grad

# Multiply-adds up to which NumPy is at least as fast; OpenBLAS starts threads from four times as many.
SMALL = 1 << 16
# A setting of `use` is about convolutions: it does not change these.
GEMM: dict[str, Any] = {"layout": "NHWC", "kernel": "cython.blocked"}


def linear(x: Array, w: Array) -> Array:
    """(N, C) @ (K, C).T -> (N, K)."""
    n, c, k = *x.shape, len(w)
    if not on_kernels(n, c, k):
        y: Array = x @ w.T
        return y
    return conv2d_input_grad(image(x), image(w), (1, 1, n, k), **GEMM).reshape(n, k)


def linear_input_grad(dy: Array, w: Array) -> Array:
    """(N, K) @ (K, C) -> (N, C)."""
    n, k, c = *dy.shape, w.shape[1]
    if not on_kernels(n, c, k):
        dx: Array = dy @ w
        return dx
    return conv2d(image(dy), image(w), **GEMM).reshape(n, c)


def linear_filter_grad(x: Array, dy: Array) -> Array:
    """(N, K).T @ (N, C) -> (K, C)."""
    n, c, k = *x.shape, dy.shape[1]
    if not on_kernels(n, c, k):
        dw: Array = dy.T @ x
        return dw
    dw = conv2d_filter_grad(image(dy), image(x), (1, 1, k, c), **GEMM)
    return dw.reshape(k, c)


def on_kernels(n: int, c: int, k: int) -> bool:
    # one row is a matrix-vector product, where BLAS starts threads sooner
    return n > 0 and (n == 1 or n * c * k > SMALL) and runtime.chosen_isa() is not None


def image(a: Array) -> Array:
    return a.reshape(1, 1, *a.shape)

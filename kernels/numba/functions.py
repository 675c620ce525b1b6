"""Convolution and max-pooling on arrays, for use inside a user's own compiled functions.

They are Numba functions (nopython, nogil): plain arrays in, a caller's array overwritten, on the thread
that calls. Arrays are float32 or float64, all of one type, and what is written is C-contiguous. `padding`
is the zeros in front of the first row and column; how many follow is told by the shape of the output.

>>> import numba, numpy as np
>>> from fastconv.kernels.numba import conv2d_nchw
>>> @numba.njit
... def blurred_twice(x, w):
...     y, z = np.empty_like(x), np.empty_like(x)
...     conv2d_nchw(x, w, y, (1, 1), (1, 1), (1, 1), 1)
...     conv2d_nchw(y, w, z, (1, 1), (1, 1), (1, 1), 1)
...     return z
>>> float(blurred_twice(np.ones((1, 1, 8, 8)), np.full((1, 1, 3, 3), 1 / 9))[0, 0, 4, 4].round(6))
1.0
"""

from __future__ import annotations

import numba
import numpy as np

from fastconv.kernels.numba import im2col, pool
from fastconv.kernels.numba.filters import ROWS as ROWS_PACKED
from fastconv.kernels.numba.filters import pack_job
from fastconv.kernels.numba.gemm import INDEX
from fastconv.kernels.numba.geometry import OUT, WINDOW, product
from fastconv.kernels.numba.im2col import KC, KC_LAST, PIXELS, ROWS
from fastconv.kernels.numba.jit import JIT, OPTIONS, jit
from fastconv.kernels.numba.tile import MR, NV, panel_width
from fastconv.kernels.numba.vector import lanes

public = numba.njit(**OPTIONS) if JIT else lambda function: function
forward_first, forward_last = jit(im2col.forward_first_job), jit(im2col.forward_last_job)
input_grad_first, input_grad_last = jit(im2col.input_grad_first_job), jit(im2col.input_grad_last_job)
filter_grad_first, filter_grad_last = jit(im2col.filter_grad_first_job), jit(im2col.filter_grad_last_job)
max_pool, pack = jit(pool.max_pool_job), jit(pack_job)


@jit
def geometry(n, c, k, groups, last, size, window, out, stride, dilation, padding):
    """ConvSpec.geometry of two spatial axes, or the error."""
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0 or groups < 1:
        raise ValueError("stride, dilation and groups must be at least 1, padding at least 0")
    if min(size) < 1 or min(window) < 1 or min(out) < 1 or c % groups or k % groups:
        raise ValueError("every axis must have a size, and groups must divide the channels and the filters")
    g = np.ones(23, np.int64)
    g[0], g[1], g[2], g[3], g[4], g[20] = n, c, k, groups, last, 0
    for axis in range(2):
        g[6 + axis], g[9 + axis], g[12 + axis] = size[axis], window[axis], out[axis]
        g[15 + axis], g[18 + axis], g[21 + axis] = stride[axis], dilation[axis], padding[axis]
    return g


@jit
def geometry_first(x, w, y, stride, padding, dilation, groups):
    if x.shape[0] != y.shape[0] or w.shape[0] != y.shape[1] or w.shape[1] * groups != x.shape[1]:
        raise ValueError("the shapes must be x (N, C, H, W), w (K, C/groups, R, S), y (N, K, OH, OW)")
    return geometry(
        x.shape[0],
        x.shape[1],
        w.shape[0],
        groups,
        0,
        x.shape[2:],
        w.shape[2:],
        y.shape[2:],
        stride,
        dilation,
        padding,
    )


@jit
def geometry_last(x, w, y, stride, padding, dilation, groups):
    if x.shape[0] != y.shape[0] or w.shape[3] != y.shape[3] or w.shape[2] * groups != x.shape[3]:
        raise ValueError("the shapes must be x (N, H, W, C), w (R, S, C/groups, K), y (N, OH, OW, K)")
    return geometry(
        *(x.shape[0], x.shape[3], w.shape[3], groups, 1, x.shape[1:3], w.shape[:2], y.shape[1:3]),
        *(stride, dilation, padding),
    )


@jit
def up(a, b):
    return (a + b - 1) // b


@public
def conv2d_nchw(x, w, y, stride, padding, dilation, groups):
    """y = x (N, C, H, W) convolved with w (K, C/groups, R, S); y is (N, K, OH, OW).

    Parameters
    ----------
    x, w, y : arrays
        Input, filters and the output to overwrite.
    stride, padding, dilation : tuple of two ints
        For height and width; padding is what precedes the first row and column.
    groups : int

    Raises
    ------
    ValueError
        For shapes that do not belong together, or a stride, dilation or groups below 1.
    """
    g = geometry_first(x, w, y, stride, padding, dilation, groups)
    L = lanes(x)
    jobs = g[0] * groups * up(product(g, OUT), panel_width(product(g, OUT), L))
    col, index = np.empty(KC * NV * L, x.dtype), np.empty(INDEX, np.int64)
    none, linear = np.empty(0, x.dtype), np.zeros(1, np.int64)
    forward_first(0, jobs, 0, (g, x.ravel(), w.ravel(), none, y.reshape(-1), linear, col, index))


@public
def conv2d_nhwc(x, w, y, stride, padding, dilation, groups):
    """y = x (N, H, W, C) convolved with w (R, S, C/groups, K); y is (N, OH, OW, K). As conv2d_nchw."""
    g = geometry_last(x, w, y, stride, padding, dilation, groups)
    L = lanes(x)
    jobs = g[0] * groups * up(product(g, OUT), PIXELS)
    col, index = np.empty(KC * (PIXELS + NV * L), x.dtype), np.empty(INDEX, np.int64)
    none, linear = np.empty(0, x.dtype), np.zeros(1, np.int64)
    forward_last(0, jobs, 0, (g, x.ravel(), w.ravel(), none, y.reshape(-1), linear, col, index))


@jit
def packed(w, groups, taps, rows, columns, width, strides):
    """im2col's panels of filters, (group, panel, tap, row, width)."""
    p = np.zeros(9, np.int64)
    p[0], p[1], p[2], p[3] = taps, rows, columns, width
    p[5], p[6], p[7], p[8] = strides
    out = np.empty(groups * taps * up(columns, width) * rows * width, w.dtype)
    pack(0, groups * taps * up(rows, ROWS_PACKED), 0, (p, w.ravel(), out))
    return out


@public
def conv2d_nchw_input_grad(dy, w, dx, stride, padding, dilation, groups):
    """dx (N, C, H, W) from dy (N, K, OH, OW) and w (K, C/groups, R, S). Arguments as conv2d_nchw."""
    g = geometry_first(dx, w, dy, stride, padding, dilation, groups)
    L, taps = lanes(dy), product(g, WINDOW)
    c, k = w.shape[1], w.shape[0] // groups
    panels = packed(w, groups, 1, k, c * taps, MR, (k * c * taps, 0, c * taps, 1))
    channels = np.full(1, 4 * MR, np.int64)
    col = np.empty((channels[0] * taps + MR + k) * NV * L, dy.dtype)
    jobs = g[0] * groups * up(c, channels[0])
    input_grad_first(
        0, jobs, 0, (g, dy.ravel(), panels, dx.reshape(-1), channels, col, np.empty(INDEX, np.int64))
    )


@public
def conv2d_nhwc_input_grad(dy, w, dx, stride, padding, dilation, groups):
    """dx (N, H, W, C) from dy (N, OH, OW, K) and w (R, S, C/groups, K). Arguments as conv2d_nchw."""
    g = geometry_last(dx, w, dy, stride, padding, dilation, groups)
    L, taps = lanes(dy), product(g, WINDOW)
    c, k = w.shape[2], w.shape[3] // groups
    width = np.full(1, min(up(c, L), NV) * L, np.int64)
    panels = packed(w, groups, taps, k, c, width[0], (k, c * w.shape[3], 1, w.shape[3]))
    col = np.empty(MR * taps * width[0], dy.dtype)
    jobs = g[0] * groups * up(c, width[0])
    input_grad_last(
        0, jobs, 0, (g, dy.ravel(), panels, dx.reshape(-1), width, col, np.empty(INDEX, np.int64))
    )


@public
def conv2d_nchw_filter_grad(x, dy, dw, stride, padding, dilation, groups):
    """dw (K, C/groups, R, S) from x (N, C, H, W) and dy (N, K, OH, OW). Arguments as conv2d_nchw."""
    g = geometry_first(x, dw, dy, stride, padding, dilation, groups)
    L = lanes(x)
    jobs = groups * up(dw.shape[1] * product(g, WINDOW), panel_width(dw.shape[1] * product(g, WINDOW), L))
    col, parts = np.empty(KC * NV * L, x.dtype), np.ones(1, np.int64)
    filter_grad_first(
        0, jobs, 0, (g, x.ravel(), dy.ravel(), dw.reshape(-1), parts, col, np.empty(INDEX, np.int64))
    )


@public
def conv2d_nhwc_filter_grad(x, dy, dw, stride, padding, dilation, groups):
    """dw (R, S, C/groups, K) from x (N, H, W, C) and dy (N, OH, OW, K). Arguments as conv2d_nchw."""
    g = geometry_last(x, dw, dy, stride, padding, dilation, groups)
    L = lanes(x)
    jobs = groups * up(dw.shape[2] * product(g, WINDOW), ROWS)
    col, parts = np.empty(KC_LAST * (ROWS + NV * L), x.dtype), np.ones(1, np.int64)
    filter_grad_last(
        0, jobs, 0, (g, x.ravel(), dy.ravel(), dw.reshape(-1), parts, col, np.empty(INDEX, np.int64))
    )


@public
def max_pool2d_nchw(x, y, argmax, window, stride, padding):
    """The maxima of x (N, C, H, W) and, in an int32 or int64 array of y's shape (or an empty one), their
    places.

    A window without any element gives -inf and place -1.
    """
    if x.shape[:2] != y.shape[:2] or (argmax.size > 0 and argmax.size != y.size):
        raise ValueError("the shapes must be x (N, C, H, W), y (N, C, OH, OW), argmax as y or empty")
    c = x.shape[1]
    g = geometry(x.shape[0], c, c, c, 0, x.shape[2:], window, y.shape[2:], stride, (1, 1), padding)
    max_pool(0, x.shape[0] * c, 0, (g, x.ravel(), y.reshape(-1), argmax.reshape(-1)))

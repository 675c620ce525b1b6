"""im2col in NumPy, as most nets written in it compute convolutions: what the stand-ins are made of."""

import numpy as np


def taps(shape, window, stride, pad):
    """(N, C, OH, OW) of the output, and each tap with where the windows' elements for it are in x, padded."""
    (n, c, h, width), (r, s) = shape, window
    out = (h + 2 * pad - r) // stride + 1, (width + 2 * pad - s) // stride + 1
    ends = stride * out[0], stride * out[1]
    where = {
        (i, j): np.s_[:, :, i : i + ends[0] : stride, j : j + ends[1] : stride]
        for i in range(r)
        for j in range(s)
    }
    return (n, c, *out), where


def im2col(x, window, stride, pad):
    """(N, C, H, W) -> (C, R, S, N, OH, OW)."""
    (n, c, *out), where = taps(x.shape, window, stride, pad)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    columns = np.empty((c, *window, n, *out), x.dtype)
    for (i, j), at in where.items():
        columns[:, i, j] = padded[at].swapaxes(0, 1)
    return columns


def col2im(columns, shape, stride, pad):
    """The sum of what im2col spread: (C, R, S, N, OH, OW) -> (N, C, H, W)."""
    _, where = taps(shape, columns.shape[1:3], stride, pad)
    n, c, h, width = shape
    padded = np.zeros((n, c, h + 2 * pad, width + 2 * pad), columns.dtype)
    for (i, j), at in where.items():
        padded[at] += columns[:, i, j].swapaxes(0, 1)
    return padded[:, :, pad : pad + h, pad : pad + width]


def conv(x, w, b, stride, pad):
    """(y, columns): w (K, C, R, S) over x, by one GEMM."""
    columns = im2col(x, w.shape[2:], stride, pad)
    y = w.reshape(len(w), -1) @ columns.reshape(w[0].size, -1) + b[:, None]
    return y.reshape(len(w), *columns.shape[3:]).swapaxes(0, 1), columns


def conv_grads(dy, columns, shape, w, stride, pad):
    """(dx, dw, db)."""
    rows = dy.swapaxes(0, 1).reshape(len(w), -1)
    dw = (rows @ columns.reshape(w[0].size, -1).T).reshape(w.shape)
    spread = (w.reshape(len(w), -1).T @ rows).reshape(columns.shape)
    return col2im(spread, shape, stride, pad), dw, rows.sum(1)


def max_pool(x, window, stride):
    """(y, argmax): which tap won each window, both (N, C, OH, OW)."""
    columns = im2col(x, window, stride, 0)
    flat = columns.reshape(len(columns), -1, *columns.shape[3:])
    return flat.max(1).swapaxes(0, 1), flat.argmax(1).swapaxes(0, 1)


def max_pool_grad(dy, argmax, shape, window, stride):
    """(N, C, H, W)."""
    ones = argmax.swapaxes(0, 1)[:, None] == np.arange(window[0] * window[1])[:, None, None, None]
    columns = (ones * dy.swapaxes(0, 1)[:, None]).reshape(shape[1], *window, len(dy), *dy.shape[2:])
    return col2im(columns, shape, stride, 0)

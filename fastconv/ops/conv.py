"""Convolution of any rank and its gradients: check, allocate, call the kernel.

Cross-correlation, as every deep-learning library means by convolution:

    y[n, k, p] = bias[k] + sum over c, r of  w[k, c, r] * x[n, c, stride*p + dilation*r - padding]

`op` names the caller for messages and carries the rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.ops.activation import check_activation
from fastconv.ops.arrays import Array, check_out, check_shape, checked_float, contiguous, result, writable
from fastconv.ops.launch import INPUT_W, X_FILTER, X_W, conv_launch
from fastconv.ops.memory import empty
from fastconv.ops.parse import PaddingLike, PerAxis, parse_flag


def conv_forward(
    op: str,
    x: Array,
    w: Array,
    bias: Array | None,
    stride: PerAxis,
    padding: PaddingLike,
    dilation: PerAxis,
    groups: int,
    padding_mode: str,
    activation: str | None,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The forward pass."""
    x = checked_float(op, "x", x)
    w = checked_float(op, "w", w, x.dtype)
    dtype = x.dtype
    spec, run, threads, _, _, y_shape = conv_launch(
        op,
        "forward",
        X_W,
        dtype,
        x.shape,
        w.shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        kernel,
    )
    if bias is not None:
        bias = checked_float(op, "bias", bias, x.dtype)
        check_shape(op, "bias", bias, (spec.k,))
        bias = contiguous(bias)
    if activation is not None:
        check_activation(op, activation)
    if out is None:
        y = empty(y_shape, dtype)
    else:
        check_out(op, out, y_shape, x.dtype, x, w, bias)
        y = writable(out)
    run(spec, contiguous(x), contiguous(w), bias, y, activation, threads)
    return result(y, out)


def conv_input_grad(
    op: str,
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    stride: PerAxis,
    padding: PaddingLike,
    dilation: PerAxis,
    groups: int,
    padding_mode: str,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The input gradient."""
    dy = checked_float(op, "dy", dy)
    w = checked_float(op, "w", w, dy.dtype)
    spec, run, threads, x_shape, _, y_shape = conv_launch(
        op,
        "input_grad",
        INPUT_W,
        dy.dtype,
        input_shape,
        w.shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        kernel,
    )
    check_shape(op, "dy", dy, y_shape)
    if out is None:
        dx = empty(x_shape, dy.dtype)
    else:
        check_out(op, out, x_shape, dy.dtype, dy, w)
        dx = writable(out)
    run(spec, contiguous(dy), contiguous(w), dx, threads)
    return result(dx, out)


def conv_filter_grad(
    op: str,
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    stride: PerAxis,
    padding: PaddingLike,
    dilation: PerAxis,
    groups: int,
    padding_mode: str,
    layout: str,
    bias_grad: bool,
    out: Array | None,
    kernel: str | None,
) -> Array | tuple[Array, Array]:
    """The filter gradient, with the bias gradient where asked."""
    x = checked_float(op, "x", x)
    dy = checked_float(op, "dy", dy, x.dtype)
    spec, run, threads, _, w_shape, y_shape = conv_launch(
        op,
        "filter_grad",
        X_FILTER,
        x.dtype,
        x.shape,
        filter_shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        kernel,
    )
    check_shape(op, "dy", dy, y_shape)
    bias_grad = parse_flag(op, "bias_grad", bias_grad)
    if out is None:
        dw = empty(w_shape, x.dtype)
    else:
        check_out(op, out, w_shape, x.dtype, x, dy)
        dw = writable(out)
    db = np.empty(spec.k, x.dtype) if bias_grad else None
    run(spec, contiguous(x), contiguous(dy), dw, db, threads)
    dw = result(dw, out)
    return dw if db is None else (dw, db)

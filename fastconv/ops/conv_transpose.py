"""Transposed convolution of any rank, and its gradients, by the passes of the convolution it transposes.

    forward      y  = the convolution's input gradient, of x
    input grad   dx = the convolution, of dy
    filter grad  dw = the convolution's filter gradient, with dy for its input and x for its output's gradient

so that every kernel serves it, with the very same filter array. `op` names the caller and carries the rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.kernels.reference import ACTIVATIONS
from fastconv.ops.activation import check_activation
from fastconv.ops.arrays import Array, check_out, check_shape, checked_float, contiguous, result, writable
from fastconv.ops.launch import INPUT_W, X_FILTER, X_W, conv_transpose_launch
from fastconv.ops.memory import empty
from fastconv.ops.parse import PaddingLike, PerAxis, parse_flag


def transpose_forward(
    op: str,
    x: Array,
    w: Array,
    bias: Array | None,
    stride: PerAxis,
    padding: PaddingLike,
    output_padding: PerAxis,
    dilation: PerAxis,
    groups: int,
    activation: str | None,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The forward pass."""
    x = checked_float(op, "x", x)
    dtype = x.dtype
    w = checked_float(op, "w", w, dtype)
    spec, run, threads, y_shape, _, _ = conv_transpose_launch(
        op,
        "input_grad",
        X_W,
        dtype,
        x.shape,
        w.shape,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        kernel,
    )
    if bias is not None:
        bias = checked_float(op, "bias", bias, dtype)
        check_shape(op, "bias", bias, (spec.c,))
    if activation is not None:
        check_activation(op, activation)
    if out is None:
        y = empty(y_shape, dtype)
    else:
        check_out(op, out, y_shape, dtype, x, w, bias)
        y = writable(out)
    run(spec, contiguous(x), contiguous(w), y, threads)
    finish(spec, y, bias, activation)
    return result(y, out)


def finish(spec: Any, y: Array, bias: Array | None, activation: str | None) -> None:
    """Add the bias and apply the activation, an image at a time while it is in the cache."""
    if bias is None and activation is None:
        return
    if bias is not None and not spec.channels_last:
        bias = bias.reshape(-1, *[1] * spec.ndim)
    for image in y:
        if bias is not None:
            image += bias
        if activation is not None:
            image[...] = ACTIVATIONS[activation](image)


def transpose_input_grad(
    op: str,
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    stride: PerAxis,
    padding: PaddingLike,
    output_padding: PerAxis,
    dilation: PerAxis,
    groups: int,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The input gradient."""
    dy = checked_float(op, "dy", dy)
    w = checked_float(op, "w", w, dy.dtype)
    spec, run, threads, y_shape, _, x_shape = conv_transpose_launch(
        op,
        "forward",
        INPUT_W,
        dy.dtype,
        input_shape,
        w.shape,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        kernel,
    )
    check_shape(op, "dy", dy, y_shape)
    if out is None:
        dx = empty(x_shape, dy.dtype)
    else:
        check_out(op, out, x_shape, dy.dtype, dy, w)
        dx = writable(out)
    run(spec, contiguous(dy), contiguous(w), None, dx, None, threads)
    return result(dx, out)


def transpose_filter_grad(
    op: str,
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    stride: PerAxis,
    padding: PaddingLike,
    output_padding: PerAxis,
    dilation: PerAxis,
    groups: int,
    layout: str,
    bias_grad: bool,
    out: Array | None,
    kernel: str | None,
) -> Array | tuple[Array, Array]:
    """The filter gradient, with the bias gradient where asked."""
    x = checked_float(op, "x", x)
    dy = checked_float(op, "dy", dy, x.dtype)
    spec, run, threads, y_shape, w_shape, _ = conv_transpose_launch(
        op,
        "filter_grad",
        X_FILTER,
        x.dtype,
        x.shape,
        filter_shape,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
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
    dy = contiguous(dy)
    run(spec, dy, contiguous(x), dw, None, threads)
    dw = result(dw, out)
    if not bias_grad:
        return dw
    pixels = (*range(spec.ndim + 1),) if spec.channels_last else (0, *range(2, spec.ndim + 2))
    # a plain sum over many pixels would round once a pixel: sum in float64
    return dw, dy.sum(pixels, np.float64).astype(x.dtype)

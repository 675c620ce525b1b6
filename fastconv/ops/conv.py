"""Convolution and its gradients: check, allocate, call the kernel.

Cross-correlation, as every deep-learning library means by convolution:

    y[n, k, p] = bias[k] + sum over c, r of  w[k, c, r] * x[n, c, stride*p + dilation*r - padding]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from fastconv.dispatch import settings
from fastconv.ops.arrays import Array, check_out, check_shape, checked_float, contiguous, result, writable
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.launch import conv_launch

PerAxis = int | Sequence[int]
PaddingLike = int | str | Sequence[int | Sequence[int]]
ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh")


def conv2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Convolve a batch of images with a bank of filters (cross-correlation: the filter is not flipped).

    Parameters
    ----------
    x : ndarray, float32 or float64
        Input, (N, C, H, W), or (N, H, W, C) in layout "NHWC". Any memory order; never written.
    w : ndarray of x's dtype
        Filters, (K, C/groups, R, S), or (R, S, C/groups, K) in layout "NHWC".
    bias : ndarray of x's dtype, optional
        (K,), added to every pixel of each output channel.
    stride, dilation : int or (int, int), default 1
        Step between output pixels, and between filter taps, in input pixels.
    padding : int, two ints, two (before, after) pairs, "valid", "same" or "same_lower", default 0
        Pixels added around the input. "same" gives ceil(I / stride) outputs with the odd pixel at the end
        (TensorFlow, ONNX SAME_UPPER), "same_lower" at the beginning.
    groups : int, default 1
        Input and output channels are split into this many independent convolutions.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What the added pixels hold.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh"}, default None
        Applied to the result in the same pass (leaky_relu with slope 0.01).
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : ndarray, optional
        Receives the result: right shape and dtype, writeable, no memory shared with an input.
    kernel : str, optional
        Forces "backend.algorithm" (see `kernels`); None chooses.

    Returns
    -------
    ndarray
        (N, K, OH, OW) or (N, OH, OW, K), with OH = (H + before + after - dilation*(R-1) - 1) // stride + 1.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work. `UnsupportedProblem` (a ValueError) where a
        forced kernel cannot do the problem.

    References
    ----------
    Goto, van de Geijn: Anatomy of high-performance matrix multiplication (2008), for the blocked kernel;
    Lavin, Gray: Fast algorithms for convolutional neural networks (2015), for the Winograd kernel.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    >>> w = np.ones((1, 1, 2, 2), np.float32)
    >>> fc.conv2d(x, w)
    array([[[[ 8., 12.],
             [20., 24.]]]], dtype=float32)
    """
    return conv_forward(
        "conv2d", x, w, bias, stride, padding, dilation, groups, padding_mode, activation, layout, out, kernel
    )


def conv2d_input_grad(
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `conv2d` with respect to its input.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output, (N, K, OH, OW) or (N, OH, OW, K).
    w : ndarray of dy's dtype
        The filters of the forward call.
    input_shape : sequence of 4 ints
        Shape of the forward call's x.
    stride, padding, dilation, groups, padding_mode, layout, out, kernel
        As in `conv2d`, and as given to it.

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    ValueError, TypeError
        As `conv2d`; also where dy's shape is not the output's.

    References
    ----------
    Dumoulin, Visin: A guide to convolution arithmetic for deep learning (2016), section 4.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> dy, w = np.ones((1, 1, 2, 2)), np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> fc.conv2d_input_grad(dy, w, (1, 1, 3, 3))[0, 0]
    array([[ 1.,  3.,  2.],
           [ 4., 10.,  6.],
           [ 3.,  7.,  4.]])
    """
    return conv_input_grad(
        "conv2d_input_grad", dy, w, input_shape, stride, padding, dilation, groups, padding_mode, layout, out, kernel
    )


@overload
def conv2d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = ...,
    padding: PaddingLike = ...,
    dilation: PerAxis = ...,
    groups: int = ...,
    padding_mode: str = ...,
    layout: str = ...,
    bias_grad: Literal[False] = ...,
    out: Array | None = ...,
    kernel: str | None = ...,
) -> Array: ...
@overload
def conv2d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = ...,
    padding: PaddingLike = ...,
    dilation: PerAxis = ...,
    groups: int = ...,
    padding_mode: str = ...,
    layout: str = ...,
    bias_grad: Literal[True],
    out: Array | None = ...,
    kernel: str | None = ...,
) -> tuple[Array, Array]: ...
def conv2d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    bias_grad: bool = False,
    out: Array | None = None,
    kernel: str | None = None,
) -> Array | tuple[Array, Array]:
    """Gradient of `conv2d` with respect to its filters, and to its bias.

    Parameters
    ----------
    x : ndarray, float32 or float64
        The forward call's input.
    dy : ndarray of x's dtype
        Gradient of the output.
    filter_shape : sequence of 4 ints
        Shape of the forward call's w.
    bias_grad : bool, default False
        Also return the gradient of the bias, the sum of dy over batch and pixels.
    stride, padding, dilation, groups, padding_mode, layout, out, kernel
        As in `conv2d`, and as given to it; `out` receives the gradient of the filters.

    Returns
    -------
    dw : ndarray of shape `filter_shape`
    db : ndarray (K,), only with `bias_grad`

    Raises
    ------
    ValueError, TypeError
        As `conv2d`; also where dy's shape is not the output's.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> dw, db = fc.conv2d_filter_grad(x, np.ones((1, 1, 2, 2)), (1, 1, 2, 2), bias_grad=True)
    >>> dw[0, 0], db
    (array([[ 8., 12.],
           [20., 24.]]), array([4.]))
    """
    return conv_filter_grad(
        *("conv2d_filter_grad", x, dy, filter_shape, stride, padding, dilation, groups, padding_mode),
        *(layout, bias_grad, out, kernel),
    )


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
    """The forward pass of any rank; `op` names the caller and carries the rank."""
    x = checked_float(op, "x", x)
    w = checked_float(op, "w", w, x.dtype)
    spec, run, threads, _, _, y_shape = conv_launch(
        *(op, "forward", ("x", "w"), x.shape, w.shape, x.dtype, stride, padding, dilation, groups),
        *(padding_mode, layout, kernel, settings.current()),
    )
    if bias is not None:
        bias = checked_float(op, "bias", bias, x.dtype)
        check_shape(op, "bias", bias, (spec.k,))
        bias = contiguous(bias)
    if activation is not None:
        check_activation(op, activation)
    if out is None:
        y = np.empty(y_shape, x.dtype)
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
    """The input gradient of any rank."""
    dy = checked_float(op, "dy", dy)
    w = checked_float(op, "w", w, dy.dtype)
    spec, run, threads, x_shape, _, y_shape = conv_launch(
        *(op, "input_grad", ("input", "w"), input_shape, w.shape, dy.dtype, stride, padding, dilation, groups),
        *(padding_mode, layout, kernel, settings.current()),
    )
    check_shape(op, "dy", dy, y_shape)
    if out is None:
        dx = np.empty(x_shape, dy.dtype)
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
    """The filter gradient of any rank, with the bias gradient where asked."""
    x = checked_float(op, "x", x)
    dy = checked_float(op, "dy", dy, x.dtype)
    spec, run, threads, _, w_shape, y_shape = conv_launch(
        *(op, "filter_grad", ("x", "filter"), x.shape, filter_shape, x.dtype, stride, padding, dilation, groups),
        *(padding_mode, layout, kernel, settings.current()),
    )
    check_shape(op, "dy", dy, y_shape)
    if not isinstance(bias_grad, bool):
        bad_type(op, f"bias_grad is {shown(bias_grad)}", "it must be True or False")
    if out is None:
        dw = np.empty(w_shape, x.dtype)
    else:
        check_out(op, out, w_shape, x.dtype, x, dy)
        dw = writable(out)
    db = np.empty(spec.k, x.dtype) if bias_grad else None
    run(spec, contiguous(x), contiguous(dy), dw, db, threads)
    dw = result(dw, out)
    return dw if db is None else (dw, db)


def check_activation(op: str, activation: Any) -> None:
    if not isinstance(activation, str):
        bad_type(op, f"activation is {shown(activation)}", f"it must be None or one of {', '.join(ACTIVATIONS)}")
    if activation not in ACTIVATIONS:
        bad_value(op, f"activation is {shown(activation)}", f"it must be None or one of {', '.join(ACTIVATIONS)}")

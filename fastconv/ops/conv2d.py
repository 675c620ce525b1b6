"""Convolution of images and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.arrays import Array
from fastconv.ops.conv import conv_filter_grad, conv_forward, conv_input_grad
from fastconv.ops.parse import PaddingLike, PerAxis


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
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "relu6"}, default None
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
        "conv2d_input_grad",
        dy,
        w,
        input_shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        out,
        kernel,
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
        "conv2d_filter_grad",
        x,
        dy,
        filter_shape,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        layout,
        bias_grad,
        out,
        kernel,
    )

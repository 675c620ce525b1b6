"""Transposed convolution of images and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.arrays import Array
from fastconv.ops.conv_transpose import transpose_filter_grad, transpose_forward, transpose_input_grad
from fastconv.ops.parse import PaddingLike, PerAxis


def conv_transpose2d(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Transposed convolution: the input gradient of `conv2d` as a layer of its own, for upsampling.

    Every pixel of x adds a filter, scaled by it, to the output:

        y[n, k, stride*p + dilation*r - padding] += x[n, c, p] * w[c, k, r]

    Parameters
    ----------
    x : ndarray, float32 or float64
        Input, (N, C, H, W), or (N, H, W, C) in layout "NHWC". Any memory order; never written.
    w : ndarray of x's dtype
        Filters, (C, K/groups, R, S), or (R, S, K/groups, C) in layout "NHWC": in both layouts the very array
        with which `conv2d` maps the output's K channels to C.
    bias : ndarray of x's dtype, optional
        (K,), added to every pixel of each output channel.
    stride, dilation : int or (int, int), default 1
        Step between the filters of neighbouring pixels, and between filter taps, in output pixels.
    padding : int, two ints, two (before, after) pairs, "valid", "same" or "same_lower", default 0
        Pixels cut off the output's ends. "same" and "same_lower" give H * stride outputs, cutting the odd
        pixel at the end or at the beginning.
    output_padding : int or (int, int), default 0
        Extra rows and columns at the output's end: below the stride or the dilation.
    groups : int, default 1
        Input and output channels are split into this many independent transposed convolutions.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "relu6"}, default None
        Applied to the result (leaky_relu with slope 0.01).
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : ndarray, optional
        Receives the result: right shape and dtype, writeable, no memory shared with an input.
    kernel : str, optional
        Forces "backend.algorithm" (see `kernels`), which must have the input_grad pass; None chooses.

    Returns
    -------
    ndarray
        (N, K, OH, OW) or (N, OH, OW, K), with
        OH = (H-1)*stride - before - after + dilation*(R-1) + output_padding + 1.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work. `UnsupportedProblem` (a ValueError) where a
        forced kernel cannot do the problem.

    References
    ----------
    Dumoulin, Visin: A guide to convolution arithmetic for deep learning (2016), section 4.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, w = np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 10.0]]]])
    >>> fc.conv_transpose2d(x, w, stride=(1, 2))
    array([[[[ 1., 10.,  2., 20.]]]])
    """
    return transpose_forward(
        "conv_transpose2d",
        x,
        w,
        bias,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        activation,
        layout,
        out,
        kernel,
    )


def conv_transpose2d_input_grad(
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `conv_transpose2d` with respect to its input: a convolution of dy.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    w : ndarray of dy's dtype
        The filters of the forward call.
    input_shape : sequence of 4 ints
        Shape of the forward call's x.
    stride, padding, output_padding, dilation, groups, layout, out, kernel
        As given to `conv_transpose2d`.

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> dy, w = np.array([1.0, 3.0, 2.0]).reshape(1, 1, 1, 3), np.ones((1, 1, 1, 2))
    >>> fc.conv_transpose2d_input_grad(dy, w, (1, 1, 1, 2)).ravel()
    array([4., 5.])
    """
    return transpose_input_grad(
        "conv_transpose2d_input_grad",
        dy,
        w,
        input_shape,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        out,
        kernel,
    )


@overload
def conv_transpose2d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = ...,
    padding: PaddingLike = ...,
    output_padding: PerAxis = ...,
    dilation: PerAxis = ...,
    groups: int = ...,
    layout: str = ...,
    bias_grad: Literal[False] = ...,
    out: Array | None = ...,
    kernel: str | None = ...,
) -> Array: ...
@overload
def conv_transpose2d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = ...,
    padding: PaddingLike = ...,
    output_padding: PerAxis = ...,
    dilation: PerAxis = ...,
    groups: int = ...,
    layout: str = ...,
    bias_grad: Literal[True],
    out: Array | None = ...,
    kernel: str | None = ...,
) -> tuple[Array, Array]: ...
def conv_transpose2d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    layout: str = "NCHW",
    bias_grad: bool = False,
    out: Array | None = None,
    kernel: str | None = None,
) -> Array | tuple[Array, Array]:
    """Gradient of `conv_transpose2d` with respect to its filters, and to its bias.

    Parameters
    ----------
    x, dy : ndarray, float32 or float64
        The forward call's input, and the gradient of its output.
    filter_shape : sequence of 4 ints
        Shape of the forward call's w.
    bias_grad : bool, default False
        Also return the gradient of the bias, the sum of dy over batch and pixels.
    stride, padding, output_padding, dilation, groups, layout, out, kernel
        As given to `conv_transpose2d`; `out` receives the gradient of the filters.

    Returns
    -------
    dw : ndarray of shape `filter_shape`
    db : ndarray (K,), only with `bias_grad`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, dy = np.ones((1, 1, 1, 2)), np.array([1.0, 3.0, 2.0]).reshape(1, 1, 1, 3)
    >>> fc.conv_transpose2d_filter_grad(x, dy, (1, 1, 1, 2)).ravel()
    array([4., 5.])
    """
    return transpose_filter_grad(
        "conv_transpose2d_filter_grad",
        x,
        dy,
        filter_shape,
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        layout,
        bias_grad,
        out,
        kernel,
    )

"""Transposed convolution of signals and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.arrays import Array
from fastconv.ops.conv_transpose import transpose_filter_grad, transpose_forward, transpose_input_grad
from fastconv.ops.parse import PaddingLike, PerAxis


def conv_transpose1d(
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
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Transposed convolution of signals: `conv_transpose2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    w : ndarray of x's dtype
        (C, K/groups, S), or (S, K/groups, C) in layout "NWC".
    bias : ndarray (K,) of x's dtype, optional
    stride, padding, output_padding, dilation, groups, activation, layout, out, kernel
        As in `conv_transpose2d`, with 1 spatial axis.

    Returns
    -------
    ndarray (N, K, OW) or (N, OW, K)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([1.0, 2.0]).reshape(1, 1, 2)
    >>> fc.conv_transpose1d(x, np.ones((1, 1, 2))).ravel()
    array([1., 3., 2.])
    """
    return transpose_forward(
        "conv_transpose1d",
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


def conv_transpose1d_input_grad(
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `conv_transpose1d` with respect to its input: a convolution of dy.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    w : ndarray of dy's dtype
        The filters of the forward call.
    input_shape : sequence of 3 ints
        Shape of the forward call's x.
    stride, padding, output_padding, dilation, groups, layout, out, kernel
        As given to `conv_transpose1d`.

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
    >>> dy, w = np.array([1.0, 3.0, 2.0]).reshape(1, 1, 3), np.ones((1, 1, 2))
    >>> fc.conv_transpose1d_input_grad(dy, w, (1, 1, 2)).ravel()
    array([4., 5.])
    """
    return transpose_input_grad(
        "conv_transpose1d_input_grad",
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
def conv_transpose1d_filter_grad(
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
def conv_transpose1d_filter_grad(
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
def conv_transpose1d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    layout: str = "NCW",
    bias_grad: bool = False,
    out: Array | None = None,
    kernel: str | None = None,
) -> Array | tuple[Array, Array]:
    """Gradient of `conv_transpose1d` with respect to its filters, and to its bias.

    Parameters
    ----------
    x, dy : ndarray, float32 or float64
        The forward call's input, and the gradient of its output.
    filter_shape : sequence of 3 ints
        Shape of the forward call's w.
    bias_grad : bool, default False
        Also return the gradient of the bias, the sum of dy over batch and pixels.
    stride, padding, output_padding, dilation, groups, layout, out, kernel
        As given to `conv_transpose1d`; `out` receives the gradient of the filters.

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
    >>> x, dy = np.ones((1, 1, 2)), np.array([1.0, 3.0, 2.0]).reshape(1, 1, 3)
    >>> fc.conv_transpose1d_filter_grad(x, dy, (1, 1, 2)).ravel()
    array([4., 5.])
    """
    return transpose_filter_grad(
        "conv_transpose1d_filter_grad",
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

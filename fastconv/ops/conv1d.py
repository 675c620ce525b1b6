"""Convolution of signals and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.arrays import Array
from fastconv.ops.conv import conv_filter_grad, conv_forward, conv_input_grad
from fastconv.ops.parse import PaddingLike, PerAxis


def conv1d(
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
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Convolve a batch of signals with a bank of filters: `conv2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    w : ndarray of x's dtype
        (K, C/groups, S), or (S, C/groups, K) in layout "NWC".
    bias : ndarray (K,) of x's dtype, optional
    stride, padding, dilation, groups, padding_mode, activation, layout, out, kernel
        As in `conv2d`, with 1 spatial axis.

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
    >>> x = np.array([1.0, 2.0, 4.0]).reshape(1, 1, 3)
    >>> fc.conv1d(x, np.ones((1, 1, 2))).ravel()
    array([3., 6.])
    """
    return conv_forward(
        "conv1d", x, w, bias, stride, padding, dilation, groups, padding_mode, activation, layout, out, kernel
    )


def conv1d_input_grad(
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `conv1d` with respect to its input; see `conv2d_input_grad`.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    w : ndarray of dy's dtype
    input_shape : sequence of 3 ints
    stride, padding, dilation, groups, padding_mode, layout, out, kernel
        As given to `conv1d`.

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
    >>> dy = np.array([1.0, 2.0]).reshape(1, 1, 2)
    >>> fc.conv1d_input_grad(dy, np.ones((1, 1, 2)), (1, 1, 3)).ravel()
    array([1., 3., 2.])
    """
    return conv_input_grad(
        "conv1d_input_grad",
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
def conv1d_filter_grad(
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
def conv1d_filter_grad(
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
def conv1d_filter_grad(
    x: Array,
    dy: Array,
    filter_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str = "NCW",
    bias_grad: bool = False,
    out: Array | None = None,
    kernel: str | None = None,
) -> Array | tuple[Array, Array]:
    """Gradient of `conv1d` with respect to its filters, and to its bias; see `conv2d_filter_grad`.

    Parameters
    ----------
    x, dy : ndarray, float32 or float64
        The forward call's input, and the gradient of its output.
    filter_shape : sequence of 3 ints
    bias_grad : bool, default False
        Also return the gradient of the bias.
    stride, padding, dilation, groups, padding_mode, layout, out, kernel
        As given to `conv1d`; `out` receives the gradient of the filters.

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
    >>> x, dy = np.array([1.0, 2.0, 4.0]).reshape(1, 1, 3), np.ones((1, 1, 2))
    >>> fc.conv1d_filter_grad(x, dy, (1, 1, 2)).ravel()
    array([3., 6.])
    """
    return conv_filter_grad(
        "conv1d_filter_grad",
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

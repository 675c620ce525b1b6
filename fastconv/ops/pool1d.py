"""Max- and average pooling of signals, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.arrays import Array
from fastconv.ops.parse import PaddingLike, PerAxis
from fastconv.ops.pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad


@overload
def max_pool1d(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = ...,
    padding: PaddingLike = ...,
    dilation: PerAxis = ...,
    ceil_mode: bool = ...,
    layout: str = ...,
    return_argmax: Literal[False] = ...,
    out: Array | None = ...,
    kernel: str | None = ...,
) -> Array: ...
@overload
def max_pool1d(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = ...,
    padding: PaddingLike = ...,
    dilation: PerAxis = ...,
    ceil_mode: bool = ...,
    layout: str = ...,
    return_argmax: Literal[True],
    out: Array | None = ...,
    kernel: str | None = ...,
) -> tuple[Array, Array]: ...
def max_pool1d(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCW",
    return_argmax: bool = False,
    out: Array | None = None,
    kernel: str | None = None,
) -> Array | tuple[Array, Array]:
    """Largest element of each window: `max_pool2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    window, stride, padding, dilation, ceil_mode, layout, return_argmax, out, kernel
        As in `max_pool2d`, with 1 spatial axis.

    Returns
    -------
    y : ndarray (N, C, OW) or (N, OW, C)
    argmax : ndarray of y's shape, only with `return_argmax`
        int32 (int64 where the line needs it): flat index into the channel's own unpadded line.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit; also where some window would hold no input element.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([1.0, 5.0, 3.0, 4.0]).reshape(1, 1, 4)
    >>> y, argmax = fc.max_pool1d(x, 2, return_argmax=True)
    >>> y.ravel(), argmax.ravel()
    (array([5., 4.]), array([1, 3], dtype=int32))
    """
    return max_pool(
        "max_pool1d", x, window, stride, padding, dilation, ceil_mode, layout, return_argmax, out, kernel
    )


def max_pool1d_grad(
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    *,
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `max_pool1d`: each element of dy is added at its window's argmax; see `max_pool2d_grad`.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    argmax : integer ndarray of dy's shape
    input_shape : sequence of 3 ints
    layout, out, kernel
        As in `max_pool1d`.

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, an index outside the line included.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> dy, argmax = np.ones((1, 1, 2)), np.array([1, 3]).reshape(1, 1, 2)
    >>> fc.max_pool1d_grad(dy, argmax, (1, 1, 4)).ravel()
    array([0., 1., 0., 1.])
    """
    return max_pool_grad("max_pool1d_grad", dy, argmax, input_shape, layout, out, kernel)


def avg_pool1d(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Mean of each window: `avg_pool2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    window, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, out, kernel
        As in `avg_pool2d`, with 1 spatial axis.

    Returns
    -------
    ndarray (N, C, OW) or (N, OW, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.avg_pool1d(np.arange(4.0).reshape(1, 1, 4), 2).ravel()
    array([0.5, 2.5])
    """
    return avg_pool(
        "avg_pool1d",
        x,
        window,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
        layout,
        out,
        kernel,
    )


def avg_pool1d_grad(
    dy: Array,
    input_shape: Sequence[int],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `avg_pool1d`; see `avg_pool2d_grad`.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    input_shape : sequence of 3 ints
    window and the keywords
        As given to `avg_pool1d`.

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> dy = np.array([2.0, 4.0]).reshape(1, 1, 2)
    >>> fc.avg_pool1d_grad(dy, (1, 1, 4), 2).ravel()
    array([1., 1., 2., 2.])
    """
    return avg_pool_grad(
        "avg_pool1d_grad",
        dy,
        input_shape,
        window,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
        layout,
        out,
        kernel,
    )

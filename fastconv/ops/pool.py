"""Pooling and its gradients: check, allocate, call the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from fastconv.dispatch import settings
from fastconv.ops.arrays import (
    Array,
    check_argmax,
    check_out,
    check_shape,
    checked_float,
    contiguous,
    result,
    writable,
)
from fastconv.ops.conv import PaddingLike, PerAxis
from fastconv.ops.launch import pool_launch
from fastconv.ops.spec import parse_flag, parse_layout, parse_shape


@overload
def max_pool2d(
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
def max_pool2d(
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
def max_pool2d(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCHW",
    return_argmax: bool = False,
    out: Array | None = None,
    kernel: str | None = None,
) -> Array | tuple[Array, Array]:
    """Largest element of each window.

    Padding never wins; the first maximum wins a tie; a NaN wins over numbers, the last NaN over others.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, H, W), or (N, H, W, C) in layout "NHWC".
    window : int or (int, int)
    stride : int or (int, int), optional
        Default: the window.
    padding : as in `conv2d`, default 0
    dilation : int or (int, int), default 1
        Step between the elements of a window.
    ceil_mode : bool, default False
        Round the output size up; a last window that would start in the trailing padding is dropped.
    layout : {"NCHW", "NHWC"}, default "NCHW"
    return_argmax : bool, default False
        Also return where each maximum was.
    out : ndarray, optional
        Receives y.
    kernel : str, optional
        Forces "backend.algorithm"; None chooses.

    Returns
    -------
    y : ndarray (N, C, OH, OW) or (N, OH, OW, C)
    argmax : ndarray of y's shape, only with `return_argmax`
        int32 (int64 where the plane needs it): flat index into the channel's own unpadded H x W plane.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit; also where some window would hold no input element.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([[[[1, 2, 5, 3], [4, 0, 1, 5]]]], np.float32)
    >>> fc.max_pool2d(x, 2, return_argmax=True)
    (array([[[[4., 5.]]]], dtype=float32), array([[[[4, 2]]]], dtype=int32))
    """
    return max_pool(
        *("max_pool2d", x, window, stride, padding, dilation, ceil_mode, layout, return_argmax, out, kernel)
    )


def max_pool2d_grad(
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    *,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `max_pool2d`: each element of dy is added at its window's argmax.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output, (N, C, OH, OW) or (N, OH, OW, C).
    argmax : integer ndarray of dy's shape
        As returned by `max_pool2d`.
    input_shape : sequence of 4 ints
        Shape of the forward call's x.
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : ndarray, optional
    kernel : str, optional

    Returns
    -------
    ndarray of shape `input_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, an index outside the plane included.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.max_pool2d_grad(np.ones((1, 1, 1, 2)), np.array([[[[4, 2]]]]), (1, 1, 2, 4))[0, 0]
    array([[0., 0., 1., 0.],
           [1., 0., 0., 0.]])
    """
    return max_pool_grad("max_pool2d_grad", dy, argmax, input_shape, layout, out, kernel)


def avg_pool2d(
    x: Array,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Mean of each window.

    Parameters
    ----------
    x, window, stride, padding, ceil_mode, layout, out, kernel
        As in `max_pool2d`.
    count_include_pad : bool, default True
        Divide by the window clipped to the padded input; False: clipped to the input.
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    ndarray (N, C, OH, OW) or (N, OH, OW, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.avg_pool2d(np.arange(8.0).reshape(1, 1, 2, 4), 2)
    array([[[[2.5, 4.5]]]])
    """
    return avg_pool(
        *("avg_pool2d", x, window, stride, padding, ceil_mode, count_include_pad, divisor_override, layout),
        *(out, kernel),
    )


def avg_pool2d_grad(
    dy: Array,
    input_shape: Sequence[int],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `avg_pool2d`.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    input_shape : sequence of 4 ints
        Shape of the forward call's x.
    window and the keywords
        As given to `avg_pool2d`.

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
    >>> fc.avg_pool2d_grad(np.array([[[[4.0, 8.0]]]]), (1, 1, 2, 4), 2)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.]])
    """
    return avg_pool_grad(
        *("avg_pool2d_grad", dy, input_shape, window, stride, padding, ceil_mode, count_include_pad),
        *(divisor_override, layout, out, kernel),
    )


def max_pool(
    op: str,
    x: Array,
    window: PerAxis,
    stride: PerAxis | None,
    padding: PaddingLike,
    dilation: PerAxis,
    ceil_mode: bool,
    layout: str,
    return_argmax: bool,
    out: Array | None,
    kernel: str | None,
) -> Array | tuple[Array, Array]:
    """Max-pooling of any rank; `op` names the caller and carries the rank."""
    x = checked_float(op, "x", x)
    spec, run, threads, _, y_shape = pool_launch(
        *(op, "max_pool", x.shape, window, x.dtype, kernel, settings.current()),
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
        needs_input=True,
    )
    argmax = np.empty(y_shape, spec.argmax_dtype) if parse_flag(op, "return_argmax", return_argmax) else None
    if out is None:
        y = np.empty(y_shape, x.dtype)
    else:
        check_out(op, out, y_shape, x.dtype, x)
        y = writable(out)
    run(spec, contiguous(x), y, argmax, threads)
    y = result(y, out)
    return y if argmax is None else (y, argmax)


def max_pool_grad(
    op: str,
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The routing gradient of any rank: a pooling of window 1 carries its geometry, dy's size aside."""
    dy = checked_float(op, "dy", dy)
    ndim, channels_last = parse_layout(op, layout, input_shape)
    shape = parse_shape(op, "input", input_shape, ndim + 2, layout)
    spec, run, threads, x_shape, _ = pool_launch(
        *(op, "max_pool_grad", shape, 1, dy.dtype, kernel, settings.current()),
        layout=layout,
        name="input",
        out_shape=dy.shape,
    )
    argmax = check_argmax(op, argmax, dy.shape, spec)
    if out is None:
        dx = np.empty(x_shape, dy.dtype)
    else:
        check_out(op, out, x_shape, dy.dtype, dy, argmax)
        dx = writable(out)
    run(spec, contiguous(dy), argmax, dx, threads)
    return result(dx, out)


def avg_pool(
    op: str,
    x: Array,
    window: PerAxis,
    stride: PerAxis | None,
    padding: PaddingLike,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """Average pooling of any rank."""
    x = checked_float(op, "x", x)
    spec, run, threads, _, y_shape = pool_launch(
        *(op, "avg_pool", x.shape, window, x.dtype, kernel, settings.current()),
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        layout=layout,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )
    if out is None:
        y = np.empty(y_shape, x.dtype)
    else:
        check_out(op, out, y_shape, x.dtype, x)
        y = writable(out)
    run(spec, contiguous(x), y, threads)
    return result(y, out)


def avg_pool_grad(
    op: str,
    dy: Array,
    input_shape: Sequence[int],
    window: PerAxis,
    stride: PerAxis | None,
    padding: PaddingLike,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The gradient of average pooling of any rank."""
    dy = checked_float(op, "dy", dy)
    spec, run, threads, x_shape, y_shape = pool_launch(
        *(op, "avg_pool_grad", input_shape, window, dy.dtype, kernel, settings.current()),
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        layout=layout,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        name="input",
    )
    check_shape(op, "dy", dy, y_shape)
    if out is None:
        dx = np.empty(x_shape, dy.dtype)
    else:
        check_out(op, out, x_shape, dy.dtype, dy)
        dx = writable(out)
    run(spec, contiguous(dy), dx, threads)
    return result(dx, out)

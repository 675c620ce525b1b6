"""Global pooling: one value a channel, of any number of spatial axes; and its gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from fastconv.ops.arrays import Array, check_out, check_shape, checked_float, contiguous, result
from fastconv.ops.memory import empty
from fastconv.ops.parse import batch_shape, parse_any_layout, parse_flag, parse_sequence, split_shape
from fastconv.ops.pool import max_pool_grad
from fastconv.ops.spec import PoolSpec, pool_spec
from fastconv.ops.unpool import planes


def global_spec(op: str, shape: Sequence[int], dtype: np.dtype, layout: str | None, name: str) -> PoolSpec:
    """The pooling of the whole plane to one pixel."""
    layout, channels_last = parse_any_layout(op, layout, shape)
    n, c, size = split_shape(tuple(shape), channels_last)
    y_shape = batch_shape(n, c, (1,) * len(size), channels_last)
    return pool_spec(op, shape, 1, dtype, layout=layout, out_shape=y_shape, names=(name, "dy"))


def global_avg_pool(x: Array, *, layout: str | None = None, out: Array | None = None) -> Array:
    """Mean of each channel's whole plane, line or volume.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, *size) with one to three spatial axes, or (N, *size, C) in a channels-last layout.
    layout : {None, "NCW", "NCHW", "NCDHW", "NWC", "NHWC", "NDHWC"}, default None
        None is the channels-first layout of x's number of axes.
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    ndarray (N, C, 1, ...) or (N, 1, ..., C)
        Spatial axes of size 1, as in ONNX's GlobalAveragePool.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2)).ravel()
    array([1.5, 5.5])
    """
    op = "global_avg_pool"
    x = checked_float(op, "x", x)
    spec = global_spec(op, x.shape, x.dtype, layout, "x")
    if out is not None:
        check_out(op, out, spec.y_shape, x.dtype, x)
    total = contiguous(x)
    if spec.channels_last:
        # axis by axis: each sum is short, so that rounding stays small without a wider type
        for axis in reversed(range(1, spec.ndim + 1)):
            total = total.sum(axis, keepdims=True)
    else:
        total = planes(spec, total, spec.size)[0].sum(2)
    return result((total / x.dtype.type(math.prod(spec.size))).reshape(spec.y_shape), out)


def global_avg_pool_grad(
    dy: Array, input_shape: Sequence[int], *, layout: str | None = None, out: Array | None = None
) -> Array:
    """Gradient of `global_avg_pool`: an equal share for every pixel.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output, (N, C, 1, ...) or (N, 1, ..., C).
    input_shape : sequence of ints
        Shape of the forward call's x.
    layout, out
        As in `global_avg_pool`.

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
    >>> fc.global_avg_pool_grad(np.array([[[8.0]]]), (1, 1, 4))
    array([[[2., 2., 2., 2.]]])
    """
    op = "global_avg_pool_grad"
    dy = checked_float(op, "dy", dy)
    shape = parse_sequence(op, "input shape", input_shape, "it must be 3 to 5 integers")
    spec = global_spec(op, shape, dy.dtype, layout, "input")
    check_shape(op, "dy", dy, spec.y_shape)
    dx = empty(spec.x_shape, dy.dtype) if out is None else out
    check_out(op, dx, spec.x_shape, dy.dtype, dy)
    dx[...] = dy / dy.dtype.type(math.prod(spec.size))
    return dx


@overload
def global_max_pool(
    x: Array,
    *,
    layout: str | None = ...,
    return_argmax: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def global_max_pool(
    x: Array,
    *,
    layout: str | None = ...,
    return_argmax: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
def global_max_pool(
    x: Array,
    *,
    layout: str | None = None,
    return_argmax: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """Maximum of each channel's whole plane, line or volume; ties and NaN as in `max_pool2d`.

    Parameters
    ----------
    x, layout, out
        As in `global_avg_pool`.
    return_argmax : bool, default False
        Also return where each maximum was.

    Returns
    -------
    y : ndarray (N, C, 1, ...) or (N, 1, ..., C)
    argmax : ndarray of y's shape, only with `return_argmax`
        As `max_pool2d` returns it.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.global_max_pool(np.array([[[1.0, 4.0, 4.0]]]), return_argmax=True)
    (array([[[4.]]]), array([[[1]]], dtype=int32))
    """
    op = "global_max_pool"
    x = checked_float(op, "x", x)
    spec = global_spec(op, x.shape, x.dtype, layout, "x")
    return_argmax = parse_flag(op, "return_argmax", return_argmax)
    if out is not None:
        check_out(op, out, spec.y_shape, x.dtype, x)
    flat, axis = planes(spec, contiguous(x), spec.size)
    y = flat.max(axis)
    at = last_nan_or_first_max(flat, y, axis) if return_argmax else None
    y = result(y.reshape(spec.y_shape), out)
    return y if at is None else (y, at.astype(spec.argmax_dtype).reshape(spec.y_shape))


def last_nan_or_first_max(flat: Array, y: Array, axis: int) -> Array:
    """The index along `axis` of the maximum y."""
    at = flat.argmax(axis) if flat.size else np.zeros(y.shape, np.intp)
    broken = np.isnan(y)
    if broken.any():
        lines = np.moveaxis(flat, axis, -1)[broken]
        at[broken] = lines.shape[1] - 1 - np.isnan(lines)[:, ::-1].argmax(1)
    return at


def global_max_pool_grad(
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Array:
    """Gradient of `global_max_pool`: each element of dy goes to its channel's argmax.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    argmax : integer ndarray of dy's shape
        As returned by `global_max_pool`.
    input_shape : sequence of ints
        Shape of the forward call's x.
    layout, out
        As in `global_avg_pool`.

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
    >>> fc.global_max_pool_grad(np.array([[[2.0]]]), np.array([[[1]]]), (1, 1, 3))
    array([[[0., 2., 0.]]])
    """
    op = "global_max_pool_grad"
    dy = checked_float(op, "dy", dy)
    shape = parse_sequence(op, "input shape", input_shape, "it must be 3 to 5 integers")
    spec = global_spec(op, shape, dy.dtype, layout, "input")
    check_shape(op, "dy", dy, spec.y_shape)
    return max_pool_grad(op, dy, argmax, spec.x_shape, parse_any_layout(op, layout, shape)[0], out, None)

"""Max-unpooling: values put back where max-pooling found them; and its gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.ops.arrays import Array, check_argmax, check_out, checked_float, contiguous, result, writable
from fastconv.ops.parse import Size
from fastconv.ops.spec import PoolSpec, pool_spec


def planes(spec: PoolSpec, a: Array, size: Size) -> tuple[Array, int]:
    """View an activation with its spatial axes as one, and that axis."""
    pixels = int(np.prod(size))
    if spec.channels_last:
        return a.reshape(spec.n, pixels, spec.c), 1
    return a.reshape(spec.n, spec.c, pixels), 2


def max_unpool(
    op: str, y: Array, argmax: Array, output_shape: Sequence[int], layout: str, out: Array | None
) -> Array:
    """Zeros with every element of y at its argmax; of several at one place, the last stays."""
    y = checked_float(op, "y", y)
    spec = pool_spec(op, output_shape, 1, y.dtype, layout=layout, out_shape=y.shape, names=("output", "y"))
    argmax = check_argmax(op, argmax, y.shape, spec)
    if out is None:
        dx = np.zeros(spec.x_shape, y.dtype)
    else:
        check_out(op, out, spec.x_shape, y.dtype, y, argmax)
        dx = writable(out)
        dx[...] = 0
    target, axis = planes(spec, dx, spec.size)
    at, _ = planes(spec, argmax, spec.out_size)
    np.put_along_axis(target, at, planes(spec, contiguous(y), spec.out_size)[0], axis)
    return result(dx, out)


def max_unpool_grad(op: str, dx: Array, argmax: Array, layout: str, out: Array | None) -> Array:
    """The elements of dx at the argmax."""
    dx = checked_float(op, "dx", dx)
    shape = argmax.shape if isinstance(argmax, np.ndarray) else dx.shape
    spec = pool_spec(op, dx.shape, 1, dx.dtype, layout=layout, out_shape=shape, names=("dx", "argmax"))
    argmax = check_argmax(op, argmax, shape, spec)
    if out is not None:
        check_out(op, out, spec.y_shape, dx.dtype, dx, argmax)
    given, axis = planes(spec, contiguous(dx), spec.size)
    at, _ = planes(spec, argmax, spec.out_size)
    return result(np.take_along_axis(given, at, axis).reshape(spec.y_shape), out)


def max_unpool2d(
    y: Array,
    argmax: Array,
    output_shape: Sequence[int],
    *,
    layout: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """Put every element of y at its argmax in an array of zeros: a partial inverse of `max_pool2d`.

    Where overlapping windows share a maximum its value is written once (`max_pool2d_grad` adds instead); of
    several different values at one place the last in memory order stays.

    Parameters
    ----------
    y : ndarray, float32 or float64
        (N, C, H, W), or (N, H, W, C) in layout "NHWC": usually a max-pooling's output.
    argmax : integer ndarray of y's shape
        As returned by `max_pool2d`.
    output_shape : sequence of 4 ints
        Shape of the result, batch and channels included: usually that of the max-pooling's input.
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    ndarray of shape `output_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> y, argmax = np.array([5.0, 7.0]).reshape(1, 1, 1, 2), np.array([1, 2]).reshape(1, 1, 1, 2)
    >>> fc.max_unpool2d(y, argmax, (1, 1, 1, 4)).ravel()
    array([0., 5., 7., 0.])
    """
    return max_unpool("max_unpool2d", y, argmax, output_shape, layout, out)


def max_unpool2d_grad(dx: Array, argmax: Array, *, layout: str = "NCHW", out: Array | None = None) -> Array:
    """Gradient of `max_unpool2d` with respect to y: the elements of dx at the argmax.

    Parameters
    ----------
    dx : ndarray, float32 or float64
        Gradient of the result of `max_unpool2d`.
    argmax : integer ndarray
        As given to it.
    layout, out
        As in `max_unpool2d`.

    Returns
    -------
    ndarray of argmax's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.max_unpool2d_grad(np.arange(4.0).reshape(1, 1, 1, 4), np.array([1, 2]).reshape(1, 1, 1, 2)).ravel()
    array([1., 2.])
    """
    return max_unpool_grad("max_unpool2d_grad", dx, argmax, layout, out)


def max_unpool1d(
    y: Array,
    argmax: Array,
    output_shape: Sequence[int],
    *,
    layout: str = "NCW",
    out: Array | None = None,
) -> Array:
    """Put every element of y at its argmax in an array of zeros: `max_unpool2d` over one axis.

    Parameters
    ----------
    y : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    argmax : integer ndarray of y's shape
    output_shape : sequence of 3 ints
    layout, out
        As in `max_unpool2d`.

    Returns
    -------
    ndarray of shape `output_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> y, argmax = np.array([5.0, 7.0]).reshape(1, 1, 2), np.array([1, 2]).reshape(1, 1, 2)
    >>> fc.max_unpool1d(y, argmax, (1, 1, 4)).ravel()
    array([0., 5., 7., 0.])
    """
    return max_unpool("max_unpool1d", y, argmax, output_shape, layout, out)


def max_unpool1d_grad(dx: Array, argmax: Array, *, layout: str = "NCW", out: Array | None = None) -> Array:
    """Gradient of `max_unpool1d` with respect to y: the elements of dx at the argmax.

    Parameters
    ----------
    dx : ndarray, float32 or float64
        Gradient of the result of `max_unpool1d`.
    argmax : integer ndarray
        As given to it.
    layout, out
        As in `max_unpool1d`.

    Returns
    -------
    ndarray of argmax's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.max_unpool1d_grad(np.arange(4.0).reshape(1, 1, 4), np.array([1, 2]).reshape(1, 1, 2)).ravel()
    array([1., 2.])
    """
    return max_unpool_grad("max_unpool1d_grad", dx, argmax, layout, out)


def max_unpool3d(
    y: Array,
    argmax: Array,
    output_shape: Sequence[int],
    *,
    layout: str = "NCDHW",
    out: Array | None = None,
) -> Array:
    """Put every element of y at its argmax in an array of zeros: `max_unpool2d` over three axes.

    Parameters
    ----------
    y : ndarray, float32 or float64
        (N, C, D, H, W), or (N, D, H, W, C) in layout "NDHWC".
    argmax : integer ndarray of y's shape
    output_shape : sequence of 5 ints
    layout, out
        As in `max_unpool2d`.

    Returns
    -------
    ndarray of shape `output_shape`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> y, argmax = np.array([5.0, 7.0]).reshape(1, 1, 1, 1, 2), np.array([1, 2]).reshape(1, 1, 1, 1, 2)
    >>> fc.max_unpool3d(y, argmax, (1, 1, 1, 1, 4)).ravel()
    array([0., 5., 7., 0.])
    """
    return max_unpool("max_unpool3d", y, argmax, output_shape, layout, out)


def max_unpool3d_grad(dx: Array, argmax: Array, *, layout: str = "NCDHW", out: Array | None = None) -> Array:
    """Gradient of `max_unpool3d` with respect to y: the elements of dx at the argmax.

    Parameters
    ----------
    dx : ndarray, float32 or float64
        Gradient of the result of `max_unpool3d`.
    argmax : integer ndarray
        As given to it.
    layout, out
        As in `max_unpool3d`.

    Returns
    -------
    ndarray of argmax's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> dx, argmax = np.arange(4.0).reshape(1, 1, 1, 1, 4), np.array([1, 2]).reshape(1, 1, 1, 1, 2)
    >>> fc.max_unpool3d_grad(dx, argmax).ravel()
    array([1., 2.])
    """
    return max_unpool_grad("max_unpool3d_grad", dx, argmax, layout, out)

"""Adaptive max-pooling: the output's size is given, the windows follow; and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.adaptive import adaptive_max
from fastconv.ops.arrays import Array
from fastconv.ops.parse import PerAxis
from fastconv.ops.pool import max_pool_grad


@overload
def adaptive_max_pool2d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = ...,
    return_argmax: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool2d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = ...,
    return_argmax: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
def adaptive_max_pool2d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = "NCHW",
    return_argmax: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """Maxima of windows that divide each axis as evenly as integers allow.

    The windows are those of `adaptive_avg_pool2d`; ties and NaN are as in `max_pool2d`.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, H, W), or (N, H, W, C) in layout "NHWC".
    output_size : int or (int, int)
        Size of the output; None on an axis keeps the input's.
    layout : {"NCHW", "NHWC"}, default "NCHW"
    return_argmax : bool, default False
        Also return where each maximum was.
    out : ndarray, optional
        Receives y.

    Returns
    -------
    y : ndarray (N, C, *output_size) or (N, *output_size, C)
    argmax : ndarray of y's shape, only with `return_argmax`
        As `max_pool2d` returns it.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> y, argmax = fc.adaptive_max_pool2d(np.arange(3.0).reshape(1, 1, 1, 3), (1, 2), return_argmax=True)
    >>> y.ravel(), argmax.ravel()
    (array([1., 2.]), array([1, 2], dtype=int32))
    """
    return adaptive_max("adaptive_max_pool2d", x, output_size, layout, return_argmax, out)


def adaptive_max_pool2d_grad(
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    *,
    layout: str = "NCHW",
    out: Array | None = None,
) -> Array:
    """Gradient of `adaptive_max_pool2d`: each element of dy is added at its window's argmax.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    argmax : integer ndarray of dy's shape
        As returned by `adaptive_max_pool2d`.
    input_shape : sequence of 4 ints
        Shape of the forward call's x.
    layout, out
        As in `adaptive_max_pool2d`.

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
    >>> argmax = np.array([1, 2]).reshape(1, 1, 1, 2)
    >>> fc.adaptive_max_pool2d_grad(np.ones((1, 1, 1, 2)), argmax, (1, 1, 1, 3)).ravel()
    array([0., 1., 1.])
    """
    return max_pool_grad("adaptive_max_pool2d_grad", dy, argmax, input_shape, layout, out, None)


@overload
def adaptive_max_pool1d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = ...,
    return_argmax: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool1d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = ...,
    return_argmax: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
def adaptive_max_pool1d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = "NCW",
    return_argmax: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """Maxima of adaptive windows: `adaptive_max_pool2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    output_size, layout, return_argmax, out
        As in `adaptive_max_pool2d`.

    Returns
    -------
    y : ndarray (N, C, *output_size) or (N, *output_size, C)
    argmax : ndarray of y's shape, only with `return_argmax`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> y, argmax = fc.adaptive_max_pool1d(np.arange(3.0).reshape(1, 1, 3), 2, return_argmax=True)
    >>> y.ravel(), argmax.ravel()
    (array([1., 2.]), array([1, 2], dtype=int32))
    """
    return adaptive_max("adaptive_max_pool1d", x, output_size, layout, return_argmax, out)


def adaptive_max_pool1d_grad(
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    *,
    layout: str = "NCW",
    out: Array | None = None,
) -> Array:
    """Gradient of `adaptive_max_pool1d`: each element of dy is added at its window's argmax.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    argmax : integer ndarray of dy's shape
        As returned by `adaptive_max_pool1d`.
    input_shape : sequence of 3 ints
        Shape of the forward call's x.
    layout, out
        As in `adaptive_max_pool1d`.

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
    >>> argmax = np.array([1, 2]).reshape(1, 1, 2)
    >>> fc.adaptive_max_pool1d_grad(np.ones((1, 1, 2)), argmax, (1, 1, 3)).ravel()
    array([0., 1., 1.])
    """
    return max_pool_grad("adaptive_max_pool1d_grad", dy, argmax, input_shape, layout, out, None)


@overload
def adaptive_max_pool3d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = ...,
    return_argmax: Literal[False] = ...,
    out: Array | None = ...,
) -> Array: ...
@overload
def adaptive_max_pool3d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = ...,
    return_argmax: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, Array]: ...
def adaptive_max_pool3d(
    x: Array,
    output_size: PerAxis,
    *,
    layout: str = "NCDHW",
    return_argmax: bool = False,
    out: Array | None = None,
) -> Array | tuple[Array, Array]:
    """Maxima of adaptive windows: `adaptive_max_pool2d` over three axes.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, D, H, W), or (N, D, H, W, C) in layout "NDHWC".
    output_size, layout, return_argmax, out
        As in `adaptive_max_pool2d`.

    Returns
    -------
    y : ndarray (N, C, *output_size) or (N, *output_size, C)
    argmax : ndarray of y's shape, only with `return_argmax`

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.arange(3.0).reshape(1, 1, 1, 1, 3)
    >>> y, argmax = fc.adaptive_max_pool3d(x, (1, 1, 2), return_argmax=True)
    >>> y.ravel(), argmax.ravel()
    (array([1., 2.]), array([1, 2], dtype=int32))
    """
    return adaptive_max("adaptive_max_pool3d", x, output_size, layout, return_argmax, out)


def adaptive_max_pool3d_grad(
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    *,
    layout: str = "NCDHW",
    out: Array | None = None,
) -> Array:
    """Gradient of `adaptive_max_pool3d`: each element of dy is added at its window's argmax.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    argmax : integer ndarray of dy's shape
        As returned by `adaptive_max_pool3d`.
    input_shape : sequence of 5 ints
        Shape of the forward call's x.
    layout, out
        As in `adaptive_max_pool3d`.

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
    >>> argmax = np.array([1, 2]).reshape(1, 1, 1, 1, 2)
    >>> fc.adaptive_max_pool3d_grad(np.ones((1, 1, 1, 1, 2)), argmax, (1, 1, 1, 1, 3)).ravel()
    array([0., 1., 1.])
    """
    return max_pool_grad("adaptive_max_pool3d_grad", dy, argmax, input_shape, layout, out, None)

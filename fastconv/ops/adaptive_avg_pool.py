"""Adaptive average pooling: the output's size is given, the windows follow; and its gradient."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv.ops.adaptive import adaptive_avg, adaptive_avg_grad
from fastconv.ops.arrays import Array
from fastconv.ops.parse import PerAxis


def adaptive_avg_pool2d(
    x: Array, output_size: PerAxis, *, layout: str = "NCHW", out: Array | None = None
) -> Array:
    """Means of windows that divide each axis as evenly as integers allow.

    Output o of O is the mean of the inputs from floor(o*I/O) to ceil((o+1)*I/O), as in PyTorch; windows
    overlap where O does not divide I.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, H, W), or (N, H, W, C) in layout "NHWC".
    output_size : int or (int, int)
        Size of the output; None on an axis keeps the input's.
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    ndarray (N, C, *output_size) or (N, *output_size, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.adaptive_avg_pool2d(np.arange(3.0).reshape(1, 1, 1, 3), (1, 2)).ravel()
    array([0.5, 1.5])
    """
    return adaptive_avg("adaptive_avg_pool2d", x, output_size, layout, out)


def adaptive_avg_pool2d_grad(
    dy: Array, input_shape: Sequence[int], *, layout: str = "NCHW", out: Array | None = None
) -> Array:
    """Gradient of `adaptive_avg_pool2d`; the output's size is dy's.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    input_shape : sequence of 4 ints
        Shape of the forward call's x.
    layout, out
        As in `adaptive_avg_pool2d`.

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
    >>> fc.adaptive_avg_pool2d_grad(np.ones((1, 1, 1, 2)), (1, 1, 1, 3)).ravel()
    array([0.5, 1. , 0.5])
    """
    return adaptive_avg_grad("adaptive_avg_pool2d_grad", dy, input_shape, layout, out)


def adaptive_avg_pool1d(
    x: Array, output_size: PerAxis, *, layout: str = "NCW", out: Array | None = None
) -> Array:
    """Means of adaptive windows: `adaptive_avg_pool2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    output_size, layout, out
        As in `adaptive_avg_pool2d`.

    Returns
    -------
    ndarray (N, C, *output_size) or (N, *output_size, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.adaptive_avg_pool1d(np.arange(3.0).reshape(1, 1, 3), 2).ravel()
    array([0.5, 1.5])
    """
    return adaptive_avg("adaptive_avg_pool1d", x, output_size, layout, out)


def adaptive_avg_pool1d_grad(
    dy: Array, input_shape: Sequence[int], *, layout: str = "NCW", out: Array | None = None
) -> Array:
    """Gradient of `adaptive_avg_pool1d`; the output's size is dy's.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    input_shape : sequence of 3 ints
        Shape of the forward call's x.
    layout, out
        As in `adaptive_avg_pool1d`.

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
    >>> fc.adaptive_avg_pool1d_grad(np.ones((1, 1, 2)), (1, 1, 3)).ravel()
    array([0.5, 1. , 0.5])
    """
    return adaptive_avg_grad("adaptive_avg_pool1d_grad", dy, input_shape, layout, out)


def adaptive_avg_pool3d(
    x: Array, output_size: PerAxis, *, layout: str = "NCDHW", out: Array | None = None
) -> Array:
    """Means of adaptive windows: `adaptive_avg_pool2d` over three axes.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, D, H, W), or (N, D, H, W, C) in layout "NDHWC".
    output_size, layout, out
        As in `adaptive_avg_pool2d`.

    Returns
    -------
    ndarray (N, C, *output_size) or (N, *output_size, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.adaptive_avg_pool3d(np.arange(3.0).reshape(1, 1, 1, 1, 3), (1, 1, 2)).ravel()
    array([0.5, 1.5])
    """
    return adaptive_avg("adaptive_avg_pool3d", x, output_size, layout, out)


def adaptive_avg_pool3d_grad(
    dy: Array, input_shape: Sequence[int], *, layout: str = "NCDHW", out: Array | None = None
) -> Array:
    """Gradient of `adaptive_avg_pool3d`; the output's size is dy's.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the output.
    input_shape : sequence of 5 ints
        Shape of the forward call's x.
    layout, out
        As in `adaptive_avg_pool3d`.

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
    >>> fc.adaptive_avg_pool3d_grad(np.ones((1, 1, 1, 1, 2)), (1, 1, 1, 1, 3)).ravel()
    array([0.5, 1. , 0.5])
    """
    return adaptive_avg_grad("adaptive_avg_pool3d_grad", dy, input_shape, layout, out)

"""Lp pooling, the p-norm of each window, and its gradient."""

from __future__ import annotations

from fastconv.ops.arrays import Array
from fastconv.ops.lp import lp_backward, lp_forward
from fastconv.ops.parse import PaddingLike, PerAxis


def lp_pool2d(
    x: Array,
    window: PerAxis,
    p: float,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """The p-norm of each window, (sum of x**p) ** (1/p).

    As in PyTorch the sum is of x**p, not of |x|**p: an odd or fractional p suits inputs that are not
    negative, and gives NaN where the sum, or a fractional power of x, is not real. Also as there, a window
    that `ceil_mode` clips counts as if its missing elements were the mean of those it has.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, H, W), or (N, H, W, C) in layout "NHWC".
    window : int or (int, int)
    p : float
        The exponent, positive; infinity gives the largest magnitude.
    stride : int or (int, int), optional
        Default: the window.
    padding : as in `conv2d`, default 0
        Zeros, which add nothing to a sum.
    dilation : int or (int, int), default 1
    ceil_mode : bool, default False
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : ndarray, optional
        Receives the result.
    kernel : str, optional
        Forces "backend.algorithm", which must have the avg_pool pass; None chooses.

    Returns
    -------
    ndarray (N, C, OH, OW) or (N, OH, OW, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.lp_pool2d(np.array([3.0, 4.0]).reshape(1, 1, 1, 2), (1, 2), 2).ravel()
    array([5.])
    """
    return lp_forward("lp_pool2d", x, window, p, stride, padding, dilation, ceil_mode, layout, out, kernel)


def lp_pool2d_grad(
    dy: Array,
    x: Array,
    y: Array,
    window: PerAxis,
    p: float,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `lp_pool2d`, from its input and output; zero where a window's norm is zero.

    Parameters
    ----------
    dy, x, y : ndarray, float32 or float64
        Gradient of the output, and the forward call's input and output.
    window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
        As given to `lp_pool2d`.

    Returns
    -------
    ndarray of x's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, y = np.array([3.0, 4.0]).reshape(1, 1, 1, 2), np.array([5.0]).reshape(1, 1, 1, 1)
    >>> fc.lp_pool2d_grad(np.ones_like(y), x, y, (1, 2), 2).ravel()
    array([0.6, 0.8])
    """
    return lp_backward(
        "lp_pool2d_grad", dy, x, y, window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
    )


def lp_pool1d(
    x: Array,
    window: PerAxis,
    p: float,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """The p-norm of each window: `lp_pool2d` over one axis.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, W), or (N, W, C) in layout "NWC".
    window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
        As in `lp_pool2d`.

    Returns
    -------
    ndarray (N, C, W) or (N, W, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.lp_pool1d(np.array([3.0, 4.0]).reshape(1, 1, 2), 2, 2).ravel()
    array([5.])
    """
    return lp_forward("lp_pool1d", x, window, p, stride, padding, dilation, ceil_mode, layout, out, kernel)


def lp_pool1d_grad(
    dy: Array,
    x: Array,
    y: Array,
    window: PerAxis,
    p: float,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `lp_pool1d`, from its input and output; zero where a window's norm is zero.

    Parameters
    ----------
    dy, x, y : ndarray, float32 or float64
        Gradient of the output, and the forward call's input and output.
    window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
        As given to `lp_pool1d`.

    Returns
    -------
    ndarray of x's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, y = np.array([3.0, 4.0]).reshape(1, 1, 2), np.array([5.0]).reshape(1, 1, 1)
    >>> fc.lp_pool1d_grad(np.ones_like(y), x, y, 2, 2).ravel()
    array([0.6, 0.8])
    """
    return lp_backward(
        "lp_pool1d_grad", dy, x, y, window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
    )


def lp_pool3d(
    x: Array,
    window: PerAxis,
    p: float,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCDHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """The p-norm of each window: `lp_pool2d` over three axes.

    Parameters
    ----------
    x : ndarray, float32 or float64
        (N, C, D, H, W), or (N, D, H, W, C) in layout "NDHWC".
    window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
        As in `lp_pool2d`.

    Returns
    -------
    ndarray (N, C, D, H, W) or (N, D, H, W, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.lp_pool3d(np.array([3.0, 4.0]).reshape(1, 1, 1, 1, 2), (1, 1, 2), 2).ravel()
    array([5.])
    """
    return lp_forward("lp_pool3d", x, window, p, stride, padding, dilation, ceil_mode, layout, out, kernel)


def lp_pool3d_grad(
    dy: Array,
    x: Array,
    y: Array,
    window: PerAxis,
    p: float,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCDHW",
    out: Array | None = None,
    kernel: str | None = None,
) -> Array:
    """Gradient of `lp_pool3d`, from its input and output; zero where a window's norm is zero.

    Parameters
    ----------
    dy, x, y : ndarray, float32 or float64
        Gradient of the output, and the forward call's input and output.
    window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
        As given to `lp_pool3d`.

    Returns
    -------
    ndarray of x's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, before any work.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, y = np.array([3.0, 4.0]).reshape(1, 1, 1, 1, 2), np.array([5.0]).reshape(1, 1, 1, 1, 1)
    >>> fc.lp_pool3d_grad(np.ones_like(y), x, y, (1, 1, 2), 2).ravel()
    array([0.6, 0.8])
    """
    return lp_backward(
        "lp_pool3d_grad", dy, x, y, window, p, stride, padding, dilation, ceil_mode, layout, out, kernel
    )

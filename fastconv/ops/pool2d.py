"""Max- and average pooling of images, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from fastconv.ops.arrays import Array
from fastconv.ops.parse import PaddingLike, PerAxis
from fastconv.ops.pool import avg_pool, avg_pool_grad, max_pool, max_pool_grad


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
        "max_pool2d", x, window, stride, padding, dilation, ceil_mode, layout, return_argmax, out, kernel
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
        Divide by this instead: any integer but 0.

    Returns
    -------
    ndarray (N, C, OH, OW) or (N, OH, OW, C)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit; without `count_include_pad` also where some window would hold no
        input element.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.avg_pool2d(np.arange(8.0).reshape(1, 1, 2, 4), 2)
    array([[[[2.5, 4.5]]]])
    """
    return avg_pool(
        "avg_pool2d",
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
        "avg_pool2d_grad",
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

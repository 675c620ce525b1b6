"""autograd (HIPS): convolution and max-pooling with gradients of every order; `signal.convolve` on fastconv.

`conv2d`, its two gradients and `max_pool2d` are autograd primitives whose vector-Jacobian products are again
these primitives. `install` replaces `autograd.scipy.signal.convolve`; names imported from that module before
`install` keep the host's function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, Patch, require
from fastconv.ops.arrays import Array
from fastconv.ops.parse import PaddingLike, PerAxis

require(HOSTS["autograd"])
import autograd.numpy as anp  # noqa: E402
import autograd.scipy.signal as signal  # noqa: E402
from autograd.extend import defvjp, primitive  # noqa: E402
from autograd.tracer import getval  # noqa: E402

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def conv2d(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    kernel: str | None = None,
) -> Any:
    """`fastconv.conv2d` that autograd differentiates, by x, w and bias, any number of times.

    Parameters
    ----------
    x, w, bias : ndarray or traced array, float32 or float64
    stride, padding, dilation, groups, padding_mode, layout, kernel
        As in `fastconv.conv2d`.

    Returns
    -------
    ndarray or traced array (N, K, OH, OW) or (N, OH, OW, K)

    Raises
    ------
    ValueError, TypeError
        As `fastconv.conv2d`.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fastconv.adapters.autograd import conv2d
    >>> x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    >>> grad(lambda w: np.sum(conv2d(x, w) ** 2))(w)[0, 0]
    array([[32., 32.],
           [32., 32.]])
    """
    geometry = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    y = _conv2d(x, w, **geometry, padding_mode=padding_mode, layout=layout, kernel=kernel)
    if bias is None:
        return y
    # (K,) -> (K, 1, 1) over (N, K, OH, OW); a broadcast sum has autograd's own vjps
    return y + (anp.reshape(bias, (-1, 1, 1)) if layout == "NCHW" else bias)


def max_pool2d(
    x: Any,
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str = "NCHW",
    kernel: str | None = None,
) -> Any:
    """`fastconv.max_pool2d` that autograd differentiates, any number of times.

    Parameters
    ----------
    x : ndarray or traced array, float32 or float64
    window, stride, padding, dilation, ceil_mode, layout, kernel
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray or traced array (N, C, OH, OW) or (N, OH, OW, C)

    Raises
    ------
    ValueError, TypeError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import autograd.numpy as np
    >>> from autograd import grad
    >>> from fastconv.adapters.autograd import max_pool2d
    >>> x = np.array([[[[1.0, 2.0, 5.0, 3.0], [4.0, 0.0, 1.0, 5.0]]]])
    >>> grad(lambda x: np.sum(max_pool2d(x, 2) ** 2))(x)[0, 0]
    array([[ 0.,  0., 10.,  0.],
           [ 8.,  0.,  0.,  0.]])
    """
    y, argmax = fc.max_pool2d(
        getval(x),
        window,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
        return_argmax=True,
        kernel=kernel,
    )
    return _taken(x, y, argmax, layout=layout)


@primitive
def _conv2d(x: Array, w: Array, **options: Any) -> Array:
    return fc.conv2d(x, w, **options)


@primitive
def conv2d_input_grad(dy: Array, w: Array, input_shape: Sequence[int], **options: Any) -> Array:
    """`fastconv.conv2d_input_grad` that autograd differentiates by dy and w."""
    return fc.conv2d_input_grad(dy, w, input_shape, **options)


@primitive
def conv2d_filter_grad(x: Array, dy: Array, filter_shape: Sequence[int], **options: Any) -> Array:
    """`fastconv.conv2d_filter_grad` (without `bias_grad`) that autograd differentiates by x and dy."""
    return fc.conv2d_filter_grad(x, dy, filter_shape, **options)


@primitive
def _taken(x: Array, y: Array, argmax: Array, layout: str) -> Array:
    """x at argmax. That is y, which max-pooling has already computed."""
    return y


@primitive
def _gathered(dx: Array, argmax: Array, layout: str) -> Array:
    return fc.max_unpool2d_grad(dx, argmax, layout=layout)


@primitive
def _scattered(dy: Array, argmax: Array, input_shape: Sequence[int], layout: str) -> Array:
    return fc.max_pool2d_grad(dy, argmax, input_shape, layout=layout)


# Each product is bilinear, so its vjps are the other two: docs/semantics.md, "Double backward".
defvjp(
    _conv2d,
    lambda y, x, w, **o: lambda dy: conv2d_input_grad(dy, w, x.shape, **o),
    lambda y, x, w, **o: lambda dy: conv2d_filter_grad(x, dy, w.shape, **o),
)
defvjp(
    conv2d_input_grad,
    lambda dx, dy, w, input_shape, **o: lambda ddx: _conv2d(ddx, w, **o),
    lambda dx, dy, w, input_shape, **o: lambda ddx: conv2d_filter_grad(ddx, dy, w.shape, **o),
)
defvjp(
    conv2d_filter_grad,
    lambda dw, x, dy, filter_shape, **o: lambda ddw: conv2d_input_grad(dy, ddw, x.shape, **o),
    lambda dw, x, dy, filter_shape, **o: lambda ddw: _conv2d(x, ddw, **o),
)
defvjp(
    _taken, lambda y, x, _, argmax, layout: lambda dy: _scattered(dy, argmax, x.shape, layout), argnums=[0]
)
defvjp(_gathered, lambda dy, dx, argmax, layout: lambda ddy: _scattered(ddy, argmax, dx.shape, layout))
defvjp(_scattered, lambda dx, dy, argmax, shape, layout: lambda ddx: _gathered(ddx, argmax, layout))


class Operand(NamedTuple):
    """An operand of `convolve` with its axes in the order (free, dotted, convolved)."""

    a: Array
    free: tuple[int, ...]
    dotted: tuple[int, ...]
    convolved: tuple[int, ...]

    def merged(self) -> Array:
        """(rows, channels, *convolved): one axis for the free ones, one for the dotted ones."""
        return self.a.reshape(math.prod(self.free), math.prod(self.dotted), *self.convolved)


def _operand(a: Array, convolved: Sequence[int], dotted: Sequence[int]) -> Operand:
    free = [axis for axis in range(a.ndim) if axis not in (*convolved, *dotted)]
    groups = (free, dotted, convolved)
    sizes = [tuple(a.shape[axis] for axis in axes) for axes in groups]
    return Operand(a.transpose([axis for axes in groups for axis in axes]), *sizes)


def _true_convolution(a: Operand, b: Operand, mode: str) -> Array:
    """(free of a, free of b, *convolved): the product with b flipped, as `convolve` returns it."""
    swap = mode != "same" and math.prod(b.convolved) > math.prod(a.convolved)
    image, filters = (b, a) if swap else (a, b)
    x, w = image.merged(), filters.merged()
    spatial = tuple(range(2, x.ndim))
    padding = tuple(_padding(r, mode) for r in filters.convolved)
    out = tuple(
        i + before + after - r + 1
        for i, r, (before, after) in zip(image.convolved, filters.convolved, padding, strict=True)
    )
    if math.prod(out) < math.prod(filters.convolved):
        # A window larger than its output: the gradient of a filter of the output's size, from the dotted axis
        # as the batch and w as dy -> (K, C, *out). The host's vjp has flipped x: flip that back, not dy
        x, w = np.flip(x.swapaxes(0, 1), spatial), w.swapaxes(0, 1)
        padding = tuple((after, before) for before, after in padding)
        filter_grad = getattr(fc, f"conv{len(out)}d_filter_grad")
        y = filter_grad(x, w, (w.shape[1], x.shape[1], *out), padding=padding)
        y = np.flip(y, spatial).swapaxes(0, 1)
    else:
        y = getattr(fc, f"conv{len(out)}d")(x, np.flip(w, spatial), padding=padding)
    y = y.swapaxes(0, 1) if swap else y
    return y.reshape(a.free + b.free + out)


def _padding(r: int, mode: str) -> tuple[int, int]:
    """Pixels before and after an axis, for a filter of r."""
    after = {"valid": 0, "full": r - 1, "same": (r - 1) // 2}[mode]
    return (r - 1 - after if mode == "same" else after), after


def _operands(A: Any, B: Any, axes: Any, dot_axes: Any, mode: str) -> tuple[Operand, Operand] | None:
    """Both operands, or None for what stays with the host: other dtypes and ranks, and its errors."""
    if not (isinstance(A, np.ndarray) and isinstance(B, np.ndarray)):
        return None
    dtype = np.result_type(A, B)  # einsum's, in the host
    axes = [range(A.ndim)] * 2 if axes is None else axes
    listed = [axis for both in (axes, dot_axes) for side in both for axis in side]
    if dtype not in FLOATS or len(axes[0]) != len(axes[1]) or min(listed, default=0) < 0:
        return None
    a = _operand(A.astype(dtype, copy=False), axes[0], dot_axes[0])
    b = _operand(B.astype(dtype, copy=False), axes[1], dot_axes[1])
    return (a, b) if _supported(a, b, mode) else None


def _supported(a: Operand, b: Operand, mode: str) -> bool:
    pairs = list(zip(a.convolved, b.convolved, strict=True))
    return (
        mode in ("full", "valid", "same")
        and len(pairs) in (1, 2, 3)
        and a.dotted == b.dotted
        and 0 not in (*a.a.shape, *b.a.shape)
        and (mode != "valid" or all(i >= r for i, r in pairs) or all(i <= r for i, r in pairs))
    )


def _convolve(original: Callable[..., Any]) -> Callable[..., Any]:
    """autograd's `convolve` on fastconv."""

    @primitive  # type: ignore[untyped-decorator]
    def convolve(A: Any, B: Any, axes: Any = None, dot_axes: Any = ((), ()), mode: str = "full") -> Any:
        operands = _operands(A, B, axes, dot_axes, mode)
        if operands is None:
            return original(A, B, axes=axes, dot_axes=dot_axes, mode=mode)
        return _true_convolution(*operands, mode)

    # the host's vjps are convolutions themselves and look this name up in their module
    defvjp(convolve, partial(signal.grad_convolve, 0), partial(signal.grad_convolve, 1))
    return wraps(original)(convolve)


_adapter = Adapter(HOSTS["autograd"], lambda: [Patch(signal, "convolve", _convolve)])
install, uninstall, installed = _adapter.install, _adapter.uninstall, _adapter.installed

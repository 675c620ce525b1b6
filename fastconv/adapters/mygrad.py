"""MyGrad's `conv_nd` and `max_pool`, with their gradients, on fastconv.

    import fastconv.adapters.mygrad as adapter
    adapter.install()

Other dtypes than float32 and float64, operands of different dtypes and more than three convolved axes run on
MyGrad's own code, as does every argument that MyGrad refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, Patch, by_rank, or_else, require
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem

require(HOSTS["mygrad"])

from mygrad.nnet.layers.conv import ConvND  # noqa: E402
from mygrad.nnet.layers.pooling import MaxPoolND  # noqa: E402


def conv_forward(op: Any, x: Any, w: Any, *, stride: Any, padding: Any = 0, dilation: Any = 1) -> Array:
    """``ConvND.__call__``: x (N, C, ...) and w (K, C, ...) -> (N, K, ...)."""
    rank = x.data.ndim - 2
    stride, padding, dilation = (per_axis(value, rank) for value in (stride, padding, dilation))
    span = [(f - 1) * d + 1 for f, d in zip(w.data.shape[2:], dilation, strict=True)]
    check_whole([i + 2 * p for i, p in zip(x.data.shape[2:], padding, strict=True)], span, stride)
    function = by_rank("conv{}d", rank)
    y: Array = function(x.data, w.data, stride=stride, padding=padding, dilation=dilation)
    op.variables = (x, w)
    op.stride, op.padding, op.dilation = map(np.array, (stride, padding, dilation))
    return y


def conv_backward(op: Any, grad: Array, index: int, **options: Any) -> Array:
    """``ConvND.backward_var``: the gradient of x (index 0) or of w (index 1)."""
    x, w = (variable.data for variable in op.variables)
    geometry = {name: tuple(getattr(op, name).tolist()) for name in ("stride", "padding", "dilation")}
    grad = grad.astype(x.dtype, copy=False)  # MyGrad casts the result to the variable's dtype in any case
    if index == 0:
        dx: Array = by_rank("conv{}d_input_grad", x.ndim - 2)(grad, w, x.shape, **geometry)
        return dx
    dw: Array = by_rank("conv{}d_filter_grad", x.ndim - 2)(x, grad, w.shape, **geometry)
    return dw


def pool_forward(op: Any, x: Any, pool: Any, stride: Any) -> Array:
    """``MaxPoolND.__call__``: pools the last ``len(pool)`` axes."""
    if not isinstance(pool, tuple | list | np.ndarray):
        raise UnsupportedProblem(f"max_pool: pool is {pool!r}")
    rank = len(pool)
    pool, stride = per_axis(pool, rank), per_axis(stride, rank)
    check_whole(x.data.shape[x.data.ndim - rank :], pool, stride)
    y: Array = by_rank("max_pool{}d", rank)(planes(x.data, rank), pool, stride=stride)
    op.variables = (x,)
    op.pool, op.stride = np.array(pool), np.array(stride)
    return y.reshape(x.data.shape[: x.data.ndim - rank] + y.shape[2:])


def pool_backward(op: Any, grad: Array, index: int, **options: Any) -> Array:
    """``MaxPoolND.backward_var``: every gradient goes to the first maximum of its window."""
    x, rank = op.variables[index].data, len(op.pool)
    images = planes(x, rank)
    pool, pool_grad = by_rank("max_pool{}d", rank), by_rank("max_pool{}d_grad", rank)
    window, stride = tuple(op.pool.tolist()), tuple(op.stride.tolist())
    y, argmax = pool(images, window, stride=stride, return_argmax=True)
    if np.isnan(y.max(initial=0)):
        raise UnsupportedProblem(
            "max_pool: of several NaN in a window MyGrad takes the first, fastconv the last"
        )
    dy = grad.astype(x.dtype, copy=False).reshape(y.shape)
    dx: Array = pool_grad(dy, argmax, images.shape)
    return dx.reshape(x.shape)


def planes(x: Array, rank: int) -> Array:
    """x with all axes but the last `rank` as the channels of one image."""
    if x.ndim < rank:
        raise UnsupportedProblem(f"max_pool: {x.ndim} axes")
    return x.reshape(1, -1, *x.shape[x.ndim - rank :])


def per_axis(value: Any, rank: int) -> tuple[int, ...]:
    """An integer for every axis; what MyGrad refuses or truncates is left to MyGrad."""
    values = [value] * rank if isinstance(value, Integral) else list(value)
    if len(values) != rank or not all(isinstance(item, Integral) for item in values):
        raise UnsupportedProblem(f"{value!r} for {rank} axes")
    return tuple(int(item) for item in values)


def check_whole(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> None:
    """Leave to MyGrad, which raises, windows that do not tile the input exactly."""
    for i, f, s in zip(size, window, stride, strict=True):
        if s < 1 or i < f or (i - f) % s:
            raise UnsupportedProblem(f"{i} pixels, windows of {f} every {s}")


def _fast(fast: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda original: or_else(fast, original)


def _patches() -> list[Patch]:
    return [
        Patch(ConvND, "__call__", _fast(conv_forward)),
        Patch(ConvND, "backward_var", _fast(conv_backward)),
        Patch(MaxPoolND, "__call__", _fast(pool_forward)),
        Patch(MaxPoolND, "backward_var", _fast(pool_backward)),
    ]


adapter = Adapter(HOSTS["mygrad"], _patches)
install, uninstall, installed = adapter.install, adapter.uninstall, adapter.installed

__all__ = ["install", "installed", "uninstall"]

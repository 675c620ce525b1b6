"""Adaptive pooling of any rank and its gradients: ordinary where windows are equal, else axis by axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.kernels.reference import channels_first
from fastconv.ops.arrays import Array, check_out, checked_float, contiguous
from fastconv.ops.memory import empty
from fastconv.ops.parse import batch_shape, parse_axes, parse_flag, parse_layout, parse_shape, split_shape
from fastconv.ops.pool import avg_pool, avg_pool_grad, max_pool
from fastconv.ops.spec import PoolSpec, Size, pool_spec
from fastconv.ops.windows import max_windows, starts_and_stops, sum_windows


def adaptive_spec(op: str, x: Array, output_size: Any, layout: Any) -> PoolSpec:
    """Sizes and layout of an adaptive pooling; its window says nothing. None keeps the input's size."""
    ndim, channels_last = parse_layout(op, layout, x.shape)
    n, c, size = split_shape(parse_shape(op, "x", x.shape, ndim + 2, layout), channels_last)
    if isinstance(output_size, Sequence) and len(output_size) == ndim:
        output_size = [i if o is None else o for i, o in zip(size, output_size, strict=True)]
    out_size = parse_axes(op, "output_size", output_size, ndim, least=1)
    y_shape = batch_shape(n, c, out_size, channels_last)
    return pool_spec(op, x.shape, 1, x.dtype, layout=layout, out_shape=y_shape)


def equal_windows(spec: PoolSpec) -> Size | None:
    """The window, and stride, that does the same where every output size divides its input size."""
    if any(i % o for i, o in zip(spec.size, spec.out_size, strict=True)):
        return None
    return tuple(i // o for i, o in zip(spec.size, spec.out_size, strict=True))


def counts(spec: PoolSpec) -> Array:
    """Elements of every window, broadcast against (N, C, *out_size)."""
    count = np.ones((), spec.dtype)
    for i, o in zip(spec.size, spec.out_size, strict=True):
        starts, stops = starts_and_stops(i, o)
        count = count[..., None] * (stops - starts).astype(spec.dtype)
    return count


def adaptive_avg(op: str, x: Array, output_size: Any, layout: str, out: Array | None) -> Array:
    """The averages."""
    x = checked_float(op, "x", x)
    spec = adaptive_spec(op, x, output_size, layout)
    window = equal_windows(spec)
    if window is not None:
        return avg_pool(op, x, window, None, 0, False, True, None, layout, out, None)
    y = empty(spec.y_shape, spec.dtype) if out is None else out
    check_out(op, y, spec.y_shape, spec.dtype, x)
    total = channels_first(spec, contiguous(x))
    for axis in reversed(range(spec.ndim)):
        total = sum_windows(total, axis + 2, spec.out_size[axis])
    np.divide(total, counts(spec), out=channels_first(spec, y))
    return y


def adaptive_avg_grad(
    op: str, dy: Array, input_shape: Sequence[int], layout: str, out: Array | None
) -> Array:
    """The gradient of the averages."""
    dy = checked_float(op, "dy", dy)
    spec = pool_spec(op, input_shape, 1, dy.dtype, layout=layout, out_shape=dy.shape, names=("input", "dy"))
    window = equal_windows(spec)
    if window is not None:
        return avg_pool_grad(op, dy, input_shape, window, None, 0, False, True, None, layout, out, None)
    dx = empty(spec.x_shape, spec.dtype) if out is None else out
    check_out(op, dx, spec.x_shape, spec.dtype, dy)
    share = channels_first(spec, contiguous(dy)) / counts(spec)
    for axis in range(spec.ndim):
        share = sum_windows(share, axis + 2, spec.size[axis])
    channels_first(spec, dx)[...] = share
    return dx


def adaptive_max(
    op: str, x: Array, output_size: Any, layout: str, return_argmax: bool, out: Array | None
) -> Array | tuple[Array, Array]:
    """The maxima, and where they were."""
    x = checked_float(op, "x", x)
    spec = adaptive_spec(op, x, output_size, layout)
    return_argmax = parse_flag(op, "return_argmax", return_argmax)
    window = equal_windows(spec)
    if window is not None:
        return max_pool(op, x, window, None, 0, 1, False, layout, return_argmax, out, None)
    y = empty(spec.y_shape, spec.dtype) if out is None else out
    check_out(op, y, spec.y_shape, spec.dtype, x)
    best = channels_first(spec, contiguous(x))
    plane = np.arange(np.prod(spec.size), dtype=spec.argmax_dtype).reshape(spec.size)
    at: Array = np.broadcast_to(plane, best.shape)
    # the innermost axis first: among equals the first of a row, then the first row
    for axis in reversed(range(spec.ndim)):
        best, at = max_windows(best, at, axis + 2, spec.out_size[axis])
    channels_first(spec, y)[...] = best
    if not return_argmax:
        return y
    argmax = empty(spec.y_shape, spec.argmax_dtype)
    channels_first(spec, argmax)[...] = at
    return y, argmax

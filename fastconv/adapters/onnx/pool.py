"""ONNX's pooling operators. Sizes and padding are as the specification of the operators defines them."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv as fc
from fastconv.adapters.base import by_rank
from fastconv.adapters.onnx.conv import Ints, padding, per_axis
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem


def max_pool(
    node: Any,
    x: Array,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    pads: Ints = None,
    storage_order: int = 0,
    strides: Ints = None,
) -> tuple[Array, ...]:
    """MaxPool, opsets 1 to 22, with Indices (int64, over the whole tensor) where the node asks for them."""
    options = window_options(auto_pad, ceil_mode, pads, strides)
    pool = by_rank("max_pool{}d", x.ndim - 2)
    wanted = len(node.output) > 1
    result = pool(x, tuple(kernel_shape), dilation=per_axis(dilations), return_argmax=wanted, **options)
    if not wanted:
        return (no_nan(result),)
    y, argmax = result
    return no_nan(y), fc.argmax_to_onnx(argmax, x.shape, storage_order=storage_order or 0)


def average_pool(
    node: Any,
    x: Array,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> tuple[Array]:
    """AveragePool, opsets 1 to 22, without dilation."""
    if dilations and set(dilations) != {1}:
        raise UnsupportedProblem("AveragePool: dilations")
    options = window_options(auto_pad, ceil_mode, pads, strides)
    pool = by_rank("avg_pool{}d", x.ndim - 2)
    y = pool(x, tuple(kernel_shape), count_include_pad=bool(count_include_pad), **options)
    return (no_nan(y),)


def lp_pool(
    node: Any,
    x: Array,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    p: int = 2,
    pads: Ints = None,
    strides: Ints = None,
) -> tuple[Array]:
    """LpPool, opsets 2 to 22: the norm of |x|, where fastconv's is of x."""
    options = window_options(auto_pad, ceil_mode, pads, strides)
    pool = by_rank("lp_pool{}d", x.ndim - 2)
    y = pool(x if p % 2 == 0 else np.abs(x), tuple(kernel_shape), p, dilation=per_axis(dilations), **options)
    return (no_nan(y),)


def global_average_pool(node: Any, x: Array) -> tuple[Array]:
    """GlobalAveragePool: the mean of each plane."""
    return (fc.global_avg_pool(x),)


def global_max_pool(node: Any, x: Array) -> tuple[Array]:
    """GlobalMaxPool: the maximum of each plane."""
    y = fc.global_max_pool(x)
    assert not isinstance(y, tuple)
    return (y,)


def max_unpool(
    node: Any,
    x: Array,
    indices: Array,
    output_shape: Array | None = None,
    *,
    kernel_shape: list[int],
    pads: Ints = None,
    strides: Ints = None,
) -> tuple[Array]:
    """MaxUnpool, opsets 9 to 22: the indices are over the inferred shape, whatever output_shape is."""
    rank = x.ndim - 2
    stride, pads = strides or [1] * rank, pads or [0] * 2 * rank
    unpool = by_rank("max_unpool{}d", rank)
    axes = zip(x.shape[2:], stride, pads[:rank], pads[rank:], kernel_shape, strict=True)
    inferred = (*x.shape[:2], *((i - 1) * s - before - after + f for i, s, before, after, f in axes))
    y: Array = unpool(x, fc.argmax_from_onnx(indices, inferred), inferred)
    if output_shape is None or tuple(output_shape) == inferred:
        return (y,)
    larger = np.zeros(tuple(output_shape), y.dtype)
    larger[tuple(map(slice, inferred))] = y
    return (larger,)


def window_options(auto_pad: str, ceil_mode: int, pads: Ints, strides: Ints) -> dict[str, Any]:
    """The keywords that every pooling shares."""
    if auto_pad != "NOTSET" and ceil_mode:
        raise UnsupportedProblem("auto_pad with ceil_mode")
    return {"stride": per_axis(strides), "padding": padding(auto_pad, pads), "ceil_mode": bool(ceil_mode)}


def no_nan(y: Array) -> Array:
    """Leave a NaN in a window to the host: the reference evaluator drops some and keeps others."""
    if y.size and np.isnan(y.max()):
        raise UnsupportedProblem("NaN")
    return y

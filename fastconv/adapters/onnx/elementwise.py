"""Operators around the convolutions that cost as much as they do in the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem


def relu(node: Any, x: Array) -> tuple[Array]:
    """Relu, without the reference's copy."""
    check_float(x)
    return (clip(x, 0, None),)


def clip(x: Array, low: float | None, high: float | None, out: Array | None = None) -> Array:
    """x within [low, high]. NumPy 2.4 vectorizes this, but not maximum and minimum with a scalar."""
    low, high = (-np.inf if low is None else low), (np.inf if high is None else high)
    return np.clip(x, x.dtype.type(low), x.dtype.type(high), out=out)


def batch_normalization(
    node: Any,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float | None = None,
    training_mode: int = 0,
) -> tuple[Array]:
    """BatchNormalization in inference, opsets 9 to 15: a multiplication and an addition an element.

    Before opset 14 the node's number of outputs says that it is inference, as the specification has it; the
    reference evaluator of onnx 1.23 computes as in training.
    """
    if training_mode or len(node.output) > 1 or x.ndim < 2:
        raise UnsupportedProblem("BatchNormalization: training_mode")
    for array in (x, scale, bias, mean, var):
        check_float(array)
    factor, shift = affine(scale, bias, mean, var, epsilon)
    channels = (-1, *(1,) * (x.ndim - 2))
    y = x * factor.astype(x.dtype).reshape(channels)
    y += shift.astype(x.dtype).reshape(channels)
    return (y,)


def lrn(
    node: Any, x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> tuple[Array]:
    """LRN, opsets 1 to 13: x / (bias + alpha/size * (sum of x**2 over `size` channels around))**beta.

    The reference evaluator of onnx 1.23 sums for the first N channels only, N being the batch.
    """
    check_float(x)
    before, after = (size - 1) // 2, size // 2
    square = x * x
    total = square.copy()
    for shift in range(1, max(before, after) + 1):
        if shift <= before:
            total[:, shift:] += square[:, :-shift]
        if shift <= after:
            total[:, :-shift] += square[:, shift:]
    total *= alpha / size
    total += bias
    total **= beta
    return (np.divide(x, total, out=total),)


def affine(scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> tuple[Array, Array]:
    """Normalization of a channel as factor*x + shift, in float64: (C,), (C,)."""
    factor = scale / np.sqrt(var.astype(np.float64) + epsilon)
    return factor, bias - mean * factor


def check_float(x: Array) -> None:
    """Leave half precision and integers to the host."""
    if x.dtype not in (np.float32, np.float64):
        raise UnsupportedProblem(f"dtype {x.dtype}")

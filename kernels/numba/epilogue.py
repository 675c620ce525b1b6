"""Bias and activation, applied to outputs right after their last product, while they are in the cache."""

from __future__ import annotations

import math

from fastconv.kernels.numba.jit import inline, jit
from fastconv.kernels.numba.vector import at, cast, put

ACTIVATIONS = (None, "relu", "leaky_relu", "sigmoid", "tanh", "relu6")


@inline
def sigmoid(v):
    """Without overflow for any v."""
    e = math.exp(-abs(v))
    return (e if v < 0 else 1) / (1 + e)


@jit
def finish(y, i, count, bias, b, b_step, activation):
    """y[i + t] = activation(y[i + t] + bias[b + t * b_step]) for t < count; an empty bias is none."""
    if bias.size > 0:
        for t in range(count):
            put(y, i + t, at(y, i + t) + at(bias, b + t * b_step))
    if activation == 1:
        for t in range(count):
            v = at(y, i + t)
            put(y, i + t, 0.0 if v < 0 else v)
    elif activation == 2:
        slope = cast(y, 0.01)
        for t in range(count):
            v = at(y, i + t)
            put(y, i + t, v * slope if v < 0 else v)
    elif activation == 3:
        for t in range(count):
            put(y, i + t, sigmoid(at(y, i + t)))
    elif activation == 4:
        for t in range(count):
            put(y, i + t, math.tanh(at(y, i + t)))
    elif activation == 5:
        six = cast(y, 6.0)
        for t in range(count):
            v = at(y, i + t)
            v = 0.0 if v < 0 else v
            put(y, i + t, six if v > 6 else v)

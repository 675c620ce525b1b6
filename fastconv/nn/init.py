"""How weights start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value, shown

INITS = ("fan_in", "he", "glorot")


def checked_init(op: str, init: Any) -> str:
    if init not in INITS:
        bad_value(op, f"init is {shown(init)}", f"it must be one of {', '.join(INITS)}")
    return str(init)


def draw_weights(rng: np.random.Generator, init: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Weights (outputs, inputs, *window) and bias (outputs,), in float32 so that both dtypes start alike.

    "fan_in" draws both from U(-1/sqrt(fan_in), 1/sqrt(fan_in)) (LeCun et al. 1998, PyTorch's default),
    "he" weights from N(0, 2/fan_in) (He et al. 2015, for ReLU), "glorot" from U(-a, a) with
    a = sqrt(6/(fan_in + fan_out)) (Glorot, Bengio 2010, for tanh); the latter two start with bias 0.
    """
    taps = math.prod(shape[2:])
    fan_in, fan_out = max(shape[1] * taps, 1), shape[0] * taps
    if init == "he":
        return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / fan_in)), np.zeros(shape[0])
    if init == "glorot":
        a = math.sqrt(6 / (fan_in + fan_out))
        return uniform(rng, a, shape), np.zeros(shape[0])
    a = 1 / math.sqrt(fan_in)
    return uniform(rng, a, shape), uniform(rng, a, shape[:1])


def uniform(rng: np.random.Generator, a: float, shape: tuple[int, ...]) -> Array:
    """U(-a, a) in float32."""
    drawn: Array = rng.random(shape, np.float32)
    drawn *= np.float32(2 * a)
    drawn -= np.float32(a)
    return drawn

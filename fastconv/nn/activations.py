"""Activation functions, and the layers that apply them.

Every derivative but the softmax's is a function of the output y, so a layer keeps y alone.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from fastconv.nn.layer import Layer, checked_number
from fastconv.ops.activation import LEAKY_SLOPE, NO_SLOPE, gradient_into
from fastconv.ops.arrays import Array, check_shape, checked_float
from fastconv.ops.memory import empty


def step(x: Array) -> Array:
    """Heaviside's step: 1 where x >= 0, else 0 (the perceptron's threshold)."""
    y: Array = (x >= 0).astype(x.dtype)
    return y


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for any x."""
    e = np.exp(-np.abs(x))
    y: Array = np.where(x >= 0, 1, e) / (1 + e)
    return y


def tanh(x: Array) -> Array:
    return np.tanh(x)


def relu(x: Array) -> Array:
    y: Array = np.maximum(x, 0)
    return y


def leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    """x where x > 0, else alpha * x."""
    scaled = x * x.dtype.type(alpha)
    y: Array = np.maximum(x, scaled) if alpha <= 1 else np.minimum(x, scaled)
    return y


def softmax(x: Array) -> Array:
    """exp(x) / sum(exp(x)) over the last axis; shifted by the maximum, which cancels and cannot overflow."""
    e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    y: Array = e / e.sum(-1, keepdims=True)
    return y


class Activation(Layer):
    """An elementwise function with its derivative as a function of the output.

    Attributes
    ----------
    name : str or None
        What `fastconv.conv2d` and `fastconv.activation_grad` call it, where they have it.
    """

    name: str | None = None

    def function(self, x: Array) -> Array:
        raise NotImplementedError

    def derivative(self, y: Array) -> Array:
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        y = self.function(checked_float(type(self).__name__, "x", x))
        self._kept = y
        return y

    def keep(self, y: Array) -> None:
        """Take an output that was computed elsewhere, fused into the layer before, as this layer's own."""
        self._kept = y

    def gradient(self, dy: Array, y: Array, out: Array | None = None) -> Array:
        """dy times the derivative at the output y; `out` may be dy."""
        op = f"{type(self).__name__}.backward"
        dy = checked_float(op, "dy", dy, y.dtype)
        check_shape(op, "dy", dy, y.shape)
        if self.name is None:
            return np.multiply(dy, self.derivative(y), out=out)
        return gradient_into(empty(y.shape, y.dtype) if out is None else out, dy, y, self.name)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        return self.gradient(dy, self.kept()) if input_grad else None


class ReLU(Activation):
    """max(x, 0); the derivative at 0 is 0.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> relu = fc.ReLU()
    >>> relu(np.array([-1.0, 0.0, 2.0])), relu.backward(np.ones(3))
    (array([0., 0., 2.]), array([0., 0., 1.]))
    """

    name = "relu"

    def function(self, x: Array) -> Array:
        return relu(x)


class LeakyReLU(Activation):
    """x where x > 0, else alpha * x (Maas et al. 2013).

    Parameters
    ----------
    alpha : float, default 0.01
        Slope on the negative side, at least 0.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.LeakyReLU(0.1)(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    def __init__(self, alpha: float = 0.01) -> None:
        super().__init__()
        self.alpha = checked_number("LeakyReLU", "alpha", alpha, 0.0)
        self.name = "leaky_relu" if self.alpha == LEAKY_SLOPE else None

    def function(self, x: Array) -> Array:
        return leaky_relu(x, self.alpha)

    def derivative(self, y: Array) -> Array:
        slope: Array = np.where(y > 0, y.dtype.type(1), y.dtype.type(self.alpha))
        return slope

    def settings(self) -> str:
        return f"{self.alpha:g}"


class Sigmoid(Activation):
    """1 / (1 + exp(-x)).

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Sigmoid()(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """

    name = "sigmoid"

    def function(self, x: Array) -> Array:
        return sigmoid(x)


class Tanh(Activation):
    """Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Tanh()(np.zeros(2))
    array([0., 0.])
    """

    name = "tanh"

    def function(self, x: Array) -> Array:
        return tanh(x)


class Step(Activation):
    """Heaviside's step, 1 where x >= 0, else 0: forward only.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Step()(np.array([-1.0, 0.0, 1.0]))
    array([0., 1., 1.])
    """

    def function(self, x: Array) -> Array:
        return step(x)

    def backward(self, dy: Array, input_grad: bool = True) -> NoReturn:
        raise ValueError(f"Step.backward: {NO_SLOPE}")


class Softmax(Layer):
    """Probabilities over the last axis: exp(x) / sum(exp(x)).

    A net that is trained ends in logits, without this layer: `softmax_cross_entropy` contains it.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Softmax()(np.array([[0.0, 0.0], [0.0, np.log(3.0)]]))
    array([[0.5 , 0.5 ],
           [0.25, 0.75]])
    """

    def forward(self, x: Array) -> Array:
        y = softmax(checked_float("Softmax", "x", x))
        self._kept = y
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        y: Array = self.kept()
        check_shape("Softmax.backward", "dy", dy, y.shape)
        return y * (dy - (dy * y).sum(-1, keepdims=True)) if input_grad else None

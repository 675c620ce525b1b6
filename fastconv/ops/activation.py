"""Activations fused into a convolution, and their gradients from the output alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastconv.dispatch import runtime, settings
from fastconv.kernels import cython
from fastconv.ops.arrays import Array, check_out, check_shape, checked_float
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.memory import empty

LEAKY_SLOPE = 0.01
# dy times the derivative as a function of the output. A NaN lets relu's and relu6's pass, as in PyTorch.
# `kernels/microkernels/activation_grad.hpp` has them compiled.
GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {
    "relu": lambda dy, y: np.where(y <= 0, dy.dtype.type(0), dy),
    "leaky_relu": lambda dy, y: dy * np.where(y > 0, dy.dtype.type(1), dy.dtype.type(LEAKY_SLOPE)),
    "sigmoid": lambda dy, y: dy * (y * (1 - y)),
    "tanh": lambda dy, y: dy * (1 - y * y),
    "relu6": lambda dy, y: np.where((y <= 0) | (y >= 6), dy.dtype.type(0), dy),
}
# And those that no convolution fuses: softmax mixes all elements of the last axis.
ALL_GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {
    **GRADIENTS,
    "softmax": lambda dy, y: y * (dy - (dy * y).sum(-1, keepdims=True)),
}
NO_SLOPE = (
    "the step has no derivative at 0 and derivative 0 elsewhere, so nothing can be learned through it: train "
    "with Sigmoid, Tanh or ReLU"
)


def check_activation(op: str, activation: Any, names: Iterable[str] = GRADIENTS) -> None:
    """`activation` must be one of the names: those that a convolution fuses, by default."""
    needed = f"it must be None or one of {', '.join(names)}"
    if not isinstance(activation, str):
        bad_type(op, f"activation is {shown(activation)}", needed)
    if activation not in names:
        bad_value(op, f"activation is {shown(activation)}", needed)


def activation_grad(dy: Array, y: Array, activation: str | None, *, out: Array | None = None) -> Array:
    """Gradient of an activation with respect to its input, from its output.

    What a convolution with a fused activation needs before its own gradients: none of these activations
    needs its input again.

    Parameters
    ----------
    dy : ndarray, float32 or float64
        Gradient of the activation's output, of any shape.
    y : ndarray of dy's shape and dtype
        The activation's output.
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "relu6", "softmax"}
        None returns a copy of dy; "leaky_relu" has slope 0.01, "softmax" is over the last axis.
    out : ndarray, optional
        Receives the result.

    Returns
    -------
    ndarray of dy's shape

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit; "step" has no derivative.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, w = np.array([[[[-1.0, 2.0]]]]), np.ones((1, 1, 1, 1))
    >>> y = fc.conv2d(x, w, activation="relu")
    >>> fc.activation_grad(np.ones_like(y), y, "relu")
    array([[[[0., 1.]]]])
    """
    op = "activation_grad"
    dy = checked_float(op, "dy", dy)
    y = checked_float(op, "y", y, dy.dtype)
    check_shape(op, "y", y, dy.shape)
    if activation is not None:
        if isinstance(activation, str) and activation == "step":
            raise ValueError(f"{op}: {NO_SLOPE}")
        check_activation(op, activation, ALL_GRADIENTS)
        if activation == "softmax" and dy.ndim == 0:
            bad_value(op, "dy has shape ()", "softmax needs a last axis")
    if out is None:
        out = empty(dy.shape, dy.dtype)
    else:
        check_out(op, out, dy.shape, dy.dtype, dy, y)
    if activation is None:
        out[...] = dy
        return out
    return gradient_into(out, dy, y, activation)


def gradient_into(out: Array, dy: Array, y: Array, activation: str) -> Array:
    """`out`, which may be dy itself, holding `activation_grad` of arrays that have been checked."""
    engine = cython.engine(runtime.chosen_isa())
    fused = activation in GRADIENTS
    if fused and engine is not None and all(a.flags.c_contiguous and a.flags.aligned for a in (out, dy, y)):
        engine.activation_grad(dy, y, out, activation, runtime.threads_allowed(settings.current().threads))
    else:
        out[...] = ALL_GRADIENTS[activation](dy, y)
    return out

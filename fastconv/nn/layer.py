"""What a layer is: forward, backward, parameters and their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from fastconv.ops.arrays import FLOAT32, FLOAT64, Array
from fastconv.ops.errors import bad_type, bad_value, shown

Seed = int | np.random.Generator | None


class Layer:
    """A differentiable function of arrays, with its parameters.

    A layer computes in the dtype of its parameters. `forward` keeps what `backward` needs until the next
    call or `forget`, in both modes; the mode (`training`, set by `train` and `eval`) changes what Dropout and
    batch normalization compute, nothing else.

    Attributes
    ----------
    params : dict of str to ndarray
        What an optimizer changes, in place.
    grads : dict of str to ndarray
        Gradients of the parameters, under the same names, set by `backward`.
    buffers : dict of str to ndarray
        State that is saved with the parameters and not trained (running statistics).
    training : bool
        True from the start.
    rng : numpy.random.Generator
        Source of the layer's random numbers.
    """

    def __init__(self, seed: Seed = None) -> None:
        self.training = True
        self.rng = generator(seed)
        self._params: dict[str, Array] = {}
        self._grads: dict[str, Array] = {}
        self._buffers: dict[str, Array] = {}
        self._kept: Any = None

    @property
    def params(self) -> dict[str, Array]:
        return self._params

    @property
    def grads(self) -> dict[str, Array]:
        return self._grads

    @property
    def buffers(self) -> dict[str, Array]:
        return self._buffers

    def forward(self, x: Array) -> Array:
        """The layer's output for a batch x."""
        raise NotImplementedError

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Set `grads` and return the gradient of the last `forward`'s input, None without `input_grad`."""
        raise NotImplementedError

    def reset(self, rng: np.random.Generator) -> None:
        """Draw fresh parameters from `rng`, and random numbers from it from now on."""
        self.rng = rng

    def children(self) -> Mapping[str, Layer]:
        """The layers this one is made of, by the prefix of their parameters' names."""
        return {}

    def walk(self) -> Iterator[Layer]:
        """This layer and all layers inside it."""
        yield self
        for child in self.children().values():
            yield from child.walk()

    def train(self, training: bool = True) -> Self:
        """Switch to training mode, or with False to evaluation mode."""
        for layer in self.walk():
            layer.training = training
        return self

    def eval(self) -> Self:
        """Switch to evaluation mode: no dropout, batch normalization by its running statistics."""
        return self.train(False)

    def forget(self) -> None:
        """Drop what `forward` kept for `backward`."""
        for layer in self.walk():
            layer._kept = None

    def astype(self, dtype: DTypeLike) -> Self:
        """Convert parameters and buffers to float32 or float64, in place."""
        dtype = checked_dtype(type(self).__name__, dtype)
        for layer in self.walk():
            for arrays in (layer._params, layer._buffers):
                arrays.update({name: a.astype(dtype) for name, a in arrays.items()})
            layer._grads.clear()
        return self

    def kept(self) -> Any:
        """What the last `forward` kept, or an error where there was none."""
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: nothing to differentiate: call forward first"
            )
        return self._kept

    def settings(self) -> str:
        """The constructor's arguments, for `repr`."""
        return ""

    def __call__(self, x: Array) -> Array:
        return self.forward(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings()})"


class Container(Layer):
    """A layer made of layers: its parameters are theirs, named "child.name"."""

    def collected(self, what: str) -> dict[str, Array]:
        return {
            f"{prefix}.{name}": array
            for prefix, child in self.children().items()
            for name, array in getattr(child, what).items()
        }

    @property
    def params(self) -> dict[str, Array]:
        return self.collected("params")

    @property
    def grads(self) -> dict[str, Array]:
        return self.collected("grads")

    @property
    def buffers(self) -> dict[str, Array]:
        return self.collected("buffers")

    def reset(self, rng: np.random.Generator) -> None:
        self.rng = rng
        for child in self.children().values():
            child.reset(rng)


def generator(seed: Seed) -> np.random.Generator:
    """A generator from a seed, or the given generator itself."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        bad_value(
            "seed", shown(seed), "it must be None, an integer of at least 0 or a numpy.random.Generator"
        )


def checked_dtype(op: str, dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64 as a dtype."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        bad_type(op, f"dtype is {shown(dtype)}", "it must be float32 or float64")
    if found not in (FLOAT32, FLOAT64):
        bad_value(op, f"dtype is {found}", "it must be float32 or float64")
    return found


def checked_number(op: str, name: str, value: Any, least: float, below: float = np.inf) -> float:
    """A real number in [least, below)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        bad_type(op, f"{name} is {shown(value)}", "it must be a number")
    if not least <= value < below:
        limit = f"at least {least:g}" + (f" and below {below:g}" if np.isfinite(below) else " and finite")
        bad_value(op, f"{name} is {value}", f"it must be {limit}")
    return float(value)

"""Chains of nodes that run as one, each node the only reader of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

import fastconv as fc
from fastconv.adapters.onnx.conv import check_window, geometry
from fastconv.adapters.onnx.elementwise import affine, clip
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem

Constants = dict[str, Array]
ACTIVATIONS: dict[tuple[float | None, float | None], str] = {(0, None): "relu", (0, 6): "relu6"}


class Chain:
    """Consecutive nodes in the place of the last of them.

    It answers what an evaluator asks a node: `input`, `output`, `run`.
    """

    def __init__(self, node: Any, constants: Constants) -> None:
        self.nodes = [node]
        self.constants = constants

    @classmethod
    def starts(cls, node: Any, constants: Constants) -> Self | None:
        """A chain that begins with the node, if it can."""
        raise NotImplementedError

    def takes(self, node: Any) -> bool:
        """Prepare to do the node's work too, if this chain can."""
        raise NotImplementedError

    def compute(self, *inputs: Array) -> Array:
        """The last node's output; ValueError or TypeError for what is the host's."""
        raise NotImplementedError

    @property
    def output(self) -> Sequence[str]:
        output: Sequence[str] = self.nodes[-1].output
        return output

    @property
    def input(self) -> list[str]:
        """What the nodes read from outside the chain, constants excepted."""
        inner = {node.output[0] for node in self.nodes}
        names = dict.fromkeys(name for node in self.nodes for name in node.input)
        return [name for name in names if name not in inner and name not in self.constants]

    def extend(self, node: Any) -> bool:
        """Take in the next node, if this chain can."""
        taken = self.takes(node)
        if taken:
            self.nodes.append(node)
        return taken

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        """The last node's output; node by node where fastconv refuses the problem."""
        try:
            return (self.compute(*inputs),)
        except (ValueError, TypeError):
            values: dict[str, Any] = {
                "": None,
                **self.constants,
                **dict(zip(self.input, inputs, strict=True)),
            }
            for node in self.nodes:
                outputs: tuple[Array, ...] = node.run(*(values[name] for name in node.input))
                values.update(zip(node.output, outputs, strict=False))
            return outputs


class ConvChain(Chain):
    """Conv and what follows it.

    First any BatchNormalization, Mul and Add by constants of a channel, which are folded into the filters and
    the bias; then at most one Add or Sum of another tensor; then at most one Relu or Clip.
    """

    def __init__(self, node: Any, constants: Constants) -> None:
        super().__init__(node, constants)
        self.filters = constants[node.input[1]]
        self.bias = constants[node.input[2]] if len(node.input) > 2 and node.input[2] else None
        self.function = f"conv{self.filters.ndim - 2}d"
        self.geometry = geometry(
            **{name: getattr(node, name) for name in node.attributes_names_ if name != "kernel_shape"}
        )
        self.adds = False
        self.bounds: tuple[float | None, float | None] | None = None  # of the closing Relu or Clip

    @classmethod
    def starts(cls, node: Any, constants: Constants) -> Self | None:
        if node.op_type != "Conv" or node.input[0] in constants:
            return None
        if not constants.keys() >= set(node.input[1:]) - {""}:
            return None
        try:
            check_window(constants[node.input[1]], getattr(node, "kernel_shape", None))
        except UnsupportedProblem:
            return None
        return cls(node, constants)

    def takes(self, node: Any) -> bool:
        if self.bounds is not None:
            return False
        self.bounds = self._bounds_of(node)
        return self.bounds is not None or (not self.adds and self._takes_sum_or_factor(node))

    def compute(self, *inputs: Array) -> Array:
        x, addend = inputs[0], inputs[-1]  # the same array where the node adds its own input
        activation = None if self.adds or self.bounds is None else ACTIVATIONS.get(self.bounds)
        y: Array = getattr(fc, self.function)(
            x, self.filters, self.bias, activation=activation, **self.geometry
        )
        if self.adds:
            if addend.shape != y.shape or addend.dtype != y.dtype:
                raise UnsupportedProblem(f"Add: {addend.dtype} {addend.shape} to {y.dtype} {y.shape}")
            y += addend
        if self.bounds and not activation:
            clip(y, *self.bounds, out=y)
        return y

    def _bounds_of(self, node: Any) -> tuple[float | None, float | None] | None:
        if node.op_type == "Relu":
            return 0, None
        if node.op_type != "Clip" or len(node.input) == 1:  # before opset 11 the bounds are attributes
            return None
        names = (*node.input[1:], "")[:2]
        if any(name and (name not in self.constants or self.constants[name].size != 1) for name in names):
            return None
        low, high = (self.constants[name].item() if name else None for name in names)
        return low, high

    def _takes_sum_or_factor(self, node: Any) -> bool:
        if node.op_type == "BatchNormalization":
            return self._normalizes(node)
        if node.op_type not in ("Add", "Mul", "Sum") or len(node.input) != 2:
            return False
        (other,) = (name for name in node.input if name != self.output[0])
        if other not in self.constants:
            self.adds = node.op_type != "Mul"
            return self.adds
        per_channel = self._per_channel(self.constants[other])
        if per_channel is None:
            return False
        return self._fold(per_channel, 0.0) if node.op_type == "Mul" else self._fold(1.0, per_channel)

    def _normalizes(self, node: Any) -> bool:
        training = (
            getattr(node, "training_mode", 0) or not getattr(node, "is_test", 1) or len(node.output) > 1
        )
        values = [self.constants[name] for name in node.input[1:] if name in self.constants]
        if training or [value.shape for value in values] != [self.filters.shape[:1]] * 4:
            return False
        scale, bias, mean, var = values
        return self._fold(*affine(scale, bias, mean, var, node.epsilon))

    def _per_channel(self, value: Array) -> Array | None:
        """(K, 1, ...) or (1, K, 1, ...) as (K,)."""
        channels, *pixels = value.shape[-(self.filters.ndim - 1) :] or (1,)
        fits = len(pixels) == self.filters.ndim - 2 and channels == value.size == len(self.filters)
        return value.ravel() if fits else None

    def _fold(self, factor: Any, shift: Any) -> bool:
        """factor*(w.x + b) + shift = (factor*w).x + (factor*b + shift), in float64 until the end."""
        dtype, k = self.filters.dtype, len(self.filters)
        filters = self.filters * np.broadcast_to(np.float64(factor), k).reshape(
            -1, *(1,) * (self.filters.ndim - 1)
        )
        bias = np.broadcast_to(factor * (0.0 if self.bias is None else self.bias) + shift, k)
        if dtype not in (np.float32, np.float64) or not (
            np.isfinite(filters).all() and np.isfinite(bias).all()
        ):
            return False
        self.filters, self.bias = filters.astype(dtype), bias.astype(dtype)
        return True


class ViewChain(Chain):
    """Reshape to constant shapes and Transpose, as in a shuffle of channels: views of views."""

    def __init__(self, node: Any, constants: Constants) -> None:
        super().__init__(node, constants)
        self.views: list[Callable[[Array], Array]] = []

    @classmethod
    def starts(cls, node: Any, constants: Constants) -> Self | None:
        chain = cls(node, constants)
        return chain if chain.takes(node) and node.input[0] not in constants else None

    def takes(self, node: Any) -> bool:
        if node.op_type == "Transpose":
            axes = getattr(node, "perm", None) or None
            self.views.append(lambda x: x.transpose(axes))
            return True
        if node.op_type != "Reshape" or len(node.input) != 2 or node.input[1] not in self.constants:
            return False
        sizes = self.constants[node.input[1]].tolist()
        if 0 in sizes:  # stands for the input's own size, or for nothing at all
            return False
        self.views.append(lambda x: x.reshape(sizes))
        return True

    def compute(self, *inputs: Array) -> Array:
        (x,) = inputs
        for view in self.views:
            x = view(x)
        return x


KINDS: tuple[type[Chain], ...] = (ConvChain, ViewChain)

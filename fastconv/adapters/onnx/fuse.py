"""Joining what follows a convolution to it, as ONNX Runtime does: one pass over the output in place of four.

A chain is Conv, then any BatchNormalization, Mul and Add by constants of a channel (folded into the filters
and the bias), then at most one Add or Sum of another tensor, then at most one Relu or Clip, each of them the
only reader of the one before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastconv.adapters.onnx.conv import conv
from fastconv.adapters.onnx.elementwise import affine, clip
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem

FOLDED = ("Identity", "Reshape", "Squeeze", "Unsqueeze")


class FusedGraph:
    """The nodes of a graph, chains joined, and what each of them is the last to read.

    A value is dropped after its last reader, so that the next one of its size reuses memory the caches know.
    """

    def __init__(self, nodes: Sequence[Any], constants: dict[str, Array], outputs: Sequence[str]) -> None:
        self.constants = dict(constants)
        self.outputs = outputs
        nodes = fuse(fold_constants(nodes, self.constants), self.constants, outputs)
        kept = {"", *self.constants, *outputs}
        self.steps: list[tuple[Any, set[str]]] = []
        for node in reversed(nodes):
            ended = {*node.input, *node.output} - kept
            kept |= ended
            self.steps.insert(0, (node, ended))

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """The graph's outputs by name, and the inputs that nothing reads."""
        values = {"": None, **self.constants, **feeds}
        for node, ended in self.steps:
            outputs = node.run(*(values[name] for name in node.input))
            values.update(zip(node.output, outputs, strict=False))
            outputs = None
            for name in ended:
                values.pop(name, None)
        return values


class Chain:
    """A convolution and what follows it, in the place of the last of its nodes.

    It answers what an evaluator asks a node: `input`, `output`, `run`.
    """

    op_type = "Conv"
    has_linked_attribute = False

    def __init__(self, node: Any, constants: dict[str, Array]) -> None:
        self.nodes = [node]
        self.constants = constants
        self.filters = constants[node.input[1]]
        self.bias = constants[node.input[2]] if len(node.input) > 2 and node.input[2] else None
        self.options = {name: getattr(node, name) for name in node.attributes_names_}
        self.addend: str | None = None
        self.bounds: tuple[Any, Any] | None = None  # of the closing Relu or Clip

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

    def need_context(self) -> bool:
        return False

    def extend(self, node: Any) -> bool:
        """Take in the next node, if this chain can."""
        taken = self.bounds is None and (
            self._take_bounds(node) or (self.addend is None and self._take(node))
        )
        if taken:
            self.nodes.append(node)
        return taken

    def run(self, *inputs: Array) -> tuple[Array, ...]:
        """The last node's output; node by node where fastconv refuses the problem."""
        values = dict(zip(self.input, inputs, strict=True))
        try:
            return (self._run(values),)
        except (ValueError, TypeError):
            named: dict[str, Any] = {"": None, **self.constants, **values}
            for node in self.nodes:
                outputs: tuple[Array, ...] = node.run(*(named[name] for name in node.input))
                named.update(zip(node.output, outputs, strict=False))
            return outputs

    def _run(self, values: dict[str, Array]) -> Array:
        x, addend = values[self.nodes[0].input[0]], values.get(self.addend or "")
        low, high = self.bounds or (None, None)
        relu = addend is None and low == 0 and high is None
        (y,) = conv(None, x, self.filters, self.bias, activation="relu" if relu else None, **self.options)
        if addend is not None:
            if addend.shape != y.shape or addend.dtype != y.dtype:
                raise UnsupportedProblem(f"Add: {addend.dtype} {addend.shape} to {y.dtype} {y.shape}")
            y += addend
        if self.bounds and not relu:
            clip(y, *self.bounds, out=y)
        return y

    def _take_bounds(self, node: Any) -> bool:
        if node.op_type == "Relu":
            self.bounds = (0, None)
        elif (
            node.op_type == "Clip"
            and len(node.input) > 1
            and all(n in self.constants for n in node.input[1:] if n)
        ):
            ends = [self.constants[name] if name else None for name in (*node.input[1:], "", "")[:2]]
            self.bounds = (ends[0], ends[1])
        return self.bounds is not None

    def _take(self, node: Any) -> bool:
        if node.op_type == "BatchNormalization":
            return self._normalize(node)
        if node.op_type not in ("Add", "Mul", "Sum") or len(node.input) != 2:
            return False
        (other,) = (name for name in node.input if name != self.output[0])
        if other not in self.constants:
            self.addend = other if node.op_type != "Mul" else None
            return self.addend is not None
        per_channel = self._per_channel(self.constants[other])
        if per_channel is None:
            return False
        return self._fold(per_channel, 0.0) if node.op_type == "Mul" else self._fold(1.0, per_channel)

    def _normalize(self, node: Any) -> bool:
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


def fuse(nodes: Sequence[Any], constants: dict[str, Array], outputs: Iterable[str]) -> list[Any]:
    """The list of nodes with its chains joined."""
    readers = Counter(name for node in nodes for name in node.input) + Counter(outputs)
    chains: dict[str, Chain] = {}  # by the name of what they compute
    for node in nodes:
        grown = [chains[name] for name in node.input if name in chains and readers[name] == 1]
        chain = next((chain for chain in reversed(grown) if chain.extend(node)), None)
        if chain is not None:
            del chains[chain.nodes[-2].output[0]]
        elif node.op_type == "Conv" and node.domain == "" and constants.keys() >= set(node.input[1:]) - {""}:
            chain = Chain(node, constants)
        if chain is not None:
            chains[chain.output[0]] = chain
    last = {id(chain.nodes[-1]): chain for chain in chains.values()}
    inner = {id(node) for chain in chains.values() for node in chain.nodes[:-1]}
    return [last.get(id(node), node) for node in nodes if id(node) not in inner]


def fold_constants(nodes: Sequence[Any], constants: dict[str, Array]) -> list[Any]:
    """Run the reshaping of constants once, now: `constants` gains the results."""
    left = []
    for node in nodes:
        if node.op_type in FOLDED and all(name in constants for name in node.input):
            constants.update(
                zip(node.output, node.run(*(constants[name] for name in node.input)), strict=True)
            )
        else:
            left.append(node)
    return left

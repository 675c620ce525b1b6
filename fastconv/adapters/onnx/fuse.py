"""Joining nodes, as ONNX Runtime does: one pass over a convolution's output in place of four."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fastconv.adapters.onnx.chains import KINDS, Chain
from fastconv.ops.arrays import Array

FOLDED = ("Identity", "Reshape", "Squeeze", "Unsqueeze")


class Step(NamedTuple):
    """A node's or a chain's turn."""

    run: Callable[..., tuple[Any, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ended: tuple[str, ...]  # values that nothing reads any more


class FusedGraph:
    """The nodes of a graph, chains joined, and what each of them is the last to read.

    A value is dropped after its last reader, so that the next one of its size reuses memory the caches know.
    """

    def __init__(self, nodes: Sequence[Any], constants: dict[str, Array], outputs: Sequence[str]) -> None:
        self.constants = dict(constants)
        self.nodes = fuse(fold_constants(nodes, self.constants), self.constants, outputs)
        kept = {"", *self.constants, *outputs}
        self.steps: list[Step] = []
        for node in reversed(self.nodes):
            ended = {*node.input, *node.output} - kept
            kept |= ended
            self.steps.insert(0, Step(node.run, tuple(node.input), tuple(node.output), tuple(ended)))

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """The graph's outputs by name, and the inputs that nothing reads."""
        values = {"": None, **self.constants, **feeds}
        for run, inputs, outputs, ended in self.steps:
            results = run(*[values[name] for name in inputs])
            values.update(zip(outputs, results, strict=False))
            del results
            for name in ended:
                values.pop(name, None)
        return values


def fuse(nodes: Sequence[Any], constants: dict[str, Array], outputs: Iterable[str]) -> list[Any]:
    """The list of nodes with its chains joined."""
    readers = Counter(name for node in nodes for name in node.input) + Counter(outputs)
    chains: dict[str, Chain] = {}  # by the name of what they compute
    for node in nodes:
        grown = [chains[name] for name in node.input if name in chains and readers[name] == 1]
        chain = next((chain for chain in reversed(grown) if chain.extend(node)), None)
        if chain is not None:
            del chains[chain.nodes[-2].output[0]]
        elif node.domain == "" and len(node.output) == 1:
            chain = next(filter(None, (kind.starts(node, constants) for kind in KINDS)), None)
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

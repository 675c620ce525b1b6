"""The table of a net's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastconv.ops.parse import parse_int, parse_sequence

if TYPE_CHECKING:
    from fastconv.nn.model import Sequential


@dataclass(frozen=True)
class Summary:
    """Rows of (layer, output shape, parameter count); prints as a table.

    Attributes
    ----------
    rows : tuple of (str, tuple of int, int)
    total : int
        Number of parameters.
    """

    rows: tuple[tuple[str, tuple[int, ...], int], ...]

    @property
    def total(self) -> int:
        return sum(count for _, _, count in self.rows)

    def __str__(self) -> str:
        lines = [("layer", "output", "parameters")]
        lines += [(name, str(shape), f"{count:,}") for name, shape, count in self.rows]
        lines.append(("total", "", f"{self.total:,}"))
        a, b, c = (max(len(line[i]) for line in lines) for i in range(3))
        return "\n".join(f"{name:<{a}}  {shape:<{b}}  {count:>{c}}" for name, shape, count in lines)

    __repr__ = __str__


def summarize(net: Sequential, input_shape: Sequence[int]) -> Summary:
    """Shapes come from an empty batch sent through the net, which costs no arithmetic."""
    sizes = parse_sequence(
        "summary", "input_shape", input_shape, "it must be the shape of one input, without N"
    )
    x = np.zeros(
        (0, *(parse_int("summary", f"input_shape[{i}]", s, 1) for i, s in enumerate(sizes))), net.dtype
    )
    rows = []
    for layer in net.layers:
        x = layer.forward(x)
        layer.forget()
        rows.append((shortened(repr(layer)), x.shape[1:], sum(p.size for p in layer.params.values())))
    return Summary(tuple(rows))


def shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."

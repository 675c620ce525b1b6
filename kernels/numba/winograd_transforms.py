"""The transforms of F(m, r) with 6-point tiles, m + r = 7, on tiles of vectors in registers.

Interpolation at 0, +-3/4, +-3/2 and infinity; the symmetry of +-p halves the products. A transform is written
once, for whatever can be added and multiplied: arrays, or values of the code that is being made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from fastconv.kernels.numba.vector import (
    Vector,
    data_of,
    emits,
    lanes,
    llvm_vector,
    plain_load,
    plain_store,
)

POINTS = 6
P, Q = 3 / 4, 3 / 2
PP, QQ = P * P, Q * Q
# 1 / product of the distances to the other points, for each pair
NP, NQ = 1 / (2 * PP * (PP - QQ)), 1 / (2 * QQ * (QQ - PP))

Transform = Callable[[list[Any]], list[Any]]


def input_transform(d: list[Any]) -> list[Any]:
    """B^T d"""
    even_p, odd_p = d[4] - d[2] * QQ, (d[3] - d[1] * QQ) * P
    even_q, odd_q = d[4] - d[2] * PP, (d[3] - d[1] * PP) * Q
    first = d[4] + d[0] * (PP * QQ) - d[2] * (PP + QQ)
    last = d[5] + d[1] * (PP * QQ) - d[3] * (PP + QQ)
    return [first, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, last]


def powers(values: list[Any], p: float, scale: float) -> tuple[Any, Any]:
    """The even and the odd terms of the sum of values times powers of p."""
    terms = [value * (scale * p**i) for i, value in enumerate(values)]
    even, odd = terms[0], terms[1]
    for i in range(2, len(terms)):
        if i % 2:
            odd = odd + terms[i]
        else:
            even = even + terms[i]
    return even, odd


def filter_transform(g: list[Any]) -> list[Any]:
    """G g: the filter's polynomial at each point, over the product of the point's distances."""
    even_p, odd_p = powers(g, P, NP)
    even_q, odd_q = powers(g, Q, NQ)
    return [g[0] * (1 / (PP * QQ)), even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, g[-1]]


def output_transform(count: int) -> Transform:
    """A^T m for so many outputs."""

    def transform(m: list[Any]) -> list[Any]:
        p, q = (m[1] + m[2], m[1] - m[2]), (m[3] + m[4], m[3] - m[4])
        y = [m[0] + p[0] + q[0]]
        y += [p[i % 2] * P**i + q[i % 2] * Q**i for i in range(1, count)]
        y[-1] = y[-1] + m[5]
        return y

    return transform


def on_both_axes(transform: Transform, tile: list[list[Any]]) -> list[list[Any]]:
    """Columns, then rows."""
    columns = [transform(list(column)) for column in zip(*tile, strict=True)]
    return [transform(list(row)) for row in zip(*columns, strict=True)]


class Value:
    """A vector of the code that is being made."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def made(self, instruction: str, other: Any) -> Value:
        return Value(self.builder, getattr(self.builder, instruction)(self.value, other, flags=["contract"]))

    def __add__(self, other: Value) -> Value:
        return self.made("fadd", other.value)

    def __sub__(self, other: Value) -> Value:
        return self.made("fsub", other.value)

    def __mul__(self, factor: float) -> Value:
        kind = self.value.type
        return self.made("fmul", ir.Constant(kind, [ir.Constant(kind.element, factor)] * kind.count))


def transformer(transform: Transform, size: int) -> Any:
    """A function that transforms a tile of size x size vectors."""

    def emit(
        typingctx: Any,
        a: Any,
        at: Any,
        row: Any,
        column: Any,
        to: Any,
        to_at: Any,
        to_row: Any,
        to_column: Any,
    ) -> Any:
        i = types.intp
        return types.void(a, i, i, i, to, i, i, i), emit_tile

    def emit_tile(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, word = llvm_vector(Vector(sig.args[0].dtype)), context.get_value_type(types.intp)
        a, to = (data_of(context, builder, sig.args[p], args[p]) for p in (0, 4))

        def pointer(data: Any, start: int, i: int, j: int) -> Any:
            far = builder.add(
                *(builder.mul(args[start + 1 + axis], ir.Constant(word, n)) for axis, n in enumerate((i, j)))
            )
            return builder.gep(data, [builder.add(args[start], far)])

        tile = [
            [Value(builder, plain_load(builder, pointer(a, 1, i, j), kind)) for j in range(size)]
            for i in range(size)
        ]
        for i, values in enumerate(on_both_axes(transform, tile)):
            for j, value in enumerate(values):
                plain_store(builder, pointer(to, 5, i, j), value.value)
        return context.get_dummy_value()

    def in_python(
        a: Any, at: int, row: int, column: int, to: Any, to_at: int, to_row: int, to_column: int
    ) -> None:
        L = lanes(a)
        tile = [[a[at + i * row + j * column :][:L] for j in range(size)] for i in range(size)]
        tile = [[v.copy() for v in values] for values in tile]
        for i, values in enumerate(on_both_axes(transform, tile)):
            for j, value in enumerate(values):
                start = to_at + i * to_row + j * to_column
                to[start : start + L] = value

    return emits(emit)(in_python)


# f(a, at, row, column, to, to_at, to_row, to_column): element (i, j) of a tile, a vector, lies at
# at + i * row + j * column.
transform_input = transformer(input_transform, POINTS)
transform_filter3, transform_filter4 = (transformer(filter_transform, size) for size in (3, 4))
transform_output3, transform_output4 = (transformer(output_transform(count), POINTS) for count in (3, 4))

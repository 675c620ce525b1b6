"""Products of Winograd: a register tile over buffers at constant strides, and the distances between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastconv.kernels.numba.jit import inline, jit
from fastconv.kernels.numba.tile import MR
from fastconv.kernels.numba.vector import (
    Vector,
    data_of,
    emits,
    lanes,
    llvm_vector,
    multiply_add,
    plain_load,
    plain_store,
    splatted,
)


@inline
def odd_vectors(elements, L):
    """Elements rounded up to an odd number of vectors.

    36 addresses so far apart fall on 36 sets of the level 1 cache; at multiples of 4 KB they clash.
    """
    return (elements + L - 1) // L // 2 * 2 * L + L


@inline
def whole_rows(rows):
    """Rows rounded up to whole register tiles."""
    return (rows + MR - 1) // MR * MR


def tile_of(vectors: int) -> Any:
    """MR rows by some vectors of columns."""

    def emit(
        typingctx: Any, depth: Any, a: Any, a_at: Any, a_row: Any, a_step: Any, b: Any, b_at: Any, c: Any,
        c_at: Any, add: Any,
    ) -> Any:  # fmt: skip
        i = types.intp
        return types.void(i, a, i, i, i, b, i, c, i, types.boolean), emit_tile

    def emit_tile(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        depth, a_at, a_row, a_step, b_at, c_at, add = (args[p] for p in (0, 2, 3, 4, 6, 8, 9))
        kind = llvm_vector(Vector(sig.args[1].dtype))
        word, cells = context.get_value_type(types.intp), [(r, j) for r in range(MR) for j in range(vectors)]
        a, b, c = (data_of(context, builder, sig.args[p], args[p]) for p in (1, 5, 7))

        def number(value: int) -> Any:
            return ir.Constant(word, value)

        rows = [builder.gep(a, [builder.add(a_at, builder.mul(number(r), a_row))]) for r in range(MR)]
        b_here = builder.gep(b, [b_at])
        c_here = {
            (r, j): builder.gep(c, [builder.add(c_at, number((r * vectors + j) * kind.count))])
            for r, j in cells
        }
        sums = {cell: cgutils.alloca_once(builder, kind) for cell in cells}
        with builder.if_else(add) as (then, otherwise):
            with then:
                for cell in cells:
                    builder.store(plain_load(builder, c_here[cell], kind), sums[cell])
            with otherwise:
                for cell in cells:
                    builder.store(ir.Constant(kind, None), sums[cell])
        with cgutils.for_range(builder, depth) as loop:
            b_k = builder.gep(b_here, [builder.mul(loop.index, number(vectors * kind.count))])
            columns = [
                plain_load(builder, builder.gep(b_k, [number(j * kind.count)]), kind) for j in range(vectors)
            ]
            a_k = builder.mul(loop.index, a_step)
            for r in range(MR):
                scalar = splatted(builder, builder.load(builder.gep(rows[r], [a_k])), kind.count)
                for j in range(vectors):
                    place = sums[r, j]
                    builder.store(multiply_add(builder, scalar, columns[j], builder.load(place)), place)
        for cell in cells:
            plain_store(builder, c_here[cell], builder.load(sums[cell]))
        return context.get_dummy_value()

    def tile_in_python(
        depth: int,
        a: Any,
        a_at: int,
        a_row: int,
        a_step: int,
        b: Any,
        b_at: int,
        c: Any,
        c_at: int,
        add: bool,
    ) -> None:
        width = vectors * lanes(a)
        rows = a_at + np.arange(MR)[:, None] * a_row + np.arange(depth) * a_step
        columns = b[b_at : b_at + depth * width].reshape(depth, width)
        to = c[c_at : c_at + MR * width].reshape(MR, width)
        with np.errstate(all="ignore"):  # rows beyond the last hold whatever memory held
            to[...] = (to if add else 0) + a[rows] @ columns

    return emits(emit)(tile_in_python)


_tile1, _tile2, _tile3 = (tile_of(vectors) for vectors in (1, 2, 3))


@jit
def multiply(rows, depth, a, a_at, a_row, a_step, b, b_at, width, c, c_at, add):
    """c (rows, width) (+)= a (rows, depth) @ b (depth, width), rows up to the next multiple of MR.

    Element (i, k) of a is a[a_at + i * a_row + k * a_step]; width is at most three vectors.
    """
    L = lanes(a)
    for i in range(0, rows, MR):
        if width > 2 * L:
            _tile3(depth, a, a_at + i * a_row, a_row, a_step, b, b_at, c, c_at + i * width, add)
        elif width > L:
            _tile2(depth, a, a_at + i * a_row, a_row, a_step, b, b_at, c, c_at + i * width, add)
        else:
            _tile1(depth, a, a_at + i * a_row, a_row, a_step, b, b_at, c, c_at + i * width, add)

"""The register tile: a few rows of scalars times vectors of columns, summed over depth in registers.

    c[i, j] (+)= sum over depth of a[i, depth] * b[depth, j]            (m <= MR rows, columns <= 3 vectors)

A row of `a` is read in place, element by element, so it may be a filter, a run of channels at a pixel or
a run of pixels of a channel; `b` is read as whole vectors. The depth comes in segments, so that one tile
can walk over all taps of a window (the indirect convolution of Dukhan 2019, with offsets in place of
pointers).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from fastconv.kernels.numba.jit import inline, jit, vector_bytes
from fastconv.kernels.numba.vector import (
    Vector,
    data_of,
    emits,
    fetch,
    lane_mask,
    lanes,
    llvm_vector,
    masked_load,
    masked_store,
    multiply_add,
    plain_load,
    plain_store,
    splatted,
)

# Rows and vectors that fit the registers with room for the operands: 8 x 3 of 32, 4 x 3 or 4 x 2 of 16.
MR = 8 if vector_bytes() == 64 else 4
NV = 2 if vector_bytes() == 16 else 3
SEGMENT = 3  # (length, offset in a, row of b)


def tile_of(vectors: int) -> Any:
    """The tile of some vectors of columns; `columns` masks the last one of c."""

    def emit(
        typingctx: Any, m: Any, a: Any, rows: Any, row: Any, a_step: Any, segments: Any, first: Any,
        last: Any,
        b: Any, b_at: Any, b_step: Any, c: Any, c_rows: Any, c_row: Any, c_at: Any, columns: Any, add: Any,
    ) -> Any:  # fmt: skip
        i = types.intp
        sig = types.void(i, a, rows, i, i, segments, i, i, b, i, i, c, c_rows, i, i, i, types.boolean)
        return sig, emit_tile

    def emit_tile(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (
            m,
            a,
            rows,
            row,
            a_step,
            segments,
            first,
            last,
            b,
            b_at,
            b_step,
            c,
            c_rows,
            c_row,
            c_at,
            columns,
            add,
        ) = args
        kind = llvm_vector(Vector(sig.args[1].dtype))
        word = context.get_value_type(types.intp)

        def constant(v: int) -> Any:
            return ir.Constant(word, v)

        def data(position: int) -> Any:
            return data_of(context, builder, sig.args[position], args[position])

        a, rows, segments, b, c, c_rows = (data(p) for p in (1, 2, 5, 8, 11, 12))
        left = builder.sub(columns, constant((vectors - 1) * kind.count))
        mask = lane_mask(context, builder, kind.count, constant(0), left)

        def column(pointer: Any, j: int) -> Any:
            return builder.gep(pointer, [constant(j * kind.count)])

        def load_c(r: int, j: int) -> Any:
            if j == vectors - 1:
                return masked_load(builder, column(c_pointers[r], j), kind, mask)
            return plain_load(builder, column(c_pointers[r], j), kind)

        # Rows beyond m repeat the first: it is stored again, which costs less than to ask.
        a_rows, c_pointers = [], []
        for r in range(MR):
            here = builder.icmp_signed("<", constant(r), m)
            index = builder.add(row, builder.select(here, constant(r), constant(0)))
            a_rows.append(builder.gep(a, [builder.load(builder.gep(rows, [index]))]))
            index = builder.add(c_row, builder.select(here, constant(r), constant(0)))
            c_pointers.append(builder.gep(c, [builder.add(builder.load(builder.gep(c_rows, [index])), c_at)]))

        # the outputs are asked for now and needed when the depth is through
        for r in range(MR):
            for j in range(vectors):
                fetch(builder, column(c_pointers[r], j))

        zero = ir.Constant(kind, None)
        cells = [(r, j) for r in range(MR) for j in range(vectors)]

        with builder.if_else(add) as (then, otherwise):
            with then:
                old = {(r, j): load_c(r, j) for r, j in cells}
                loaded = builder.block
            with otherwise:
                cleared = builder.block
        start = {}
        for cell in cells:
            start[cell] = builder.phi(kind)
            start[cell].add_incoming(old[cell], loaded)
            start[cell].add_incoming(zero, cleared)

        entry = builder.block
        outer, inner, next_segment, done = (
            builder.append_basic_block(name) for name in ("segment", "depth", "next_segment", "done")
        )
        builder.branch(outer)

        builder.position_at_end(outer)
        s = builder.phi(word)
        s.add_incoming(first, entry)
        sums = {}
        for cell in cells:
            sums[cell] = builder.phi(kind)
            sums[cell].add_incoming(start[cell], entry)
        at = builder.mul(s, constant(SEGMENT))
        length, a_offset, b_row = (
            builder.load(builder.gep(segments, [builder.add(at, constant(field))]))
            for field in range(SEGMENT)
        )
        a_here = [builder.gep(pointer, [a_offset]) for pointer in a_rows]
        b_here = builder.gep(b, [builder.add(b_at, builder.mul(b_row, b_step))])
        builder.branch(inner)

        builder.position_at_end(inner)
        k, a_k, b_k = builder.phi(word), builder.phi(word), builder.phi(b_here.type)
        k.add_incoming(constant(0), outer)
        a_k.add_incoming(constant(0), outer)
        b_k.add_incoming(b_here, outer)
        running = {}
        for cell in cells:
            running[cell] = builder.phi(kind)
            running[cell].add_incoming(sums[cell], outer)
        columns_of_b = [plain_load(builder, column(b_k, j), kind) for j in range(vectors)]
        updated = {}
        for r in range(MR):
            scalar = splatted(builder, builder.load(builder.gep(a_here[r], [a_k])), kind.count)
            for j in range(vectors):
                updated[r, j] = multiply_add(builder, scalar, columns_of_b[j], running[r, j])
        k_next = builder.add(k, constant(1))
        k.add_incoming(k_next, inner)
        a_k.add_incoming(builder.add(a_k, a_step), inner)
        b_k.add_incoming(builder.gep(b_k, [b_step]), inner)
        for cell in cells:
            running[cell].add_incoming(updated[cell], inner)
        builder.cbranch(builder.icmp_signed("<", k_next, length), inner, next_segment)

        builder.position_at_end(next_segment)
        s_next = builder.add(s, constant(1))
        s.add_incoming(s_next, next_segment)
        for cell in cells:
            sums[cell].add_incoming(updated[cell], next_segment)
        builder.cbranch(builder.icmp_signed("<", s_next, last), outer, done)

        builder.position_at_end(done)
        for r, j in cells:
            if j == vectors - 1:
                masked_store(builder, column(c_pointers[r], j), updated[r, j], mask)
            else:
                plain_store(builder, column(c_pointers[r], j), updated[r, j])
        return context.get_dummy_value()

    return emits(emit)(tile_in_python)


def tile_in_python(
    m: int, a: Any, rows: Any, row: int, a_step: int, segments: Any, first: int, last: int,
    b: Any, b_at: int, b_step: int, c: Any, c_rows: Any, c_row: int, c_at: int, columns: int, add: bool,
) -> None:  # fmt: skip
    for i in range(m):
        at = c_rows[c_row + i] + c_at
        sums = c[at : at + columns].copy() if add else np.zeros(columns, c.dtype)
        for s in range(first, last):
            length, a_offset, b_row = segments[SEGMENT * s : SEGMENT * (s + 1)]
            for k in range(length):
                left = b_at + (b_row + k) * b_step
                sums += a[rows[row + i] + a_offset + k * a_step] * b[left : left + columns]
        c[at : at + columns] = sums


_tile1, _tile2, _tile3 = (tile_of(vectors) for vectors in (1, 2, 3))


@jit
def tile(
    m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at, columns, add
):  # fmt: skip
    """One tile: m rows from rows[row:], segments[first:last], `columns` columns from c_at on.

    a[rows[i] + offset + k * a_step] * b[b_at + (b_row + k) * b_step + j]  ->  c[c_rows[i] + c_at + j]

    `b` is read in whole vectors, so a row of it must be padded to one.
    """
    L = lanes(a)
    if columns > 2 * L:
        _tile3(
            m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at, columns,
            add,
        )  # fmt: skip
    elif columns > L:
        _tile2(
            m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at, columns,
            add,
        )  # fmt: skip
    else:
        _tile1(
            m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at, columns,
            add,
        )  # fmt: skip


@jit
def tile_panels(
    m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, b_panel, c, c_rows, c_row, c_at,
    columns, add,
):  # fmt: skip
    """A tile's rows by all panels of `columns` columns: panels of b_step columns, b_panel elements apart."""
    L, whole = lanes(a), columns - columns % b_step
    if b_step == 3 * L:
        for j in range(0, whole, b_step):
            _tile3(
                m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at + j,
                b_step, add,
            )  # fmt: skip
            b_at += b_panel
    elif b_step == 2 * L:
        for j in range(0, whole, b_step):
            _tile2(
                m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at + j,
                b_step, add,
            )  # fmt: skip
            b_at += b_panel
    else:
        whole = 0
    for j in range(whole, columns, b_step):
        tile(
            m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at + j,
            min(b_step, columns - j), add,
        )  # fmt: skip
        b_at += b_panel


@jit
def tile_rows(
    m, a, rows, row, a_step, segments, first, last, b, b_at, b_step, c, c_rows, c_row, c_at, columns
):  # fmt: skip
    """One panel by any number of rows; from MR on, the last tile overlaps the one before it, so nothing is
    added.
    """
    L = lanes(a)
    if columns == 2 * L and m >= MR:
        for start in range(0, m, MR):
            i = min(start, m - MR)
            _tile2(
                MR, a, rows, row + i, a_step, segments, first, last, b, b_at, b_step,
                c, c_rows, c_row + i, c_at, columns, False,
            )  # fmt: skip
    else:
        for start in range(0, m, MR):
            i = max(0, min(start, m - MR))
            tile(
                min(m, MR), a, rows, row + i, a_step, segments, first, last, b, b_at, b_step,
                c, c_rows, c_row + i, c_at, columns, False,
            )  # fmt: skip


@inline
def panel_width(columns, L):
    """Columns of a panel, whole vectors: the fewest panels of at most NV, and these as even as can be."""
    vectors = (columns + L - 1) // L
    panels = (vectors + NV - 1) // NV
    return (vectors + panels - 1) // panels * L

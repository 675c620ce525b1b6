"""Register tiles of depthwise convolution in place: neighbouring outputs, or taps, of a vector of channels.

A table tells where each pixel lies; the numbers that shape the code (rows, columns, taps, steps) are
constants of the job that uses it, so that every sum has a register.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastconv.kernels.numba.jit import JIT
from fastconv.kernels.numba.vector import (
    Vector,
    bytes_of,
    data_of,
    llvm_vector,
    multiply_add,
    plain_load,
    plain_store,
)


def emit_distance(typingctx: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = context.get_value_type(types.intp)
        data = [data_of(context, builder, kind, value) for kind, value in zip(sig.args, args, strict=True)]
        first, second = (builder.ptrtoint(pointer, word) for pointer in data)
        return builder.sdiv(builder.sub(second, first), ir.Constant(word, bytes_of(data[0].type.pointee)))

    return types.intp(a, b), codegen


def distance_in_python(a: Any, b: Any) -> int:
    return int(a.size)


# Elements from a's first to b's first: one table of offsets from `a` can then lead into `b` too.
distance = intrinsic(emit_distance) if JIT else distance_in_python


class Emitter:
    """What the two tiles below emit: loads by table, and sums that LLVM keeps in registers."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.builder, self.kind = builder, kind
        self.word = context.get_value_type(types.intp)

    def number(self, value: int) -> Any:
        return ir.Constant(self.word, value)

    def index(self, start: Any, *terms: tuple[Any, Any]) -> Any:
        """start + the sum of products"""
        for a, b in terms:
            a, b = (self.number(v) if isinstance(v, int) else v for v in (a, b))
            start = self.builder.add(start, self.builder.mul(a, b))
        return start

    def load(self, data: Any, index: Any) -> Any:
        return plain_load(self.builder, self.builder.gep(data, [index]), self.kind)

    def store(self, data: Any, index: Any, value: Any) -> None:
        plain_store(self.builder, self.builder.gep(data, [index]), value)

    def pixel(self, x: Any, table: Any, index: Any) -> Any:
        return self.load(x, self.builder.load(self.builder.gep(table, [index])))

    def sums(self, count: int) -> list[Any]:
        zero = ir.Constant(self.kind, None)
        places = [cgutils.alloca_once(self.builder, self.kind) for _ in range(count)]
        for place in places:
            self.builder.store(zero, place)
        return places

    def add(self, place: Any, a: Any, b: Any) -> None:
        self.builder.store(multiply_add(self.builder, a, b, self.builder.load(place)), place)

    @contextmanager
    def range(self, first: Any, last: Any, step: int = 1) -> Iterator[Any]:
        first, last = (self.number(v) if isinstance(v, int) else v for v in (first, last))
        with cgutils.for_range_slice(self.builder, first, last, self.number(step), self.word) as (i, _):
            yield i


def emit_tile(
    typingctx: Any, oh: Any, ow: Any, taps: Any, unrolled: Any, step_h: Any, step_w: Any, step: Any, x: Any,
    zeros: Any, c: Any, table: Any, table_at: Any, pitch: Any, rows: Any, w: Any, w_at: Any, w_row: Any,
    y: Any, y_at: Any, y_row: Any, y_step: Any, count: Any, add: Any, start: Any,
) -> Any:  # fmt: skip
    i, yes = types.intp, types.boolean
    shape = (oh, ow, taps, unrolled, step_h, step_w)
    OH, OW, TAPS, UNROLLED, STEP_H, STEP_W = (v.literal_value for v in shape)
    sig = types.void(*shape, i, x, zeros, i, table, i, i, i, w, i, i, y, i, i, i, i, yes, start)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        e = Emitter(context, builder, llvm_vector(Vector(sig.args[7].dtype)))
        x, table, w, y = (data_of(context, builder, sig.args[p], args[p]) for p in (7, 10, 14, 17))
        step, c, table_at, pitch, rows, w_at, w_row = (args[p] for p in (6, 9, 11, 12, 13, 15, 16))
        y_at, y_row, y_step, count, add, start = args[18:]
        x = builder.gep(x, [c])
        sums = [e.sums(OW) for _ in range(OH)]

        # what hangs over is written where the last output follows
        last = builder.sub(count, e.number(1))
        columns = []
        for o in range(OW):
            inside = builder.icmp_signed("<", e.number(o), last)
            columns.append(builder.mul(builder.select(inside, e.number(o), last), y_step))

        def output(j: int, o: int) -> Any:
            return e.index(builder.add(y_at, columns[o]), (j, y_row))

        with builder.if_else(add) as (then, otherwise):
            with then:
                for j in range(OH):
                    for o in range(OW):
                        builder.store(e.load(y, output(j, o)), sums[j][o])
            with otherwise:
                for j in range(OH):
                    for o in range(OW):
                        builder.store(start, sums[j][o])

        def source_row(number: Any, first: bool, second: bool) -> None:
            """A row of pixels through the rows of taps that meet it, of one output row or of both."""
            at = e.index(table_at, (number, pitch))
            pixels = sorted({o * STEP_W + t for o in range(OW) for t in range(TAPS)})
            v = {k: e.pixel(x, table, builder.add(at, e.number(k))) for k in pixels}
            w0 = e.index(w_at, (number, w_row))
            w1 = builder.sub(w0, builder.mul(step, w_row))
            for t in range(TAPS):
                for row, here, weights in ((0, first, w0), (OH - 1, second, w1)):
                    if here:
                        weight = e.load(w, builder.add(weights, e.number(t * e.kind.count)))
                        for o in range(OW):
                            e.add(sums[row][o], v[o * STEP_W + t], weight)

        two = OH == 2
        if TAPS and UNROLLED:
            for i in range(UNROLLED + (STEP_H if two else 0)):
                first, second = i < UNROLLED, two and i >= STEP_H
                if first or second:
                    source_row(e.number(i), first, second)
        elif TAPS:
            fewer = builder.select(builder.icmp_signed("<", rows, step), rows, step) if two else rows
            more = builder.select(builder.icmp_signed("<", rows, step), step, rows)
            with e.range(0, fewer) as i:
                source_row(i, True, False)
            if two:
                with e.range(step, rows) as i:
                    source_row(i, True, True)
                with e.range(more, builder.add(rows, step)) as i:
                    source_row(i, False, True)
        for j in reversed(range(OH)):
            for o in reversed(range(OW)):
                e.store(y, output(j, o), builder.load(sums[j][o]))
        return context.get_dummy_value()

    return sig, codegen


def pixel_in_python(x: Any, zeros: Any, i: int, lanes: int) -> Any:
    return x[i : i + lanes] if i < x.size else zeros[i - x.size : i - x.size + lanes]


def tile_in_python(
    oh: int, ow: int, taps: int, unrolled: int, step_h: int, step_w: int, step: int, x: Any, zeros: Any,
    c: int, table: Any, table_at: int, pitch: int, rows: int, w: Any, w_at: int, w_row: int, y: Any,
    y_at: int, y_row: int, y_step: int, count: int, add: bool, start: Any,
) -> None:  # fmt: skip
    L = start.size
    for j in reversed(range(oh)):
        for o in range(count):
            to = y_at + j * y_row + o * y_step
            sums = y[to : to + L].copy() if add else start.copy()
            for r in range(rows):
                for t in range(taps):
                    i = table[table_at + (j * step + r) * pitch + o * step_w + t]
                    weight = w[w_at + r * w_row + t * L :][:L]
                    sums += pixel_in_python(x, zeros, i + c, L) * weight
            y[to : to + L] = sums


# tile(OH, OW, TAPS, UNROLLED, STEP_H, STEP_W, step_h, x, zeros, c, table, table_at, pitch, rows,
#      w, w_at, w_row, y, y_at, y_row, y_step, count, add, start)
#
# OH rows of `count` outputs (at most OW), or what is added to them, from `rows` rows of TAPS taps. UNROLLED
# rows, if any, need no loop; STEP_H is then step_h. The first row is written last: with y_row = 0 it alone
# counts. A row of the table is `pitch` numbers, one a pixel; a row of filters `w_row` elements, one vector a
# tap.
tile = intrinsic(prefer_literal=True)(emit_tile) if JIT else tile_in_python


# Pixels at a time: their gradients stay in registers beside the sums.
POINTS = 4


def emit_correlate(
    typingctx: Any, rows: Any, taps: Any, step_w: Any, x: Any, zeros: Any, c: Any, table: Any, table_at: Any,
    pitch: Any, step_h: Any, dy: Any, dy_at: Any, dy_row: Any, dy_step: Any, lines: Any, columns: Any,
    total: Any, total_at: Any, total_row: Any,
) -> Any:  # fmt: skip
    i = types.intp
    ROWS, TAPS, STEP_W = (v.literal_value for v in (rows, taps, step_w))
    sig = types.void(rows, taps, step_w, x, zeros, i, table, i, i, i, dy, i, i, i, i, i, total, i, i)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if TAPS == 0:
            return context.get_dummy_value()
        e = Emitter(context, builder, llvm_vector(Vector(sig.args[3].dtype)))
        x, table, dy, total = (data_of(context, builder, sig.args[p], args[p]) for p in (3, 6, 10, 16))
        c, table_at, pitch, step_h, dy_at, dy_row, dy_step = (args[p] for p in (5, 7, 8, 9, 11, 12, 13))
        lines, columns, total_at, total_row = args[14], args[15], args[17], args[18]
        x = builder.gep(x, [c])
        sums = [e.sums(TAPS) for _ in range(ROWS)]

        def points(line: Any, column: Any, count: int) -> None:
            gradients = [
                e.load(dy, e.index(dy_at, (line, dy_row), (builder.add(column, e.number(o)), dy_step)))
                for o in range(count)
            ]
            for r in range(ROWS):
                row = builder.add(builder.mul(line, step_h), e.number(r))
                at = e.index(table_at, (row, pitch), (column, STEP_W))
                pixels = sorted({o * STEP_W + t for o in range(count) for t in range(TAPS)})
                v = {k: e.pixel(x, table, builder.add(at, e.number(k))) for k in pixels}
                for o in range(count):
                    for t in range(TAPS):
                        e.add(sums[r][t], gradients[o], v[o * STEP_W + t])

        whole = builder.sub(columns, builder.srem(columns, e.number(POINTS)))
        with e.range(0, lines) as line:
            with e.range(0, whole, POINTS) as column:
                points(line, column, POINTS)
            with e.range(whole, columns) as column:
                points(line, column, 1)
        for r in range(ROWS):
            for t in range(TAPS):
                to = e.index(total_at, (r, total_row), (t, e.kind.count))
                e.store(total, to, builder.fadd(e.load(total, to), builder.load(sums[r][t])))
        return context.get_dummy_value()

    return sig, codegen


def correlate_in_python(
    rows: int, taps: int, step_w: int, x: Any, zeros: Any, c: int, table: Any, table_at: int, pitch: int,
    step_h: int, dy: Any, dy_at: int, dy_row: int, dy_step: int, lines: int, columns: int,
    total: Any, total_at: int, total_row: int,
) -> None:  # fmt: skip
    from fastconv.kernels.numba.vector import lanes

    L = lanes(x)
    for r in range(rows):
        for t in range(taps):
            sums = np.zeros(L, x.dtype)
            for line in range(lines):
                for column in range(columns):
                    i = table[table_at + (line * step_h + r) * pitch + column * step_w + t]
                    gradient = dy[dy_at + line * dy_row + column * dy_step :][:L]
                    sums += pixel_in_python(x, zeros, i + c, L) * gradient
            to = total_at + r * total_row + t * L
            total[to : to + L] += sums


# correlate(ROWS, TAPS, STEP_W, x, zeros, c, table, table_at, pitch, step_h, dy, dy_at, dy_row, dy_step,
#           lines, columns, total, total_at, total_row)
#
# total[r, t] += the sum over lines and columns of dy, at (line, column), times the pixel of tap (r, t).
correlate = intrinsic(prefer_literal=True)(emit_correlate) if JIT else correlate_in_python

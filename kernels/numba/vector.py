"""Vector registers in Numba code: a type, loads and stores, and the arithmetic of a kernel's inner loop.

Numba's own loops leave it to LLVM whether a loop is vectorized and what stays in registers. Here a value
of type `Vector` is one register, and each operation below is one LLVM instruction. The Python function
under an operation is its definition, and what runs where the JIT is off: there a vector is a small
ndarray.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, lower_builtin, register_model, type_callable
from numba.np.arrayobj import make_array

from fastconv.kernels.numba.jit import JIT, vector_bytes

I32 = ir.IntType(32)


class Vector(types.Type):
    """One vector register of float32 or float64."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = lanes_of(dtype)
        super().__init__(f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class VectorModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, llvm_vector(vector))


def lanes_of(dtype: Any) -> int:
    return vector_bytes() * 8 // int(dtype.bitwidth)


def llvm_scalar(dtype: Any) -> Any:
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def llvm_vector(vector: Vector) -> Any:
    return ir.VectorType(llvm_scalar(vector.dtype), vector.lanes)


def emits(emitter: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Replace a Python definition by an intrinsic, unless the JIT is off."""

    def decorate(definition: Callable[..., Any]) -> Any:
        return intrinsic(emitter) if JIT else definition

    return decorate


def data_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return make_array(array_type)(context, builder, array).data


def splatted(builder: Any, scalar: Any, lanes: int) -> Any:
    """All lanes the same value."""
    kind = ir.VectorType(scalar.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def lane_numbers(lanes: int) -> Any:
    return ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))


def lane_mask(context: Any, builder: Any, lanes: int, low: Any, high: Any) -> Any:
    """Lanes low <= j < high, for any integers low and high."""
    zero, top = (context.get_constant(types.intp, v) for v in (0, lanes))

    def clamped(v: Any) -> Any:
        v = builder.select(builder.icmp_signed("<", v, zero), zero, v)
        v = builder.select(builder.icmp_signed(">", v, top), top, v)
        return splatted(builder, builder.trunc(v, I32), lanes)

    j = lane_numbers(lanes)
    return builder.and_(
        builder.icmp_signed(">=", j, clamped(low)), builder.icmp_signed("<", j, clamped(high))
    )


def suffix(kind: Any) -> str:
    """v16f32: how LLVM's intrinsics spell a vector type."""
    return f"v{kind.count}{'f32' if isinstance(kind.element, ir.FloatType) else 'f64'}"


def masked_load(builder: Any, pointer: Any, kind: Any, mask: Any) -> Any:
    pointer = builder.bitcast(pointer, kind.as_pointer())
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [pointer.type, I32, mask.type, kind]),
        f"llvm.masked.load.{suffix(kind)}.p0{suffix(kind)}",
    )
    return builder.call(function, [pointer, I32(bytes_of(kind.element)), mask, ir.Constant(kind, None)])


def masked_store(builder: Any, pointer: Any, value: Any, mask: Any) -> None:
    kind = value.type
    pointer = builder.bitcast(pointer, kind.as_pointer())
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [kind, pointer.type, I32, mask.type]),
        f"llvm.masked.store.{suffix(kind)}.p0{suffix(kind)}",
    )
    builder.call(function, [value, pointer, I32(bytes_of(kind.element)), mask])


def plain_load(builder: Any, pointer: Any, kind: Any) -> Any:
    value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
    value.align = bytes_of(kind.element)
    return value


def plain_store(builder: Any, pointer: Any, value: Any) -> None:
    store = builder.store(value, builder.bitcast(pointer, value.type.as_pointer()))
    store.align = bytes_of(value.type.element)


def bytes_of(scalar: Any) -> int:
    return 4 if isinstance(scalar, ir.FloatType) else 8


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c; LLVM contracts it to one FMA where the CPU has one, and to two instructions where not."""
    return builder.fadd(builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])


def emit_lanes(typingctx: Any, a: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, lanes_of(a.dtype))

    return types.intp(a), codegen


@emits(emit_lanes)
def lanes(a: Any) -> int:
    """Elements of a's dtype in a vector."""
    return vector_bytes() // int(a.itemsize)


def emit_at(typingctx: Any, a: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]]))

    return a.dtype(a, types.intp), codegen


@emits(emit_at)
def at(a: Any, i: int) -> Any:
    """a[i] for i >= 0: no wrap-around test, which would keep a loop from being vectorized."""
    return a[i]


def emit_put(typingctx: Any, a: Any, i: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]]))
        return context.get_dummy_value()

    return types.void(a, types.intp, a.dtype), codegen


@emits(emit_put)
def put(a: Any, i: int, value: Any) -> None:
    """a[i] = value for i >= 0."""
    a[i] = value


def fetch(builder: Any, pointer: Any) -> None:
    """Ask for the cache line at a pointer; any address will do."""
    byte = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [byte.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [byte, I32(0), I32(3), I32(1)])


def emit_prefetch(typingctx: Any, a: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fetch(builder, builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]]))
        return context.get_dummy_value()

    return types.void(a, types.intp), codegen


@emits(emit_prefetch)
def prefetch(a: Any, i: int) -> None:
    """Ask for the cache line of a[i], which need not exist."""


def emit_load(typingctx: Any, a: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        return plain_load(builder, pointer, llvm_vector(sig.return_type))

    return Vector(a.dtype)(a, types.intp), codegen


@emits(emit_load)
def load(a: Any, i: int) -> Any:
    """a[i:i + lanes]"""
    assert 0 <= i <= a.size - lanes(a)
    return a[i : i + lanes(a)].copy()


def emit_load_part(typingctx: Any, a: Any, i: Any, low: Any, high: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_vector(sig.return_type)
        pointer = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        return masked_load(builder, pointer, kind, lane_mask(context, builder, kind.count, args[2], args[3]))

    return Vector(a.dtype)(a, types.intp, types.intp, types.intp), codegen


@emits(emit_load_part)
def load_part(a: Any, i: int, low: int, high: int) -> Any:
    """Lanes low <= j < high of a[i:i + lanes], zero in the others, which are not read."""
    return gather_part(a, i, 1, low, high)


def emit_gather_part(typingctx: Any, a: Any, i: Any, step: Any, low: Any, high: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_vector(sig.return_type)
        data = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        mask = lane_mask(context, builder, kind.count, args[3], args[4])
        word = context.get_value_type(types.intp)
        numbers = ir.Constant(ir.VectorType(word, kind.count), list(range(kind.count)))
        offsets = builder.mul(numbers, splatted(builder, args[2], kind.count))
        value = ir.Constant(kind, None)
        for lane in range(kind.count):  # scalar loads: the CPU's own gather is no faster and not everywhere
            j = ir.Constant(I32, lane)
            before = builder.block
            with builder.if_then(builder.extract_element(mask, j)):
                element = builder.load(builder.gep(data, [builder.extract_element(offsets, j)]))
                filled = builder.insert_element(value, element, j)
                inside = builder.block
            merged = builder.phi(kind)
            merged.add_incoming(filled, inside)
            merged.add_incoming(value, before)
            value = merged
        return value

    return Vector(a.dtype)(a, types.intp, types.intp, types.intp, types.intp), codegen


@emits(emit_gather_part)
def gather_part(a: Any, i: int, step: int, low: int, high: int) -> Any:
    """Lanes low <= j < high of a[i + j * step], zero in the others, which are not read."""
    value = np.zeros(lanes(a), a.dtype)
    for j in range(max(low, 0), min(high, lanes(a))):
        assert 0 <= i + j * step < a.size
        value[j] = a[i + j * step]
    return value


def emit_store(typingctx: Any, a: Any, i: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        plain_store(builder, builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]]), args[2])
        return context.get_dummy_value()

    return types.void(a, types.intp, value), codegen


@emits(emit_store)
def store(a: Any, i: int, value: Any) -> None:
    """a[i:i + lanes] = value"""
    assert 0 <= i <= a.size - lanes(a)
    a[i : i + lanes(a)] = value


def emit_store_part(typingctx: Any, a: Any, i: Any, count: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        none = context.get_constant(types.intp, 0)
        mask = lane_mask(context, builder, args[3].type.count, none, args[2])
        masked_store(builder, pointer, args[3], mask)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, value), codegen


@emits(emit_store_part)
def store_part(a: Any, i: int, count: int, value: Any) -> None:
    """a[i:i + count] = value[:count], at most all lanes."""
    count = max(0, min(count, lanes(a)))
    assert count == 0 or 0 <= i <= a.size - count
    a[i : i + count] = value[:count]


def emit_splat(typingctx: Any, a: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splatted(builder, args[1], sig.return_type.lanes)

    return Vector(a.dtype)(a, a.dtype), codegen


@emits(emit_splat)
def splat(a: Any, value: Any) -> Any:
    """A vector of a's dtype with all lanes `value`."""
    return np.full(lanes(a), value, a.dtype)


def emit_cast(typingctx: Any, a: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[1]

    return a.dtype(a, a.dtype), codegen


@emits(emit_cast)
def cast(a: Any, value: Any) -> Any:
    """The value in a's dtype."""
    return a.dtype.type(value)


def emit_fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return multiply_add(builder, *args)

    return c(a, b, c), codegen


@emits(emit_fma)
def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c"""
    return a * b + c


def emit_total(typingctx: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        part, lanes = args[0], args[0].type.count
        undefined = ir.Constant(part.type, ir.Undefined)
        while lanes > 1:  # halves are added: the order is fixed, and the same on every run
            lanes //= 2
            halves = [ir.Constant(ir.VectorType(I32, lanes), list(range(s, s + lanes))) for s in (0, lanes)]
            part = builder.fadd(*(builder.shuffle_vector(part, undefined, half) for half in halves))
            undefined = ir.Constant(part.type, ir.Undefined)
        return builder.extract_element(part, ir.Constant(I32, 0))

    return value.dtype(value), codegen


@emits(emit_total)
def total(value: Any) -> Any:
    """The sum of the lanes."""
    return value.sum()


def exchanged(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square of vectors: opposite blocks change places, in squares of 2, 4, ... lanes."""
    rows, size, half = list(rows), len(rows), 1
    while half < size:
        low = [lane if not lane & half else size + lane - half for lane in range(size)]
        high = [lane + half if not lane & half else size + lane for lane in range(size)]
        masks = [ir.Constant(ir.VectorType(I32, size), lanes) for lanes in (low, high)]
        for r in range(size):
            if not r & half:
                pair = rows[r], rows[r + half]
                rows[r], rows[r + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        half *= 2
    return rows


def transposer(partial: bool) -> Callable[..., Any]:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = llvm_vector(Vector(sig.args[0].dtype))
        word, zero = context.get_value_type(types.intp), context.get_constant(types.intp, 0)
        to, source = (data_of(context, builder, sig.args[p], args[p]) for p in (0, 3))
        load_mask, store_mask = (
            (lane_mask(context, builder, kind.count, zero, args[p]) for p in (7, 6))
            if partial
            else (None, None)
        )

        def pointer(data: Any, start: Any, step: Any, number: Any) -> Any:
            return builder.gep(data, [builder.add(start, builder.mul(step, number))])

        rows = []
        for r in range(kind.count):
            number = ir.Constant(word, r)
            if partial:  # rows that are not there are read from the first
                number = builder.select(builder.icmp_signed("<", number, args[6]), number, zero)
                rows.append(masked_load(builder, pointer(source, args[4], args[5], number), kind, load_mask))
            else:
                rows.append(plain_load(builder, pointer(source, args[4], args[5], number), kind))
        for c, column in enumerate(exchanged(builder, rows)):
            number = ir.Constant(word, c)
            if partial:
                with builder.if_then(builder.icmp_signed("<", number, args[7])):
                    masked_store(builder, pointer(to, args[1], args[2], number), column, store_mask)
            else:
                plain_store(builder, pointer(to, args[1], args[2], number), column)
        return context.get_dummy_value()

    return codegen


def emit_transpose_square(
    typingctx: Any, to: Any, i: Any, to_row: Any, source: Any, j: Any, from_row: Any
) -> Any:
    word = types.intp
    return types.void(to, word, word, source, word, word), transposer(partial=False)


@emits(emit_transpose_square)
def transpose_square(to: Any, i: int, to_row: int, source: Any, j: int, from_row: int) -> None:
    """to[i + c * to_row + r] = source[j + r * from_row + c] for all r, c < lanes."""
    transpose_part(to, i, to_row, source, j, from_row, lanes(to), lanes(to))


def emit_transpose_part(
    typingctx: Any, to: Any, i: Any, to_row: Any, source: Any, j: Any, from_row: Any, rows: Any, columns: Any
) -> Any:
    word = types.intp
    return types.void(to, word, word, source, word, word, word, word), transposer(partial=True)


@emits(emit_transpose_part)
def transpose_part(
    to: Any, i: int, to_row: int, source: Any, j: int, from_row: int, rows: int, columns: int
) -> None:
    """to[i + c * to_row + r] = source[j + r * from_row + c] for r < rows, c < columns, at most all lanes."""
    for r in range(min(rows, lanes(to))):
        for c in range(min(columns, lanes(to))):
            to[i + c * to_row + r] = source[j + r * from_row + c]


def register_operator(function: Any, instruction: str) -> None:
    """+, - and * on two vectors of a type."""

    @type_callable(function)
    def typed(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            return a if isinstance(a, Vector) and a == b else None

        return typer

    @lower_builtin(function, Vector, Vector)
    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=["contract"])


if JIT:
    for _function, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
        register_operator(_function, _instruction)

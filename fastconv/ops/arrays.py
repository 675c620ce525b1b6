"""Checks on array arguments: type, dtype, memory order, `out`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.dispatch import runtime, settings
from fastconv.kernels import cython
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.spec import PoolSpec, Size

Array = NDArray[Any]
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def checked_float(op: str, name: str, a: Any, like: np.dtype[Any] | None = None) -> Array:
    """`a` as a plain ndarray of float32 or float64, or of exactly the dtype `like`; no copy is made."""
    if type(a) is not np.ndarray:
        a = plain_ndarray(op, name, a)
    dtype = a.dtype
    if dtype is not FLOAT32 and dtype is not FLOAT64:
        check_float(op, name, dtype)
    if like is not None and dtype is not like and dtype != like:
        bad_type(op, f"{name} is {dtype}, the other arrays {like}", f"cast it: {name}.astype(np.{like})")
    return a  # type: ignore[no-any-return]


def contiguous(a: Array) -> Array:
    """`a` in C order and aligned, copied only where it is not."""
    flags = a.flags
    return a if flags.c_contiguous and flags.aligned else np.array(a, order="C")


def writable(out: Array) -> Array:
    """Where a kernel may write a result meant for `out`: itself, or a fresh array that `result` copies."""
    return out if out.flags.c_contiguous and out.flags.aligned else np.empty(out.shape, out.dtype)


def result(computed: Array, out: Array | None) -> Array:
    """What a function returns: the computed array, or `out` holding it."""
    if out is None or computed is out:
        return computed
    out[...] = computed
    return out


def plain_ndarray(op: str, name: str, a: Any) -> Array:
    """Views of subclasses that are ndarrays in all but name (memmap); a mask must not be lost silently."""
    if isinstance(a, np.ma.MaskedArray):
        bad_type(op, f"{name} is a masked array", f"fill it first: {name}.filled(0)")
    if not isinstance(a, np.ndarray):
        bad_type(op, f"{name} is {shown(type(a).__name__)}", "it must be a NumPy array")
    return np.asarray(a)  # of a subclass, too, whatever it overrides


def check_float(op: str, name: str, dtype: np.dtype[Any]) -> None:
    if dtype not in (FLOAT32, FLOAT64) or not dtype.isnative:
        cast = "np.float64" if dtype.kind == "f" and dtype.itemsize > 4 else "np.float32"
        needed = f"it must be native float32 or float64: {name}.astype({cast})"
        bad_type(op, f"{name} has dtype {dtype}", needed)


def check_shape(op: str, name: str, a: Array, shape: Size) -> None:
    if a.shape != shape:
        bad_value(op, f"{name} has shape {a.shape}", f"it must be {shape}")


def check_argmax(op: str, argmax: Any, shape: Size, spec: PoolSpec) -> Array:
    """Indices in the dtype kernels expect, every one inside the plane."""
    if not isinstance(argmax, np.ndarray):
        bad_type(op, f"argmax is {shown(type(argmax).__name__)}", "it must be a NumPy array of integers")
    argmax = plain_ndarray(op, "argmax", argmax)  # a mask would hide indices from the check
    if argmax.dtype.kind not in "iu":
        bad_type(op, f"argmax has dtype {argmax.dtype}", "it must be integers, as max-pooling returns them")
    check_shape(op, "argmax", argmax, shape)
    plane = math.prod(spec.size)
    if not within(argmax, plane, spec.argmax_dtype):
        bad_value(
            op,
            f"argmax ranges from {argmax.min()} to {argmax.max()}",
            f"it must be inside the plane of {spec.size}, 0 to {plane - 1}",
        )
    return np.ascontiguousarray(argmax, spec.argmax_dtype)


def within(argmax: Array, plane: int, kernels_dtype: np.dtype[Any]) -> bool:
    """True where every index is from 0 to plane - 1; in one pass where the array is as kernels take it."""
    engine = cython.engine(runtime.chosen_isa())
    flags = argmax.flags
    if engine is None or argmax.dtype != kernels_dtype or not (flags.c_contiguous and flags.aligned):
        return not argmax.size or bool(argmax.min() >= 0 and argmax.max() < plane)
    fits: bool = engine.within(argmax, plane, runtime.threads_allowed(settings.current().threads))
    return fits


def check_out(op: str, out: Any, shape: Size, dtype: np.dtype[Any], *inputs: Array | None) -> None:
    """`out` must be a writeable ndarray of the result's shape and dtype, sharing no memory with an input."""
    if type(out) is not np.ndarray:
        bad_type(op, f"out is {shown(type(out).__name__)}", "it must be a NumPy array or None")
    if out.dtype != dtype:
        bad_type(op, f"out has dtype {out.dtype}", f"it must be {dtype}")
    check_shape(op, "out", out, shape)
    if not out.flags.writeable:
        bad_value(op, "out is read-only", "it must be writeable")
    if any(a is not None and overlap(out, a) for a in inputs) or overlaps_itself(out):
        bad_value(op, "out shares memory with an input or with itself", "it must be an array of its own")


def overlap(a: Array, b: Array) -> bool:
    """True where two arrays may share an element (undecided after a bounded search counts as shared)."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def overlaps_itself(a: Array) -> bool:
    """True where two indices of a broadcast or overlapping view can meet at one address."""
    if a.flags.c_contiguous or a.size == 0:
        return False
    axes = zip(a.strides, a.shape, strict=True)
    steps = sorted((abs(stride), length) for stride, length in axes if length > 1)
    reach = a.itemsize
    for stride, length in steps:
        if stride < reach:
            return True
        reach += stride * (length - 1)
    return False

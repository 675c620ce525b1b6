"""Plain arguments to checked integers, tuples and names: every form an argument may take is read here."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.ops.errors import bad_type, bad_value, shown

Size = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]
PerAxis = int | Sequence[int]
PaddingLike = int | str | Sequence[int | Sequence[int]]

LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
# Kernels compute offsets in int64 bytes; a padded axis beyond this could overflow them.
MAX_EXTENT = 2**62
# Every sequence that an argument may be is far shorter; a longer one is not even copied.
MOST_ELEMENTS = 64


def batch_shape(n: int, channels: int, size: Size, channels_last: bool) -> Size:
    """The shape of an activation array in its layout."""
    return (n, *size, channels) if channels_last else (n, channels, *size)


def split_shape(shape: Size, channels_last: bool) -> tuple[int, int, Size]:
    """(N, channels, spatial size) of an activation's shape."""
    return (shape[0], shape[-1], shape[1:-1]) if channels_last else (shape[0], shape[1], shape[2:])


def parse_layout(op: str, layout: Any, x_shape: Any) -> tuple[int, bool]:
    """(number of spatial axes, channels last?) of a layout name; the caller has fixed the former in `op`."""
    ndim = op_ndim(op, x_shape)
    first, last = LAYOUTS[ndim]
    if not isinstance(layout, str):
        bad_type(op, f"layout is {shown(layout)}", f"it must be {first!r} or {last!r}")
    if layout not in (first, last):
        bad_value(op, f"layout is {shown(layout)}", f"it must be {first!r} or {last!r}")
    return ndim, layout == last


def parse_any_layout(op: str, layout: Any, shape: Any) -> tuple[str, bool]:
    """(layout name, channels last?) of an operation on any rank; None is channels-first."""
    ndim = op_ndim(op, parse_sequence(op, "shape", shape, "it must be 3 to 5 integers"))
    if layout is None:
        return LAYOUTS[ndim][0], False
    return layout, parse_layout(op, layout, shape)[1]


def op_ndim(op: str, x_shape: Any) -> int:
    """The spatial rank an operation's name promises (conv2d: 2), or the array's where it promises none."""
    for ndim in LAYOUTS:
        if f"{ndim}d" in op:
            return ndim
    ndim = len(x_shape) - 2
    if ndim not in LAYOUTS:
        bad_value(op, f"x has {len(x_shape)} dimensions", "it must have 3 to 5: N, C and 1 to 3 spatial axes")
    return ndim


def parse_int(op: str, name: str, value: Any, least: int) -> int:
    """A Python or NumPy integer (no bool) of at least `least`."""
    if isinstance(value, (bool, np.bool_)):
        bad_type(op, f"{name} is {shown(value)}", "it must be an integer")
    try:
        number = operator.index(value)
    except TypeError:
        bad_type(op, f"{name} is {shown(value)}", "it must be an integer")
    if number < least:
        bad_value(op, f"{name} is {shown(number)}", f"it must be at least {least}")
    if number >= MAX_EXTENT:
        bad_value(op, f"{name} is {shown(number)}", "it must be below 2**62")
    return number


def parse_flag(op: str, name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        bad_type(op, f"{name} is {shown(value)}", "it must be True or False")
    return bool(value)


def parse_sequence(op: str, name: str, value: Any, needed: str) -> list[Any]:
    """The elements of a list, tuple or 1-d integer array; anything else is a TypeError."""
    if isinstance(value, np.ndarray) and value.size <= MOST_ELEMENTS:
        value = value.tolist() if value.ndim else [value.item()]
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        bad_type(op, f"{name} is {shown(value)}", needed)
    parts = list(value[: MOST_ELEMENTS + 1])
    if len(parts) > MOST_ELEMENTS:
        bad_value(op, f"{name} is {shown(value)}, more than {MOST_ELEMENTS} elements", needed)
    return parts


def parse_shape(op: str, name: str, shape: Any, length: int, axes: str) -> Size:
    """A shape argument or an array's shape: `length` integers of at least 0."""
    parts = parse_sequence(op, f"{name} shape", shape, f"it must be {length} integers ({axes})")
    if len(parts) != length:
        came = f"{name} has {len(parts)} dimensions {shown(tuple(parts))}"
        bad_value(op, came, f"it must have {length} ({axes})")
    return tuple(parse_int(op, f"{name}.shape[{i}]", v, least=0) for i, v in enumerate(parts))


def parse_axes(op: str, name: str, value: Any, ndim: int, least: int) -> Size:
    """One integer for every spatial axis, or one per axis."""
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)):
        return (parse_int(op, name, value, least),) * ndim
    forms = f"it must be an integer or {ndim} of them"
    parts = parse_sequence(op, name, value, forms)
    if len(parts) != ndim:
        bad_value(op, f"{name} has {len(parts)} elements {shown(value)}", forms)
    return tuple(parse_int(op, f"{name}[{i}]", v, least) for i, v in enumerate(parts))


def parse_padding(
    op: str, padding: Any, size: Size, window: Size, stride: Size, dilation: Size
) -> tuple[tuple[int, int], ...]:
    """Every form of padding as (before, after) per axis."""
    ndim = len(size)
    forms = f"it must be 'valid', 'same', 'same_lower', an integer, {ndim} integers or (before, after) pairs"
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * ndim
        if padding not in ("same", "same_lower"):
            bad_value(op, f"padding is {shown(padding)}", forms)
        pairs = []
        for i, f, s, d in zip(size, window, stride, dilation, strict=True):
            total = max((-(-i // s) - 1) * s + d * (f - 1) + 1 - i, 0)
            half = total // 2
            pairs.append((half, total - half) if padding == "same" else (total - half, half))
        return tuple(pairs)
    if not isinstance(padding, (Sequence, np.ndarray)) or isinstance(padding, bytes):
        both = parse_int(op, "padding", padding, least=0)
        return ((both, both),) * ndim
    parts = parse_sequence(op, "padding", padding, forms)
    if len(parts) != ndim:
        bad_value(op, f"padding has {len(parts)} elements {shown(padding)}", forms)
    pairs = []
    for axis, part in enumerate(parts):
        name = f"padding[{axis}]"
        if isinstance(part, (Sequence, np.ndarray)) and not isinstance(part, (str, bytes)):
            ends = parse_sequence(op, name, part, forms)
            if len(ends) != 2:
                bad_value(op, f"{name} is {shown(part)}", "it must be an integer or a (before, after) pair")
            pairs.append((parse_int(op, f"{name}[0]", ends[0], 0), parse_int(op, f"{name}[1]", ends[1], 0)))
        else:
            both = parse_int(op, name, part, least=0)
            pairs.append((both, both))
    return tuple(pairs)


def check_padding_mode(op: str, mode: Any, padding: Padding, size: Size) -> None:
    """Reflection needs padding below the size, wrapping at most the size (one turn)."""
    if not isinstance(mode, str):
        bad_type(op, f"padding_mode is {shown(mode)}", f"it must be one of {', '.join(PADDING_MODES)}")
    if mode not in PADDING_MODES:
        bad_value(op, f"padding_mode is {shown(mode)}", f"it must be one of {', '.join(PADDING_MODES)}")
    for axis, (ends, i) in enumerate(zip(padding, size, strict=True)):
        limit = {"reflect": i - 1, "circular": i}.get(mode, MAX_EXTENT)
        if max(ends) > limit:
            came = f"padding[{axis}] is {ends} on an axis of {i}"
            bad_value(op, came, f"padding_mode {mode!r} takes at most {limit}")


def check_positive(op: str, name: str, sizes: Size) -> None:
    if 0 in sizes:
        bad_value(op, f"{name} has spatial size {sizes}", "every spatial axis must be at least 1")

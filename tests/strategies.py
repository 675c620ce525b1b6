"""Random problems: specs of every rank, data, and arrays in every memory order."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastconv.ops.spec import LAYOUTS, ConvSpec, PoolSpec, conv_spec, pool_spec

Array = NDArray[Any]

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = st.sampled_from([np.float32, np.float64])
# Around the vector lengths and register tiles of every instruction set, where remainders begin.
EDGES = st.sampled_from([7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 64, 65, 100])
CHANNELS = st.integers(1, 5) | st.integers(1, 12) | EDGES
LONGEST_AXIS = {1: 140, 2: 26, 3: 9}
LONGEST_WINDOW = {1: 11, 2: 6, 3: 4}
# Input pixels x batch x channels x filters of one drawn problem: the reference takes milliseconds, and a
# Numba kernel that runs as plain Python seconds.
MOST_WORK = 300_000 if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0" else 500


# Kinds of convolutions, often the ones that kernels single out, and ranks, mostly 2.
KINDS = (*itertools.product(("any", "any", "3x3", "1x1", "depthwise"), (2, 2, 1, 3)), ("large filters", 2))
LARGE_WINDOW = 21  # of a depthwise convolution of unit stride, across several blocks of taps


@st.composite
def conv_specs(
    draw: st.DrawFn,
    dtype: Any = None,
    channels_last: bool | None = None,
    kinds: Sequence[tuple[str, int]] = KINDS,
) -> ConvSpec:
    """A convolution of rank 1 to 3; a "3x3" one has unit stride and dilation, "large filters" unit stride."""
    kind, ndim = draw(st.sampled_from(kinds))
    channels_last = draw(st.booleans()) if channels_last is None else channels_last
    n, groups, c_group, k_group = draw(st.integers(1, 3)), *draw(channel_counts(kind))
    size = draw(
        sizes(ndim, MOST_WORK // (n * groups * c_group * k_group) // (8 if kind == "large filters" else 1))
    )
    window = draw(windows(ndim, kind))
    unit = (1,) * ndim
    stride = unit if kind in ("3x3", "large filters") else draw(axes(ndim, 4))
    dilation = unit if kind == "3x3" else draw(axes(ndim, 3))
    c, k = groups * c_group, groups * k_group
    spec = conv_spec(
        *(f"conv{ndim}d", (n, *size, c) if channels_last else (n, c, *size)),
        (*window, c_group, k) if channels_last else (k, c_group, *window),
        np.dtype(draw(DTYPES) if dtype is None else dtype),
        stride=stride,
        dilation=dilation,
        padding=draw(paddings(size, window, dilation)),
        groups=groups,
        layout=LAYOUTS[ndim][channels_last],
    )
    if draw(st.integers(0, 9)) == 0:  # a transposed convolution asks for fewer outputs than would fit
        spec = replace(spec, out_size=tuple(max(1, o - 1) for o in spec.out_size))
    return spec


def kinds_taken(takes: Callable[[ConvSpec], bool]) -> list[tuple[str, int]]:
    """Of `KINDS`, those of whose plainest example `takes` is true."""
    return [kind for kind in KINDS if takes(plainest(*kind))]


def plainest(kind: str, ndim: int) -> ConvSpec:
    f, groups = {"3x3": (3, 1), "1x1": (1, 1), "depthwise": (3, 8), "any": (4, 2), "large filters": (9, 8)}[
        kind
    ]
    stride = 2 if kind == "any" else 1
    shapes = (1, 8, *(9,) * ndim), (8, 8 // groups, *(f,) * ndim)
    layout = LAYOUTS[ndim][0]
    return conv_spec(
        f"conv{ndim}d", *shapes, np.dtype(np.float32), groups=groups, stride=stride, layout=layout
    )


@st.composite
def pool_specs(
    draw: st.DrawFn, dtype: Any = None, channels_last: bool | None = None, needs_input: bool = True
) -> PoolSpec:
    """A pooling of rank 1 to 3; with `needs_input`, every window holds an element of the input."""
    ndim = draw(st.sampled_from([2, 1, 3]))
    channels_last = draw(st.booleans()) if channels_last is None else channels_last
    n, c = draw(st.integers(1, 3)), draw(CHANNELS)
    size = draw(sizes(ndim, MOST_WORK // (n * c)))
    window = draw(windows(ndim, draw(st.sampled_from(["any", "2x2", "3x3"]))))
    dilation = draw(axes(ndim, 3)) if needs_input else (1,) * ndim
    options: dict[str, Any] = {"dilation": dilation}
    if not needs_input:
        options["count_include_pad"] = draw(st.booleans())
        options["divisor_override"] = draw(st.none() | st.none() | st.sampled_from([1, 2, 9, -2]))
    try:
        spec = pool_spec(
            f"pool{ndim}d",
            (n, *size, c) if channels_last else (n, c, *size),
            window,
            np.dtype(draw(DTYPES) if dtype is None else dtype),
            stride=draw(st.none() | st.just(2) | axes(ndim, 4)),
            padding=draw(paddings(size, window, dilation)),
            ceil_mode=draw(st.booleans()),
            layout=LAYOUTS[ndim][channels_last],
            needs_input=needs_input,
            **options,
        )
    except ValueError as error:
        assume("holds no element" not in str(error))
        raise
    assume(needs_input or options["count_include_pad"] or all(np.all(d > 0) for d in spec.divisors))
    return spec


@st.composite
def channel_counts(draw: st.DrawFn, kind: str) -> tuple[int, int, int]:
    """(groups, input channels per group, filters per group)."""
    if kind == "depthwise":
        return draw(CHANNELS), 1, draw(st.sampled_from([1, 1, 2, 3]))
    if kind == "large filters":
        return draw(CHANNELS), 1, 1
    if kind in ("3x3", "1x1"):
        return 1, draw(CHANNELS), draw(CHANNELS)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    return groups, draw(CHANNELS), draw(CHANNELS)


@st.composite
def sizes(draw: st.DrawFn, ndim: int, most_pixels: int) -> tuple[int, ...]:
    """Spatial sizes of at most `most_pixels` pixels."""
    longest = min(LONGEST_AXIS[ndim], max(1, int(most_pixels ** (1 / ndim))))
    return tuple(draw(st.integers(1, longest)) for _ in range(ndim))


def windows(ndim: int, kind: str) -> st.SearchStrategy[tuple[int, ...]]:
    if kind == "large filters":
        return axes(ndim, LARGE_WINDOW).filter(lambda window: min(window) > 4)
    fixed = {"3x3": 3, "2x2": 2, "1x1": 1}.get(kind)
    return axes(ndim, LONGEST_WINDOW[ndim]) if fixed is None else st.just((fixed,) * ndim)


def axes(ndim: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    """A number per axis, often the same on all."""
    return st.integers(1, most).map(lambda v: (v,) * ndim) | st.tuples(*[st.integers(1, most)] * ndim)


@st.composite
def paddings(
    draw: st.DrawFn, size: tuple[int, ...], window: tuple[int, ...], dilation: tuple[int, ...]
) -> Any:
    """Any form of padding with which at least one window fits."""
    extents = [d * (f - 1) + 1 for f, d in zip(window, dilation, strict=True)]
    fits = all(e <= i for e, i in zip(extents, size, strict=True))
    form = draw(st.sampled_from(["same", "same_lower", "pairs", "half", *(["valid"] if fits else [])]))
    if form in ("same", "same_lower", "valid"):
        return form
    pairs = []
    for i, extent in zip(size, extents, strict=True):
        most = extent // 2 if form == "half" else extent + 1
        before, after = draw(st.integers(0, most)), draw(st.integers(0, most))
        pairs.append((before, after + max(0, extent - i - before - after)))
    return tuple(pairs)


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    """Whole numbers so small that float32 sums of their products are exact in any order."""
    return rng.integers(-4, 5, shape).astype(dtype)


def reals(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    return rng.standard_normal(shape).astype(dtype)


MEMORY_ORDERS = ("C", "fortran", "transposed", "reversed", "sliced", "read-only", "misaligned", "broadcast")


def in_memory_order(order: str, a: Array) -> Array:
    """An array equal to `a` that lies in memory in another way ("broadcast" repeats its first row)."""
    if order == "fortran":
        return np.asfortranarray(a)
    if order == "transposed":
        return np.ascontiguousarray(np.moveaxis(a, 0, -1)).transpose(-1, *range(a.ndim - 1))
    if order == "reversed":
        flip = (slice(None, None, -1),) * a.ndim
        return np.ascontiguousarray(a[flip])[flip]
    if order == "sliced":
        wide = np.full([2 * s + 1 for s in a.shape], np.nan, a.dtype)
        view = wide[(slice(1, None, 2),) * a.ndim]
        view[...] = a
        return view
    if order == "misaligned":
        raw = np.empty(a.nbytes + 1, np.uint8)
        view = raw[1:].view(a.dtype).reshape(a.shape)
        view[...] = a
        return view
    if order == "broadcast":
        return np.broadcast_to(a[:1], a.shape)
    out = a.copy()
    out.flags.writeable = order != "read-only"
    return out


def work(spec: ConvSpec) -> int:
    """Multiplications of a convolution spec."""
    return spec.n * spec.k * (spec.c // spec.groups) * math.prod(spec.window) * math.prod(spec.out_size)

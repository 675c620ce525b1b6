"""Reflect, replicate and circular padding around kernels that know only zero padding.

The input is padded in bands of output lines, or several small images at a time, so that the copy stays
small; a gradient of the padded input is folded back onto the elements that its border repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastconv.ops.spec import ConvSpec

Array = NDArray[Any]
Pass = Callable[..., None]
# The most a padded copy takes where one output line does not need more: small beside the input of a large
# problem, large beside the filters that a kernel packs anew for every band.
BAND_BYTES = 4 << 20


class Band(NamedTuple):
    """Output lines [first, last) along the first spatial axis of some images; the convolution when padded."""

    images: slice
    first: int
    last: int
    inner: ConvSpec


def around(pass_name: str, run: Pass) -> Pass:
    """A pass that pads, calls the zero-padding pass `run`, and folds the input gradient back."""
    return {"forward": _forward, "input_grad": _input_grad, "filter_grad": _filter_grad}[pass_name](run)


def padded_spec(spec: ConvSpec) -> ConvSpec:
    """The same convolution of images that are padded already."""
    size = tuple(i + before + after for i, (before, after) in zip(spec.size, spec.padding, strict=True))
    return replace(spec, size=size, padding=((0, 0),) * spec.ndim, padding_mode="zeros")


def bands(spec: ConvSpec) -> Iterator[Band]:
    """The problem in pieces whose padded inputs take about BAND_BYTES."""
    whole = padded_spec(spec)
    line = math.prod(whole.x_shape) // max(spec.n * whole.size[0], 1) * spec.dtype.itemsize
    extent = (spec.window[0] - 1) * spec.dilation[0] + 1
    lines = max(1, (BAND_BYTES // line - extent) // spec.stride[0] + 1)
    images = 1 if lines < spec.out_size[0] else max(1, BAND_BYTES // (line * whole.size[0]))
    for n in range(0, spec.n, images):
        last_n = min(n + images, spec.n)
        for first in range(0, spec.out_size[0], lines):
            last = min(first + lines, spec.out_size[0])
            size = ((last - first - 1) * spec.stride[0] + extent, *whole.size[1:])
            out_size = (last - first, *spec.out_size[1:])
            yield Band(
                slice(n, last_n), first, last, replace(whole, n=last_n - n, size=size, out_size=out_size)
            )


def lines_first(spec: ConvSpec, a: Array, axis: int) -> Array:
    """View an activation with one spatial axis in front."""
    return np.moveaxis(a, axis + (1 if spec.channels_last else 2), 0)


def border(
    spec: ConvSpec, axis: int, start: int, stop: int, origin: int
) -> Iterator[tuple[slice, slice | Array]]:
    """The border lines among the padded lines [start, stop), and the input lines they repeat.

    The former count from `start`, the latter so that the input's first line is `origin`. Those before and
    those after the input come apart, so that (replicate aside) no line is repeated twice in one piece.
    """
    i, (before, _) = spec.size[axis], spec.padding[axis]
    for low, high in ((start, min(stop, before)), (max(start, before + i), stop)):
        if low < high:
            yield (
                slice(low - start, high - start),
                repeated(spec.padding_mode, i, low - before, high - before, origin),
            )


def repeated(mode: str, i: int, low: int, high: int, origin: int) -> slice | Array:
    """The lines of an axis of `i` that the border repeats at [low, high), counted from the input's first."""
    if mode == "replicate":
        edge = origin if low < 0 else origin + i - 1
        return slice(edge, edge + 1)
    position = np.arange(low, high)
    if mode == "circular":
        return origin + position % i
    mirrored = np.abs(position)
    return origin + np.where(mirrored < i, mirrored, 2 * (i - 1) - mirrored)


def shared(spec: ConvSpec, start: int, stop: int) -> tuple[slice, slice]:
    """The input's own among the padded lines [start, stop) of axis 0: in the band, and in the input."""
    i, (before, _) = spec.size[0], spec.padding[0]
    low = min(max(start, before), stop)
    high = max(min(stop, before + i), low)
    return slice(low - start, high - start), slice(low - before, high - before)


def pad(spec: ConvSpec, band: Band, x: Array) -> Array:
    """The padded input of a band: the first axis filled from x, the others from the copy itself."""
    padded = np.empty(band.inner.x_shape, spec.dtype)
    start = band.first * spec.stride[0]
    stop = start + band.inner.size[0]
    lines, given = lines_first(spec, padded, 0), lines_first(spec, x[band.images], 0)
    columns = interior(spec)
    inside, there = shared(spec, start, stop)
    lines[(inside, *columns)] = given[there]
    for at, source in border(spec, 0, start, stop, 0):
        lines[(at, *columns)] = given[source]
    for axis in range(1, spec.ndim):
        lines = lines_first(spec, padded, axis)
        for at, source in border(spec, axis, 0, band.inner.size[axis], spec.padding[axis][0]):
            lines[at] = lines[source]
    return padded


def interior(spec: ConvSpec) -> tuple[slice, ...]:
    """The index, behind a leading first axis, of the input's own elements along all other axes."""
    own = [slice(before, before + i) for i, (before, _) in zip(spec.size[1:], spec.padding[1:], strict=True)]
    return (slice(None), *own) if spec.channels_last else (slice(None), slice(None), *own)


def fold(spec: ConvSpec, band: Band, dpadded: Array, dx: Array) -> None:
    """Add the gradient of a band's padded input to dx: that of a border element to the one it repeats."""
    for axis in range(1, spec.ndim):
        lines = lines_first(spec, dpadded, axis)
        for at, source in border(spec, axis, 0, band.inner.size[axis], spec.padding[axis][0]):
            add_lines(lines, source, lines[at])
    start = band.first * spec.stride[0]
    stop = start + band.inner.size[0]
    lines = lines_first(spec, dpadded, 0)[(slice(None), *interior(spec))]
    target = lines_first(spec, dx[band.images], 0)
    inside, there = shared(spec, start, stop)
    target[there] += lines[inside]
    for at, source in border(spec, 0, start, stop, 0):
        add_lines(target, source, lines[at])


def add_lines(target: Array, source: slice | Array, lines: Array) -> None:
    """target[source] += lines, where a slice is one line that all of them repeat."""
    target[source] += lines.sum(0, keepdims=True) if isinstance(source, slice) else lines


def part(spec: ConvSpec, band: Band, y: Array) -> Array:
    """View a band's part of an output array."""
    axis = 1 if spec.channels_last else 2
    return y[(band.images, *[slice(None)] * (axis - 1), slice(band.first, band.last))]


def _forward(run: Pass) -> Pass:
    def forward(
        spec: ConvSpec, x: Array, w: Array, bias: Any, y: Array, activation: Any, threads: int
    ) -> None:
        for band in bands(spec):
            target = part(spec, band, y)
            whole = target.flags.c_contiguous
            computed = target if whole else np.empty(target.shape, target.dtype)
            run(band.inner, pad(spec, band, x), w, bias, computed, activation, threads)
            if not whole:
                target[...] = computed

    return forward


def _input_grad(run: Pass) -> Pass:
    def input_grad(spec: ConvSpec, dy: Array, w: Array, dx: Array, threads: int) -> None:
        dx[...] = 0
        for band in bands(spec):
            dpadded = np.empty(band.inner.x_shape, spec.dtype)
            run(band.inner, np.ascontiguousarray(part(spec, band, dy)), w, dpadded, threads)
            fold(spec, band, dpadded, dx)

    return input_grad


def _filter_grad(run: Pass) -> Pass:
    def filter_grad(spec: ConvSpec, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
        dw[...] = 0
        if db is not None:
            db[...] = 0
        dw_part, db_part = np.empty_like(dw), None if db is None else np.empty_like(db)
        for band in bands(spec):
            dy_part = np.ascontiguousarray(part(spec, band, dy))
            run(band.inner, pad(spec, band, x), dy_part, dw_part, db_part, threads)
            dw += dw_part
            if db is not None:
                db += db_part

    return filter_grad

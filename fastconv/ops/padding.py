"""Reflect, replicate and circular padding around kernels that know only zero padding.

The input is padded some images at a time, so that the copy stays small; a gradient of the padded input is
folded back onto the elements that its border repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.ops.spec import ConvSpec

Array = NDArray[Any]
Pass = Callable[..., None]
NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
# A padded copy of about this size stays in a core's level 2 cache between the copy and the kernel.
CHUNK_BYTES = 1 << 20


def around(pass_name: str, run: Pass) -> Pass:
    """A pass that pads, calls the zero-padding pass `run`, and folds the input gradient back."""
    return {"forward": _forward, "input_grad": _input_grad, "filter_grad": _filter_grad}[pass_name](run)


def padded_spec(spec: ConvSpec, n: int) -> ConvSpec:
    """The same convolution of `n` images that are padded already."""
    size = tuple(i + before + after for i, (before, after) in zip(spec.size, spec.padding, strict=True))
    return replace(spec, n=n, size=size, padding=((0, 0),) * spec.ndim, padding_mode="zeros")


def chunks(spec: ConvSpec) -> Iterator[tuple[slice, ConvSpec]]:
    """Slices of the batch whose padded copies are about CHUNK_BYTES, with their specs."""
    image = int(np.prod(padded_spec(spec, 1).x_shape)) * spec.dtype.itemsize
    step = max(1, CHUNK_BYTES // image)
    for start in range(0, spec.n, step):
        stop = min(start + step, spec.n)
        yield slice(start, stop), padded_spec(spec, stop - start)


def pad(spec: ConvSpec, x: Array) -> Array:
    """x with its border filled in the spec's mode."""
    widths = [(0, 0), *spec.padding, (0, 0)] if spec.channels_last else [(0, 0), (0, 0), *spec.padding]
    return np.pad(x, widths, mode=NUMPY_MODES[spec.padding_mode])  # type: ignore[call-overload,no-any-return]


def fold(spec: ConvSpec, dpadded: Array) -> Array:
    """The gradient of x from that of `pad(x)`: every border element is added to the one it repeats."""
    for axis, (i, (before, after)) in enumerate(zip(spec.size, spec.padding, strict=True)):
        source = np.pad(np.arange(i), (before, after), mode=NUMPY_MODES[spec.padding_mode])  # type: ignore[call-overload]
        lines = np.moveaxis(dpadded, axis + (1 if spec.channels_last else 2), 0)
        inner = lines[before : before + i]
        for position in (*range(before), *range(before + i, before + i + after)):
            inner[source[position]] += lines[position]
        dpadded = np.moveaxis(inner, 0, axis + (1 if spec.channels_last else 2))
    return dpadded


def _forward(run: Pass) -> Pass:
    def forward(spec: ConvSpec, x: Array, w: Array, bias: Any, y: Array, activation: Any, threads: int) -> None:
        for images, inner in chunks(spec):
            run(inner, pad(spec, x[images]), w, bias, y[images], activation, threads)

    return forward


def _input_grad(run: Pass) -> Pass:
    def input_grad(spec: ConvSpec, dy: Array, w: Array, dx: Array, threads: int) -> None:
        for images, inner in chunks(spec):
            dpadded = np.empty(inner.x_shape, spec.dtype)
            run(inner, dy[images], w, dpadded, threads)
            dx[images] = fold(spec, dpadded)

    return input_grad


def _filter_grad(run: Pass) -> Pass:
    def filter_grad(spec: ConvSpec, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
        part, part_b = np.empty_like(dw), None if db is None else np.empty_like(db)
        for images, inner in chunks(spec):
            first = images.start == 0
            run(inner, pad(spec, x[images]), dy[images], dw if first else part, db if first else part_b, threads)
            if not first:
                dw += part
                if db is not None and part_b is not None:
                    db += part_b

    return filter_grad

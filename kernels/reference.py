"""Plain NumPy: the definition of right for every other kernel, and the last resort.

Each pass loops over the taps of the window and lets NumPy do the rest. Arrays are viewed channels-first; an
output in channels-last is written through such a view.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.kernel import Kernel

Array = NDArray[Any]


def channels_first(spec: Any, a: Array) -> Array:
    """View an activation as (N, C, *size)."""
    return np.moveaxis(a, -1, 1) if spec.channels_last else a


def filters_first(spec: Any, w: Array) -> Array:
    """View filters as (K, C/groups, *window)."""
    return np.moveaxis(w, (-1, -2), (0, 1)) if spec.channels_last else w


def padded(spec: Any, x: Array, value: float = 0.0) -> Array:
    """x (N, C, *size), padded so that every window fits (ceil_mode windows reach past the padding)."""
    pads = []
    for i, (before, after), f, o, s, d in zip(
        spec.size, spec.padding, spec.window, spec.out_size, spec.stride, spec.dilation, strict=True
    ):
        reach = (o - 1) * s + (f - 1) * d + 1 - before - i
        pads.append((before, max(after, reach)))
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)


def taps(spec: Any) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each tap's index in the window, and the slices of the padded input it meets at the outputs."""
    for index in itertools.product(*map(range, spec.window)):
        starts = [t * d for t, d in zip(index, spec.dilation, strict=True)]
        yield (
            index,
            tuple(
                slice(a, a + (o - 1) * s + 1, s)
                for a, o, s in zip(starts, spec.out_size, spec.stride, strict=True)
            ),
        )


def group_slices(spec: Any) -> Iterator[tuple[slice, slice]]:
    """The channels and the filters of each group."""
    c, k = spec.c // spec.groups, spec.k // spec.groups
    for g in range(spec.groups):
        yield slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda y: np.maximum(y, 0),
    "leaky_relu": lambda y: np.where(y < 0, y * y.dtype.type(0.01), y),
    "sigmoid": lambda y: np.where(y < 0, np.exp(np.minimum(y, 0)), 1) / (1 + np.exp(-np.abs(y))),
    "tanh": np.tanh,
    "relu6": lambda y: np.clip(y, 0, 6),
}


def forward(
    spec: Any, x: Array, w: Array, bias: Array | None, y: Array, activation: str | None, threads: int
) -> None:
    x, w, out = padded(spec, channels_first(spec, x)), filters_first(spec, w), channels_first(spec, y)
    out[...] = 0 if bias is None else bias.reshape(-1, *[1] * spec.ndim)
    if 0 not in x.shape:
        for cs, ks in group_slices(spec):
            for tap, where in taps(spec):
                # (N, C, *out) . (K, C) -> (N, *out, K)
                product = np.tensordot(x[:, cs, *where], w[ks, :, *tap], ((1,), (1,)))
                out[:, ks] += np.moveaxis(product, -1, 1)
    if activation is not None:
        y[...] = ACTIVATIONS[activation](y)


def input_grad(spec: Any, dy: Array, w: Array, dx: Array, threads: int) -> None:
    dy, w = channels_first(spec, dy), filters_first(spec, w)
    full = padded(spec, np.zeros((spec.n, spec.c, *spec.size), dy.dtype))
    for cs, ks in group_slices(spec):
        for tap, where in taps(spec):
            # (N, K, *out) . (K, C) -> (N, *out, C)
            product = np.tensordot(dy[:, ks], w[ks, :, *tap], ((1,), (0,)))
            full[:, cs, *where] += np.moveaxis(product, -1, 1)
    channels_first(spec, dx)[...] = full[..., *interior(spec)]


def filter_grad(spec: Any, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
    x, dy, out = padded(spec, channels_first(spec, x)), channels_first(spec, dy), filters_first(spec, dw)
    pixels = (0, *range(2, spec.ndim + 2))
    for cs, ks in group_slices(spec):
        for tap, where in taps(spec):
            # (N, K, *out) . (N, C, *out) -> (K, C)
            out[ks, :, *tap] = np.tensordot(dy[:, ks], x[:, cs, *where], (pixels, pixels))
    if db is not None:
        db[...] = dy.sum(pixels)


def interior(spec: Any) -> tuple[slice, ...]:
    """The slices of the padded input that hold the input itself."""
    return tuple(slice(before, before + i) for (before, _), i in zip(spec.padding, spec.size, strict=True))


def max_pool(spec: Any, x: Array, y: Array, argmax: Array | None, threads: int) -> None:
    """The first maximum wins a tie; a NaN wins over everything, the last of several."""
    if x.size == 0:  # the plane of no image may still be huge
        return
    plane = np.arange(math.prod(spec.size)).reshape(1, 1, *spec.size)
    x, index = channels_first(spec, x), padded(spec, plane, -1)
    full = padded(spec, x, -np.inf)
    best = np.full((spec.n, spec.c, *spec.out_size), -np.inf, x.dtype)
    where_best = np.full(best.shape, -1, np.int64)
    for _, where in taps(spec):
        value, at = full[..., *where], index[..., *where]
        # an element of -inf still beats a window of which only padding was seen
        wins = (at >= 0) & ((value > best) | np.isnan(value) | (where_best < 0))
        np.copyto(best, value, where=wins)
        np.copyto(where_best, np.broadcast_to(at, best.shape), where=wins)
    channels_first(spec, y)[...] = best
    if argmax is not None:
        channels_first(spec, argmax)[...] = where_best


def max_pool_grad(spec: Any, dy: Array, argmax: Array, dx: Array, threads: int) -> None:
    dy, at = channels_first(spec, dy), channels_first(spec, argmax)
    planes = np.zeros((spec.n, spec.c, math.prod(spec.size)), dy.dtype)
    n, c = np.ogrid[: spec.n, : spec.c]
    np.add.at(
        planes,
        (n[..., None], c[..., None], at.reshape(*planes.shape[:2], math.prod(spec.out_size))),
        dy.reshape(*planes.shape[:2], math.prod(spec.out_size)),
    )
    channels_first(spec, dx)[...] = planes.reshape(spec.n, spec.c, *spec.size)


def divisor(spec: Any, dtype: Any) -> Array:
    """What each output of an average divides by, (*out_size)."""
    if spec.divisor_override is not None:
        return np.array(spec.divisor_override, dtype)
    counts = np.ones((), np.int64)
    for per_axis in spec.divisors:
        counts = counts[..., None] * per_axis
    return counts.astype(dtype)


def avg_pool(spec: Any, x: Array, y: Array, threads: int) -> None:
    full = padded(spec, channels_first(spec, x))
    total = np.zeros((spec.n, spec.c, *spec.out_size), x.dtype)
    for _, where in taps(spec):
        total += full[..., *where]
    channels_first(spec, y)[...] = total / divisor(spec, x.dtype)


def avg_pool_grad(spec: Any, dy: Array, dx: Array, threads: int) -> None:
    share = channels_first(spec, dy) / divisor(spec, dy.dtype)
    full = padded(spec, np.zeros((spec.n, spec.c, *spec.size), dy.dtype))
    for _, where in taps(spec):
        full[..., *where] += share
    channels_first(spec, dx)[...] = full[..., *interior(spec)]


KERNEL = Kernel(
    "reference",
    {
        "forward": forward,
        "input_grad": input_grad,
        "filter_grad": filter_grad,
        "max_pool": max_pool,
        "max_pool_grad": max_pool_grad,
        "avg_pool": avg_pool,
        "avg_pool_grad": avg_pool_grad,
    },
)

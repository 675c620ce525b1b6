"""Convolution and pooling as their formulas, one output element at a time: what tests the reference."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.reference import channels_first, filters_first
from fastconv.ops.spec import ConvSpec, PoolSpec

Array = NDArray[Any]


def conv(spec: ConvSpec, x: Array, w: Array) -> Array:
    """y[n, k, p] = sum over c, r of w[k, c, r] * x[n, c, stride*p + dilation*r - padding], channels first."""
    x, w = channels_first(spec, x), filters_first(spec, w)
    y = np.zeros((spec.n, spec.k, *spec.out_size))
    c_group, k_group = spec.c // spec.groups, spec.k // spec.groups
    for k, p in itertools.product(range(spec.k), positions(spec)):
        channels = slice(k // k_group * c_group, (k // k_group + 1) * c_group)
        for tap, at in taps_inside(spec, p):
            y[(slice(None), k, *p)] += x[(slice(None), channels, *at)] @ w[(k, slice(None), *tap)]
    return y


def max_pool(spec: PoolSpec, x: Array) -> tuple[Array, Array]:
    """(y, argmax), channels first: the first maximum, or the last NaN."""
    x = channels_first(spec, x)
    y = np.empty((spec.n, spec.c, *spec.out_size))
    argmax = np.empty(y.shape, np.int64)
    for n, c, p in itertools.product(range(spec.n), range(spec.c), positions(spec)):
        inside = [at for _, at in taps_inside(spec, p)]
        values = [x[(n, c, *at)] for at in inside]
        nans = [i for i, v in enumerate(values) if np.isnan(v)]
        best = nans[-1] if nans else values.index(max(values))
        y[(n, c, *p)] = values[best]
        argmax[(n, c, *p)] = np.ravel_multi_index(inside[best], spec.size)
    return y, argmax


def avg_pool(spec: PoolSpec, x: Array) -> Array:
    """The mean of each window, channels first."""
    x = channels_first(spec, x)
    y = np.empty((spec.n, spec.c, *spec.out_size))
    for p in positions(spec):
        inside = [at for _, at in taps_inside(spec, p)]
        total = sum((x[(..., *at)] for at in inside), np.zeros((spec.n, spec.c)))
        y[(..., *p)] = total / (spec.divisor_override or count(spec, p, len(inside)))
    return y


def count(spec: PoolSpec, p: tuple[int, ...], inside: int) -> int:
    """Elements of the window at p that lie in the padded input, or in the input itself."""
    if not spec.count_include_pad:
        return inside
    per_axis = []
    for o, i, f, s, (before, after) in zip(p, spec.size, spec.window, spec.stride, spec.padding, strict=True):
        begin = o * s - before
        per_axis.append(min(begin + f, i + after) - begin)
    return int(np.prod(per_axis))


def positions(spec: ConvSpec | PoolSpec) -> Iterator[tuple[int, ...]]:
    """Every output position."""
    return itertools.product(*map(range, spec.out_size))


def taps_inside(
    spec: ConvSpec | PoolSpec, p: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(tap, input position) of those taps of the window at p that meet the input."""
    for tap in itertools.product(*map(range, spec.window)):
        at = tuple(
            o * s + t * d - before
            for o, s, t, d, (before, _) in zip(p, spec.stride, tap, spec.dilation, spec.padding, strict=True)
        )
        if all(0 <= a < i for a, i in zip(at, spec.size, strict=True)):
            yield tap, at

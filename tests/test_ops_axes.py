"""Convolutions of one and three axes on two: the same numbers, where it is the same problem."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, conv_specs, integers

from fastconv.kernels.reference import KERNEL as REFERENCE
from fastconv.ops.axes import fewer_axes, reshaped
from fastconv.ops.spec import LAYOUTS, ConvSpec, conv_spec


def problem(size: tuple[int, ...], window: tuple[int, ...], last: bool = False, **options: Any) -> ConvSpec:
    """Two images of 4 channels, 6 filters."""
    x_shape = (2, *size, 4) if last else (2, 4, *size)
    w_shape = (*window, 4, 6) if last else (6, 4, *window)
    layout = LAYOUTS[len(size)][last]
    return conv_spec(f"conv{len(size)}d", x_shape, w_shape, np.dtype("f8"), layout=layout, **options)


# the problem, then images, size and window on fewer axes
JOINED: dict[str, tuple[ConvSpec, int, tuple[int, ...], tuple[int, ...]]] = {
    "1d": (problem((9,), (3,), stride=2, padding=1, dilation=2), 2, (1, 9), (1, 3)),
    "2d": (problem((5, 6), (1, 1)), 2, (5, 6), (1, 1)),
    "1x1x1": (problem((3, 5, 6), (1, 1, 1)), 2, (1, 90), (1, 1)),
    "1x1x1, padded": (problem((3, 5, 6), (1, 1, 1), padding=(1, 0, 0)), 2, (3, 30), (1, 1)),
    "along D": (problem((3, 5, 6), (3, 1, 1), padding=(1, 0, 0)), 2, (3, 30), (3, 1)),
    "along D, strided": (problem((5, 5, 6), (3, 1, 1), stride=(2, 1, 1)), 2, (5, 30), (3, 1)),
    "along W": (problem((3, 5, 6), (1, 1, 3), dilation=(1, 1, 2)), 2, (15, 6), (1, 3)),
    "along W, H strided": (problem((3, 5, 6), (1, 1, 3), stride=(1, 2, 1)), 2, (3, 5, 6), (1, 1, 3)),
    "planes": (problem((3, 5, 6), (1, 3, 3)), 2, (3, 5, 6), (1, 3, 3)),
    "planes, channels-last": (problem((3, 5, 6), (1, 3, 3), last=True), 6, (5, 6), (3, 3)),
    "one plane": (problem((1, 5, 6), (1, 3, 3), stride=2, padding=(0, 1, 1)), 2, (5, 6), (3, 3)),
    "volume": (problem((3, 5, 6), (2, 2, 2)), 2, (3, 5, 6), (2, 2, 2)),
}


@pytest.mark.parametrize("name", JOINED)
def test_what_joins(name: str) -> None:
    spec, images, size, window = JOINED[name]
    fewer = fewer_axes(spec)
    assert (fewer.n, fewer.size, fewer.window) == (images, size, window)


def results(spec: ConvSpec, passes: Any, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    x, w, dy = (integers(rng, shape, spec.dtype) for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    bias = integers(rng, (spec.k,), spec.dtype)
    y, dx, dw, db = (np.full(s, np.nan, spec.dtype) for s in (dy.shape, x.shape, w.shape, bias.shape))
    passes["forward"](spec, x, w, bias, y, "relu", 1)
    passes["input_grad"](spec, dy, w, dx, 1)
    passes["filter_grad"](spec, x, dy, dw, db, 1)
    return [y, dx, dw, db]


def assert_same_on_fewer_axes(spec: ConvSpec, seed: int) -> None:
    passes = {name: reshaped(name, run, spec) for name, run in REFERENCE.passes.items() if "pool" not in name}
    for got, right in zip(results(spec, passes, seed), results(spec, REFERENCE.passes, seed), strict=True):
        np.testing.assert_array_equal(got, right)


@pytest.mark.parametrize("name", JOINED)
def test_the_same_numbers(name: str) -> None:
    assert_same_on_fewer_axes(JOINED[name][0], 3)


@given(conv_specs(), st.sets(st.sampled_from([0, 1, 2])), SEEDS)
def test_any_problem_with_idle_axes(spec: ConvSpec, idle: set[int], seed: int) -> None:
    """Also as a transposed convolution asks for it, whose sizes may differ where nothing is mixed."""
    axes = idle & set(range(spec.ndim))

    def with_idle(values: Any, value: Any) -> Any:
        return tuple(value if a in axes else v for a, v in enumerate(values))

    spec = replace(
        spec,
        window=with_idle(spec.window, 1),
        stride=with_idle(spec.stride, 1),
        dilation=with_idle(spec.dilation, 1),
        padding=with_idle(spec.padding, (0, 0)),
        out_size=tuple(
            i - (seed % 2 if i > 1 else 0) if a in axes else o
            for a, (i, o) in enumerate(zip(spec.size, spec.out_size, strict=True))
        ),
    )
    assert_same_on_fewer_axes(spec, seed)

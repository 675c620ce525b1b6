"""Every kernel's pooling passes, on every instruction set, against the reference."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from harness import (
    KERNELS,
    assert_within_bound,
    avg_pool,
    avg_pool_grad,
    kernels_with,
    max_pool,
    max_pool_grad,
    oracle,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, Array, integers, pool_specs, reals

import fastconv as fc
from fastconv.kernels.reference import KERNEL as REFERENCE
from fastconv.ops.spec import PoolSpec, pool_spec

LAYOUTS = pytest.mark.parametrize("channels_last", [False, True], ids=["channels-first", "channels-last"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# How the values of a max-pool's input are drawn: no ties, many ties, NaN and both infinities.
VALUES = ("distinct", "ties", "special", "all -inf")


def drawn(
    data: st.DataObject, name: str, pass_name: str, dtype: Any, channels_last: bool
) -> tuple[PoolSpec, np.random.Generator]:
    """A spec that the kernel takes, and a generator for its arrays."""
    specs = pool_specs(dtype, channels_last, needs_input=pass_name.startswith("max"))
    takes = KERNELS[name].unsupported
    spec = data.draw(specs.filter(lambda s: takes(pass_name, s) is None), "spec")
    return spec, np.random.default_rng(data.draw(SEEDS, "seed"))


def max_input(values: str, rng: np.random.Generator, spec: PoolSpec) -> Array:
    if values == "distinct":
        return rng.permutation(int(np.prod(spec.x_shape))).reshape(spec.x_shape).astype(spec.dtype)
    if values == "ties":
        return rng.integers(-1, 2, spec.x_shape).astype(spec.dtype) * spec.dtype.type(0.5)
    if values == "special":
        return rng.choice([-0.0, 0.0, 1, np.nan, np.inf, -np.inf], spec.x_shape).astype(spec.dtype)
    return np.full(spec.x_shape, -np.inf, spec.dtype)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("name", kernels_with("max_pool"))
@given(data=st.data())
def test_max_pool(name: str, values: str, dtype: Any, channels_last: bool, data: st.DataObject) -> None:
    spec, rng = drawn(data, name, "max_pool", dtype, channels_last)
    x = max_input(values, rng, spec)
    expected, at = max_pool(REFERENCE, spec, x)
    y, argmax = max_pool(KERNELS[name], spec, x, shift=data.draw(st.integers(0, 15)))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(argmax, at)


@pytest.mark.parametrize("name", kernels_with("max_pool"))
@given(data=st.data())
def test_max_pool_without_argmax(name: str, data: st.DataObject) -> None:
    dtype, channels_last = data.draw(st.sampled_from([np.float32, np.float64])), data.draw(st.booleans())
    spec, rng = drawn(data, name, "max_pool", dtype, channels_last)
    x = max_input(data.draw(st.sampled_from(VALUES)), rng, spec)
    y = np.full(spec.y_shape, np.nan, dtype)
    KERNELS[name].passes["max_pool"](spec, x, y, None, 1)
    np.testing.assert_array_equal(y, max_pool(REFERENCE, spec, x)[0])


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("name", kernels_with("max_pool_grad"))
@given(data=st.data())
def test_max_pool_grad(name: str, dtype: Any, channels_last: bool, data: st.DataObject) -> None:
    spec, rng = drawn(data, name, "max_pool_grad", dtype, channels_last)
    _, argmax = max_pool(REFERENCE, spec, max_input("ties", rng, spec))
    dy = integers(rng, spec.y_shape, dtype)
    dx = max_pool_grad(KERNELS[name], spec, dy, argmax, shift=data.draw(st.integers(0, 15)))
    np.testing.assert_array_equal(dx, max_pool_grad(REFERENCE, spec, dy, argmax))


@pytest.mark.parametrize("name", kernels_with("max_pool_grad"))
@given(data=st.data())
def test_max_pool_grad_takes_any_index_in_the_plane(name: str, data: st.DataObject) -> None:
    """The caller's argmax need not be what this library's max-pool returned."""
    dtype, channels_last = data.draw(st.sampled_from([np.float32, np.float64])), data.draw(st.booleans())
    spec, rng = drawn(data, name, "max_pool_grad", dtype, channels_last)
    argmax = rng.integers(0, np.prod(spec.size), spec.y_shape).astype(spec.argmax_dtype)
    dy = integers(rng, spec.y_shape, dtype)
    dx = max_pool_grad(KERNELS[name], spec, dy, argmax)
    np.testing.assert_array_equal(dx, max_pool_grad(REFERENCE, spec, dy, argmax))


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("name", kernels_with("avg_pool"))
@given(data=st.data())
def test_avg_pool(name: str, dtype: Any, channels_last: bool, data: st.DataObject) -> None:
    spec, rng = drawn(data, name, "avg_pool", dtype, channels_last)
    x = reals(rng, spec.x_shape, dtype)
    y = avg_pool(KERNELS[name], spec, x, shift=data.draw(st.integers(0, 15)))
    assert_within_bound(KERNELS[name], y, oracle("avg_pool", spec, x), oracle("avg_pool", spec, abs(x)))


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("name", kernels_with("avg_pool_grad"))
@given(data=st.data())
def test_avg_pool_grad(name: str, dtype: Any, channels_last: bool, data: st.DataObject) -> None:
    spec, rng = drawn(data, name, "avg_pool_grad", dtype, channels_last)
    dy = reals(rng, spec.y_shape, dtype)
    dx = avg_pool_grad(KERNELS[name], spec, dy, shift=data.draw(st.integers(0, 15)))
    assert_within_bound(
        KERNELS[name], dx, oracle("avg_pool_grad", spec, dy), oracle("avg_pool_grad", spec, abs(dy))
    )


LARGE = {
    "2x2": dict(c=37, size=(64, 62), window=2, stride=2),
    "3x3/2": dict(c=20, size=(77, 75), window=3, stride=2, padding=1),
    "3x3 overlapping": dict(c=64, size=(31, 33), window=3, stride=1, padding=1),
    "dilated": dict(c=5, size=(70, 90), window=(3, 2), stride=(2, 1), dilation=2),
    "long": dict(c=9, size=(9001,), window=5, stride=3, ceil_mode=True),
    "volume": dict(c=12, size=(12, 21, 22), window=2, stride=2),
    "one channel": dict(n=1, c=1, size=(300, 310), window=3, stride=2),
    "narrow": dict(n=23, c=6, size=(10, 10), window=2, stride=2),
    "narrow 3x3/2": dict(n=9, c=5, size=(9, 11), window=3, stride=2, padding=1),
    "wide plane": dict(n=1, c=2, size=(7, 4000), window=(7, 2), stride=1),
}


@cache
def large_case(problem: str, dtype: Any, channels_last: bool) -> tuple[Any, ...]:
    """(spec, x, dy, y, argmax, gradients) of whole numbers."""
    p: dict[str, Any] = {"n": 2, **LARGE[problem]}
    n, c, size, window = (p.pop(key) for key in ("n", "c", "size", "window"))
    shape = (n, *size, c) if channels_last else (n, c, *size)
    layout = {1: "NCW NWC", 2: "NCHW NHWC", 3: "NCDHW NDHWC"}[len(size)].split()[channels_last]
    spec = pool_spec(f"pool{len(size)}d", shape, window, np.dtype(dtype), layout=layout, **p)
    rng = np.random.default_rng(3)
    x, dy = integers(rng, spec.x_shape, dtype), integers(rng, spec.y_shape, dtype)
    y, argmax = max_pool(REFERENCE, spec, x)
    return spec, x, dy, y, argmax, max_pool_grad(REFERENCE, spec, dy, argmax)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("problem", LARGE)
@pytest.mark.parametrize("name", kernels_with("max_pool"))
def test_large_poolings_on_any_number_of_threads(
    name: str, problem: str, dtype: Any, channels_last: bool, many_threads: None
) -> None:
    spec, x, dy, right, at, routed = large_case(problem, dtype, channels_last)
    kernel = KERNELS[name]
    mean, share = avg_pool(kernel, spec, x), avg_pool_grad(kernel, spec, dy)
    assert_within_bound(
        kernel, share, oracle("avg_pool_grad", spec, dy), oracle("avg_pool_grad", spec, abs(dy))
    )
    for threads in (1, 2, 7):
        y, argmax = max_pool(kernel, spec, x, threads=threads)
        np.testing.assert_array_equal(y, right)
        np.testing.assert_array_equal(argmax, at)
        np.testing.assert_array_equal(max_pool_grad(kernel, spec, dy, at, threads=threads), routed)
        np.testing.assert_array_equal(avg_pool(kernel, spec, x, threads=threads), mean)
        np.testing.assert_array_equal(avg_pool_grad(kernel, spec, dy, threads=threads), share)


def test_results_beyond_the_caches() -> None:
    """Channels-last results that are written past the caches; no two elements are equal: y says which won."""
    shape = (1, 362, 364, 64)
    x = np.random.default_rng(0).permutation(int(np.prod(shape))).astype(np.float32).reshape(shape)
    y, argmax = fc.max_pool2d(x, 2, layout="NHWC", return_argmax=True)
    np.testing.assert_array_equal(y, x.reshape(1, 181, 2, 182, 2, 64).max((2, 4)))
    found = np.take_along_axis(x.reshape(-1, 64), argmax.reshape(-1, 64), 0)
    np.testing.assert_array_equal(found, y.reshape(-1, 64))

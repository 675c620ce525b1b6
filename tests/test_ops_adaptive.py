"""Adaptive and global pooling: against their windows written out, in every rank and layout."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, Array, reals

import fastconv as fc
from fastconv.ops.spec import LAYOUTS

SIZES = st.integers(1, 3).flatmap(
    lambda n: st.tuples(*(st.tuples(*[st.integers(1, 9)] * n) for _ in range(2)))  # (input, output)
)


def windows(size: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """(output position, slices of the input) from floor(o*I/O) to ceil((o+1)*I/O)."""
    for p in itertools.product(*map(range, out)):
        yield p, tuple(slice(q * i // o, -(-(q + 1) * i // o)) for q, i, o in zip(p, size, out, strict=True))


def best(values: Array) -> int:
    """The first maximum, or the last NaN."""
    nans = np.flatnonzero(np.isnan(values))
    return int(nans[-1]) if len(nans) else int(values.argmax())


def adaptive_max(x: Array, out: tuple[int, ...]) -> tuple[Array, Array]:
    """(y, argmax), channels first."""
    plane = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
    y, argmax = np.empty((*x.shape[:2], *out), x.dtype), np.empty((*x.shape[:2], *out), np.int64)
    for (p, window), n, c in itertools.product(
        windows(x.shape[2:], out), range(x.shape[0]), range(x.shape[1])
    ):
        values = x[(n, c, *window)].ravel()
        y[(n, c, *p)] = values[best(values)]
        argmax[(n, c, *p)] = plane[window].ravel()[best(values)]
    return y, argmax


def with_ties_and_nans(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    x = rng.integers(-2, 3, shape).astype(dtype)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.1] = -np.inf
    return x


def to_layout(a: Array, last: bool) -> Array:
    return np.moveaxis(a, 1, -1) if last else a


@given(SIZES, st.booleans(), DTYPES, SEEDS)
def test_averages_of_the_windows_and_their_adjoint(sizes: Any, last: bool, dtype: Any, seed: int) -> None:
    size, out = sizes
    rng = np.random.default_rng(seed)
    x = reals(rng, (2, 3, *size), dtype)
    expected = np.empty((2, 3, *out))
    for p, window in windows(size, out):
        expected[(..., *p)] = x[(..., *window)].astype(float).mean(tuple(range(2, x.ndim)))
    n, layout = len(size), LAYOUTS[len(size)][last]
    pool, pool_grad = getattr(fc, f"adaptive_avg_pool{n}d"), getattr(fc, f"adaptive_avg_pool{n}d_grad")
    y = pool(to_layout(x, last), out, layout=layout)
    assert y.dtype == x.dtype and y.flags.c_contiguous
    tolerance = 16 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, to_layout(expected, last), rtol=tolerance, atol=4 * tolerance)
    dy = reals(rng, y.shape, dtype)
    dx = pool_grad(dy, to_layout(x, last).shape, layout=layout)
    assert dx.shape == to_layout(x, last).shape and dx.flags.c_contiguous
    left, right = np.vdot(y.astype(float), dy), np.vdot(to_layout(x, last).astype(float), dx)
    np.testing.assert_allclose(
        left, right, rtol=0, atol=4 * tolerance * np.abs(y).sum() * np.abs(dy).max() + tolerance
    )


@given(SIZES, st.booleans(), DTYPES, SEEDS)
def test_maxima_of_the_windows(sizes: Any, last: bool, dtype: Any, seed: int) -> None:
    size, out = sizes
    x = with_ties_and_nans(np.random.default_rng(seed), (2, 3, *size), dtype)
    expected, expected_at = adaptive_max(x, out)
    n, layout = len(size), LAYOUTS[len(size)][last]
    pool = getattr(fc, f"adaptive_max_pool{n}d")
    y, argmax = pool(to_layout(x, last), out, layout=layout, return_argmax=True)
    np.testing.assert_array_equal(y, to_layout(expected, last))
    np.testing.assert_array_equal(argmax, to_layout(expected_at, last))
    assert argmax.dtype == np.int32
    np.testing.assert_array_equal(pool(to_layout(x, last), out, layout=layout), y)
    dy = np.ones(y.shape, dtype)
    dx = getattr(fc, f"adaptive_max_pool{n}d_grad")(dy, argmax, to_layout(x, last).shape, layout=layout)
    counts = np.zeros((2, 3, int(np.prod(size))))
    np.add.at(counts, index(expected_at), 1)
    np.testing.assert_array_equal(dx, to_layout(counts.reshape(2, 3, *size), last))


def index(argmax: Array) -> tuple[Array, Array, Array]:
    n, c, flat = *argmax.shape[:2], argmax.reshape(*argmax.shape[:2], -1)
    return np.arange(n)[:, None, None], np.arange(c)[:, None], flat


def test_none_keeps_the_size() -> None:
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    np.testing.assert_array_equal(fc.adaptive_avg_pool2d(x, (None, 2)), fc.adaptive_avg_pool2d(x, (3, 2)))
    assert fc.adaptive_max_pool2d(x, (2, None)).shape == (1, 1, 2, 4)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_global_pooling_is_adaptive_pooling_to_one(n: int, last: bool, dtype: Any) -> None:
    rng = np.random.default_rng(n)
    x = to_layout(reals(rng, (2, 5, *(3, 4, 7)[:n]), dtype), last)
    layout = LAYOUTS[n][last]
    y = fc.global_avg_pool(x, layout=layout)
    expected = getattr(fc, f"adaptive_avg_pool{n}d")(x, 1, layout=layout)
    np.testing.assert_allclose(y, expected, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-6)
    dy = reals(rng, y.shape, dtype)
    dx = fc.global_avg_pool_grad(dy, x.shape, layout=layout)
    np.testing.assert_allclose(dx, np.broadcast_to(dy / (x.size // y.size), x.shape), rtol=1e-6)
    ties = to_layout(with_ties_and_nans(rng, (2, 5, *(3, 4, 7)[:n]), dtype), last)
    y, argmax = fc.global_max_pool(ties, layout=layout, return_argmax=True)
    expected_y, expected_at = getattr(fc, f"adaptive_max_pool{n}d")(
        ties, 1, layout=layout, return_argmax=True
    )
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(argmax, expected_at)
    assert argmax.dtype == expected_at.dtype
    dx = fc.global_max_pool_grad(dy, argmax, x.shape, layout=layout)
    expected_dx = getattr(fc, f"adaptive_max_pool{n}d_grad")(dy, argmax, x.shape, layout=layout)
    np.testing.assert_array_equal(dx, expected_dx)


def test_long_global_averages_stay_accurate() -> None:
    x = np.random.default_rng(0).random((1, 300, 300, 2), np.float32)
    exact = x.astype(np.float64).mean((1, 2), keepdims=True)
    for y in (
        fc.global_avg_pool(x, layout="NHWC"),
        np.moveaxis(fc.global_avg_pool(np.moveaxis(x, -1, 1)), 1, -1),
    ):
        np.testing.assert_allclose(y, exact, rtol=16 * np.finfo(np.float32).eps)


def test_empty_batches() -> None:
    x = np.empty((0, 3, 5, 6), np.float32)
    assert fc.adaptive_avg_pool2d(x, (2, 4)).shape == (0, 3, 2, 4)
    y, argmax = fc.adaptive_max_pool2d(x, (2, 4), return_argmax=True)
    assert y.shape == argmax.shape == (0, 3, 2, 4)
    assert fc.adaptive_max_pool2d_grad(y, argmax, x.shape).shape == x.shape
    assert fc.adaptive_avg_pool2d_grad(y, x.shape).shape == x.shape
    y, argmax = fc.global_max_pool(x, return_argmax=True)
    assert y.shape == argmax.shape == fc.global_avg_pool(x).shape == (0, 3, 1, 1)
    assert fc.global_avg_pool_grad(y, x.shape).shape == x.shape


def test_out_receives_the_result() -> None:
    x = np.arange(30.0).reshape(1, 2, 3, 5)
    for call in (
        lambda out: fc.adaptive_avg_pool2d(x, 2, out=out),
        lambda out: fc.adaptive_max_pool2d(x, 2, out=out),
        lambda out: fc.global_avg_pool(x, out=out),
        lambda out: fc.global_max_pool(x, out=out),
        lambda out: fc.adaptive_avg_pool2d_grad(x, (1, 2, 4, 4), out=out),
    ):
        expected = call(None)
        out = np.full(expected.shape, np.nan, order="F")
        assert call(out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: fc.adaptive_avg_pool2d(x, 0),
            "adaptive_avg_pool2d: output_size is 0: it must be at least 1",
        ),
        (lambda x: fc.adaptive_avg_pool2d(x, (1, 2, 3)), "output_size has 3 elements (1, 2, 3)"),
        (lambda x: fc.adaptive_max_pool1d(x, 1), "adaptive_max_pool1d: x has 4 dimensions"),
        (lambda x: fc.adaptive_avg_pool2d_grad(x, (1, 3, 3, 3)), "dy has 1 images of 2 channels"),
        (lambda x: fc.global_avg_pool(x[0, 0]), "global_avg_pool: x has 2 dimensions"),
        (lambda x: fc.global_avg_pool(x, layout="NCW"), "layout is 'NCW': it must be 'NCHW' or 'NHWC'"),
        (
            lambda x: fc.global_avg_pool_grad(x, (1, 2, 4, 4)),
            "dy has shape (1, 2, 3, 5): it must be (1, 2, 1, 1)",
        ),
        (lambda x: fc.global_max_pool(np.empty((1, 2, 0))), "x has spatial size (0,)"),
        (lambda x: fc.adaptive_avg_pool2d(x, 2**40), "an array of shape"),
    ],
)
def test_wrong_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call(np.ones((1, 2, 3, 5)))
    assert message in str(caught.value)

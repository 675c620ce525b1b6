"""Max-unpooling and Lp pooling, their gradients, and the activations' gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, reals

import fastconv as fc
from fastconv.ops.activation import GRADIENTS, gradient_into
from fastconv.ops.spec import LAYOUTS


@given(st.integers(1, 3), st.booleans(), DTYPES, SEEDS)
def test_unpooling_puts_back_what_pooling_found(n: int, last: bool, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(int(v) for v in rng.integers(2, 7, n))
    x = reals(rng, (2, *size, 3) if last else (2, 3, *size), dtype)
    pool, unpool = getattr(fc, f"max_pool{n}d"), getattr(fc, f"max_unpool{n}d")
    layout = LAYOUTS[n][last]
    y, argmax = pool(x, 2, layout=layout, return_argmax=True)
    back = unpool(y, argmax, x.shape, layout=layout)
    kept = getattr(fc, f"max_pool{n}d_grad")(np.ones_like(y), argmax, x.shape, layout=layout)
    np.testing.assert_array_equal(back, x * kept)  # windows do not overlap: each maximum is kept once
    dx = reals(rng, x.shape, dtype)
    dy = getattr(fc, f"max_unpool{n}d_grad")(dx, argmax, layout=layout)
    assert dy.shape == y.shape and dy.dtype == dtype
    np.testing.assert_array_equal(unpool(dy, argmax, x.shape, layout=layout), dx * kept)


def test_a_maximum_of_two_windows_is_put_back_once() -> None:
    y, argmax = np.array([[[7.0, 7.0, 1.0]]]), np.array([[[1, 1, 3]]])
    np.testing.assert_array_equal(fc.max_unpool1d(y, argmax, (1, 1, 5)), [[[0, 7, 0, 1, 0]]])
    np.testing.assert_array_equal(
        fc.max_unpool1d_grad(np.arange(5.0).reshape(1, 1, 5), argmax), [[[1, 1, 3]]]
    )


def test_unpooling_into_out_and_of_nothing() -> None:
    y, argmax = np.array([[[7.0, 1.0]]]), np.array([[[1, 3]]])
    out = np.full((1, 1, 4), np.nan, order="F")
    assert fc.max_unpool1d(y, argmax, (1, 1, 4), out=out) is out
    np.testing.assert_array_equal(out, [[[0, 7, 0, 1]]])
    assert fc.max_unpool1d(y[:0], argmax[:0], (0, 1, 4)).shape == (0, 1, 4)


@pytest.mark.parametrize("bad", [-1, 4, 2**40])
def test_indices_outside_the_plane_are_refused(bad: int) -> None:
    y, argmax = np.ones((1, 1, 1)), np.full((1, 1, 1), bad)
    with pytest.raises(ValueError, match=r"max_unpool1d: argmax ranges from"):
        fc.max_unpool1d(y, argmax, (1, 1, 4))
    with pytest.raises(ValueError, match=r"max_unpool1d_grad: argmax ranges from"):
        fc.max_unpool1d_grad(np.ones((1, 1, 4)), argmax)
    with pytest.raises(ValueError, match="max_unpool1d: y has 1 images of 1 channels"):
        fc.max_unpool1d(y, np.zeros((1, 1, 1), int), (2, 1, 4))


@pytest.mark.parametrize("p", [1, 2, 3, 2.5, np.float32(4)])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
def test_lp_pool_is_the_norm_of_each_window(n: int, p: float, last: bool) -> None:
    x = np.random.default_rng(n).random((2, *(4, 5, 6)[:n], 3) if last else (2, 3, *(4, 5, 6)[:n]))
    layout = LAYOUTS[n][last]
    y = getattr(fc, f"lp_pool{n}d")(x, 2, p, stride=1, layout=layout)
    windows = np.lib.stride_tricks.sliding_window_view(
        x, (2,) * n, tuple(range(1, n + 1)) if last else tuple(range(2, n + 2))
    )
    expected = np.linalg.norm(windows.reshape(*windows.shape[: n + 2], -1), float(p), axis=-1)
    np.testing.assert_allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize("p", [2, 3, 1.5])
@pytest.mark.parametrize(
    "keywords", [{}, {"stride": 1, "padding": 1}, {"stride": 2, "ceil_mode": True}, {"dilation": 2}]
)
def test_lp_gradient_numerically(p: float, keywords: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    x = rng.random((1, 2, 5, 4)) + 0.1
    y = fc.lp_pool2d(x, 2, p, **keywords)
    dy = rng.standard_normal(y.shape)
    dx = fc.lp_pool2d_grad(dy, x, y, 2, p, **keywords)
    step, numeric = 1e-6, np.empty_like(x)
    for at in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[at] += step
        behind[at] -= step
        change = fc.lp_pool2d(ahead, 2, p, **keywords) - fc.lp_pool2d(behind, 2, p, **keywords)
        numeric[at] = np.vdot(change, dy) / (2 * step)
    np.testing.assert_allclose(dx, numeric, rtol=1e-6, atol=1e-8)


def test_an_infinite_norm_is_the_largest_magnitude() -> None:
    x = np.array([[[-5.0, 1.0, 2.0, -1.0, 3.0]]])
    y = fc.lp_pool1d(x, 2, np.inf, ceil_mode=True)
    np.testing.assert_array_equal(y, [[[5, 2, 3]]])
    dy = np.array([[[1.0, 10.0, 100.0]]])
    for out in (None, np.empty_like(x)):
        dx = fc.lp_pool1d_grad(dy, x, y, 2, np.inf, ceil_mode=True, out=out)
        np.testing.assert_array_equal(dx, [[[-1, 0, 10, 0, 100]]])


def test_lp_of_zeros_and_of_negative_sums() -> None:
    x = np.array([[[0.0, 0.0, -3.0, 1.0]]])
    y = fc.lp_pool1d(x, 2, 3)
    np.testing.assert_array_equal(y, [[[0.0, np.nan]]])
    np.testing.assert_array_equal(fc.lp_pool1d_grad(np.ones_like(y), x, y, 2, 3)[..., :2], [[[0.0, 0.0]]])
    assert fc.lp_pool1d(x, 2, 2)[0, 0, 1] == pytest.approx(np.sqrt(10))


def test_lp_keeps_float32_and_fills_out() -> None:
    x = np.array([[[3.0, 4.0]]], np.float32)
    out = np.empty((1, 1, 1), np.float32)
    assert fc.lp_pool1d(x, 2, np.float64(2), out=out) is out
    assert out == 5
    dx = np.empty((1, 1, 2), np.float32)
    assert fc.lp_pool1d_grad(out, x, out, 2, 2, out=dx) is dx
    np.testing.assert_allclose(dx, [[[3, 4]]], rtol=1e-6)


@pytest.mark.parametrize(
    ("p", "error"),
    [(0, ValueError), (-1, ValueError), (np.nan, ValueError), ("2", TypeError),
     (None, TypeError), (True, TypeError), (1j, TypeError), (10**400, ValueError)],
)  # fmt: skip
def test_wrong_norms_are_named(p: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="lp_pool1d: p is "):
        fc.lp_pool1d(np.ones((1, 1, 4)), 2, p)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("wrong", [-1, 12, 60_000])
@pytest.mark.parametrize("where", [0, 20_000, -1])
def test_one_index_outside_the_plane_among_many_is_found(dtype: Any, wrong: int, where: int) -> None:
    rng = np.random.default_rng(0)
    argmax = rng.integers(0, 12, (9, 1000, 2, 2)).astype(dtype)
    dy = np.ones(argmax.shape, np.float32)
    assert fc.max_pool2d_grad(dy, argmax, (9, 1000, 3, 4)).sum() == dy.size
    argmax.reshape(-1)[where] = wrong if dtype != np.uint16 else abs(wrong) + 12
    with pytest.raises(ValueError, match="max_pool2d_grad: argmax ranges from"):
        fc.max_pool2d_grad(dy, argmax, (9, 1000, 3, 4))


DERIVATIVES = {
    "relu": lambda z: (z > 0).astype(float),
    "leaky_relu": lambda z: np.where(z > 0, 1, 0.01),
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "relu6": lambda z: (z > 0) & (z < 6),
}


@pytest.mark.parametrize("activation", DERIVATIVES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activation_gradients_need_only_the_output(activation: str, dtype: Any) -> None:
    rng = np.random.default_rng(7)
    z = reals(rng, (2, 3, 4, 5), dtype)
    y = fc.conv2d(z, np.eye(3, dtype=dtype).reshape(3, 3, 1, 1), activation=activation)
    dy = reals(rng, y.shape, dtype)
    dz = fc.activation_grad(dy, y, activation)
    assert dz.dtype == dtype
    np.testing.assert_allclose(
        dz, dy * DERIVATIVES[activation](z), rtol=1e-4 if dtype == np.float32 else 1e-12
    )
    out = np.empty_like(dz)
    assert fc.activation_grad(dy, y, activation, out=out) is out
    np.testing.assert_array_equal(out, dz)


def test_gradient_of_softmax_mixes_the_last_axis() -> None:
    rng = np.random.default_rng(0)
    z, dy = rng.normal(size=(2, 3, 4))
    y = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    wanted = [row @ (np.diag(p) - np.outer(p, p)) for row, p in zip(dy, y, strict=True)]  # dy J, row by row
    np.testing.assert_allclose(fc.activation_grad(dy, y, "softmax"), wanted, rtol=1e-12, atol=1e-15)
    single = fc.activation_grad(dy.astype("f"), y.astype("f"), "softmax")
    assert single.dtype == np.float32
    assert fc.activation_grad(dy[:0], y[:0], "softmax").shape == (0, 4)


@pytest.mark.parametrize("activation", DERIVATIVES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 7, 33, 4096, 100_003])
def test_compiled_activation_gradients_are_numpys(activation: str, dtype: Any, n: int) -> None:
    rng = np.random.default_rng(n)
    # a guard on both sides shows a stray write; the special values NaN, both zeros and both infinities
    memory = np.full((3, n + 2), 5, dtype)
    dy, y, out = memory[:, 1:-1]
    dy[...], y[...] = reals(rng, n, dtype), reals(rng, n, dtype)
    if n > 5:
        y[:6] = np.nan, 0, -0.0, np.inf, -np.inf, 6
    gradient_into(out, dy, y, activation)
    with np.errstate(invalid="ignore"):
        want = GRADIENTS[activation](dy, y)
        finite = np.isfinite(y)
        difference, terms = np.abs(out - want)[finite], (np.abs(dy) * (1 + y * y))[finite]
    np.testing.assert_array_equal(out[~finite], want[~finite])
    assert (difference <= 4 * np.finfo(dtype).eps * terms).all()
    if activation in ("relu", "relu6", "leaky_relu"):
        np.testing.assert_array_equal(out, want)
    gradient_into(dy, dy, y, activation)
    np.testing.assert_array_equal(dy, out)
    np.testing.assert_array_equal(memory[:, [0, -1]], 5)


def test_activation_grad_of_none_copies_and_names_what_is_wrong() -> None:
    dy, y = np.arange(1.0, 4.0), np.zeros(3)
    copy = fc.activation_grad(dy, y, None)
    np.testing.assert_array_equal(copy, dy)
    assert not np.shares_memory(copy, dy)
    np.testing.assert_array_equal(fc.activation_grad(dy, np.array([np.nan, 0, 1]), "relu"), [1, 0, 3])
    np.testing.assert_array_equal(fc.activation_grad(dy, np.array([np.nan, 6, 5]), "relu6"), [1, 0, 3])
    with pytest.raises(ValueError, match="activation_grad: activation is 'gelu'"):
        fc.activation_grad(dy, y, "gelu")
    with pytest.raises(ValueError, match=r"activation_grad: y has shape \(2,\): it must be \(3,\)"):
        fc.activation_grad(dy, y[:2], "relu")
    with pytest.raises(TypeError, match="activation_grad: y is float32, the other arrays float64"):
        fc.activation_grad(dy, y.astype(np.float32), "relu")

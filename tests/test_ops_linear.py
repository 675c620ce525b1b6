"""The matrix products of Linear: exact on whole numbers, on the kernels and on NumPy alike."""

import numpy as np
import pytest

from fastconv.dispatch import runtime
from fastconv.ops import linear as ops

# rows, inputs, outputs: none, one, few, many, past NumPy's share; around the vector's width
SIZES = [
    (0, 3, 2),
    (1, 1, 1),
    (1, 400, 120),
    (3, 17, 5),
    (64, 84, 10),
    (65, 257, 33),
    (64, 512, 10),
    (200, 15, 64),
]


@pytest.fixture(params=["kernels", "numpy"])
def compiled(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(runtime, "chosen_isa", lambda: None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", SIZES)
def test_products_are_those_of_numpy(sizes, dtype, compiled):
    n, c, k = sizes
    rng = np.random.default_rng(0)
    x, w, dy = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((n, c), (k, c), (n, k)))
    for got, want in (
        (ops.linear(x, w), x @ w.T),
        (ops.linear_input_grad(dy, w), dy @ w),
        (ops.linear_filter_grad(x, dy), dy.T @ x),
    ):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want)


def test_arguments_may_be_views():
    rng = np.random.default_rng(1)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((300, 64), (300, 20), (20, 64)))
    x, w, dy = x.T, w.T, dy.T[::-1]
    np.testing.assert_array_equal(ops.linear(x, w), x @ w.T)
    np.testing.assert_array_equal(ops.linear_input_grad(dy, w), dy @ w)
    np.testing.assert_array_equal(ops.linear_filter_grad(x, dy), dy.T @ x)


def test_large_products_stay_off_blas(monkeypatch):
    """BLAS threads that wait for work would take the kernels' cores."""
    called = []
    monkeypatch.setattr(ops, "conv2d", lambda *a, **k: called.append(k) or np.zeros((1, 1, 64, 100)))
    ops.linear_input_grad(np.ones((64, 100)), np.ones((100, 100)))
    assert called == [{"kernel": ops.GEMM}]

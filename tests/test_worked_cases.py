"""The lecture's cases, every number worked out by hand: 3x3 input, 2x2 filter, 2x2 max-pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import KERNELS, kernels_with
from strategies import Array

import fastconv as fc
from fastconv.kernels.kernel import CONV_PASSES
from fastconv.ops.spec import conv_spec

X = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
W = [[1, 2], [3, 4]]
BIAS = 10
# 1*1 + 2*2 + 4*3 + 5*4 = 37, and so on; each plus the bias
Y = [[37 + BIAS, 47 + BIAS], [67 + BIAS, 77 + BIAS]]
DY = [[1, -1], [2, 3]]
# dW11 = 1*1 + 2*(-1) + 4*2 + 5*3, ...: X convolved with dY
DW = [[22, 27], [37, 42]]
# dX11 = dY11 W11, dX12 = dY11 W12 + dY12 W11, ..., dX22 = dY11 W22 + dY12 W21 + dY21 W12 + dY22 W11
DX = [[1, 1, -2], [5, 8, 2], [6, 17, 12]]
DB = 1 - 1 + 2 + 3

POOL_X = [[1, 5, 2], [4, 3, 6], [7, 0, 6]]
# windows of 2x2 one pixel apart: 6 at index 5 is the maximum of two, and ties with index 8 in the last
POOL_Y = [[5, 6], [7, 6]]
POOL_ARGMAX = [[1, 5], [6, 5]]
POOL_DY = [[1, 2], [3, 4]]
POOL_DX = [[0, 1, 0], [0, 0, 2 + 4], [3, 0, 0]]
MEAN_Y = [[13 / 4, 16 / 4], [14 / 4, 15 / 4]]
MEAN_DX = [[1 / 4, 3 / 4, 2 / 4], [4 / 4, 10 / 4, 6 / 4], [3 / 4, 7 / 4, 4 / 4]]

SPEC = conv_spec("conv2d", (1, 1, 3, 3), (1, 1, 2, 2), np.dtype(np.float32))
CONV_KERNELS = [
    name
    for name in kernels_with("forward")
    if not any(p not in KERNELS[name].passes or KERNELS[name].unsupported(p, SPEC) for p in CONV_PASSES)
]
EVERYWHERE = pytest.mark.parametrize("layout", ["NCHW", "NHWC"]), pytest.mark.parametrize("dtype", "fd")


def image(values: Any, layout: str, dtype: Any) -> Array:
    """A plane as one image of one channel."""
    plane = np.array(values, dtype)
    return plane[None, None] if layout == "NCHW" else plane[None, ..., None]


def filters(values: Any, layout: str, dtype: Any) -> Array:
    """A plane as one filter of one channel."""
    plane = np.array(values, dtype)
    return plane[None, None] if layout == "NCHW" else plane[..., None, None]


@EVERYWHERE[0]
@EVERYWHERE[1]
@pytest.mark.parametrize("kernel", [None, *CONV_KERNELS])
def test_convolution_and_its_four_gradients(kernel: str | None, layout: str, dtype: str) -> None:
    x, w, dy = image(X, layout, dtype), filters(W, layout, dtype), image(DY, layout, dtype)
    y = fc.conv2d(x, w, np.array([BIAS], dtype), layout=layout, kernel=kernel)
    dx = fc.conv2d_input_grad(dy, w, x.shape, layout=layout, kernel=kernel)
    dw, db = fc.conv2d_filter_grad(x, dy, w.shape, layout=layout, kernel=kernel, bias_grad=True)
    np.testing.assert_array_equal(y, image(Y, layout, dtype), strict=True)
    np.testing.assert_array_equal(dx, image(DX, layout, dtype), strict=True)
    np.testing.assert_array_equal(dw, filters(DW, layout, dtype), strict=True)
    np.testing.assert_array_equal(db, np.array([DB], dtype), strict=True)


@EVERYWHERE[0]
@EVERYWHERE[1]
@pytest.mark.parametrize("kernel", [None, *kernels_with("max_pool")])
def test_max_pool_and_where_its_gradient_goes(kernel: str | None, layout: str, dtype: str) -> None:
    x, dy = image(POOL_X, layout, dtype), image(POOL_DY, layout, dtype)
    y, argmax = fc.max_pool2d(x, 2, stride=1, return_argmax=True, layout=layout, kernel=kernel)
    dx = fc.max_pool2d_grad(dy, argmax, x.shape, layout=layout, kernel=kernel)
    np.testing.assert_array_equal(y, image(POOL_Y, layout, dtype), strict=True)
    np.testing.assert_array_equal(argmax, image(POOL_ARGMAX, layout, np.int32), strict=True)
    np.testing.assert_array_equal(dx, image(POOL_DX, layout, dtype), strict=True)


@EVERYWHERE[0]
@EVERYWHERE[1]
@pytest.mark.parametrize("kernel", [None, *kernels_with("avg_pool")])
def test_avg_pool_and_its_gradient(kernel: str | None, layout: str, dtype: str) -> None:
    x, dy = image(POOL_X, layout, dtype), image(POOL_DY, layout, dtype)
    y = fc.avg_pool2d(x, 2, stride=1, layout=layout, kernel=kernel)
    dx = fc.avg_pool2d_grad(dy, x.shape, 2, stride=1, layout=layout, kernel=kernel)
    np.testing.assert_array_equal(y, image(MEAN_Y, layout, dtype), strict=True)
    np.testing.assert_array_equal(dx, image(MEAN_DX, layout, dtype), strict=True)


def test_the_output_size_formula() -> None:
    """(28 + 2*2 - 5) / 1 + 1 = 28 (LeNet-5), (227 - 11) / 4 + 1 = 55 (AlexNet); 6x6x3 by two 4x4 filters."""
    for size, f, stride, padding, out in [(28, 5, 1, 2, 28), (227, 11, 4, 0, 55), (6, 4, 1, 0, 3)]:
        x, w = np.zeros((1, 3, size, size), np.float32), np.zeros((2, 3, f, f), np.float32)
        assert fc.conv2d(x, w, stride=stride, padding=padding).shape == (1, 2, out, out)
    assert w.size == 96


def test_sobel_finds_the_edge() -> None:
    x = np.zeros((1, 1, 4, 6))
    x[..., 3:] = 1
    sobel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
    np.testing.assert_array_equal(fc.conv2d(x, sobel, kernel="reference")[0, 0], [[0, 4, 4, 0], [0, 4, 4, 0]])


def test_same_padding_of_an_even_filter_adds_the_odd_pixel_at_the_end() -> None:
    x, w = np.array([[[[1.0, 2, 3]]]]), np.array([[[[1.0, 10]]]])
    np.testing.assert_array_equal(fc.conv2d(x, w, padding="same"), [[[[21, 32, 3]]]])
    np.testing.assert_array_equal(fc.conv2d(x, w, padding="same_lower"), [[[[10, 21, 32]]]])


@pytest.mark.parametrize(
    ("mode", "y", "dx"),
    [
        ("zeros", [[12, 123, 230]], [[110, 111, 11]]),
        ("reflect", [[212, 123, 232]], [[10 + 100, 1 + 10 + 100 + 100 + 1, 1 + 10]]),
        ("replicate", [[112, 123, 233]], [[100 + 10 + 100, 1 + 10 + 100, 1 + 10 + 1]]),
        ("circular", [[312, 123, 231]], [[10 + 100 + 1, 1 + 10 + 100, 1 + 10 + 100]]),
    ],
)
def test_padding_modes(mode: str, y: list[list[int]], dx: list[list[int]]) -> None:
    """The row 1 2 3 padded by one pixel, under the filter 100 10 1."""
    x, w = np.array([[[[1.0, 2, 3]]]]), np.array([[[[100.0, 10, 1]]]])
    padding = (0, 1)
    np.testing.assert_array_equal(fc.conv2d(x, w, padding=padding, padding_mode=mode)[0, 0], y)
    ones = np.ones((1, 1, 1, 3))
    grad = fc.conv2d_input_grad(ones, w, x.shape, padding=padding, padding_mode=mode)
    np.testing.assert_array_equal(grad[0, 0], dx)

"""More than 2^31 elements. The arrays are zeros that no one touches, so they take addresses, not memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import fastconv as fc

NAMES = [row["kernel"] for row in fc.kernels() if row["available"] == "yes" and row["kernel"] != "reference"]
CHANNELS, PIXELS = 2049, 2**20 + 1  # 2^31 + 2^20 + 2049 elements


@pytest.fixture(scope="module")
def zeros() -> Iterator[NDArray[np.float32]]:
    """One flat array, shaped by each test."""
    try:
        a = np.zeros(CHANNELS * PIXELS, np.float32)
    except MemoryError:
        pytest.skip("this machine gives no process an array of 8.6 GB")
    a[0], a[-1] = 3, 7
    yield a


@pytest.mark.parametrize("kernel", [None, *NAMES])
def test_convolution_of_the_first_and_the_last_pixel(zeros: NDArray[np.float32], kernel: str | None) -> None:
    x, w = zeros.reshape(1, PIXELS, CHANNELS), np.ones((1, CHANNELS, 2), np.float32)
    dy = np.array([[[1, 2], [3, 4]]], np.float32)
    try:
        y = fc.conv1d(x, w, stride=PIXELS - 1, layout="NWC", kernel=kernel)
        dw = fc.conv1d_filter_grad(x, dy, w.shape, stride=PIXELS - 1, layout="NWC", kernel=kernel)
    except fc.UnsupportedProblem:
        return  # which problems a kernel refuses is tested in test_dispatch.py
    assert y.tolist() == [[[3, 3], [7, 7]]]
    assert dw[0, 0].tolist() == [3, 6] and dw[0, -1].tolist() == [21, 28] and not dw[0, 1:-1].any()


@pytest.mark.parametrize("kernel", ["cython.im2col", "cython.direct", "numba.im2col", "numba.direct"])
def test_convolution_along_one_long_line(zeros: NDArray[np.float32], kernel: str) -> None:
    """The others copy a line as long as the stride, which here would take the memory."""
    if kernel not in NAMES:
        return
    x, w = zeros.reshape(1, 1, -1), np.array([[[1, 10, 100]]], np.float32)
    y = fc.conv1d(x, w, stride=x.size - 3, kernel=kernel)
    assert y.tolist() == [[[3, 700]]]


@pytest.mark.parametrize("kernel", [None, *(k for k in NAMES if k.endswith((".im2col", ".direct")))])
def test_pooling_and_its_argmax(zeros: NDArray[np.float32], kernel: str | None) -> None:
    x = zeros.reshape(1, 1, -1)
    y, argmax = fc.max_pool1d(x, 3, stride=x.size - 3, return_argmax=True, kernel=kernel)
    assert y.tolist() == [[[3, 7]]] and argmax.dtype == np.int64 and argmax.tolist() == [[[0, x.size - 1]]]
    mean = fc.avg_pool1d(x, 3, stride=x.size - 3, kernel=kernel)
    np.testing.assert_array_equal(mean, np.float32([[[1, 7 / 3]]]))

"""The book's layers on fastconv.

The host is the reader's copy of `common/`; without one, a stand-in written from the definition serves.
"""

import importlib.util
import sys
import types

import numpy as np
import pytest

import fastconv as fc
from fastconv.adapters import dlfs as adapter
from fastconv.adapters.base import MissingHost, count_calls

METHODS = [
    ("Convolution", "forward"),
    ("Convolution", "backward"),
    ("Pooling", "forward"),
    ("Pooling", "backward"),
]


class Convolution:
    """The definition, one output pixel at a time, in float64 as the book."""

    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def windows(self, shape):
        r, s = self.W.shape[2:]
        for i in range((shape[2] + 2 * self.pad - r) // self.stride + 1):
            for j in range((shape[3] + 2 * self.pad - s) // self.stride + 1):
                a, b = i * self.stride, j * self.stride
                yield i, j, np.s_[:, :, a : a + r, b : b + s]

    def padded(self, x):
        ends = (self.pad, self.pad)
        return np.pad(x, ((0, 0), (0, 0), ends, ends)).astype(np.result_type(x, np.float64))

    def forward(self, x):
        self.x = x
        padded = self.padded(x)
        pixels = {
            (i, j): np.einsum("ncrs,kcrs->nk", padded[at], self.W) + self.b
            for i, j, at in self.windows(x.shape)
        }
        height, width = (last + 1 for last in max(pixels))
        rows = [np.stack([pixels[i, j] for j in range(width)], -1) for i in range(height)]
        return np.stack(rows, -2)

    def backward(self, dout):
        padded = self.padded(self.x)
        dx, self.dW = np.zeros_like(padded), np.zeros(self.W.shape, padded.dtype)
        self.db = dout.sum((0, 2, 3))
        for i, j, at in self.windows(self.x.shape):
            dx[at] += np.tensordot(dout[:, :, i, j], self.W, 1)
            self.dW += np.tensordot(dout[:, :, i, j].T, padded[at], 1)
        return dx[:, :, self.pad : dx.shape[2] - self.pad, self.pad : dx.shape[3] - self.pad]


class Pooling:
    def __init__(self, pool_h, pool_w, stride=1, pad=0):
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad

    def forward(self, x):
        self.x = x
        windows = np.lib.stride_tricks.sliding_window_view(x, (self.pool_h, self.pool_w), (2, 3))
        flat = windows[:, :, :: self.stride, :: self.stride].reshape(
            *x.shape[:2], -1, self.pool_h * self.pool_w
        )
        self.arg_max = flat.argmax(-1)
        height, width = ((x.shape[2] - self.pool_h) // self.stride + 1), -1
        return flat.max(-1).reshape(*x.shape[:2], height, width).astype(np.float64)

    def backward(self, dout):
        dx = np.zeros(self.x.shape)
        for n, c, i, j in np.ndindex(dout.shape):
            a, b = divmod(self.arg_max[n, c, i * dout.shape[3] + j], self.pool_w)
            dx[n, c, i * self.stride + a, j * self.stride + b] += dout[n, c, i, j]
        return dx


@pytest.fixture(autouse=True)
def layers(monkeypatch):
    """The module `common.layers`."""
    if importlib.util.find_spec("common") is None:
        package, module = types.ModuleType("common"), types.ModuleType("common.layers")
        package.__spec__ = importlib.util.spec_from_loader("common", None)
        package.layers, module.Convolution, module.Pooling = module, Convolution, Pooling
        monkeypatch.setitem(sys.modules, "common", package)
        monkeypatch.setitem(sys.modules, "common.layers", module)
    return importlib.import_module("common.layers")


def draw(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def step(layer, x):
    """Everything that a forward and a backward pass leave."""
    y = layer.forward(x)
    dx = layer.backward(draw(*y.shape))
    return [y, dx] + ([layer.dW, layer.db] if hasattr(layer, "W") else [])


def both(layer, x):
    with adapter.installed(), count_calls() as calls:
        got = step(layer, x)
    return got, step(layer, x), calls


def assert_same(got, want):
    for here, there in zip(got, want, strict=True):
        assert here.dtype == there.dtype and here.shape == there.shape
        np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64], ids=lambda d: d.__name__)
@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (1, 1), (2, 0), (2, 2), (3, 1)])
def test_convolution(layers, stride, pad, dtype):
    layer = layers.Convolution(draw(4, 3, 3, 2), draw(4), stride, pad)
    got, want, calls = both(layer, (10 * draw(2, 3, 8, 7)).astype(dtype))
    assert calls == {"conv2d": 1, "conv2d_input_grad": 1, "conv2d_filter_grad": 1}
    assert_same(got, want)


@pytest.mark.parametrize(("window", "stride"), [((2, 2), 2), ((2, 3), 1), ((3, 2), 2), ((2, 2), 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_pooling(layers, window, stride, ties):
    x = np.maximum(draw(2, 3, 8, 7), 0) if ties else draw(2, 3, 8, 7)
    got, want, calls = both(layers.Pooling(*window, stride), x)
    assert calls == {"max_pool2d": 1, "max_pool2d_grad": 1}
    assert_same(got, want)


def test_the_book_makes_float64_of_float32(layers):
    x = draw(2, 3, 8, 7, dtype=np.float32)
    layer = layers.Convolution(draw(4, 3, 3, 2, dtype=np.float32), draw(4, dtype=np.float32))
    for each in (layer, layers.Pooling(2, 2, 2)):
        got, want, calls = both(each, x)
        assert calls
        assert_same(got, want)


def test_nan_stays_with_the_host(layers):
    x = draw(1, 1, 4, 4)
    x[0, 0, :2, :2] = np.nan
    got, want, calls = both(layers.Pooling(2, 2, 2), x)
    assert not calls
    assert_same(got, want)


def test_complex_stays_with_the_host(layers):
    layer = layers.Convolution(draw(4, 3, 3, 2) * 1j, draw(4))
    with adapter.installed(), count_calls() as calls:
        got = layer.forward(draw(2, 3, 8, 7))
    assert not calls
    np.testing.assert_array_equal(got, layer.forward(draw(2, 3, 8, 7)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=lambda d: d.__name__)
def test_the_classes_alone(layers, dtype):
    """Our own classes, which keep float32, and take padding in `Pooling`."""
    w, b, x = draw(4, 3, 3, 2, dtype=dtype), draw(4, dtype=dtype), draw(2, 3, 8, 7, dtype=dtype)
    layer = adapter.Convolution(w, b, 2, 1)
    y = layer.forward(x)
    assert y.dtype == dtype
    want = layers.Convolution(w.astype(float), b.astype(float), 2, 1)
    tolerance = dict(rtol=1e-3, atol=1e-4) if dtype is np.float32 else dict(rtol=1e-9)
    np.testing.assert_allclose(y, want.forward(x.astype(float)), **tolerance)
    np.testing.assert_allclose(layer.backward(y), want.backward(y.astype(float)), **tolerance)
    np.testing.assert_allclose(layer.dW, want.dW, **tolerance)
    np.testing.assert_allclose(layer.db, want.db, **tolerance)
    pool = adapter.Pooling(3, 3, 2, 1)
    np.testing.assert_array_equal(pool.forward(x), fc.max_pool2d(x, 3, stride=2, padding=1))
    assert pool.backward(pool.forward(x)).dtype == dtype


def test_install_twice_and_uninstall(layers):
    def methods():
        return [vars(getattr(layers, owner))[name] for owner, name in METHODS]

    originals = methods()
    adapter.install()
    first = methods()
    adapter.install()
    assert methods() == first and all(a is not b for a, b in zip(first, originals, strict=True))
    adapter.uninstall()
    assert methods() == originals


def test_another_folder_of_that_name(monkeypatch):
    package = types.ModuleType("common")
    package.__spec__ = importlib.util.spec_from_loader("common", None)
    monkeypatch.setitem(sys.modules, "common", package)
    monkeypatch.delitem(sys.modules, "common.layers", raising=False)
    with pytest.raises(MissingHost, match="not the book's"):
        adapter.install()

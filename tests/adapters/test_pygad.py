"""PyGAD's CNN layers on fastconv, against PyGAD's own loops."""

import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pygad.cnn", reason="PyGAD is not installed")
from pygad import cnn

from fastconv.adapters import pygad as adapter
from fastconv.adapters.base import count_calls

METHODS = [
    (cnn.Conv2D, "conv_"),
    (cnn.MaxPooling2D, "max_pooling"),
    (cnn.AveragePooling2D, "average_pooling"),
]


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def image(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def both(layer, method, x):
    """(fastconv's output, PyGAD's output, the calls of fastconv)."""
    with adapter.installed(), count_calls() as calls:
        getattr(layer, method)(x)
    got = layer.layer_output
    getattr(layer, method)(x)
    return got, layer.layer_output, calls


def assert_same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_conv(window, activation):
    layer = cnn.Conv2D(4, window, cnn.Input2D((9, 7, 3)), activation_function=activation)
    got, want, calls = both(layer, "conv", image(9, 7, 3))
    assert calls == Counter(conv2d=1)
    assert_same(got, want)


def test_conv_of_integers_with_float_filters():
    layer = cnn.Conv2D(4, 3, cnn.Input2D((9, 7, 3)))
    got, want, calls = both(layer, "conv", np.arange(189, dtype=np.uint8).reshape(9, 7, 3))
    assert calls == Counter(conv2d=1)
    assert_same(got, want)


def test_conv_of_a_plane():
    """`conv_` itself takes an image without channels; `conv` does not."""
    layer = cnn.Conv2D(4, 3, cnn.Input2D((9, 7)))
    x, w = image(9, 7), image(4, 3, 3)
    with adapter.installed(), count_calls() as calls:
        got = layer.conv_(x, w)
    assert calls == Counter(conv2d=1)
    assert_same(got, layer.conv_(x, w))


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.complex128], ids=lambda d: d.__name__)
def test_conv_in_other_dtypes_stays_with_the_host(dtype):
    layer = cnn.Conv2D(4, 3, cnn.Input2D((9, 7, 3)))
    x, w = (
        (10 * image(9, 7, 3)).real.astype(np.float16 if dtype is np.complex128 else dtype),
        image(4, 3, 3, 3),
    )
    layer.trained_weights = w.astype(np.float16 if dtype is np.complex128 else dtype)
    got, want, calls = both(layer, "conv", x)
    assert not calls
    np.testing.assert_array_equal(got, want)


def test_conv_with_an_activation_of_the_users():
    layer = cnn.Conv2D(4, 3, cnn.Input2D((9, 7, 3)))
    layer.activation = lambda number: 1.0 if number > 0 else -1.0  # scalars only
    got, want, calls = both(layer, "conv", image(9, 7, 3))
    assert not calls
    np.testing.assert_array_equal(got, want)


def test_even_filters_stay_with_the_host():
    layer = cnn.Conv2D(4, 2, cnn.Input2D((9, 7, 3)))
    x, w = image(9, 7, 3), image(4, 2, 2, 3)
    with adapter.installed():
        got = layer.conv_(x, w)
        with pytest.raises(ValueError, match="odd size"):
            layer.conv(x)
    np.testing.assert_array_equal(got, layer.conv_(x, w))


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)), window=st.integers(1, 4), stride=st.integers(1, 4)
)
def test_pooling(size, window, stride):
    previous = cnn.Input2D((*size, 2))
    for kind, method, function in [
        (cnn.MaxPooling2D, "max_pooling", "max_pool2d"),
        (cnn.AveragePooling2D, "average_pooling", "avg_pool2d"),
    ]:
        layer = kind(window, previous, stride=stride)
        got, want, calls = both(layer, method, image(*size, 2))
        assert calls == ({function: 1} if window <= min(size) else calls)
        assert_same(got, want)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16], ids=lambda d: d.__name__)
def test_pooling_is_float64_whatever_came(dtype):
    x = (10 * image(6, 7, 2)).astype(dtype)
    for kind, method in METHODS[1:]:
        got, want, calls = both(kind(2, cnn.Input2D(x.shape)), method, x)
        assert bool(calls) == (dtype is np.float32)
        assert got.dtype == want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_nan_wins_as_in_the_host():
    x = image(6, 6, 1)
    x[2, 3] = np.nan
    got, want, _ = both(cnn.MaxPooling2D(2, cnn.Input2D(x.shape)), "max_pooling", x)
    np.testing.assert_array_equal(got, want)


def test_a_whole_model():
    layer = cnn.Conv2D(4, 3, cnn.Input2D((14, 14, 2)), activation_function="relu")
    layer = cnn.MaxPooling2D(2, cnn.AveragePooling2D(2, layer, stride=1))
    layer = cnn.Dense(3, cnn.Flatten(cnn.Conv2D(2, 3, layer)), activation_function="softmax")
    model = cnn.Model(layer, epochs=1)
    x = image(3, 14, 14, 2)
    with adapter.installed(), count_calls() as calls:
        got = [model.feed_sample(sample) for sample in x]
    assert calls == Counter(conv2d=6, max_pool2d=3, avg_pool2d=3)
    np.testing.assert_allclose(got, [model.feed_sample(sample) for sample in x], rtol=1e-9)


def test_install_twice_and_uninstall():
    originals = [vars(layer)[method] for layer, method in METHODS]
    adapter.install()
    first = [vars(layer)[method] for layer, method in METHODS]
    adapter.install()
    assert [vars(layer)[method] for layer, method in METHODS] == first
    assert all(now is not then for now, then in zip(first, originals, strict=True))
    adapter.uninstall()
    assert [vars(layer)[method] for layer, method in METHODS] == originals

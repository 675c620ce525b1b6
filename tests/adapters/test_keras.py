"""Keras on NumPy with fastconv: against jax where that is installed, and always against plain loops."""

import importlib.util
import itertools
import subprocess
import sys

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras is not installed", allow_module_level=True)

from fastconv.adapters import keras as adapter  # imports Keras, jax or no jax
from fastconv.adapters.base import MissingHost, UnsupportedHost, count_calls

import keras  # isort: skip
from keras.src.backend.numpy import nn  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # jax's and Keras' own
JAX = importlib.util.find_spec("jax") is not None
HOST = {name: getattr(nn, name) for name in adapter.REPLACED}
FORMATS = ["channels_first", "channels_last"]


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def batch(ndim, c, data_format):
    spatial = (9, 8, 7)[:ndim]
    return draw(2, c, *spatial) if data_format == "channels_first" else draw(2, *spatial, c)


def installed(name, *args, **options):
    with adapter.installed(), count_calls() as calls:
        got = getattr(nn, name)(*args, **options)
    assert calls.total() >= 1
    return got


def assert_as_jax(name, *args, **options):
    got = installed(name, *args, **options)
    if JAX:
        want = getattr(nn, name)(*args, **options)
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    return got


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    ("strides", "padding", "dilation"), [(1, "valid", 1), (2, "same", 1), (1, "same", 2), (3, "valid", 1)]
)
def test_convolutions(ndim, strides, padding, dilation, data_format):
    x, taps = batch(ndim, 4, data_format), (3, 2, 2)[:ndim]
    options = dict(strides=strides, padding=padding, data_format=data_format, dilation_rate=dilation)
    assert_as_jax("conv", x, draw(*taps, 4, 6), **options)
    assert_as_jax("conv", x, draw(*taps, 2, 6), **options)  # two groups
    assert_as_jax("depthwise_conv", x, draw(*taps, 4, 3), **options)
    assert_as_jax("separable_conv", x, draw(*taps, 4, 2), draw(*[1] * ndim, 8, 5), **options)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("strides", "dilation", "output_padding"),
    [(1, 1, None), (2, 1, None), (3, 1, None), (2, 1, 1), (1, 2, None)],
)
def test_conv_transpose(ndim, padding, strides, dilation, output_padding, data_format):
    x, w = batch(ndim, 4, data_format), draw(*(3, 2, 2)[:ndim], 6, 4)
    options = dict(
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        output_padding=output_padding,
        data_format=data_format,
    )
    got = assert_as_jax("conv_transpose", x, w, **options)
    layer = [keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose][
        ndim - 1
    ]
    shape = layer(6, w.shape[:ndim], **options).compute_output_shape(x.shape)
    assert got.shape == tuple(shape)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    ("window", "strides", "padding"), [(2, 2, "valid"), (3, 2, "same"), (3, 1, "same"), (2, 3, "valid")]
)
def test_poolings(ndim, window, strides, padding, data_format):
    x = batch(ndim, 3, data_format)
    for name in ("max_pool", "average_pool"):
        assert_as_jax(name, x, window, strides, padding, data_format)


@pytest.mark.parametrize(("strides", "padding"), [(1, "valid"), (2, "same")])
def test_against_loops(strides, padding):
    """Without jax too: windows of the image, padded as TensorFlow pads, times the filter."""
    x, w = draw(1, 7, 6, 2), draw(3, 2, 2, 5)
    got = installed("conv", x, w, strides, padding)
    size, taps = np.array(x.shape[1:3]), np.array(w.shape[:2])
    out = -(-size // strides) if padding == "same" else (size - taps) // strides + 1
    total = np.maximum((out - 1) * strides + taps - size, 0)
    ends = [(t // 2, t - t // 2) for t in total]
    padded = np.pad(x, [(0, 0), *ends, (0, 0)])
    assert got.shape == (1, *out, 5)
    for i, j in itertools.product(*map(range, out)):
        window = padded[0, i * strides : i * strides + 3, j * strides : j * strides + 2]
        np.testing.assert_allclose(got[0, i, j], np.tensordot(window, w, 3), rtol=1e-4, atol=1e-5)
    pooled = installed("average_pool", x, 2, 2, "same")
    np.testing.assert_allclose(
        pooled[0, 3, 0], x[0, 6:, :2].mean((0, 1)), rtol=1e-5
    )  # the padding not counted


def test_a_model():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((20, 20, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(4, 3, padding="same"),
            layers.DepthwiseConv2D(3),
            layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    x = draw(4, 20, 20, 3)
    with adapter.installed(), count_calls() as calls:
        got = model.predict(x, verbose=0)
    assert {"conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d"} == set(calls)
    if JAX:
        np.testing.assert_allclose(got, model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def test_half_precision():
    """jax's, or fastconv's float32 rounded where there is no jax."""
    x, w = draw(1, 5, 5, 2, dtype=np.float16), draw(3, 3, 2, 2, dtype=np.float16)
    with adapter.installed(), count_calls() as calls:
        got = [nn.conv(x, w), nn.max_pool(x, 2, 2)]
    assert bool(calls) == (not JAX)
    assert got[0].dtype == got[1].dtype == np.float16
    wide = x.astype(np.float32), w.astype(np.float32)
    np.testing.assert_allclose(got[0], installed("conv", *wide), rtol=2e-3, atol=1e-2)
    np.testing.assert_array_equal(got[1], installed("max_pool", wide[0], 2, 2))


def test_a_layer_in_half_precision():
    x = draw(1, 5, 5, 2, dtype=np.float16)
    layer = keras.layers.Conv2D(3, 3, dtype="float16")  # its filters are a Keras Variable
    with adapter.installed():
        y = layer(x)
    want = installed("conv", x.astype(np.float32), np.asarray(layer.kernel).astype(np.float32))
    np.testing.assert_allclose(y, want, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.int32, np.complex64], ids=lambda d: d.__name__)
def test_other_dtypes_stay_with_the_host(dtype):
    x, w = (4 * draw(1, 5, 5, 2)).astype(dtype), (4 * draw(3, 3, 2, 2)).astype(dtype)
    with adapter.installed(), count_calls() as calls:
        if JAX:
            np.testing.assert_array_equal(nn.conv(x, w), HOST["conv"](x, w))
        else:
            with pytest.raises(
                MissingHost, match=r"jax\.lax.*pip install jax.*fastconv: conv2d: .* has dtype"
            ):
                nn.conv(x, w)
    assert not calls


def test_a_filter_larger_than_the_image():
    with (
        adapter.installed(),
        pytest.raises(ValueError if JAX else MissingHost, match=r"empty output|fastconv: conv2d: "),
    ):
        nn.conv(draw(1, 2, 2, 1), draw(3, 3, 1, 1))


def test_install_twice_and_uninstall():
    def functions():
        return {name: getattr(nn, name) for name in HOST}

    adapter.install()
    first = functions()
    adapter.install()
    assert functions() == first and all(first[name] is not HOST[name] for name in HOST)
    adapter.uninstall()
    assert functions() == HOST


@pytest.mark.parametrize("name", [*adapter.REPLACED, *adapter.USED])
def test_a_keras_that_moved_its_internals(monkeypatch, name):
    monkeypatch.delattr(nn, name)
    with pytest.raises(
        UnsupportedHost, match=rf"no keras\.src\.backend\.numpy\.nn\.{name}: .*tested with Keras 3"
    ):
        adapter.install()
    assert all(getattr(nn, other) is HOST[other] for other in HOST if other != name)


def test_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UnsupportedHost, match="Keras runs on jax: set KERAS_BACKEND=numpy"):
        adapter.install()


@pytest.mark.skipif(JAX, reason="jax is installed")
def test_no_stand_in_is_left_behind():
    script = "import fastconv.adapters.keras as a, sys; assert not set(a.STAND_INS) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)

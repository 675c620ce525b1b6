"""Nengo's convolutions on fastconv, against Nengo's own, and a simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nengo", reason="Nengo is not installed")
import nengo
from nengo.builder import transforms

from fastconv.adapters import nengo as adapter
from fastconv.adapters.base import count_calls

NAMES = ("conv2d", "conv2d_groups", "conv2d_gradx")
HOST = {name: getattr(transforms, name) for name in NAMES}
PADS = st.sampled_from(["SAME", "VALID", "same", "valid"])
SIZES, TAPS, STEPS = (st.tuples(*[st.integers(1, most)] * 2) for most in (9, 4, 4))


def draw(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def both(name, *args, **options):
    """(with fastconv, Nengo's own, the calls of fastconv)."""
    with adapter.installed(), count_calls() as calls:
        got = getattr(transforms, name)(*args, **options)
    return got, HOST[name](*args, **options), calls


def assert_same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4 if want.dtype == np.float32 else 1e-10, atol=1e-5)


@given(size=SIZES, taps=TAPS, stride=STEPS, pad=PADS, groups=st.integers(1, 3))
def test_conv2d(size, taps, stride, pad, groups):
    if pad.upper() == "VALID":
        taps = tuple(map(min, taps, size))
    x, w = draw(2, *size, 2 * groups), draw(*taps, 2, 3 * groups)
    name = "conv2d" if groups == 1 else "conv2d_groups"
    got, want, calls = both(name, x, w, pad=pad, stride=stride)
    assert calls == {"conv2d": 1}
    assert_same(got, want)


@given(size=SIZES, taps=TAPS, stride=STEPS, pad=PADS)
def test_gradx_of_the_sizes_that_transposed_transforms_have(size, taps, stride, pad):
    same = pad.upper() == "SAME"
    xsize = [i * s if same else (i - 1) * s + t for i, s, t in zip(size, stride, taps, strict=True)]
    got, want, calls = both("conv2d_gradx", draw(*taps, 3, 2), draw(1, *size, 3), xsize, pad, stride)
    assert calls == {"conv2d_input_grad": 1}
    assert_same(got, want)


@given(xsize=SIZES, taps=TAPS, stride=STEPS, pad=PADS)
def test_gradx_as_a_gradient(xsize, taps, stride, pad):
    """From any input size to the output of its convolution and back: what does not fit is the host's."""
    if pad.upper() == "VALID":
        taps = tuple(map(min, taps, xsize))
    w = draw(*taps, 3, 2)
    dy = HOST["conv2d"](draw(1, *xsize, 2), w.swapaxes(2, 3), pad=pad, stride=stride)
    try:
        want = HOST["conv2d_gradx"](w, dy, xsize, pad, stride)
    except (TypeError, ValueError):  # Nengo reads past its own padding
        return
    with adapter.installed():
        assert_same(transforms.conv2d_gradx(w, dy, xsize, pad, stride), want)


def test_dtypes():
    for x_type, w_type in [(np.float32, np.float32), (np.float32, np.float64), (np.int64, np.float64)]:
        got, want, calls = both("conv2d", draw(1, 6, 6, 2, dtype=x_type), draw(3, 3, 2, 4, dtype=w_type))
        assert calls.total() == 1
        assert_same(got, want)
    w, dy = draw(3, 3, 4, 2, dtype=np.float32), draw(1, 6, 6, 4, dtype=np.float32)
    got, want, calls = both("conv2d_gradx", w, dy, (6, 6))
    assert calls.total() == 1 and got.dtype == np.float64
    assert_same(got, want)


@pytest.mark.parametrize("dtype", [np.complex128, np.int64, np.float16], ids=lambda d: d.__name__)
def test_other_dtypes_stay_with_the_host(dtype):
    x, w = (10 * draw(1, 6, 6, 4)).astype(dtype), (10 * draw(3, 3, 4, 4)).astype(dtype)
    for name, args in [("conv2d", (x, w)), ("conv2d_groups", (x, w[:, :, :2]))]:
        got, want, calls = both(name, *args)
        assert not calls
        np.testing.assert_array_equal(got, want)


def test_errors_stay_the_hosts():
    x, w = draw(1, 6, 6, 4), draw(3, 3, 3, 4)
    for name in ("conv2d", "conv2d_groups"):
        with pytest.raises(Exception) as host:
            HOST[name](x, w)
        with adapter.installed(), pytest.raises(type(host.value)) as here:
            getattr(transforms, name)(x, w)
        assert str(here.value) == str(host.value)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("kind", ["forward", "grouped", "transposed"])
def test_a_simulation(kind, dimensions, channels_last):
    spatial, c = (7, 6)[:dimensions], 4
    shape = (*spatial, c) if channels_last else (c, *spatial)
    options = dict(
        n_filters=6, input_shape=shape, channels_last=channels_last, kernel_size=(3, 2)[:dimensions]
    )
    options |= dict(strides=(2, 1)[:dimensions], padding="same")
    if kind == "transposed":
        transform = nengo.ConvolutionTranspose(**options)
    else:
        transform = nengo.Convolution(**options, groups=2 if kind == "grouped" else 1)
    with nengo.Network(seed=0) as net:
        source = nengo.Node(draw(transform.size_in))
        sink = nengo.Node(size_in=transform.size_out)
        nengo.Connection(source, sink, transform=transform, synapse=None)
        probe = nengo.Probe(sink)

    def simulated():
        with nengo.Simulator(net, progress_bar=False) as simulator:
            simulator.run_steps(3)
            return simulator.data[probe]

    with adapter.installed(), count_calls() as calls:
        got = simulated()
    assert calls == {"conv2d_input_grad" if kind == "transposed" else "conv2d": 3}
    np.testing.assert_allclose(got, simulated(), rtol=1e-10, atol=1e-12)


def test_install_twice_and_uninstall():
    adapter.install()
    first = {name: getattr(transforms, name) for name in NAMES}
    adapter.install()
    assert {name: getattr(transforms, name) for name in NAMES} == first
    assert all(first[name] is not HOST[name] for name in NAMES)
    adapter.uninstall()
    assert {name: getattr(transforms, name) for name in NAMES} == HOST

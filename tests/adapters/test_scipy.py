"""SciPy's image filters on fastconv: SciPy is the oracle, image by image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="SciPy is not installed")
from scipy import ndimage, signal

from fastconv.adapters import scipy as adapter
from fastconv.adapters.base import count_calls

NAMES = [(signal, "correlate2d"), (signal, "convolve2d"), (ndimage, "correlate"), (ndimage, "convolve")]
HOST = {name: getattr(owner, name) for owner, name in NAMES}
SIGNAL, NDIMAGE = ["correlate2d", "convolve2d"], ["correlate", "convolve"]
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    tolerance = 1e-5 if want.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=10 * tolerance)


def installed(name, *args, **options):
    """(on fastconv behind SciPy's name, SciPy's own, the calls of fastconv)."""
    owner = {known: owner for owner, known in NAMES}[name]
    with adapter.installed(), count_calls() as calls:
        got = getattr(owner, name)(*args, **options)
    return got, HOST[name](*args, **options), calls


@given(
    name=st.sampled_from(SIGNAL),
    size=SIZES,
    taps=SIZES,
    mode=st.sampled_from(["full", "valid", "same"]),
    boundary=st.sampled_from(["fill", "wrap", "symm"]),
    fillvalue=st.sampled_from([0, 2.5]),
)
def test_signal(name, size, taps, mode, boundary, fillvalue):
    if mode == "valid" and any(i < r for i, r in zip(size, taps, strict=True)):
        taps = tuple(map(max, size, taps))
    images, w = draw(2, 3, *size), draw(*taps, seed=1)
    options = dict(mode=mode, boundary=boundary, fillvalue=fillvalue)
    with count_calls() as calls:
        got = getattr(adapter, name)(images, w, **options)
    assert calls == {"conv2d": 1}
    want = [HOST[name](image, w, **options) for image in images.reshape(6, *size)]
    assert_same(got, np.reshape(want, (2, 3, *want[0].shape)))
    got, want, calls = installed(name, images[0, 0], w, **options)
    assert calls == {"conv2d": 1}
    assert_same(got, want)


@given(
    name=st.sampled_from(NDIMAGE),
    size=SIZES,
    taps=SIZES,
    mode=st.sampled_from(list(adapter.EXTENSION)),
    cval=st.sampled_from([0, 2.5]),
    data=st.data(),
)
def test_ndimage(name, size, taps, mode, cval, data):
    origin = [data.draw(st.integers(-(r // 2), (r - 1) // 2)) for r in taps]
    images, w = draw(2, 3, *size), draw(*taps, seed=1)
    with count_calls() as calls:
        got = getattr(adapter, name)(images, w, mode, cval, origin)
    assert calls == {"conv2d": 1}
    options = dict(mode=mode, cval=cval, origin=origin)
    want = [HOST[name](image, w, **options) for image in images.reshape(6, *size)]
    assert_same(got, np.reshape(want, images.shape))
    got, want, calls = installed(name, images[0, 0], w, **options)
    assert calls == {"conv2d": 1}
    assert_same(got, want)


@pytest.mark.parametrize("name", HOST)
def test_float32(name):
    got, want, calls = installed(name, draw(9, 8, dtype=np.float32), draw(3, 3, dtype=np.float32))
    assert calls == {"conv2d": 1}
    assert_same(got, want)


@pytest.mark.parametrize("name", SIGNAL)
def test_signal_takes_the_common_type(name):
    got, want, calls = installed(name, np.arange(72).reshape(9, 8), draw(3, 3))
    assert calls == {"conv2d": 1}
    assert_same(got, want)


@pytest.mark.parametrize("name", NDIMAGE)
def test_weights_of_zero_leave_their_pixels_out(name):
    image, w = draw(9, 8), np.array([[0.0, 1.0, 0.0], [1e-17, 1.0, 2.0]])
    image[4, 4] = np.nan
    got, want, calls = installed(name, image, w)
    assert not calls
    np.testing.assert_array_equal(got, want)
    got, want, calls = installed(name, image, w + 1)
    assert calls == {"conv2d": 1}
    assert_same(got, want)
    got, want, _ = installed(name, np.full((3, 3), 1e17), np.full((1, 1), 1e-17))
    np.testing.assert_array_equal(got, want)  # 0: SciPy leaves out weights up to 2.2e-16


@pytest.mark.parametrize("name", HOST)
@pytest.mark.parametrize("dtype", [np.complex128, np.int64, np.uint8], ids=lambda d: d.__name__)
def test_other_dtypes_stay_with_the_host(name, dtype):
    got, want, calls = installed(name, (10 * draw(9, 8)).astype(dtype), (10 * draw(3, 3)).astype(dtype))
    assert not calls
    np.testing.assert_array_equal(got, want)


def test_what_else_stays_with_the_host():
    x, w = draw(9, 8), draw(3, 3)
    cases = [
        ("convolve2d", (x.tolist(), w.tolist()), {}),
        ("convolve", (draw(5, 9, 8), draw(2, 3, 3)), {}),
        ("convolve", (draw(5, 9, 8), w), dict(axes=(1, 2))),
        ("correlate", (x, w), dict(output=np.float32)),
        ("correlate", (draw(9), draw(3)), {}),
    ]
    for name, args, options in cases:
        got, want, calls = installed(name, *args, **options)
        assert not calls
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("name", "shapes", "options"),
    [
        ("convolve2d", [(5, 2), (2, 5)], dict(mode="valid")),
        ("convolve2d", [(5, 4), (2, 2)], dict(mode="circular")),
        ("correlate2d", [(5, 4), (2, 2)], dict(boundary="mirror")),
        ("correlate2d", [(2, 5, 4), (2, 2)], {}),
        ("convolve", [(5, 4), (3, 3)], dict(origin=2)),
        ("correlate", [(5, 4), (3, 3)], dict(mode="symm")),
    ],
)
def test_errors(name, shapes, options):
    args = [draw(*shape) for shape in shapes]
    with pytest.raises(Exception) as host:
        HOST[name](*args, **options)
    with adapter.installed(), pytest.raises(type(host.value)) as here:
        installed(name, *args, **options)
    assert str(here.value) == str(host.value)
    if len(shapes[0]) == 2:
        with pytest.raises(ValueError, match=f"^{name}: .+: .+"):
            getattr(adapter, name)(*args, **options)


def test_install_twice_and_uninstall():
    def functions():
        return {name: getattr(owner, name) for owner, name in NAMES}

    adapter.install()
    first = functions()
    adapter.install()
    assert functions() == first and all(first[name] is not HOST[name] for name in HOST)
    adapter.uninstall()
    assert functions() == HOST

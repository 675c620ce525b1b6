"""MyGrad's conv_nd and max_pool on fastconv, against MyGrad's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("mygrad", reason="MyGrad is not installed")
import mygrad as mg
from mygrad.nnet import conv_nd, max_pool
from mygrad.nnet.layers.conv import ConvND
from mygrad.nnet.layers.pooling import MaxPoolND

from fastconv.adapters import mygrad as adapter
from fastconv.adapters.base import count_calls

RNG = np.random.default_rng(0)
TOLERANCE = {np.float32: dict(rtol=2e-5, atol=2e-5), np.float64: dict(rtol=1e-12, atol=1e-12)}


def both(function, *arrays):
    """((output, gradients) on fastconv, the same on MyGrad, fastconv's calls)."""

    def run():
        tensors = [mg.tensor(array) for array in arrays]
        y = function(*tensors)
        weights = np.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape) / y.size
        (y * weights).sum().backward()
        return y.data, *(tensor.grad for tensor in tensors)

    with count_calls() as calls, adapter.installed():
        got = run()
    return got, run(), calls


def assert_same(got, want, dtype):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, **TOLERANCE[dtype])


@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from(list(TOLERANCE)),
)
def test_conv(rank, stride, padding, dilation, dtype):
    window = (2, 3, 2)[:rank]
    size = [
        (f - 1) * dilation + 1 + stride * 3 - 2 * padding + (4 if padding else 0) * stride for f in window
    ]
    x = RNG.standard_normal((2, 3, *size)).astype(dtype)
    w = RNG.standard_normal((4, 3, *window)).astype(dtype)
    for array in (x, w):
        array.flags.writeable = False
    got, want, calls = both(
        lambda x, w: conv_nd(x, w, stride=stride, padding=padding, dilation=dilation), x, w
    )
    assert calls == {f"conv{rank}d{part}": 1 for part in ("", "_input_grad", "_filter_grad")}
    assert_same(got, want, dtype)


@given(
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.booleans(), st.sampled_from(list(TOLERANCE))
)
def test_max_pool(rank, leading, stride, ties, dtype):
    """Any number of leading axes; with ties the gradient goes to the first maximum."""
    window = (2, 3, 2)[:rank]
    shape = (2, 3)[:leading] + tuple(f + 2 * stride for f in window)
    x = (RNG.integers(0, 3, shape) if ties else RNG.standard_normal(shape)).astype(dtype)
    got, want, calls = both(lambda x: max_pool(x, window, stride), x)
    assert calls == {f"max_pool{rank}d": 2, f"max_pool{rank}d_grad": 1}
    assert_same(got, want, dtype)


def test_strides_and_padding_of_each_axis():
    x, w = RNG.standard_normal((1, 2, 7, 8)), RNG.standard_normal((3, 2, 3, 2))
    got, want, calls = both(
        lambda x, w: conv_nd(x, w, stride=(2, 3), padding=(1, 0), dilation=np.array([1, 1])), x, w
    )
    assert calls["conv2d"] == 1
    assert_same(got, want, np.float64)


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: conv_nd(mg.ones((1, 1, 5)), mg.ones((1, 1, 2)), stride=2), ValueError),
        (lambda: conv_nd(mg.ones((1, 1, 2)), mg.ones((1, 1, 3)), stride=1), ValueError),
        (lambda: conv_nd(mg.ones((1, 2, 5)), mg.ones((1, 1, 2)), stride=1), ValueError),
        (lambda: conv_nd(mg.ones((1, 1, 5)), mg.ones((1, 1, 2)), stride=0), AssertionError),
        (lambda: max_pool(mg.ones((5,)), (2,), 2), ValueError),
        (lambda: max_pool(mg.ones((5,)), (0,), 1), AssertionError),
        (lambda: max_pool(mg.ones((5,)), (2, 2), 1), AssertionError),
    ],
)
def test_what_mygrad_refuses_is_refused(call, error):
    with pytest.raises(error) as host:
        call()
    with adapter.installed(), pytest.raises(error) as ours:
        call()
    assert str(ours.value) == str(host.value)


def test_other_dtypes_are_mygrads():
    x = RNG.integers(0, 9, (1, 2, 6)).astype(np.float16)
    got, want, calls = both(lambda x: max_pool(x, (2,), 2), x)
    assert not calls
    assert got[0].dtype == np.float16
    np.testing.assert_array_equal(got[1], want[1])


def test_of_several_nan_the_first_has_the_gradient():
    x = np.array([1.0, np.nan, np.nan, 2.0, 3.0, 4.0])
    got, want, _ = both(lambda x: max_pool(x, (3,), 3), x)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


def test_uninstalling_restores_the_very_methods():
    before = [dict(vars(op)) for op in (ConvND, MaxPoolND)]
    with adapter.installed():
        assert dict(vars(ConvND)) != before[0] and dict(vars(MaxPoolND)) != before[1]
    assert [dict(vars(op)) for op in (ConvND, MaxPoolND)] == before

"""autograd on fastconv: its own convolve is the oracle, its numerical checker that of the derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("autograd", reason="autograd is not installed")
import autograd.numpy as anp
import autograd.scipy.signal as signal
from autograd import elementwise_grad, grad
from autograd.test_util import check_grads

import fastconv as fc
from fastconv.adapters import autograd as adapter
from fastconv.adapters.base import count_calls

HOST = signal.convolve
NET = dict(axes=([2, 3], [2, 3]), dot_axes=([1], [0]))  # (N, C, H, W) with (C, K, R, S)


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def counted(function, *args, **options):
    """The result on fastconv, which must have been called, and the host's own."""
    with adapter.installed(), count_calls() as calls:
        got = signal.convolve(*args, **options) if function is None else function()
    assert calls.total() > 0
    return got, HOST(*args, **options) if function is None else function()


CASES = {
    "images, full": (draw(7, 6), draw(3, 2), dict(mode="full")),
    "images, valid": (draw(7, 6), draw(3, 2), dict(mode="valid")),
    "images, same": (draw(7, 6), draw(4, 3), dict(mode="same")),
    "images, same, filter larger": (draw(3, 4), draw(6, 5), dict(mode="same")),
    "images, filter larger": (draw(3, 2), draw(7, 6), dict(mode="valid")),
    "images, each larger once": (draw(3, 9), draw(7, 2), dict(mode="full")),
    "signals": (draw(9), draw(4), dict(mode="full")),
    "volumes": (draw(4, 5, 6), draw(2, 3, 2), dict(mode="valid")),
    "free axes on both": (draw(3, 7, 6), draw(2, 3, 2), dict(axes=([1, 2], [1, 2]))),
    "net, valid": (draw(2, 3, 7, 6), draw(3, 4, 3, 2), dict(mode="valid", **NET)),
    "net, full": (draw(2, 3, 7, 6), draw(3, 4, 3, 2), dict(mode="full", **NET)),
    "net, same": (draw(2, 3, 7, 6), draw(3, 4, 3, 2), dict(mode="same", **NET)),
    "net, filter first": (
        draw(3, 4, 3, 2),
        draw(2, 3, 7, 6),
        dict(mode="valid", axes=([2, 3], [2, 3]), dot_axes=([0], [1])),
    ),
    "window larger than output": (
        draw(5, 4, 8, 7),
        draw(5, 6, 7, 5),
        dict(mode="valid", axes=([2, 3], [2, 3]), dot_axes=([0], [0])),
    ),
    "float32": (draw(7, 6, dtype=np.float32), draw(3, 2, dtype=np.float32), dict(mode="full")),
    "float32 with float64": (draw(7, 6, dtype=np.float32), draw(3, 2), dict(mode="full")),
    "integers with float64": (np.arange(42).reshape(7, 6), draw(3, 2), dict(mode="full")),
}


@pytest.mark.parametrize("name", CASES)
def test_convolve_equals_the_hosts(name):
    a, b, options = CASES[name]
    got, want = counted(None, a, b, **options)
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-4 if want.dtype == np.float32 else 1e-12, atol=1e-5)


@given(data=st.data())
def test_any_axes(data):
    """Any rank and sizes: a and b share dotted and convolved axes in any order, with free axes besides."""
    convolved = data.draw(st.integers(1, 3))
    dotted = data.draw(st.integers(0, 2))
    mode = data.draw(st.sampled_from(["full", "valid", "same"]))
    shared = data.draw(st.lists(st.integers(1, 3), min_size=dotted, max_size=dotted))
    operands, axes, dot_axes = [], [], []
    for seed, sizes in enumerate([st.integers(4, 6), st.integers(1, 4)]):
        free = data.draw(st.lists(st.integers(1, 3), max_size=2))
        window = data.draw(st.lists(sizes, min_size=convolved, max_size=convolved))
        labelled = list(enumerate([*free, *shared, *window]))
        order = data.draw(st.permutations(labelled))
        place = {label: axis for axis, (label, _) in enumerate(order)}
        operands.append(draw(*(size for _, size in order), seed=seed))
        dot_axes.append([place[len(free) + i] for i in range(dotted)])
        axes.append([place[len(free) + dotted + i] for i in range(convolved)])
    if data.draw(st.booleans()):
        operands, axes, dot_axes = operands[::-1], axes[::-1], dot_axes[::-1]
    got, want = counted(None, *operands, axes=axes, dot_axes=dot_axes, mode=mode)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["full", "valid", "same"])
def test_gradients_equal_the_hosts(mode):
    a, b, options = draw(2, 3, 7, 6), draw(3, 4, 3, 2), dict(mode=mode, **NET)

    def gradients():
        return [
            grad(lambda a, b: anp.sum(signal.convolve(a, b, **options) ** 3), argnum)(a, b)
            for argnum in (0, 1)
        ]

    for got, want in zip(*counted(gradients, a, b, **options), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9)
    with adapter.installed():
        check_grads(lambda a, b: signal.convolve(a, b, **options), argnum=(0, 1), modes=["rev"], order=2)(
            a, b
        )


@pytest.mark.parametrize(
    "dtype", [np.complex128, np.complex64, np.float16, np.int64, np.longdouble], ids=lambda d: d.__name__
)
def test_other_dtypes_stay_with_the_host(dtype):
    a, b = draw(5, 4).astype(dtype), draw(2, 3).astype(dtype)
    with adapter.installed(), count_calls() as calls:
        got = signal.convolve(a, b)
    assert not calls
    np.testing.assert_array_equal(got, HOST(a, b))


@pytest.mark.parametrize(
    ("a", "b", "options"),
    [
        (draw(5, 2), draw(2, 5), dict(mode="valid")),
        (draw(5, 4), draw(2, 2), dict(mode="circular")),
        (draw(5, 4, 3), draw(2, 2, 2), dict(axes=([0, 1], [0, 1]), dot_axes=([2], [2]))),
        (draw(2, 7, 6), draw(2, 3, 2), dict(axes=([-2, -1], [-2, -1]), dot_axes=([0], [0]))),
    ],
)
def test_errors_stay_the_hosts(a, b, options):
    with pytest.raises(Exception) as host:
        HOST(a, b, **options)
    with adapter.installed(), pytest.raises(type(host.value)) as here:
        signal.convolve(a, b, **options)
    assert str(here.value) == str(host.value)


def test_install_twice_and_uninstall():
    adapter.install()
    first = signal.convolve
    adapter.install()
    assert signal.convolve is first is not HOST
    adapter.uninstall()
    assert signal.convolve is HOST
    adapter.uninstall()
    assert signal.convolve is HOST


OPTIONS = [
    dict(),
    dict(stride=2, padding=1),
    dict(padding=((0, 1), (2, 0)), dilation=2),
    dict(groups=2, padding="same"),
    dict(padding=1, padding_mode="reflect"),
    dict(padding=1, layout="NHWC", stride=(1, 2)),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_conv2d_derivatives(options):
    groups, last = options.get("groups", 1), options.get("layout") == "NHWC"
    x, w = (draw(2, 6, 5, 4), draw(3, 2, 4, 3)) if last else (draw(2, 4, 6, 5), draw(6, 4 // groups, 3, 2))
    bias = draw(3 if last else 6)

    def y(x, w, bias):
        return adapter.conv2d(x, w, bias=bias, **options)

    with count_calls() as calls:
        check_grads(y, argnum=(0, 1, 2), modes=["rev"], order=2)(x, w, bias)
    assert {"conv2d", "conv2d_input_grad", "conv2d_filter_grad"} <= set(calls)
    np.testing.assert_array_equal(y(x, w, None), fc.conv2d(x, w, **options))
    # autograd adds the bias after the sum, kernels may begin with it
    np.testing.assert_allclose(y(x, w, bias), fc.conv2d(x, w, bias, **options), rtol=1e-13, atol=1e-13)


def test_conv2d_third_derivative():
    x, w = draw(1, 2, 4, 4), draw(2, 2, 2, 2)

    def third(x, w):
        first = elementwise_grad(lambda x: adapter.conv2d(x, w) ** 4)
        second = elementwise_grad(lambda x: first(x) ** 2)
        return elementwise_grad(second)(x)

    check_grads(third, argnum=(0, 1), modes=["rev"], order=1)(x, w)


@pytest.mark.parametrize(
    "options",
    [dict(), dict(stride=1, padding=1), dict(ceil_mode=True), dict(layout="NHWC", stride=1)],
    ids=str,
)
def test_max_pool2d_derivatives(options):
    x = np.random.default_rng(0).permutation(2 * 3 * 5 * 7).reshape(2, 3, 5, 7) / 10.0  # no ties to step over
    with count_calls() as calls:
        check_grads(lambda x: adapter.max_pool2d(x, 2, **options) ** 3, modes=["rev"], order=2)(x)
    assert {"max_pool2d", "max_pool2d_grad", "max_unpool2d_grad"} <= set(calls)
    np.testing.assert_array_equal(adapter.max_pool2d(x, 2, **options), fc.max_pool2d(x, 2, **options))


def test_a_net_trains_as_with_the_hosts_convolve():
    """conv2d and max_pool2d against signal.convolve (flipped filters) and a max over windows."""
    x, w = draw(2, 3, 8, 8), draw(4, 3, 3, 3)

    def host(w):
        flipped = anp.transpose(w[:, :, ::-1, ::-1], (1, 0, 2, 3))
        y = HOST(x, flipped, mode="valid", **NET)
        return anp.sum(anp.max(anp.reshape(y, (2, 4, 3, 2, 3, 2)), axis=(3, 5)) ** 2)

    def here(w):
        return anp.sum(adapter.max_pool2d(adapter.conv2d(x, w), 2) ** 2)

    np.testing.assert_allclose(here(w), host(w), rtol=1e-12)
    np.testing.assert_allclose(grad(here)(w), grad(host)(w), rtol=1e-10)

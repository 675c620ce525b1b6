"""Every kernel's convolution passes, on every instruction set, against the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from harness import (
    KERNELS,
    assert_within_bound,
    filter_grad,
    forward,
    input_grad,
    kernels_with,
    magnitudes,
    oracle,
)
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, Array, conv_specs, integers, kinds_taken, reals

import fastconv as fc
from fastconv.kernels.kernel import CONV_PASSES
from fastconv.kernels.reference import KERNEL as REFERENCE
from fastconv.ops.spec import ConvSpec, conv_spec

EVERY = [(name, p) for p in CONV_PASSES for name in kernels_with(p)]
EXACT = [(name, p) for p in CONV_PASSES for name in kernels_with(p, exact=True)]
LAYOUTS = pytest.mark.parametrize("channels_last", [False, True], ids=["channels-first", "channels-last"])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ACTIVATIONS = (None, "relu", "leaky_relu", "sigmoid", "tanh", "relu6")


def drawn(
    data: st.DataObject, name: str, pass_name: str, dtype: Any, channels_last: bool
) -> tuple[ConvSpec, Any]:
    """A spec that the kernel takes, and a generator for its arrays."""

    def takes(spec: ConvSpec) -> bool:
        return KERNELS[name].unsupported(pass_name, spec) is None

    specs = conv_specs(dtype, channels_last, kinds_taken(takes)).filter(takes)
    return data.draw(specs, "spec"), np.random.default_rng(data.draw(SEEDS, "seed"))


def arrays(spec: ConvSpec, pass_name: str, make: Any, rng: np.random.Generator) -> tuple[Array, Array]:
    """The two array arguments of a pass."""
    shapes = {"x": spec.x_shape, "w": spec.w_shape, "dy": spec.y_shape}
    names = {"forward": ("x", "w"), "input_grad": ("dy", "w"), "filter_grad": ("x", "dy")}[pass_name]
    first, second = (make(rng, shapes[name], spec.dtype) for name in names)
    return first, second


def run(name: str, pass_name: str, spec: ConvSpec, a: Array, b: Array, **options: int) -> tuple[Array, ...]:
    """The outputs of a pass: (y,), (dx,) or (dw, db)."""
    kernel = REFERENCE if name == "reference" else KERNELS[name]
    if pass_name == "filter_grad":
        return filter_grad(kernel, spec, a, b, **options)
    one = forward if pass_name == "forward" else input_grad
    return (one(kernel, spec, a, b, **options),)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize(("name", "pass_name"), EXACT)
@given(data=st.data())
def test_whole_numbers_exactly(
    name: str, pass_name: str, dtype: Any, channels_last: bool, data: st.DataObject
) -> None:
    spec, rng = drawn(data, name, pass_name, dtype, channels_last)
    a, b = arrays(spec, pass_name, integers, rng)
    shift = data.draw(st.integers(0, 15), "shift")
    expected = run("reference", pass_name, spec, a, b)
    for got, right in zip(run(name, pass_name, spec, a, b, shift=shift), expected, strict=True):
        np.testing.assert_array_equal(got, right)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize(("name", "pass_name"), EVERY)
@given(data=st.data())
def test_reals_within_the_error_bound(
    name: str, pass_name: str, dtype: Any, channels_last: bool, data: st.DataObject
) -> None:
    spec, rng = drawn(data, name, pass_name, dtype, channels_last)
    a, b = arrays(spec, pass_name, reals, rng)
    exact = oracle(pass_name, spec, a, b)
    exact = exact if pass_name == "filter_grad" else (exact,)
    sizes = magnitudes(KERNELS[name], pass_name, spec, a, b)
    for got, right, size in zip(run(name, pass_name, spec, a, b), exact, sizes, strict=True):
        assert_within_bound(KERNELS[name], got, right, size)


@LAYOUTS
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [n for n in kernels_with("forward") if "winograd" in n])
def test_positive_data_within_the_error_bound(name: str, stride: int, channels_last: bool) -> None:
    """Sums that grow with the depth, and tiles that end beyond the map, are what rounds most."""
    shapes = ((2, 16, 16, 64), (3, 3, 64, 32)) if channels_last else ((2, 64, 16, 16), (32, 64, 3, 3))
    layout = "NHWC" if channels_last else "NCHW"
    spec = conv_spec("conv2d", *shapes, np.dtype("f4"), stride=stride, padding=1, layout=layout)
    if KERNELS[name].unsupported("forward", spec):
        return
    rng = np.random.default_rng(0)
    x, w = rng.random(spec.x_shape, np.float32), rng.random(spec.w_shape, np.float32)
    (size,) = magnitudes(KERNELS[name], "forward", spec, x, w)
    got = forward(KERNELS[name], spec, x, w)
    assert_within_bound(KERNELS[name], got, oracle("forward", spec, x, w), size)


@LAYOUTS
@DTYPES
@pytest.mark.parametrize("name", kernels_with("forward"))
@given(data=st.data())
def test_bias_and_activation(name: str, dtype: Any, channels_last: bool, data: st.DataObject) -> None:
    activation = data.draw(st.sampled_from(ACTIVATIONS))
    spec, rng = drawn(data, name, "forward", dtype, channels_last)
    x, w = arrays(spec, "forward", reals, rng)
    x *= rng.choice([0.05, 1, 30])  # from the linear part of sigmoid and tanh to far into saturation
    bias = reals(rng, (spec.k,), dtype)
    exact = oracle("forward", spec, x, w, bias, activation)
    (magnitude,) = magnitudes(KERNELS[name], "forward", spec, x, w)
    magnitude = magnitude + (abs(bias) if channels_last else abs(bias).reshape(-1, *[1] * spec.ndim))
    got = forward(KERNELS[name], spec, x, w, bias, activation)
    # no activation is steeper than 1; its own rounding adds a few units in the last place of values up to 1
    assert_within_bound(KERNELS[name], got, exact, magnitude, extra=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("name", "pass_name"), EVERY)
@given(data=st.data())
def test_same_bits_again(name: str, pass_name: str, data: st.DataObject) -> None:
    """Wherever the arrays lie in memory."""
    channels_last, dtype = data.draw(st.booleans()), data.draw(st.sampled_from([np.float32, np.float64]))
    spec, rng = drawn(data, name, pass_name, dtype, channels_last)
    a, b = arrays(spec, pass_name, reals, rng)
    once = run(name, pass_name, spec, a, b)
    for shift in (0, 1, 5):
        for first, again in zip(once, run(name, pass_name, spec, a, b, shift=shift), strict=True):
            np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("name", "pass_name"), [(name, p) for name, p in EVERY if p in KERNELS[name].prepared]
)
@given(data=st.data())
def test_prepared_filters_give_the_same_bits(name: str, pass_name: str, data: st.DataObject) -> None:
    channels_last, dtype = data.draw(st.booleans()), data.draw(st.sampled_from([np.float32, np.float64]))
    spec, rng = drawn(data, name, pass_name, dtype, channels_last)
    kernel = KERNELS[name]

    def run_prepared(spec: ConvSpec, a: Array, w: Array, *rest: Any) -> None:
        kernel.prepared[pass_name](spec, a, kernel.prepare(pass_name, spec, w), *rest)

    a, w = arrays(spec, pass_name, reals, rng)
    one = forward if pass_name == "forward" else input_grad
    got = one(replace(kernel, passes={pass_name: run_prepared}), spec, a, w)
    np.testing.assert_array_equal(got, one(kernel, spec, a, w))


@pytest.mark.parametrize(("name", "pass_name"), EXACT)
@given(data=st.data())
def test_nan_and_infinity_go_where_they_are_summed(name: str, pass_name: str, data: st.DataObject) -> None:
    channels_last, dtype = data.draw(st.booleans()), data.draw(st.sampled_from([np.float32, np.float64]))
    spec, rng = drawn(data, name, pass_name, dtype, channels_last)
    a, b = arrays(spec, pass_name, integers, rng)
    b[b == 0] = 1  # 0 * inf is NaN, but the reference's BLAS leaves out products with zero
    a[tuple(rng.integers(0, s) for s in a.shape)] = rng.choice([np.nan, np.inf, -np.inf])
    with np.errstate(invalid="ignore"):
        expected, outputs = run("reference", pass_name, spec, a, b), run(name, pass_name, spec, a, b)
    for got, right in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(got, right)


# Past every blocking limit: channels x taps, filters and pixels beyond one panel, each with a remainder, and
# enough work that several threads start.
LARGE = {
    "3x3": dict(c=100, k=130, size=(29, 31), window=(3, 3), n=2),
    "3x3 of many": dict(c=530, k=200, size=(13, 50), window=(3, 3), n=1),
    "3x3/2": dict(c=65, k=49, size=(40, 43), window=(3, 3), n=3, stride=2),
    "4x4/2": dict(c=34, k=51, size=(40, 31), window=(4, 4), n=2, stride=2, padding=((3, 0), (1, 2))),
    "5x5/2": dict(c=8, k=76, size=(29, 52), window=(5, 5), stride=2, padding=((0, 4), (2, 1)), groups=2, n=1),
    "1x1": dict(c=530, k=70, size=(23, 29), window=(1, 1), n=2, padding=0),
    "1x1 of many": dict(c=70, k=530, size=(23, 29), window=(1, 1), n=2, padding=0),
    "1x1/2": dict(c=100, k=40, size=(61, 47), window=(1, 1), n=3, padding=0, stride=2),
    "1x1 in groups": dict(c=102, k=42, size=(38, 35), window=(1, 1), n=2, padding=0, groups=3),
    "5x5d2": dict(c=17, k=33, size=(37, 41), window=(5, 5), n=2, dilation=2),
    "7x7/2 of 3": dict(c=3, k=64, size=(65, 63), window=(7, 7), n=2, stride=2),
    "11x10/4 of 2": dict(c=2, k=35, size=(67, 93), window=(11, 10), n=2, stride=4),
    "depthwise": dict(c=130, k=130, size=(41, 39), window=(3, 3), n=2, groups=130),
    "depthwise 31x31": dict(c=20, k=20, size=(40, 37), window=(31, 31), n=1, groups=20),
    "depthwise volume": dict(
        c=50, k=50, size=(6, 13, 15), window=(3, 3, 3), n=2, groups=50, stride=(2, 1, 1)
    ),
    "depthwise volume apart": dict(
        c=40, k=80, size=(5, 14, 9), window=(2, 3, 4), n=2, groups=40, dilation=(2, 1, 2)
    ),
    "depthwise/2": dict(c=144, k=144, size=(33, 30), window=(5, 5), n=2, groups=144, stride=2),
    "groups": dict(c=96, k=64, size=(27, 29), window=(3, 3), n=2, groups=4),
    "groups of 3": dict(c=51, k=51, size=(21, 23), window=(4, 7), n=2, groups=17, stride=(1, 2)),
    "groups of 8": dict(c=40, k=40, size=(3, 19, 16), window=(2, 3, 3), n=2, groups=5, dilation=(1, 2, 1)),
    "long": dict(c=40, k=72, size=(5000,), window=(9,), n=1, stride=3),
    "volume": dict(c=24, k=40, size=(9, 17, 19), window=(3, 3, 3), n=2),
    "volume of many": dict(c=180, k=200, size=(3, 6, 7), window=(3, 3, 3), n=1),
    "planes far apart": dict(
        **dict(c=32, k=70, size=(6, 14, 15), window=(2, 3, 3), n=2),
        **dict(padding=((3, 0), (1, 1), (0, 2)), dilation=(2, 1, 3)),
    ),
    "wide planes": dict(c=2, k=5, size=(4, 170, 180), window=(3, 3, 3), n=1),
    "wide planes/2": dict(c=2, k=6, size=(5, 290, 301), window=(3, 2, 3), n=1, stride=2),
    "long rows": dict(c=2, k=5, size=(3, 31000), window=(3, 3), n=1),
    "7x7x7/2 of 3": dict(c=3, k=70, size=(8, 21, 23), window=(7, 7, 7), n=2, stride=2),
    "taps far apart": dict(c=20, k=33, size=(1900,), window=(2,), n=2, dilation=600, padding=0),
    "small maps": dict(c=33, k=97, size=(4, 5), window=(5, 5), n=9, stride=2),
    "smallest maps": dict(c=50, k=40, size=(4, 4), window=(4, 4), n=17, padding=0),
    "small maps of many images": dict(c=6, k=19, size=(9, 11), window=(5, 5), n=43, padding=0),
    "first layer of many images": dict(c=1, k=7, size=(12, 13), window=(3, 3), n=70, dilation=2),
    "few pixels": dict(c=33, k=97, size=(4, 3), window=(4, 4), n=3, padding=((4, 2), (3, 4)), stride=2),
    "pixels that no tap meets": dict(c=33, k=33, size=(1,), window=(1,), n=1, stride=2, padding=((3, 4),)),
    "columns that no tap meets": dict(
        **dict(c=7, k=40, size=(4, 1), window=(2, 1), n=3),
        **dict(stride=(1, 2), dilation=(4, 1), padding=((5, 2), (3, 5))),
    ),
    "few jobs": dict(c=64, k=3, size=(3, 50), window=(3, 3), n=1),
    "few tiles": dict(c=70, k=56, size=(7, 6), window=(3, 3), n=1),
}


def large(problem: str, dtype: Any, channels_last: bool) -> ConvSpec:
    p: dict[str, Any] = {"stride": 1, "dilation": 1, "groups": 1, "padding": "same", **LARGE[problem]}
    n, c, k, size, window = (p.pop(name) for name in ("n", "c", "k", "size", "window"))
    x_shape = (n, *size, c) if channels_last else (n, c, *size)
    w_shape = (*window, c // p["groups"], k) if channels_last else (k, c // p["groups"], *window)
    layout = {1: "NCW NWC", 2: "NCHW NHWC", 3: "NCDHW NDHWC"}[len(size)].split()[channels_last]
    return conv_spec(f"conv{len(size)}d", x_shape, w_shape, np.dtype(dtype), layout=layout, **p)


@cache
def large_case(problem: str, pass_name: str, dtype: Any, channels_last: bool) -> tuple[Any, ...]:
    """(spec, arrays, right outputs) of whole numbers."""
    spec = large(problem, dtype, channels_last)
    a, b = arrays(spec, pass_name, integers, np.random.default_rng(5))
    return spec, a, b, run("reference", pass_name, spec, a, b)


# each layout with one of the dtypes: the others meet every kernel in the drawn tests
@pytest.mark.parametrize(("dtype", "channels_last"), [(np.float32, False), (np.float64, True)])
@pytest.mark.parametrize("problem", LARGE)
@pytest.mark.parametrize(("name", "pass_name"), EVERY)
def test_large_problems_on_any_number_of_threads(
    name: str, pass_name: str, problem: str, dtype: Any, channels_last: bool, many_threads: None
) -> None:
    kernel = KERNELS[name]
    if kernel.unsupported(pass_name, large(problem, dtype, channels_last)) is not None:
        return  # refusals are tested in test_dispatch.py
    spec, a, b, right = large_case(problem, pass_name, dtype, channels_last)
    for threads in (1, 7):
        got = run(name, pass_name, spec, a, b, threads=threads)
        if kernel.sums_products:
            for value, exact in zip(got, right, strict=True):
                np.testing.assert_array_equal(value, exact)
            continue
        again = run(name, pass_name, spec, a, b, threads=threads)
        sizes = magnitudes(kernel, pass_name, spec, a, b)
        for value, repeated, exact, size in zip(got, again, right, sizes, strict=True):
            np.testing.assert_array_equal(value, repeated)
            assert_within_bound(kernel, value, exact, size)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_beyond_the_cache_gives_the_bits_of_single_images(stride: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 180, 130, 64), np.float32)  # 18 MB: with y more than PREFETCHED_BYTES
    w = rng.standard_normal((3, 3, 1, 64), np.float32)
    options: dict[str, Any] = {"stride": stride, "padding": 1, "groups": 64, "layout": "NHWC"}
    options["kernel"] = "cython.depthwise"
    y = fc.conv2d(x, w, **options)
    dx = fc.conv2d_input_grad(y, w, x.shape, **options)
    for image in range(3):
        alone = slice(image, image + 1)
        np.testing.assert_array_equal(y[alone], fc.conv2d(x[alone], w, **options))
        one = fc.conv2d_input_grad(y[alone], w, x[alone].shape, **options)
        np.testing.assert_array_equal(dx[alone], one)


@pytest.mark.parametrize("name", [n for n in kernels_with("forward") if "winograd" in n])
def test_a_result_written_past_the_caches(name: str, many_threads: None) -> None:
    """Large aligned results are; one that begins in the middle of a cache line cannot be. Same bits."""
    kernel = KERNELS[name]
    spec = conv_spec("conv2d", (1, 184, 184, 2), (3, 3, 2, 64), np.dtype("f4"), padding=1, layout="NHWC")
    if kernel.unsupported("forward", spec) is not None:
        return  # refusals are tested in test_dispatch.py
    x, w = arrays(spec, "forward", reals, np.random.default_rng(7))
    bias, size = np.linspace(-1, 1, 64, dtype="f4"), math.prod(spec.y_shape)
    memory = np.full(size + 32, np.nan, "f4")
    first = -memory.ctypes.data // 4 % 16
    results = []
    for begin in (first, first + 1):
        memory[:] = np.nan
        y = memory[begin : begin + size].reshape(spec.y_shape)
        kernel.passes["forward"](spec, x, w, bias, y, "relu", 3)
        assert np.isnan(memory[:begin]).all() and np.isnan(memory[begin + size :]).all()
        results.append(y.copy())
    np.testing.assert_array_equal(*results)
    exact = oracle("forward", spec, x, w, bias, "relu")
    (magnitude,) = magnitudes(kernel, "forward", spec, x, w)
    assert_within_bound(kernel, results[0], exact, magnitude + abs(bias))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("problem", ["3x3/2", "1x1 of many", "groups", "few pixels"])
@pytest.mark.parametrize("name", kernels_with("forward", exact=True))
def test_bias_is_added_once_on_any_number_of_threads(
    name: str, problem: str, channels_last: bool, many_threads: None
) -> None:
    """Jobs that share the pixels and divide the filters each add the bias of their own, whoever is first."""
    kernel, spec = KERNELS[name], large(problem, np.float32, channels_last)
    if kernel.unsupported("forward", spec) is not None:
        return  # refusals are tested in test_dispatch.py
    rng = np.random.default_rng(6)
    x, w = arrays(spec, "forward", integers, rng)
    bias = integers(rng, (spec.k,), spec.dtype)
    right = forward(REFERENCE, spec, x, w, bias, "relu")
    for _ in range(8):
        np.testing.assert_array_equal(forward(kernel, spec, x, w, bias, "relu", threads=7), right)

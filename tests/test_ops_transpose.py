"""Transposed convolution: against its definition, as an adjoint, and as a convolution's gradient."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, Array, integers

import fastconv as fc
from fastconv.ops.spec import LAYOUTS

FUNCTIONS = {
    n: tuple(getattr(fc, f"conv_transpose{n}d{end}") for end in ("", "_input_grad", "_filter_grad"))
    for n in (1, 2, 3)
}


@st.composite
def problems(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    """(x, w, keywords), channels first, with any output_padding that is allowed."""
    n, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(SEEDS))
    size, window, stride, dilation = (rng.integers(1, most, n) for most in (5, 4, 4, 3))
    extra = rng.integers(0, np.maximum(stride, dilation))
    whole = (size - 1) * stride + dilation * (window - 1) + extra + 1
    padding = [tuple(int(p) for p in rng.integers(0, (w + 1) // 2, 2)) for w in whole]
    batch, c, k = (int(v) for v in rng.integers(1, 4, 3))
    dtype = np.dtype(draw(DTYPES))
    x = integers(rng, (batch, c * groups, *size), dtype)
    w = integers(rng, (c * groups, k, *window), dtype)
    keywords = {"stride": stride, "dilation": dilation, "output_padding": extra}
    plain = {name: tuple(int(v) for v in values) for name, values in keywords.items()}
    return x, w, plain | {"padding": padding, "groups": groups}


def definition(x: Array, w: Array, keywords: dict[str, Any]) -> Array:
    """y[n, k, stride*p + dilation*r - padding] += x[n, c, p] * w[c, k, r], channels first."""
    stride, dilation, padding, extra, groups = (
        keywords[name] for name in ("stride", "dilation", "padding", "output_padding", "groups")
    )
    sizes = zip(x.shape[2:], w.shape[2:], stride, dilation, padding, extra, strict=True)
    whole = [(i - 1) * s + d * (f - 1) + e + 1 + a for i, f, s, d, (_, a), e in sizes]
    y = np.zeros((x.shape[0], w.shape[1] * groups, *whole))
    c, k = w.shape[0] // groups, w.shape[1]
    for g, p in itertools.product(range(groups), np.ndindex(x.shape[2:])):
        for tap in np.ndindex(w.shape[2:]):
            at = tuple(s * q + d * r for s, q, d, r in zip(stride, p, dilation, tap, strict=True))
            product = (
                x[(slice(None), slice(g * c, g * c + c), *p)]
                @ w[(slice(g * c, g * c + c), slice(None), *tap)]
            )
            y[(slice(None), slice(g * k, g * k + k), *at)] += product
    ends = zip(x.shape[2:], w.shape[2:], stride, dilation, padding, extra, strict=True)
    cut = [slice(b, (i - 1) * s + d * (f - 1) + e + 1 - a) for i, f, s, d, (b, a), e in ends]
    return y[(..., *cut)]


@given(problems(), st.booleans(), SEEDS)
def test_forward_is_the_definition_and_the_gradients_its_adjoints(
    problem: tuple[Array, Array, dict[str, Any]], last: bool, seed: int
) -> None:
    x, w, keywords = problem
    n = x.ndim - 2
    forward, input_grad, filter_grad = FUNCTIONS[n]
    expected = definition(x, w, keywords)
    if last:
        x, w = np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))
        expected = np.moveaxis(expected, 1, -1)
    keywords["layout"] = LAYOUTS[n][last]
    dy = integers(np.random.default_rng(seed), expected.shape, x.dtype)
    with fc.use(precision="highest"):  # small whole numbers are exact in plain sums of products
        y = forward(x, w, **keywords)
        dx = input_grad(dy, w, x.shape, **keywords)
        dw, db = filter_grad(x, dy, w.shape, **keywords, bias_grad=True)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, expected)
    product = np.vdot(y.astype(float), dy)
    assert dx.shape == x.shape and np.vdot(dx.astype(float), x) == product
    assert dw.shape == w.shape and np.vdot(dw.astype(float), w) == product
    np.testing.assert_array_equal(db, dy.sum(tuple(a for a in range(n + 2) if a != (n + 1 if last else 1))))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_it_is_the_input_gradient_of_the_convolution_with_the_same_filters(layout: str) -> None:
    rng = np.random.default_rng(0)
    image = (2, 4, 9, 8) if layout == "NCHW" else (2, 9, 8, 4)
    w = rng.standard_normal((6, 2, 3, 3) if layout == "NCHW" else (3, 3, 2, 6))
    keywords: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2, "layout": layout}
    dy = rng.standard_normal(fc.conv2d(np.zeros(image), w, **keywords).shape)
    dx = fc.conv2d_input_grad(dy, w, image, **keywords)
    np.testing.assert_array_equal(fc.conv_transpose2d(dy, w, output_padding=(0, 1), **keywords), dx)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "sigmoid", "tanh", "relu6"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_bias_and_activation_follow_the_sum(activation: str | None, layout: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 4, 5) if layout == "NCHW" else (2, 4, 5, 3))
    w = rng.standard_normal((3, 2, 3, 3) if layout == "NCHW" else (3, 3, 2, 3))
    bias = rng.standard_normal(2)
    plain = fc.conv_transpose2d(x, w, stride=2, layout=layout)
    y = plain + (bias.reshape(2, 1, 1) if layout == "NCHW" else bias)
    expected = {
        None: y,
        "relu": np.maximum(y, 0),
        "leaky_relu": np.where(y > 0, y, 0.01 * y),
        "sigmoid": 1 / (1 + np.exp(-y)),
        "tanh": np.tanh(y),
        "relu6": np.minimum(np.maximum(y, 0), 6),
    }[activation]
    got = fc.conv_transpose2d(x, w, bias, stride=2, layout=layout, activation=activation)
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("padding", ["same", "same_lower"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_same_padding_gives_stride_outputs_a_pixel(padding: str, stride: int, window: int) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((1, 2, 5)), rng.standard_normal((2, 3, window))
    y = fc.conv_transpose1d(x, w, stride=stride, padding=padding)
    assert y.shape == (1, 3, 5 * stride)
    dx = fc.conv1d_input_grad(x, w, y.shape, stride=stride, padding=padding)
    np.testing.assert_array_equal(y, dx)


def test_a_pixel_spreads_the_filter() -> None:
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    w = np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    y = fc.conv_transpose2d(x, w, stride=2, output_padding=1)
    expected = np.array([[1, 0, 2, 0, 0], [0, -1, 0, -2, 0], [3, 0, 4, 0, 0], [0, -3, 0, -4, 0], [0] * 5])
    np.testing.assert_array_equal(y[0, 0], expected)


def test_nothing_to_sum() -> None:
    w = np.ones((0, 2, 3, 3))
    y = fc.conv_transpose2d(np.ones((1, 0, 2, 2)), w, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(y, np.broadcast_to([[[[1.0]], [[2.0]]]], (1, 2, 4, 4)))
    empty = np.ones((0, 3, 2, 2))
    assert fc.conv_transpose2d(empty, np.ones((3, 2, 3, 3))).shape == (0, 2, 4, 4)
    dw, db = fc.conv_transpose2d_filter_grad(empty, np.ones((0, 2, 4, 4)), (3, 2, 3, 3), bias_grad=True)
    assert not dw.any() and not db.any()


def test_out_receives_the_result_in_any_memory_order() -> None:
    rng = np.random.default_rng(3)
    x, w, bias = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(2)
    y = fc.conv_transpose2d(x, w, bias)
    for out in (np.full(y.shape, np.nan), np.full(y.shape, np.nan, order="F")):
        assert fc.conv_transpose2d(x, w, bias, out=out) is out
        np.testing.assert_array_equal(out, y)


X, W = np.ones((1, 4, 5, 5)), np.ones((4, 3, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((X, W[:3]), {}, "w takes 3 channels, x has 4: w.shape[0] must be 4"),
        ((X, W), {"groups": 3}, "x has 4 channels in 3 groups: groups must divide the channels"),
        (
            (X, W),
            {"output_padding": 1},
            "output_padding is 1: it must be below the stride or the dilation, 1",
        ),
        ((X, W), {"stride": 2, "output_padding": (0, 2)}, "output_padding is 2: it must be below"),
        ((X, W), {"padding": 4}, "axis 0: an output of 7 less the padding (4, 4): one must be left"),
        ((X, W), {"stride": 2**61}, "it must be below 2**62"),
        ((X, W, np.ones(4)), {}, "bias has shape (4,): it must be (3,)"),
        ((X, W[..., 0]), {}, "w has 3 dimensions (4, 3, 3): it must have 4 (KCRS)"),
        ((X, W), {"layout": "NCW"}, "layout is 'NCW': it must be 'NCHW' or 'NHWC'"),
        ((X, W), {"output_padding": -1}, "output_padding is -1: it must be at least 0"),
        ((X, W), {"activation": "gelu"}, "activation is 'gelu': it must be None or one of"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: tuple[Array, ...], keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        fc.conv_transpose2d(*arguments, **keywords)
    assert str(caught.value).startswith("conv_transpose2d: ") and message in str(caught.value)


def test_gradients_check_the_gradient_of_the_output() -> None:
    with pytest.raises(ValueError, match=r"conv_transpose2d_input_grad: dy has shape \(1, 3, 6, 7\)"):
        fc.conv_transpose2d_input_grad(np.ones((1, 3, 6, 7)), W, X.shape)
    with pytest.raises(ValueError, match=r"conv_transpose2d_filter_grad: dy has shape \(1, 3, 6, 7\)"):
        fc.conv_transpose2d_filter_grad(X, np.ones((1, 3, 6, 7)), W.shape)
    with pytest.raises(TypeError, match="bias_grad is 1: it must be True or False"):
        fc.conv_transpose2d_filter_grad(X, np.ones((1, 3, 7, 7)), W.shape, bias_grad=1)  # type: ignore[call-overload]

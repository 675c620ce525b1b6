"""The conformance suite: passes what is right in every rank, layout and kernel, and catches what is not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.ops.spec import LAYOUTS
from fastconv.testing import CASES, check_conv_backend


def plain_sums(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without Winograd, whose rounding is wider, in any thread."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        with fc.use(precision="highest"):
            return function(*arguments, **keywords)

    return call


conv2d = plain_sums(fc.conv2d)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kernel", [None, "reference"])
def test_fastconv_conforms(kernel: str | None, ndim: int, last: bool) -> None:
    layout = LAYOUTS[ndim][last]
    functions = [
        plain_sums(partial(getattr(fc, f"conv{ndim}d{end}"), layout=layout, kernel=kernel))
        for end in ("", "_input_grad", "_filter_grad")
    ]
    results = check_conv_backend(
        functions[0], input_grad=functions[1], filter_grad=functions[2], ndim=ndim, layout=layout
    )
    assert len(results) == 2 * (3 * len(CASES) + 5)


def test_an_exact_backend_is_exact() -> None:
    check_conv_backend(partial(fc.conv2d, kernel="reference"), exact=True)


def plainly(x: Any, w: Any, **keywords: Any) -> Any:
    """A backend that knows no options: every other case is left out."""
    assert not keywords
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))
    return np.einsum("nchwrs,kcrs->nkhw", windows, w)


def test_cases_beyond_a_backends_options_are_left_out() -> None:
    results = check_conv_backend(plainly, options=())
    assert len(results) < 2 * len(CASES) and all(result.passed for result in results)


def flipped(x: Any, w: Any, **keywords: Any) -> Any:
    return conv2d(x, w[:, :, ::-1, ::-1], **keywords)


def widened(x: Any, w: Any, **keywords: Any) -> Any:
    return conv2d(x, w, **keywords).astype(np.float64)


def rough(x: Any, w: Any, **keywords: Any) -> Any:
    return conv2d(x.astype(np.float32), w.astype(np.float32), **keywords).astype(x.dtype)


def without_groups(x: Any, w: Any, groups: int = 1, **keywords: Any) -> Any:
    return conv2d(x, np.repeat(w, groups, 1), **keywords)


def symmetric(x: Any, w: Any, padding: Any = 0, **keywords: Any) -> Any:
    ends = padding if isinstance(padding, int) else [max(p) for p in padding]
    return conv2d(x, w, padding=ends, **keywords)


def writing(x: Any, w: Any, **keywords: Any) -> Any:
    y = conv2d(x, w, **keywords)
    x *= 2
    return y


def assuming_c_order(x: Any, w: Any, **keywords: Any) -> Any:
    return conv2d(x.ravel(order="K").reshape(x.shape), w, **keywords)


_calls = np.zeros(1)


def forgetful(x: Any, w: Any, **keywords: Any) -> Any:
    _calls[0] += 1
    return conv2d(x, w, **keywords) * x.dtype.type(1 + np.finfo(x.dtype).eps * (_calls[0] % 2))


def cutting(x: Any, w: Any, groups: int = 1, **keywords: Any) -> Any:
    return conv2d(x, w[:, : x.shape[1] // groups], groups=groups, **keywords)


@pytest.mark.parametrize(
    ("backend", "complaint"),
    [
        (flipped, "float32: plain: .* elements are off"),
        (widened, "the result is float64: it must be float32"),
        (rough, "float64: plain: .* elements are off"),
        (without_groups, "float32: groups"),
        (symmetric, "padding for each side: the result has shape"),
        (writing, "read-only|an input was written"),
        (assuming_c_order, "memory order"),
        (forgetful, "two equal calls differ"),
        (cutting, r"channels that do not fit are refused: x \(2, 3, 7, 8\) with w \(4, 6, 3, 3\) must raise"),
    ],
)
def test_a_wrong_backend_is_caught(backend: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_conv_backend(backend)


def test_failures_can_be_listed() -> None:
    results = check_conv_backend(without_groups, dtypes=["float64"], raise_on_failure=False)
    assert {result.check for result in results if not result.passed} == {
        f"float64: {name}"
        for name in ("groups", "depthwise", "depthwise, two filters a channel", "everything")
    }


def test_wrong_gradients_are_caught() -> None:
    def scaled(*arguments: Any, **keywords: Any) -> Any:
        return fc.conv2d_filter_grad(*arguments, **keywords) / 2

    with pytest.raises(AssertionError, match="plain: filter gradient"):
        check_conv_backend(conv2d, filter_grad=scaled)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ndim": 4}, "ndim is 4: it must be 1, 2 or 3"),
        ({"layout": "NCW"}, "layout is 'NCW': it must be one of NCHW, NHWC"),
        ({"options": ["strides"]}, "options has 'strides'"),
    ],
)
def test_wrong_arguments_are_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_conv_backend(fc.conv2d, **keywords)

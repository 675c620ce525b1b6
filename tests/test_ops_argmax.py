"""Argmax conventions: ONNX's, TensorFlow's and the window-local one, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from strategies import SEEDS, Array, pool_specs, reals

import fastconv as fc
from fastconv.ops.spec import LAYOUTS, PoolSpec


def pooled(spec: PoolSpec, seed: int) -> tuple[Array, Array, Array, dict[str, Any]]:
    """(x, y, argmax, keywords) of a max-pooling."""
    x = reals(np.random.default_rng(seed), spec.x_shape, spec.dtype)
    keywords: dict[str, Any] = {name: getattr(spec, name) for name in ("stride", "padding", "dilation")}
    keywords["layout"] = LAYOUTS[spec.ndim][spec.channels_last]
    keywords["ceil_mode"] = not floors(spec)
    call = getattr(fc, f"max_pool{spec.ndim}d")
    y, argmax = call(x, spec.window, return_argmax=True, **keywords)
    return x, y, argmax, keywords


def floors(spec: PoolSpec) -> bool:
    """True where the output size is rounded down."""
    sizes = zip(spec.size, spec.padding, spec.window, spec.dilation, spec.stride, spec.out_size, strict=True)
    return all((i + a + b - d * (f - 1) - 1) // s + 1 == o for i, (a, b), f, d, s, o in sizes)


@given(pool_specs(), SEEDS)
def test_tensor_indices_pick_the_maxima_in_either_layout(spec: PoolSpec, seed: int) -> None:
    x, y, argmax, keywords = pooled(spec, seed)
    indices = fc.argmax_to_onnx(argmax, x.shape, layout=keywords["layout"])
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(x.ravel()[indices], y)
    back = fc.argmax_from_onnx(indices, x.shape, layout=keywords["layout"])
    assert back.dtype == argmax.dtype
    np.testing.assert_array_equal(back, argmax)


@given(pool_specs(channels_last=False), SEEDS)
def test_storage_order_1_counts_the_plane_column_by_column(spec: PoolSpec, seed: int) -> None:
    x, y, argmax, _ = pooled(spec, seed)
    indices = fc.argmax_to_onnx(argmax, x.shape, storage_order=1)
    columns = np.concatenate([plane.ravel(order="F") for image in x for plane in image])
    np.testing.assert_array_equal(columns[indices], y)
    np.testing.assert_array_equal(fc.argmax_from_onnx(indices, x.shape, storage_order=1), argmax)


@given(pool_specs(), SEEDS)
def test_window_indices_pick_the_maxima_in_each_window(spec: PoolSpec, seed: int) -> None:
    x, y, argmax, keywords = pooled(spec, seed)
    local = fc.argmax_to_window(argmax, x.shape, spec.window, **keywords)
    assert local.shape == y.shape and local.min() >= 0 and local.max() < np.prod(spec.window)
    places = list(np.unravel_index(local, spec.window))
    first = 1 if spec.channels_last else 2
    at = list(np.indices(y.shape))
    for axis, (s, d, (before, _)) in enumerate(zip(spec.stride, spec.dilation, spec.padding, strict=True)):
        at[first + axis] = at[first + axis] * s + places[axis] * d - before
    np.testing.assert_array_equal(x[tuple(at)], y)
    back = fc.argmax_from_window(local, x.shape, spec.window, **keywords)
    assert back.dtype == argmax.dtype
    np.testing.assert_array_equal(back, argmax)


def test_worked_by_hand() -> None:
    x = np.array([[[[1.0, 9.0, 2.0], [3.0, 0.0, 8.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 5.0]]]])  # (1, 2, 2, 3)
    _, argmax = fc.max_pool2d(x, 2, stride=1, return_argmax=True)
    np.testing.assert_array_equal(argmax[0], [[[1, 1]], [[0, 5]]])
    np.testing.assert_array_equal(fc.argmax_to_onnx(argmax, x.shape)[0], [[[1, 1]], [[6, 11]]])
    np.testing.assert_array_equal(
        fc.argmax_to_onnx(argmax, x.shape, storage_order=1)[0], [[[2, 2]], [[6, 11]]]
    )
    np.testing.assert_array_equal(fc.argmax_to_window(argmax, x.shape, 2, stride=1)[0], [[[1, 0]], [[0, 3]]])


SHAPE = (1, 2, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: fc.argmax_to_onnx(a + 6, SHAPE), ValueError, "argmax ranges from 6 to 6"),
        (lambda a: fc.argmax_to_onnx(a, SHAPE, storage_order=2), ValueError, "storage_order is 2"),
        (lambda a: fc.argmax_to_onnx(a, SHAPE, storage_order=None), TypeError, "storage_order is None"),
        (lambda a: fc.argmax_to_onnx(a * 1.0, SHAPE), TypeError, "argmax is float64"),
        (lambda a: fc.argmax_to_onnx([0], SHAPE), TypeError, "argmax is 'list'"),
        (lambda a: fc.argmax_from_onnx(a, SHAPE), ValueError, "argmax ranges from -6 to 0"),
        (
            lambda a: fc.argmax_to_onnx(a, (1, 2, 2, 1), storage_order=1, layout="NHWC"),
            ValueError,
            "storage_order is 1 in a channels-last layout",
        ),
        (lambda a: fc.argmax_from_onnx(a, (1, 3, 3, 3)), ValueError, "argmax has 1 images of 2 channels"),
        (lambda a: fc.argmax_to_window(a + 5, SHAPE, (2, 2)), ValueError, "an index outside its window"),
        (lambda a: fc.argmax_from_window(a + 4, SHAPE, (2, 2)), ValueError, "local ranges from 4 to 4"),
        (lambda a: fc.argmax_from_window(a, SHAPE, (2, 2), padding=1), ValueError, "local has shape"),
        (
            lambda a: fc.argmax_from_window(a, SHAPE, (2, 5), padding=(0, 1)),
            ValueError,
            "a tap in the padding",
        ),
        (lambda a: fc.argmax_to_onnx(a, 4), TypeError, "shape is 4"),
    ],
)
def test_wrong_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call(np.zeros((1, 2, 1, 1), np.int64))
    assert message in str(caught.value)


def test_an_index_of_another_channel_is_found_in_channels_last() -> None:
    indices = np.array([0, 2]).reshape(1, 1, 1, 2)  # the second is of channel 0
    with pytest.raises(ValueError, match="indices has one of another channel"):
        fc.argmax_from_onnx(indices, (1, 2, 2, 2), layout="NHWC")


@pytest.mark.parametrize("n", [0, 2])
def test_nothing(n: int) -> None:
    argmax = np.zeros((n, 0 if n else 3, 1, 1), np.int32)
    shape = (n, 0 if n else 3, 2, 2)
    assert fc.argmax_to_onnx(argmax, shape).shape == argmax.shape
    assert fc.argmax_from_onnx(argmax, shape).shape == argmax.shape
    assert fc.argmax_to_window(argmax, shape, 2).shape == argmax.shape

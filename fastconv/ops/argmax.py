"""Where a maximum was, in other libraries' conventions.

fastconv's own argmax is the flat index in the unpadded plane of the element's channel. ONNX (and, in
channels-last, TensorFlow) count over the whole tensor; others, Chainer among them, inside each window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fastconv.ops.arrays import FLOAT32, Array, check_argmax
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.parse import PaddingLike, PerAxis, parse_any_layout, parse_int
from fastconv.ops.spec import PoolSpec, pool_spec


def argmax_to_onnx(
    argmax: Array, input_shape: Sequence[int], *, storage_order: int = 0, layout: str | None = None
) -> Array:
    """Indices over the whole tensor, as ONNX's MaxPool returns them.

    Parameters
    ----------
    argmax : integer ndarray
        As returned by a max-pooling.
    input_shape : sequence of ints
        Shape of the max-pooling's x.
    storage_order : {0, 1}, default 0
        ONNX's attribute: 0 counts a plane's elements row by row, 1 column by column (channels-first only).
    layout : str, optional
        Layout of both arrays; None is channels-first. In a channels-last layout the indices are over the
        channels-last tensor, as TensorFlow's max_pool_with_argmax counts with include_batch_in_index.

    Returns
    -------
    ndarray of argmax's shape, int64

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, an index outside the plane included.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> argmax = np.array([3, 0]).reshape(1, 2, 1, 1)
    >>> fc.argmax_to_onnx(argmax, (1, 2, 2, 3)).ravel()
    array([3, 6])
    >>> fc.argmax_to_onnx(argmax, (1, 2, 2, 3), storage_order=1).ravel()
    array([1, 6])
    """
    op = "argmax_to_onnx"
    spec = argmax_spec(op, argmax, input_shape, layout)
    order = parse_order(op, storage_order, spec)
    place = check_argmax(op, argmax, spec.y_shape, spec).astype(np.int64)
    if order == "F":
        place = np.ravel_multi_index(np.unravel_index(place, spec.size), spec.size, order="F")
    return first_places(spec) + place * (spec.c if spec.channels_last else 1)


def argmax_from_onnx(
    indices: Array, input_shape: Sequence[int], *, storage_order: int = 0, layout: str | None = None
) -> Array:
    """The inverse of `argmax_to_onnx`: what fastconv's gradients and unpooling take.

    Parameters
    ----------
    indices : integer ndarray
        Over the whole tensor, each in the batch element and channel where it stands.
    input_shape, storage_order, layout
        As in `argmax_to_onnx`.

    Returns
    -------
    ndarray of indices' shape, int32 (int64 where the plane needs it)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, an index into another channel included.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.argmax_from_onnx(np.array([3, 6]).reshape(1, 2, 1, 1), (1, 2, 2, 3)).ravel()
    array([3, 0], dtype=int32)
    """
    op = "argmax_from_onnx"
    spec = argmax_spec(op, indices, input_shape, layout)
    order = parse_order(op, storage_order, spec)
    place = indices.astype(np.int64) - first_places(spec)
    if spec.channels_last and np.any(place % max(spec.c, 1)):
        bad_value(op, "indices has one of another channel", "each must be in the channel where it stands")
    if spec.channels_last:
        place //= max(spec.c, 1)
    place = check_argmax(op, place, spec.y_shape, spec)
    if order == "F":
        place = np.ravel_multi_index(np.unravel_index(place, spec.size, order="F"), spec.size)
    return place.astype(spec.argmax_dtype)


def argmax_to_window(
    argmax: Array,
    input_shape: Sequence[int],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    """Indices inside each window, counted row by row over its taps.

    Parameters
    ----------
    argmax : integer ndarray
        As returned by a max-pooling with the other arguments.
    input_shape : sequence of ints
        Shape of the max-pooling's x.
    window, stride, padding, dilation, ceil_mode
        As given to the max-pooling.
    layout : str, optional
        None is channels-first.

    Returns
    -------
    ndarray of argmax's shape, int64

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, an index outside its window included.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.array([1.0, 5.0, 4.0, 3.0]).reshape(1, 1, 4)
    >>> y, argmax = fc.max_pool1d(x, 2, return_argmax=True)
    >>> argmax.ravel(), fc.argmax_to_window(argmax, x.shape, 2).ravel()
    (array([1, 2], dtype=int32), array([1, 0]))
    """
    op = "argmax_to_window"
    layout, _ = parse_any_layout(op, layout, input_shape)
    spec = window_spec(op, input_shape, window, stride, padding, dilation, ceil_mode, layout)
    argmax = check_argmax(op, argmax, spec.y_shape, spec)
    taps = []
    places = np.unravel_index(argmax, spec.size)
    for place, start, f, d in zip(places, window_starts(spec), spec.window, spec.dilation, strict=True):
        tap, rest = np.divmod(place - start, d)
        if np.any(rest) or np.any((tap < 0) | (tap >= f)):
            bad_value(op, "argmax has an index outside its window", "it must come from the same max-pooling")
        taps.append(tap)
    return np.ravel_multi_index(tuple(taps), spec.window).astype(np.int64)


def argmax_from_window(
    local: Array,
    input_shape: Sequence[int],
    window: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    """The inverse of `argmax_to_window`.

    Parameters
    ----------
    local : integer ndarray
        Indices inside each window.
    input_shape, window, stride, padding, dilation, ceil_mode, layout
        As in `argmax_to_window`.

    Returns
    -------
    ndarray of local's shape, int32 (int64 where the plane needs it)

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit, a tap in the padding included.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.argmax_from_window(np.array([[[1, 0]]]), (1, 1, 4), 2)
    array([[[1, 2]]], dtype=int32)
    """
    op = "argmax_from_window"
    layout, _ = parse_any_layout(op, layout, input_shape)
    spec = window_spec(op, input_shape, window, stride, padding, dilation, ceil_mode, layout)
    check_integers(op, "local", local)
    if local.shape != spec.y_shape:
        bad_value(op, f"local has shape {local.shape}", f"it must be {spec.y_shape}")
    count = math.prod(spec.window)
    if local.size and (local.min() < 0 or local.max() >= count):
        bad_value(op, f"local ranges from {local.min()} to {local.max()}", f"it must be 0 to {count - 1}")
    places = []
    taps = np.unravel_index(local, spec.window)
    for tap, start, i, d in zip(taps, window_starts(spec), spec.size, spec.dilation, strict=True):
        place = start + tap * d
        if np.any((place < 0) | (place >= i)):
            bad_value(op, "local has a tap in the padding", "every index must be of an input element")
        places.append(place)
    return np.ravel_multi_index(tuple(places), spec.size).astype(spec.argmax_dtype)


def argmax_spec(op: str, argmax: Any, input_shape: Any, layout: Any) -> PoolSpec:
    """Sizes and layout of an index array and its input."""
    check_integers(op, "argmax", argmax)
    layout, _ = parse_any_layout(op, layout, input_shape)
    return pool_spec(
        op, input_shape, 1, FLOAT32, layout=layout, out_shape=argmax.shape, names=("input", "argmax")
    )


def check_integers(op: str, name: str, a: Any) -> None:
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "iu":
        came = a.dtype if isinstance(a, np.ndarray) else shown(type(a).__name__)
        bad_type(op, f"{name} is {came}", "it must be a NumPy array of integers")


def parse_order(op: str, storage_order: Any, spec: PoolSpec) -> Literal["C", "F"]:
    """NumPy's letter of ONNX's storage_order."""
    if parse_int(op, "storage_order", storage_order, least=0) > 1:
        bad_value(op, f"storage_order is {storage_order}", "it must be 0 or 1")
    if storage_order and spec.channels_last:
        bad_value(op, "storage_order is 1 in a channels-last layout", "it must be 0 there")
    return "F" if storage_order else "C"


def first_places(spec: PoolSpec) -> Array:
    """The index over the whole tensor of each channel's first element, broadcast against its argmax."""
    n, c = np.ogrid[: spec.n, : spec.c]
    pixels = math.prod(spec.size)
    if spec.channels_last:
        return (n * pixels * spec.c + c).reshape(spec.n, *[1] * spec.ndim, spec.c)
    return ((n * spec.c + c) * pixels).reshape(spec.n, spec.c, *[1] * spec.ndim)


def window_spec(
    op: str,
    input_shape: Any,
    window: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    layout: str,
) -> PoolSpec:
    """The max-pooling that the indices belong to."""
    return pool_spec(
        op,
        input_shape,
        window,
        FLOAT32,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
        needs_input=True,
        names=("input", "argmax"),
    )


def window_starts(spec: PoolSpec) -> list[Array]:
    """Per axis, the input coordinate of each window's first tap, broadcast against the argmax."""
    starts = []
    for axis, (o, s, (before, _)) in enumerate(zip(spec.out_size, spec.stride, spec.padding, strict=True)):
        shape = [1] * (spec.ndim + 2)
        shape[axis + (1 if spec.channels_last else 2)] = o
        starts.append((np.arange(o) * s - before).reshape(shape))
    return starts

"""The same convolution on fewer axes, so that one and three of them reach the kernels of two.

Arrays in C order only change their shape. An axis along which nothing is mixed (a window of 1, stride 1, no
padding) joins its neighbour:

    (W,) -> (1, W)                     conv1d
    (D, H, W) -> (1, D*H*W)            1x1x1 filters
    (D, H, W) -> (D, H*W)              filters along D alone
    (D, H, W) -> (D*H, W)              filters along W alone
    N images of (D, H, W) -> N*D images of (H, W)      filters that ignore D, channels-last
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fastconv.ops.spec import ConvSpec

Array = NDArray[Any]
Pass = Callable[..., None]


def fewer_axes(spec: ConvSpec) -> ConvSpec:
    """The problem on two axes where that is the same, else the spec itself."""
    alone = [mixes_nothing(spec, axis) for axis in range(spec.ndim)]
    if spec.ndim == 1:
        return on_axes(spec, ((), (0,)))
    if spec.ndim == 2:
        return spec
    if all(alone):
        return on_axes(spec, ((), (0, 1, 2)))
    if alone[1] and alone[2]:
        return on_axes(spec, ((0,), (1, 2)))
    if alone[0] and alone[1]:
        return on_axes(spec, ((0, 1), (2,)))
    if alone[0] and (spec.channels_last or spec.size[0] == 1):
        return on_axes(replace(spec, n=spec.n * spec.size[0]), ((1,), (2,)))
    return spec


def mixes_nothing(spec: ConvSpec, axis: int) -> bool:
    """True where each output depends on one input, at the same place of the axis."""
    plain = spec.window[axis] == spec.stride[axis] == 1 and spec.padding[axis] == (0, 0)
    return plain and spec.size[axis] == spec.out_size[axis]  # a transposed convolution's may differ


def on_axes(spec: ConvSpec, joined: tuple[tuple[int, ...], ...]) -> ConvSpec:
    """The problem whose axes are the spec's, joined; of those that join only one may mix anything."""
    mixing = [next((a for a in axes if not mixes_nothing(spec, a)), None) for axes in joined]

    def at(values: tuple[Any, ...], idle: Any) -> tuple[Any, ...]:
        return tuple(idle if axis is None else values[axis] for axis in mixing)

    return replace(
        spec,
        size=tuple(math.prod(spec.size[a] for a in axes) for axes in joined),
        out_size=tuple(math.prod(spec.out_size[a] for a in axes) for axes in joined),
        window=at(spec.window, 1),
        stride=at(spec.stride, 1),
        dilation=at(spec.dilation, 1),
        padding=at(spec.padding, (0, 0)),
    )


def reshaped(pass_name: str, run: Pass, spec: ConvSpec) -> Pass:
    """A pass for `spec`, by one for `fewer_axes(spec)`."""
    fewer = fewer_axes(spec)
    if fewer is spec:
        return run
    x_shape, w_shape, y_shape = fewer.x_shape, fewer.w_shape, fewer.y_shape

    def forward(_: ConvSpec, x: Array, w: Array, bias: Any, y: Array, activation: Any, threads: int) -> None:
        run(fewer, x.reshape(x_shape), w.reshape(w_shape), bias, y.reshape(y_shape), activation, threads)

    def input_grad(_: ConvSpec, dy: Array, w: Array, dx: Array, threads: int) -> None:
        run(fewer, dy.reshape(y_shape), w.reshape(w_shape), dx.reshape(x_shape), threads)

    def filter_grad(_: ConvSpec, x: Array, dy: Array, dw: Array, db: Array | None, threads: int) -> None:
        run(fewer, x.reshape(x_shape), dy.reshape(y_shape), dw.reshape(w_shape), db, threads)

    passes: dict[str, Pass] = {"forward": forward, "input_grad": input_grad, "filter_grad": filter_grad}
    return passes[pass_name]

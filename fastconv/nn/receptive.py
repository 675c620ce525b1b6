"""The receptive field of a unit: which pixels can reach it, by the geometry of the layers below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastconv.nn.activations import Activation
from fastconv.nn.blocks import Residual
from fastconv.nn.inside import evaluating, layer_index
from fastconv.nn.layer import Layer
from fastconv.nn.layers import AvgPool2d, Conv2d, Dropout, MaxPool2d
from fastconv.nn.model import Sequential
from fastconv.nn.norm import BatchNorm2d, LocalResponseNorm
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_type, bad_value
from fastconv.ops.spec import ConvSpec, PoolSpec, conv_spec, pool_spec

POINTWISE = (Activation, Dropout, BatchNorm2d, LocalResponseNorm)


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of a layer see of the input, per spatial axis (rows, columns).

    Attributes
    ----------
    size : (int, int)
        Pixels a unit sees.
    stride : (int, int)
        Pixels between the fields of neighbouring units.
    start : (int, int)
        First row and column that unit (0, 0) sees; negative in the padding.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]

    def of(self, row: int, column: int) -> tuple[slice, slice]:
        """The rows and columns that one unit sees; they may lie outside the image, in the padding."""
        first = [s + at * j for s, at, j in zip(self.start, (row, column), self.stride, strict=True)]
        rows, columns = (slice(f, f + size) for f, size in zip(first, self.size, strict=True))
        return rows, columns


def receptive_field(net: Sequential, layer: int, input_shape: Sequence[int]) -> ReceptiveField:
    """The receptive field of the units of one layer.

    Every window of F taps, dilation d and stride s on fields of size r that lie j apart makes fields of size
    r + d (F - 1) j that lie s j apart, starting p j earlier for a padding of p.

    Parameters
    ----------
    net : Sequential
    layer : int
        Index of the layer; its output must be maps (N, C, H, W).
    input_shape : sequence of int
        Of one input, (C, H, W); only padding="same" needs its sizes.

    Returns
    -------
    ReceptiveField

    Raises
    ------
    ValueError
        Where the layer's output has no rows and columns.
    TypeError
        Where a layer below is of a kind whose window is not known.

    References
    ----------
    Araujo, Norris, Sim: Computing receptive fields of convolutional neural networks (2019).

    Examples
    --------
    >>> from fastconv.models import LeNet5
    >>> from fastconv.nn.receptive import receptive_field
    >>> receptive_field(LeNet5(), 5, (1, 28, 28))
    ReceptiveField(size=(16, 16), stride=(4, 4), start=(-2, -2))
    """
    op = "receptive_field"
    index = layer_index(op, net, layer)
    x = np.zeros((0, *input_shape), net.dtype)
    field = ReceptiveField((1, 1), (1, 1), (0, 0))
    with evaluating(net):
        for below in net.layers[: index + 1]:
            field, x = seen_through(below, field, x)
            if x.ndim != 4:
                kind = type(below).__name__
                bad_value(op, f"layer {index} is or follows a {kind}", "it must give maps, (N, C, H, W)")
    return field


def seen_through(layer: Layer, field: ReceptiveField, x: Array) -> tuple[ReceptiveField, Array]:
    """The field after one more layer, and that layer's output for the empty batch x."""
    if isinstance(layer, Sequential):
        for inner in layer.layers:
            field, x = seen_through(inner, field, x)
        return field, x
    if isinstance(layer, Residual):
        body, y = seen_through(layer.body, field, x)
        beside = field if layer.shortcut is None else seen_through(layer.shortcut, field, x)[0]
        return hull(body, beside), y
    y = layer.forward(x)
    if isinstance(layer, POINTWISE) or y.ndim != 4:
        return field, y
    spec: ConvSpec | PoolSpec
    if isinstance(layer, Conv2d):
        spec = conv_spec("receptive_field", x.shape, layer.params["w"].shape, x.dtype, **layer.options)
    elif isinstance(layer, (MaxPool2d, AvgPool2d)):
        spec = pool_spec("receptive_field", x.shape, layer.window, x.dtype, **layer.options)
    else:
        bad_type(
            "receptive_field",
            f"the window of {type(layer).__name__} is not known",
            "take a net of convolutions, poolings, activations, normalizations and blocks of these",
        )
    r, j, first = map(np.array, (field.size, field.stride, field.start))
    f, d, s, before = map(np.array, (spec.window, spec.dilation, spec.stride, [p for p, _ in spec.padding]))
    return ReceptiveField(*(tuple(a.tolist()) for a in (r + d * (f - 1) * j, s * j, first - before * j))), y


def hull(a: ReceptiveField, b: ReceptiveField) -> ReceptiveField:
    """The smallest field that holds both; they have the same stride."""
    start = [min(pair) for pair in zip(a.start, b.start, strict=True)]
    stop = [max(s + r, t + q) for s, r, t, q in zip(a.start, a.size, b.start, b.size, strict=True)]
    size = (stop[0] - start[0], stop[1] - start[1])
    return ReceptiveField(size, a.stride, (start[0], start[1]))

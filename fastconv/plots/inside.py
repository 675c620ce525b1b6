"""What a unit sees, and what it looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.nn.inside import (
    channels_last,
    checked_image,
    layer_index,
    maximize_activation,
    occlusion,
    unit_gradient,
)
from fastconv.nn.model import Sequential
from fastconv.nn.receptive import receptive_field as geometry
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import ORANGE, canvas, gallery, near_square, picture
from fastconv.tools.extras import require


def receptive_field(
    net: Sequential, image: Array, layer: int, unit: tuple[int, int, int] | None = None, *, figure: Any = None
) -> Any:
    """The part of an image that a unit can see, and how much each pixel moves it.

    On the left the image with the receptive field as a frame, which may reach into the padding; on the right
    the size of the gradient of the unit's output with respect to each pixel.

    Parameters
    ----------
    net : Sequential
    image : ndarray (C, H, W)
    layer : int
        Index of a layer whose outputs are maps.
    unit : (int, int, int), optional
        Channel, row and column; default: in the middle, the channel that answers most.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError, TypeError
        Where the layer has no maps, the unit is not in them, or a window below is not known.

    References
    ----------
    Luo et al.: Understanding the effective receptive field in deep convolutional neural networks (2016).
    """
    image, index = checked_image("receptive_field", net, image), layer_index("receptive_field", net, layer)
    field = geometry(net, index, image.shape)
    (channel, row, column), moved = unit_gradient(net, image, index, unit)
    rows, columns = field.of(row, column)
    figure = canvas(figure, (5, 2.8))
    rectangle = require("matplotlib.patches", "fastconv.plots").Rectangle
    height, width = moved.shape
    for axes in (panels := figure.subplots(1, 2)):
        corner = columns.start - 0.5, rows.start - 0.5
        axes.add_patch(rectangle(corner, *field.size[::-1], fill=False, ec=ORANGE, lw=2))
        axes.set(xticks=[], yticks=[])
    panels[0].imshow(picture(image, channels_last(net)), cmap="gray_r", interpolation="nearest")
    panels[1].imshow(np.abs(moved), cmap="magma", interpolation="nearest")
    for axes in panels:
        axes.set_xlim(min(columns.start, 0) - 1, max(columns.stop, width))
        axes.set_ylim(max(rows.stop, height), min(rows.start, 0) - 1)
    name = type(net[index]).__name__
    panels[0].set_title(f"layer {index}, {name}\nchannel {channel} at ({row}, {column})", size=9)
    panels[1].set_title(f"sees {field.size[0]}x{field.size[1]} pixels\n|gradient| of each", size=9)
    return figure


def occlusion_map(
    net: Sequential,
    image: Array,
    label: int | None = None,
    *,
    patch: int = 3,
    stride: int = 1,
    figure: Any = None,
) -> Any:
    """The probability of a class as a grey patch moves over the image: dark where the class needs the pixels.

    Parameters
    ----------
    net, image, label, patch, stride
        As in `fastconv.nn.inside.occlusion`.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.
    """
    image = checked_image("occlusion_map", net, image)
    whole = net.predict_proba(image[None])[0]
    label = int(whole.argmax()) if label is None else label
    table = occlusion(net, image, label, patch=patch, stride=stride)
    figure = canvas(figure, (5, 2.8))
    left, right = figure.subplots(1, 2)
    left.imshow(picture(image, channels_last(net)), cmap="gray_r", interpolation="nearest")
    left.set_title(f"class {label}: {whole[label]:.1%}", size=9)
    shown = right.imshow(table, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    right.set_title(f"with {patch}x{patch} hidden there", size=9)
    for axes in (left, right):
        axes.set(xticks=[], yticks=[])
    figure.colorbar(shown, ax=right, shrink=0.75).ax.tick_params(labelsize=7)
    return figure


def activation_maximization(
    net: Sequential,
    units: Sequence[int] | None = None,
    *,
    layer: int = -1,
    input_shape: Sequence[int],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    figure: Any = None,
    **options: Any,
) -> Any:
    """The images that excite units of a layer most, grown by gradient ascent.

    Parameters
    ----------
    net, units, layer, input_shape, **options
        As in `fastconv.nn.inside.maximize_activation`.
    titles : sequence of str, optional
        Default: the units' numbers.
    columns : int, optional
        Default: what makes the rows full and the whole nearly square.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.
    """
    images = maximize_activation(net, units, layer=layer, input_shape=input_shape, **options)
    names = [str(unit) for unit in (range(len(images)) if units is None else units)]
    low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    images = (images - low) / np.where(high > low, high - low, 1)
    shown = [picture(image, channels_last(net)) for image in images]
    return gallery(shown, titles or names, columns=columns or near_square(len(shown)), figure=figure)

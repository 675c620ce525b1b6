"""Filters, and what they make of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.nn.inside import channels_last, layer_outputs
from fastconv.nn.layer import Layer
from fastconv.nn.layers import Conv2d, Dropout
from fastconv.nn.model import Sequential
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.plots.canvas import canvas, mosaic, picture


def filters(source: Layer | Array, *, limit: int = 64, figure: Any = None) -> Any:
    """A convolution's filters as tiles: blue negative, red positive, in colour where they see three channels.

    Parameters
    ----------
    source : Conv2d, net or ndarray
        A net shows its first convolution; an array is (K, C, R, S).
    limit : int, default 64
        Most tiles; filters on other than 1 or 3 channels are shown channel by channel.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError
        Where there is no convolution.
    """
    w = filter_array(source)
    k, c, r, s = w.shape
    figure = canvas(figure, (5, 3))
    axes = figure.subplots()
    largest = float(np.abs(w).max(initial=0)) or 1.0
    if c == 3:
        tiles = 0.5 + w[:limit].transpose(0, 2, 3, 1) / (2 * largest)
    else:
        tiles = w.reshape(k * c, r, s)[:limit]
    axes.imshow(mosaic(tiles), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    axes.axis("off")
    axes.set_title(f"{k} filters of {r}x{s} on {c} channel{'s' * (c > 1)}", size=11)
    return figure


def feature_maps(
    net: Sequential,
    image: Array,
    layers: Sequence[int] | None = None,
    *,
    limit: int = 32,
    columns: int | None = None,
    figure: Any = None,
) -> Any:
    """What each layer makes of one image, a block of tiles a layer.

    Parameters
    ----------
    net : Sequential
    image : ndarray (C, H, W)
    layers : sequence of int, optional
        Indices of the layers to show; default: all whose output are maps (N, C, H, W), except those that only
        drop or reshape.
    limit : int, default 32
        Most maps a layer.
    columns : int, optional
        Blocks in a row; default: all in one row, the input narrower than the others.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure
    """
    last = channels_last(net)
    shown = [("input", np.asarray(image, net.dtype))]
    for i, (layer, y) in enumerate(zip(net.layers, layer_outputs(net, image), strict=True)):
        if y.ndim == 4 and (i in layers if layers is not None else not isinstance(layer, Dropout)):
            shown.append((type(layer).__name__, y[0]))
    widths = [2.5] * columns if columns else [1.0] + [2.5] * (len(shown) - 1)
    rows = math.ceil(len(shown) / len(widths))
    figure = canvas(figure, (1.2 * sum(widths), 3 * rows))
    grid = figure.subplots(rows, len(widths), squeeze=False, width_ratios=widths).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, (name, maps) in zip(grid, shown, strict=False):
        if name == "input":
            axes.imshow(picture(maps, last), cmap="gray_r", interpolation="nearest")
        else:
            tiles = np.moveaxis(maps, -1, 0) if last else maps
            axes.imshow(mosaic(tiles[:limit]), cmap="viridis", interpolation="nearest")
        axes.set_title(f"{name}\n{'x'.join(map(str, maps.shape))}", size=9)
    return figure


def filter_array(source: Layer | Array) -> Array:
    """Filters as (K, C, R, S), whatever the layout they are kept in."""
    if isinstance(source, Layer):
        convs = [layer for layer in source.walk() if isinstance(layer, Conv2d)]
        if not convs:
            bad_value(
                "filters",
                f"{type(source).__name__} has no convolution",
                "give a Conv2d or a net that has one",
            )
        w = convs[0].params["w"]
        return w.transpose(3, 2, 0, 1) if convs[0].channels_last else w
    w = np.asarray(source)
    if w.ndim != 4:
        bad_value("filters", f"the array has shape {w.shape}", "it must be (K, C, R, S)")
    return w

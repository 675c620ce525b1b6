"""Pictures of nets: each function draws on a matplotlib Figure and returns it.

Every function takes `figure`, a Figure or SubFigure to draw on; by default it makes a new one. Save one with
``figure.savefig("name.png")``. Needs matplotlib (``pip install 'fastconv[digits]'``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.nn.layer import Layer
from fastconv.nn.layers import Conv2d, Dropout
from fastconv.nn.model import Sequential
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.tools.extras import require

BLUE, ORANGE, GREY = "#1f6fb4", "#e8710a", "#6b7280"


def training_curves(history: Mapping[str, Sequence[float]], *, figure: Any = None) -> Any:
    """Loss and accuracy by epoch, of training and, where recorded, of validation.

    Parameters
    ----------
    history : dict
        What `Sequential.fit` returns.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure
    """
    figure = canvas(figure, (9, 3.4))
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, history[name], color=BLUE, label="training")
        if f"val_{name}" in history:
            axes.plot(epochs, history[f"val_{name}"], color=ORANGE, label="validation")
            axes.legend(frameon=False)
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if name == "loss":
            axes.set_yscale("log")
        else:
            axes.yaxis.set_major_formatter(require("matplotlib.ticker", "plots").PercentFormatter(1.0))
    return figure


def confusion_matrix(
    labels: Array, predictions: Array, classes: Sequence[str] | None = None, *, figure: Any = None
) -> Any:
    """How often each class (row) was taken for each class (column).

    Parameters
    ----------
    labels, predictions : integer ndarray (N,)
    classes : sequence of str, optional
        Names; default: the numbers.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError
        Where the two do not have the same length.
    """
    labels, predictions = same_length("confusion_matrix", labels, predictions)
    count = len(classes) if classes else int(max(labels.max(initial=0), predictions.max(initial=0))) + 1
    table = np.zeros((count, count), int)
    np.add.at(table, (labels, predictions), 1)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    figure = canvas(figure, (5, 4.6))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(count)
    axes.set(xticks=ticks, yticks=ticks, xlabel="predicted", ylabel="true", title="confusion matrix")
    if classes:
        axes.set_xticklabels(classes)
        axes.set_yticklabels(classes)
    for i, j in zip(*table.nonzero(), strict=True):
        axes.text(
            j,
            i,
            table[i, j],
            ha="center",
            va="center",
            color="white" if share[i, j] > 0.5 else "black",
            size=8,
        )
    return figure


def misclassified(
    x: Array,
    labels: Array,
    predictions: Array,
    classes: Sequence[str] | None = None,
    *,
    limit: int = 24,
    columns: int = 8,
    figure: Any = None,
) -> Any:
    """The images whose prediction is wrong, titled "true -> predicted".

    Parameters
    ----------
    x : ndarray (N, C, H, W)
    labels, predictions : integer ndarray (N,)
    classes : sequence of str, optional
    limit : int, default 24
        Most images to show.
    columns : int, default 8
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure
    """
    labels, predictions = same_length("misclassified", labels, predictions)
    wrong = np.flatnonzero(labels != predictions)
    shown = wrong[:limit]
    rows = max(1, math.ceil(len(shown) / columns))
    figure = canvas(figure, (columns, 1.2 * rows + 0.5))
    more = f" (first {limit})" if len(wrong) > limit else ""
    figure.suptitle(f"{len(wrong)} of {len(labels)} misclassified{more}", size=11)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, i in zip(grid, shown, strict=False):
        axes.imshow(picture(x[i]), cmap="gray_r", interpolation="nearest")
        true, predicted = (classes[k] if classes else k for k in (labels[i], predictions[i]))
        axes.set_title(f"{true} → {predicted}", size=9, color=ORANGE)
    return figure


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
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure
    """
    shown: list[tuple[str, Array]] = [("input", np.asarray(image, net.dtype))]
    for i, (layer, y) in enumerate(zip(net.layers, layer_outputs(net, image), strict=True)):
        if y.ndim == 4 and (i in layers if layers is not None else not isinstance(layer, Dropout)):
            shown.append((type(layer).__name__, y[0]))
    widths = [1.0] + [2.5] * (len(shown) - 1)
    figure = canvas(figure, (1.2 * sum(widths), 3))
    grid = figure.subplots(1, len(shown), squeeze=False, width_ratios=widths)[0]
    for axes, (name, maps) in zip(grid, shown, strict=True):
        if name == "input":
            axes.imshow(picture(maps), cmap="gray_r", interpolation="nearest")
        else:
            axes.imshow(mosaic(maps[:limit]), cmap="viridis", interpolation="nearest")
        axes.set_title(f"{name}\n{'x'.join(map(str, maps.shape))}", size=9)
        axes.axis("off")
    return figure


def layer_outputs(net: Sequential, image: Array) -> list[Array]:
    """Each layer's output for one image (C, H, W), in evaluation mode."""
    x = np.asarray(image, net.dtype)[None]
    training = net.training
    net.eval()
    found = []
    try:
        for layer in net.layers:
            x = layer.forward(x)
            layer.forget()
            found.append(x)
    finally:
        net.train(training)
    return found


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


def mosaic(tiles: Array, columns: int | None = None) -> Array:
    """Tiles (n, H, W[, 3]) side by side in one image, NaN between them."""
    n, height, width, *colours = tiles.shape
    columns = columns or near_square(n)
    rows = math.ceil(n / columns)
    gap = 1
    image = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *colours), np.nan)
    if colours:
        image[:] = 1.0
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        image[top : top + height, left : left + width] = tile
    return image


def near_square(n: int) -> int:
    """Columns that fill a grid of n tiles whole, where a shape up to 1:2 allows it."""
    root = math.ceil(math.sqrt(n))
    return next((c for c in range(root, 2 * root) if n % c == 0 and c <= 2 * (n // c)), root)


def picture(image: Array) -> Array:
    """(C, H, W) as matplotlib shows it: (H, W) of one channel or the channels' mean, (H, W, 3) of colours."""
    if len(image) == 3:
        return np.clip(image.transpose(1, 2, 0), 0, 1)
    return np.asarray(image.mean(0))


def same_length(op: str, labels: Array, predictions: Array) -> tuple[Array, Array]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        bad_value(
            op,
            f"labels have shape {labels.shape}, predictions {predictions.shape}",
            "both must be (N,) of the same length",
        )
    return labels, predictions


def canvas(figure: Any, size: tuple[float, float]) -> Any:
    """The given figure, or a new one that lays itself out."""
    if figure is not None:
        return figure
    return require("matplotlib.figure", "fastconv.plots").Figure(figsize=size, layout="constrained", dpi=120)

"""How well a net does: curves, confusions, mistakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.plots.canvas import BLUE, ORANGE, canvas, picture, plain
from fastconv.tools.extras import require


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
    ticker = require("matplotlib.ticker", "fastconv.plots")
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        plain(axes).plot(epochs, history[name], color=BLUE, label="training")
        if f"val_{name}" in history:
            axes.plot(epochs, history[f"val_{name}"], color=ORANGE, label="validation")
            axes.legend(frameon=False)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        if name == "loss":
            axes.set_yscale("log")
        else:
            axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
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


def same_length(op: str, labels: Array, predictions: Array) -> tuple[Array, Array]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        bad_value(
            op,
            f"labels have shape {labels.shape}, predictions {predictions.shape}",
            "both must be (N,) of the same length",
        )
    return labels, predictions

"""What the pictures share: a figure to draw on, colours, images side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.tools.extras import require

BLUE, ORANGE, GREY = "#1f6fb4", "#e8710a", "#6b7280"


def canvas(figure: Any, size: tuple[float, float]) -> Any:
    """The given figure, or a new one that lays itself out."""
    if figure is not None:
        return figure
    return require("matplotlib.figure", "fastconv.plots").Figure(figsize=size, layout="constrained", dpi=120)


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


def picture(image: Array, channels_last: bool = False) -> Array:
    """An image as matplotlib shows it: (H, W) of one channel or the channels' mean, (H, W, 3) of colours."""
    image = image if channels_last else np.moveaxis(image, 0, -1)
    return np.clip(image, 0, 1) if image.shape[-1] == 3 else np.asarray(image.mean(-1))


def plain(axes: Any) -> Any:
    """Axes without the frame's upper and right side, on a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return axes


def gallery(
    images: Sequence[Array],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    signed: bool = False,
    figure: Any = None,
) -> Any:
    """Images side by side: grey from the smallest value to the largest, colours as they are.

    Parameters
    ----------
    images : sequence of ndarray (H, W) or (H, W, 3)
        Colours are in [0, 1].
    titles : sequence of str, optional
    columns : int, optional
        Default: all in one row.
    signed : bool, default False
        Blue negative, white zero, red positive, on one scale for all images.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError
        Where there are no images, or other than one title for each.
    """
    if not len(images) or (titles is not None and len(titles) != len(images)):
        came = f"{len(images)} images" + ("" if titles is None else f" with {len(titles)} titles")
        bad_value("gallery", came, "there must be at least one image, and a title for each")
    columns = columns or len(images)
    rows = math.ceil(len(images) / columns)
    height, width = images[0].shape[:2]
    figure = canvas(figure, (2.2 * columns, (2.2 * height / width + 0.3 * (titles is not None)) * rows))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    largest = max(float(np.abs(image).max(initial=0)) for image in images) or 1.0
    scale = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest} if signed else {"cmap": "gray"}
    for axes in grid:
        axes.axis("off")
    for i, image in enumerate(images):
        grid[i].imshow(image, interpolation="nearest", **scale)
        if titles is not None:
            grid[i].set_title(titles[i], size=9)
    return figure

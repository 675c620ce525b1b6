"""Small arrays drawn as squares with numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastconv.ops.arrays import Array
from fastconv.plots.canvas import ORANGE, canvas
from fastconv.tools.extras import require


def grid(axes: Any, values: Array, title: str = "", *, window: tuple[slice, slice] | None = None) -> None:
    """Draw an (H, W) array; frame the elements of `window`."""
    height, width = values.shape
    largest = float(abs(values).max()) or 1.0
    axes.imshow(values, cmap="RdBu_r", vmin=-2.2 * largest, vmax=2.2 * largest)
    for i in range(height):
        for j in range(width):
            axes.text(j, i, f"{values[i, j]:g}", ha="center", va="center", size=9)
    axes.set_xticks([j - 0.5 for j in range(1, width)], labels=[])
    axes.set_yticks([i - 0.5 for i in range(1, height)], labels=[])
    axes.grid(color="white", lw=1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, size=9)
    if window is not None:
        rows, columns = window
        patch = require("matplotlib.patches", "the lecture").Rectangle(
            (columns.start - 0.5, rows.start - 0.5),
            columns.stop - columns.start,
            rows.stop - rows.start,
            fill=False,
            ec=ORANGE,
            lw=2.5,
            clip_on=False,
            zorder=5,
        )
        axes.add_patch(patch)


def grids(
    arrays: Sequence[tuple[str, Array, tuple[slice, slice] | None]], *, signs: str = "", cell: float = 0.3
) -> Any:
    """Arrays side by side, with a sign such as * or = between each two.

    The squares of all arrays are of one size, `cell` inches.
    """
    gap = 0.32 if signs else 0.2
    widths = [values.shape[1] * cell for _, values, _ in arrays]
    height = max(values.shape[0] for _, values, _ in arrays) * cell
    total = sum(widths) + gap * (len(arrays) + 1), height + 0.45
    require("matplotlib.figure", "the lecture")
    figure = canvas(None, total)
    figure.set_layout_engine("none")
    left = gap
    for i, ((title, values, window), width) in enumerate(zip(arrays, widths, strict=True)):
        tall = values.shape[0] * cell
        bottom = 0.08 + (height - tall) / 2
        place = (left / total[0], bottom / total[1], width / total[0], tall / total[1])
        grid(figure.add_axes(place), values, title, window=window)
        left += width + gap
        if i < len(signs):
            at = ((left - gap / 2) / total[0], (0.08 + height / 2) / total[1])
            figure.text(*at, signs[i], ha="center", va="center", size=13)
    return figure

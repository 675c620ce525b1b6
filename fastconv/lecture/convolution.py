"""What a convolution is: a window that slides, its stride, its padding, and how large the output gets."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.lecture.grids import grids
from fastconv.lecture.material import Material
from fastconv.lecture.page import Chapter, formula, heading, picture, row, source, table, text
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import ORANGE, canvas
from fastconv.tools.extras import require

IMAGE = np.array(
    [[0, 1, 2, 1, 0], [1, 2, 3, 2, 0], [0, 2, 3, 3, 1], [0, 1, 2, 1, 0], [1, 0, 1, 0, 2]], np.float32
)
FILTER = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)
# name, I, F, options
SIZES: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
    ("valid: no padding", 28, 5, {"padding": "valid"}),
    ("same: as large as the input", 28, 5, {"padding": "same"}),
    ("zeros, one on each side", 28, 5, {"padding": 1}),
    ("stride 2", 28, 5, {"padding": 2, "stride": 2}),
    ("dilation 2", 28, 3, {"dilation": 2}),
    ("LeNet-5, first layer", 32, 5, {}),
    ("AlexNet, first layer", 224, 11, {"padding": 2, "stride": 4}),
    ("ResNet, first layer", 224, 7, {"padding": 3, "stride": 2}),
)


def slide(x: Array, w: Array, stride: int = 1) -> Array:
    """The definition: at each place, the sum of the products of window and filter."""
    size = (len(x) - len(w)) // stride + 1
    y = np.zeros((size, size), x.dtype)
    for i in range(size):
        for j in range(size):
            window = x[i * stride : i * stride + len(w), j * stride : j * stride + len(w)]
            y[i, j] = (window * w).sum()
    return y


def output_size(i: int, f: int, s: int, before: int, after: int, d: int) -> int:
    return (i + before + after - d * (f - 1) - 1) // s + 1


def chapter(material: Material) -> Chapter:
    """The sliding window, the formula with numbers, and what padding adds to a digit."""
    return Chapter(
        "What a convolution is",
        text(
            "A filter slides over the image. At each place, its weights are multiplied by the pixels under "
            "them and summed: one output. (Strictly this is a correlation; a convolution turns the filter by "
            "180°. Every deep learning library computes this and calls it convolution.)"
        )
        + row(*frames(1, ((0, 0), (0, 1), (2, 2))), *frames(2, ((0, 1), (1, 0))))
        + text(f"The loops of <code>slide</code> below and <code>fc.conv2d</code> agree: {agreement()}.")
        + source(slide)
        + heading("How large the output is")
        + text(
            "An input of I pixels, padded by p<sub>1</sub> before and p<sub>2</sub> after, a filter of F "
            "pixels that lie d apart, and a stride of s give"
        )
        + formula(
            "O = <span>⌊</span> (I + p<sub>1</sub> + p<sub>2</sub> − d (F − 1) − 1) / s <span>⌋</span> + 1"
        )
        + table(("", "with numbers", "O", "fc.conv2d"), sizes())
        + heading("What lies beyond the border")
        + text(
            "Padding has to be filled with something. Zeros are usual; the other values of "
            "<code>padding_mode</code> continue the image. Each picture is a filter of one weight, 1, with "
            "ten pixels of padding."
        )
        + row(*paddings(material)),
    )


def frames(stride: int, places: tuple[tuple[int, int], ...]) -> list[str]:
    """Pictures of the window at some places, with the output that it gives."""
    y = fc.conv2d(IMAGE[None, None], FILTER[None, None], stride=stride)[0, 0]
    pictures = []
    for i, j in places:
        rows, columns = (slice(at * stride, at * stride + len(FILTER)) for at in (i, j))
        one = (slice(i, i + 1), slice(j, j + 1))
        figure = grids(
            (("input", IMAGE, (rows, columns)), ("filter", FILTER, None), ("output", y, one)),
            signs="∗=",
            cell=0.27,
        )
        pairs = zip(IMAGE[rows, columns].flat, FILTER.flat, strict=True)
        terms = [f"{x:g}·{w:g}" if w > 0 else f"{x:g}·(−{-w:g})" for x, w in pairs if w]
        total = f"{y[i, j]:g}".replace("-", "−")
        pictures.append(picture(figure, f"Stride {stride}: {' + '.join(terms)} = {total}"))
    return pictures


def agreement() -> str:
    same = [
        np.array_equal(
            slide(IMAGE, FILTER, s), fc.conv2d(IMAGE[None, None], FILTER[None, None], stride=s)[0, 0]
        )
        for s in (1, 2)
    ]
    return "every output is equal" if all(same) else "they differ!"


def sizes() -> list[tuple[object, ...]]:
    """A row per case: the formula with its numbers, and the shape that conv2d returns."""
    rows: list[tuple[object, ...]] = []
    for name, i, f, options in SIZES:
        plan = fc.plan_conv2d((1, 1, i, i), (1, 1, f, f), **options)
        s, d = options.get("stride", 1), options.get("dilation", 1)
        before, after = plan.spec.padding[0]
        y = fc.conv2d(np.zeros((1, 1, i, i), np.float32), np.zeros((1, 1, f, f), np.float32), **options)
        numbers = f"⌊({i} + {before} + {after} − {d}·({f} − 1) − 1) / {s}⌋ + 1"
        size = output_size(i, f, s, before, after, d)
        rows.append((name, numbers, size, "×".join(map(str, y.shape[2:]))))
    return rows


def paddings(material: Material) -> list[str]:
    digit = material.digit()[None, None]
    one = np.ones((1, 1, 1, 1), np.float32)
    rectangle = require("matplotlib.patches", "the lecture").Rectangle
    pictures = []
    for mode in ("zeros", "reflect", "replicate", "circular"):
        padded = fc.conv2d(digit, one, padding=10, padding_mode=mode)[0, 0]
        figure = plots.gallery([padded], figure=canvas(None, (2.05, 2.05)))
        figure.axes[0].add_patch(rectangle((9.5, 9.5), 28, 28, fill=False, ec=ORANGE, lw=1.5))
        pictures.append(picture(figure, f"<code>{mode!r}</code>"))
    return pictures

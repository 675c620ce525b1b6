"""Pooling: maximum, mean, global; what gradients do there, and what is gained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.lecture.grids import grids
from fastconv.lecture.material import Material, photographs, shifted
from fastconv.lecture.page import Chapter, heading, picture, row, source, table, text
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import canvas

X = np.array([[1, 3, 2, 0], [4, 2, 1, 1], [0, 1, 5, 6], [2, 1, 7, 2]], np.float32)


def chapter(material: Material) -> Chapter:
    """The numbers, the photograph, and how much less a moved digit moves."""
    x = X[None, None]
    largest, argmax = fc.max_pool2d(x, 2, return_argmax=True)
    mean = fc.avg_pool2d(x, 2)
    corner = (slice(0, 2), slice(0, 2))
    one = (slice(0, 1), slice(0, 1))
    dy = np.array([[1, 2], [3, 4]], np.float32)
    spread = fc.max_pool2d_grad(dy[None, None], argmax, x.shape)[0, 0]
    shared = fc.avg_pool2d_grad(dy[None, None], x.shape, 2)[0, 0]
    return Chapter(
        "Pooling",
        text(
            "Pooling shrinks an image: each window becomes one number. Nothing is learned here. The window "
            "of a global pooling is the whole image; it turns a map of any size into one number, which is "
            "how the residual nets end."
        )
        + row(
            picture(
                grids((("input", X, corner), ("maximum", largest[0, 0], one)), signs="→", cell=0.36),
                "<code>fc.max_pool2d(x, 2)</code>",
            ),
            picture(
                grids((("input", X, corner), ("mean", mean[0, 0], one)), signs="→", cell=0.36),
                "<code>fc.avg_pool2d(x, 2)</code>",
            ),
            picture(
                grids(
                    (
                        ("maximum", fc.global_max_pool(x).reshape(1, 1), None),
                        ("mean", fc.global_avg_pool(x).reshape(1, 1), None),
                    ),
                    cell=0.6,
                ),
                "<code>fc.global_max_pool(x)</code>, <code>fc.global_avg_pool(x)</code>",
            ),
        )
        + heading("Backward")
        + text(
            "The maximum sends the gradient to the one element that won (<code>argmax</code> remembers it); "
            "the mean shares it out equally."
        )
        + row(
            picture(
                grids((("dy", dy, None), ("dx, maximum", spread, None)), signs="→", cell=0.36),
                "To the winner.",
            ),
            picture(
                grids((("dy", dy, None), ("dx, mean", shared, None)), signs="→", cell=0.36), "A quarter each."
            ),
        )
        + heading("On a photograph")
        + text(
            "Windows of 4 to 32 pixels, the maximum first. The mean blurs, the maximum keeps what stands out."
        )
        + row(*pooled_photographs())
        + heading("What is gained")
        + text(
            "A digit that moves by one pixel is another array of numbers. After pooling it has changed less. "
            "The change is |moved − digit| / |digit|, in Euclidean length, the mean of "
            f"{len(material.data.x_test)} test digits at 28×28 pixels."
        )
        + table(("window", "maximum", "mean"), moved(material))
        + source(change),
    )


def pooled_photographs() -> list[str]:
    flower = photographs()[1][:416, :640].transpose(2, 0, 1)[None].copy()
    pictures = []
    for name, pool in (("maximum", fc.max_pool2d), ("mean", fc.avg_pool2d)):
        for window in (4, 8, 16, 32):
            y = pool(flower, window)[0].transpose(1, 2, 0)
            figure = plots.gallery([y], figure=canvas(None, (2.2, 2.2 * 416 / 640)))
            pictures.append(picture(figure, f"{name}, {window}×{window}: {y.shape[0]}×{y.shape[1]}"))
    return pictures


def moved(material: Material) -> list[tuple[object, ...]]:
    """A row per window: the change without pooling, after the maximum, after the mean."""
    digits = material.enlarged().x_test
    rows: list[tuple[object, ...]] = [("none", *[f"{change(digits):.0%}"] * 2)]
    for window in (2, 4, 7):
        changes = [change(digits, fc.MaxPool2d(window)), change(digits, fc.AvgPool2d(window))]
        rows.append((f"{window}×{window}", *(f"{share:.0%}" for share in changes)))
    return rows


def change(digits: Array, pool: Callable[[Array], Array] = np.asarray) -> float:
    """How much a digit (N, 1, H, W) that moves one pixel to the right changes after pooling."""
    before, after = (pool(x).reshape(len(x), -1) for x in (digits, shifted(digits, 1)))
    changes = np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)
    return float(changes.mean())

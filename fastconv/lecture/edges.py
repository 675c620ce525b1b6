"""Filters made by hand: edges, blurs and sharpening, on a digit and on a photograph."""

from __future__ import annotations

import time

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.lecture.grids import grids
from fastconv.lecture.material import Material, photographs
from fastconv.lecture.page import Chapter, picture, row, source, text
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import canvas

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).astype(np.float32)
# name -> (filter, what it does)
FILTERS = {
    "Sobel x": (SOBEL, "vertical edges"),
    "Sobel y": (SOBEL.T.copy(), "horizontal edges"),
    "Prewitt x": (np.array([[-1, 0, 1]] * 3, np.float32), "vertical edges, without weighting"),
    "Laplace": (np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float32), "edges of every direction"),
    "Sharpen": (np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32), "image minus Laplace"),
    "Blur": (BINOMIAL / BINOMIAL.sum(), "weighted mean of 5×5"),
}
SIGNED = ("Sobel x", "Sobel y", "Prewitt x", "Laplace")
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601: how bright red, green and blue look


def respond(image: Array, w: Array) -> Array:
    """A grey image (H, W) filtered to the same size; its border is continued, so that it makes no edge."""
    y: Array = fc.conv2d(image[None, None], w[None, None], padding="same", padding_mode="replicate")[0, 0]
    return y


def edge_strength(image: Array) -> Array:
    """Length of the gradient that the two Sobel filters estimate."""
    strength: Array = np.hypot(respond(image, SOBEL), respond(image, SOBEL.T.copy()))
    return strength


def chapter(material: Material) -> Chapter:
    """The filters as numbers, then their answers on the digit and on the photograph."""
    temple = photographs()[0]
    grey = temple @ GREY
    started = time.perf_counter()
    for w, _ in FILTERS.values():
        respond(grey, w)
    milliseconds = 1e3 * (time.perf_counter() - started)
    height, width = grey.shape
    return Chapter(
        "Edges by hand",
        text(
            "Before filters were learned, they were thought out. A filter whose weights sum to zero is "
            "silent where the image is flat and answers at edges. Sobel's takes the difference of the pixels "
            "to the right and to the left, and weighs the middle row double."
        )
        + row(*(numbers(name) for name in ("Sobel x", "Sobel y", "Laplace", "Sharpen")))
        + text(
            "On a digit of 28×28 pixels. Red is positive, blue negative: Sobel x is red where the image gets "
            "brighter to the right."
        )
        + row(*answers(material.digit(), 1.7))
        + text(
            f"On a photograph ({height}×{width}; scikit-learn's <i>china.jpg</i>), made grey first. fastconv "
            f"computes all six in {milliseconds:.0f} ms here."
        )
        + row(*answers(grey, 2.9, original=temple))
        + text("Nobody has to think out filters any more: this is what a convolutional net learns.")
        + source(respond, edge_strength),
    )


def numbers(name: str) -> str:
    w, does = FILTERS[name]
    return picture(grids((("", w, None),), cell=0.42), f"<b>{name}</b>: {does}")


def answers(image: Array, inches: float, original: Array | None = None) -> list[str]:
    """The image, the answers of the filters, and the edge strength, a picture each."""
    shown = [("image", image if original is None else original, False)]
    shown += [(name, respond(image, w), name in SIGNED) for name, (w, _) in FILTERS.items()]
    shown.append(("edge strength", edge_strength(image), False))
    pictures = []
    for name, y, signed in shown:
        if name in SIGNED or name == "edge strength":  # let the strongest hundredth not hide the rest
            limit = np.quantile(np.abs(y), 0.99)
            y = np.clip(y, -limit, limit)
        else:
            y = np.clip(y, 0, 1)
        size = (inches, inches * y.shape[0] / y.shape[1])
        figure = plots.gallery([y], signed=signed, figure=canvas(None, size))
        pictures.append(picture(figure, name))
    return pictures

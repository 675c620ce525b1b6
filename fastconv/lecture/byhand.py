"""The 3x3 image and the 2x2 filter of every lecture: each sum written out, checked against fastconv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import fastconv as fc
from fastconv.lecture.grids import grids
from fastconv.lecture.material import Material
from fastconv.lecture.page import Chapter, formula, heading, listing, picture, row, source, table, text
from fastconv.ops.arrays import Array

X = np.array([[1.0, 2, 0], [3, 1, 4], [2, 5, 1]])
F = np.array([[2.0, -1], [1, 3]])
G = np.array([[1.0, -2], [3, 1]])  # the gradient that arrives from above: dL/dO
TWO, THREE = range(2), range(3)


class Term(NamedTuple):
    """One product of a sum: an element of one array times an element of another."""

    left: str
    i: int
    j: int
    right: str
    k: int
    l: int


def forward_terms(i: int, j: int) -> list[Term]:
    """O[i, j] = sum over k, l of X[i + k, j + l] F[k, l]"""
    return [Term("X", i + k, j + l, "F", k, l) for k in TWO for l in TWO]


def filter_terms(k: int, l: int) -> list[Term]:
    """dL/dF[k, l] = sum over i, j of X[i + k, j + l] G[i, j]: a convolution of X with G"""
    return [Term("X", i + k, j + l, "G", i, j) for i in TWO for j in TWO]


def input_terms(m: int, n: int) -> list[Term]:
    """dL/dX[m, n] = sum over k, l of F[k, l] G[m - k, n - l]: where G has such an element"""
    return [Term("F", k, l, "G", m - k, n - l) for k in TWO for l in TWO if m - k in TWO and n - l in TWO]


def chapter(material: Material) -> Chapter:
    """Forward and both gradients: the formula, the numbers, fastconv's numbers."""
    x, w, g = X[None, None], F[None, None], G[None, None]
    o = fc.conv2d(x, w)
    df, db = fc.conv2d_filter_grad(x, g, w.shape, bias_grad=True)
    dx = fc.conv2d_input_grad(g, w, x.shape)
    turned = fc.conv2d(g, w[:, :, ::-1, ::-1].copy(), padding=1)
    return Chapter(
        "Forward and backward, by hand",
        text(
            "The smallest convolution with something to see: 3×3 pixels, a filter of 2×2, hence an output of "
            "2×2. Below, every sum is written out, computed from its own terms, and compared with fastconv."
        )
        + heading("Forward")
        + product(("X", X), ("F", F), ("O", o[0, 0]))
        + formula("O<sub>ij</sub> = ∑<sub>kl</sub> X<sub>i+k, j+l</sub> F<sub>kl</sub>")
        + comparison("O", forward_terms, (2, 2), o[0, 0])
        + heading("Gradient of the filter")
        + text(
            "Let G = ∂L/∂O arrive from the layers above. F<sub>kl</sub> has touched every output once, each "
            "time with another pixel; by the chain rule the gradient is X convolved with G."
        )
        + product(("X", X), ("G", G), ("∂L/∂F", df[0, 0]))
        + formula("∂L/∂F<sub>kl</sub> = ∑<sub>ij</sub> X<sub>i+k, j+l</sub> G<sub>ij</sub>")
        + comparison("∂L/∂F", filter_terms, (2, 2), df[0, 0])
        + text(
            "The bias is added to every output, so its gradient is the sum of G: "
            f"{G.sum():g}; fastconv: {db[0]:g}."
        )
        + heading("Gradient of the input")
        + text(
            "A pixel has touched the outputs of all windows that hold it: one at a corner, four in the "
            "middle. That is G, with a border of zeros, convolved with F turned by 180°; "
            f"<code>conv2d</code> on these gives the same, largest difference {np.abs(turned - dx).max():g}."
        )
        + product(("G, padded", np.pad(G, 1)), ("F, turned", F[::-1, ::-1]), ("∂L/∂X", dx[0, 0]))
        + formula("∂L/∂X<sub>mn</sub> = ∑<sub>kl</sub> F<sub>kl</sub> G<sub>m−k, n−l</sub>")
        + comparison("∂L/∂X", input_terms, (3, 3), dx[0, 0])
        + heading("And by trying it out")
        + text("L = ∑ G·O is a loss with just this G. Move each weight and pixel by a little, and look at L:")
        + listing(quotients(df[0, 0], dx[0, 0]), wrap=True)
        + source(forward_terms, filter_terms, input_terms, evaluate),
    )


def product(*arrays: tuple[str, Array]) -> str:
    """left * right = result, as a picture."""
    words = " ∗ ".join(name for name, _ in arrays[:2]) + " = " + arrays[2][0]
    return row(picture(grids([(name, a, None) for name, a in arrays], signs="∗=", cell=0.36), words))


def evaluate(terms: Sequence[Term]) -> float:
    """The sum of the products."""
    arrays = {"X": X, "F": F, "G": G}
    return float(sum(arrays[t.left][t.i, t.j] * arrays[t.right][t.k, t.l] for t in terms))


def comparison(
    name: str, terms_of: Callable[[int, int], list[Term]], shape: tuple[int, int], found: Array
) -> str:
    """A row an element: symbols, numbers, the sum, fastconv's value."""
    arrays = {"X": X, "F": F, "G": G}
    rows = []
    for i, j in np.ndindex(shape):
        terms = terms_of(i, j)
        symbols = " + ".join(
            f"{t.left}<sub>{t.i + 1}{t.j + 1}</sub>{t.right}<sub>{t.k + 1}{t.l + 1}</sub>" for t in terms
        )
        numbers = " + ".join(
            f"{signed(arrays[t.left][t.i, t.j])}·{signed(arrays[t.right][t.k, t.l])}" for t in terms
        )
        value = evaluate(terms)
        given = f"{found[i, j]:g} {'✓' if value == found[i, j] else '✗'}"
        rows.append((f"{name}<sub>{i + 1}{j + 1}</sub>", symbols, numbers, f"{value:g}", given))
    return table(("", "sum", "with numbers", "by hand", "fastconv"), rows)


def signed(value: float) -> str:
    return f"{value:g}" if value >= 0 else f"(−{-value:g})"


def quotients(df: Array, dx: Array, h: float = 1e-5) -> str:
    """Central differences of L beside the gradients."""

    def loss() -> float:
        return float((G * fc.conv2d(X[None, None], F[None, None])[0, 0]).sum())

    lines = []
    for name, array, gradient in (("F", F, df), ("X", X, dx)):
        worst = 0.0
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + h
            above = loss()
            array[at] = kept - h
            below = loss()
            array[at] = kept
            worst = max(worst, float(abs((above - below) / (2 * h) - gradient[at])))
        lines.append(f"dL/d{name}: {array.size} quotients, largest difference {worst:.1e}")
    return "\n".join(lines)

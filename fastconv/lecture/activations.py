"""Activations: each with its derivative, and the step that has none."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.lecture.material import Material
from fastconv.lecture.page import Chapter, listing, picture, row, source, table, text
from fastconv.nn.activations import Activation, softmax
from fastconv.plots.canvas import BLUE, GREY, ORANGE, canvas, plain

# layer, formula, derivative
ACTIVATIONS: tuple[tuple[Activation, str, str], ...] = (
    (fc.Step(), "1 where x ≥ 0, else 0", "none at 0, elsewhere 0"),
    (fc.Sigmoid(), "1 / (1 + e<sup>−x</sup>)", "y (1 − y)"),
    (fc.Tanh(), "tanh x", "1 − y²"),
    (fc.ReLU(), "max(x, 0)", "1 where x > 0, else 0"),
    (fc.LeakyReLU(0.01), "x where x > 0, else 0.01 x", "1 where x > 0, else 0.01"),
)
SIZE = (2.85, 2.4)


def chapter(material: Material) -> Chapter:
    """The pictures, the table of slopes, and what Step says to whoever wants to learn through it."""
    names = [type(layer).__name__ for layer, _, _ in ACTIVATIONS]
    pictures = [
        picture(plots.activation(layer, figure=canvas(None, SIZE)), f"<b>{name}</b>: {form}")
        for name, (layer, form, _) in zip(names, ACTIVATIONS, strict=True)
    ]
    pictures.append(picture(softmax_picture(), "<b>Softmax</b> of three logits, two of them fixed"))
    rows = []
    for name, (layer, _, slope) in zip(names[1:], ACTIVATIONS[1:], strict=True):
        largest, error = slopes(layer)
        rows.append((name, slope, f"{largest:.3g}", f"{error:.0e}"))
    return Chapter(
        "Neurons and their activations",
        text(
            "A neuron sums its inputs, each times a weight, and passes the sum x through an activation. "
            "Rosenblatt's perceptron (1958) took a step: on or off. To learn by gradients, an activation "
            "needs a slope; how steep it is decides whether deep nets learn.",
        )
        + row(*pictures)
        + text(
            "Every derivative follows from the output y alone, so a layer keeps nothing else. The last "
            "column is the largest difference between the layer's <code>backward</code> and the quotient "
            "(f(x + h) − f(x − h)) / 2h in double precision."
        )
        + table(("layer", "derivative", "largest slope", "backward against the quotient"), rows)
        + text("The step has no derivative to learn through, and says so:")
        + listing(step_error(), wrap=True)
        + source(slopes, step_error),
    )


def slopes(layer: Activation, h: float = 1e-6) -> tuple[float, float]:
    """The largest slope, and how far `backward` is from the difference quotient."""
    x = np.linspace(-5, 5, 1000)  # an even number of points: none at 0, where ReLU has a kink
    quotient = (layer(x + h) - layer(x - h)) / (2 * h)
    layer.forward(x)
    slope = layer.backward(np.ones_like(x))
    assert slope is not None
    return float(slope.max()), float(np.abs(slope - quotient).max())


def step_error() -> str:
    step = fc.Step()
    step(np.zeros(1))
    try:
        step.backward(np.ones(1))
    except ValueError as error:
        return f"ValueError: {error}"
    raise AssertionError("Step.backward must refuse")


def softmax_picture() -> Any:
    """Probabilities as the first of three logits grows, and the slope of the first."""
    x = np.linspace(-5, 5, 401)
    layer = fc.Softmax()
    p = layer(np.stack([x, np.zeros_like(x), np.ones_like(x)], 1))
    slope = layer.backward(np.tile([1.0, 0.0, 0.0], (len(x), 1)))
    assert slope is not None
    assert np.allclose(p, softmax(np.stack([x, 0 * x, 0 * x + 1], 1)))
    figure = canvas(None, SIZE)
    axes = plain(figure.subplots())
    axes.plot(x, p[:, 0], color=BLUE, lw=2, label="p₁ (logit x)")
    axes.plot(x, p[:, 1], color=GREY, lw=1, label="p₂ (logit 0)")
    axes.plot(x, p[:, 2], color=GREY, lw=1, ls=":", label="p₃ (logit 1)")
    axes.plot(x, slope[:, 0], color=ORANGE, lw=2, ls="--", label="∂p₁/∂x")
    axes.set(xlabel="x", ylim=(-0.05, 1.6), yticks=(0, 0.5, 1))
    axes.legend(frameon=False, loc="upper left", fontsize=8, ncols=2)
    return figure

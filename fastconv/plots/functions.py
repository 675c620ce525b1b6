"""Activations with their derivatives, and what they do to gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.nn.activations import Activation, Step
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.plots.canvas import BLUE, ORANGE, canvas, plain
from fastconv.tools.extras import require


def activation(layer: Activation, *, span: float = 5.0, figure: Any = None) -> Any:
    """An elementwise activation and its derivative, both as the layer computes them.

    Parameters
    ----------
    layer : Activation
        ReLU(), Sigmoid(), ...; Step() has no derivative and is drawn alone.
    span : float, default 5
        Draw from -span to span.
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    TypeError
        Where the layer is not an elementwise activation.
    """
    if not isinstance(layer, Activation):
        bad_type("activation", f"layer is {shown(layer)}", "it must be an activation such as fastconv.ReLU()")
    x = np.linspace(-span, span, 801)
    y = layer.forward(x)
    figure = canvas(figure, (3.4, 2.6))
    axes = plain(figure.subplots())
    axes.axhline(0, color="black", lw=0.6)
    axes.axvline(0, color="black", lw=0.6)
    axes.plot(x, y, color=BLUE, lw=2, label=type(layer).__name__)
    if not isinstance(layer, Step):
        slope = layer.backward(np.ones_like(x))
        axes.plot(x, slope, color=ORANGE, lw=2, ls="--", label="derivative")
    layer.forget()
    axes.set(xlabel="x")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend
    axes.legend(frameon=False, loc="upper left", ncols=2, columnspacing=1.2)
    return figure


def gradient_norms(
    norms: Array, names: Sequence[str] | None = None, *, title: str = "", figure: Any = None
) -> Any:
    """The size of each layer's gradient over the steps of a training, on a logarithmic axis.

    Parameters
    ----------
    norms : ndarray (steps, layers)
        Norms of the layers' gradients, the first layer's first.
    names : sequence of str, optional
        Of the layers.
    title : str, optional
    figure : matplotlib Figure or SubFigure, optional

    Returns
    -------
    matplotlib Figure or SubFigure

    Raises
    ------
    ValueError
        Where norms are not a table, or the names not as many as its columns.
    """
    norms = np.asarray(norms)
    if norms.ndim != 2 or (names is not None and len(names) != norms.shape[1]):
        came = f"norms have shape {norms.shape}" + ("" if names is None else f" with {len(names)} names")
        bad_value("gradient_norms", came, "they must be (steps, layers), with a name for each layer")
    figure = canvas(figure, (4.2, 3))
    axes = plain(figure.subplots())
    viridis = require("matplotlib", "fastconv.plots").colormaps["viridis"]
    colours = viridis(np.linspace(0, 0.92, norms.shape[1]))
    for layer in range(norms.shape[1]):
        name = str(layer + 1) if names is None else names[layer]
        # A dead layer's gradient is 0, which a logarithm does not show: the line ends there.
        line = np.where(norms[:, layer] > 0, norms[:, layer], np.nan)
        axes.plot(np.arange(1, len(norms) + 1), line, color=colours[layer], lw=1.2, label=name)
    axes.set(yscale="log", xlabel="step", ylabel="gradient norm", title=title)
    figure.legend(frameon=False, title="layer", fontsize=8, title_fontsize=8, loc="outside right upper")
    return figure

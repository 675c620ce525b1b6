"""Vanishing gradients: one deep net, four activations; and ReLUs that die."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.lecture.material import Material
from fastconv.lecture.page import Chapter, heading, picture, row, source, table, text
from fastconv.models import MLP
from fastconv.nn.activations import Activation
from fastconv.nn.optim import Optimizer
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import BLUE, GREY, ORANGE, canvas, plain
from fastconv.tools.datasets import Dataset

FOUR: tuple[type[Activation], ...] = (fc.Sigmoid, fc.Tanh, fc.ReLU, fc.LeakyReLU)
HIDDEN, WIDTH = 8, 64


class Run(NamedTuple):
    """What one training recorded.

    norms : (steps, layers), of the weights' gradients
    losses : (steps,)
    dead : (epochs + 1,), share of hidden units that answer to no training image, from before the first
    accuracy : of the test images, at the end
    """

    norms: Array
    losses: Array
    dead: Array
    accuracy: float


def train(net: MLP, data: Dataset, optimizer: Optimizer, epochs: int) -> Run:
    """Plain training by batches of 64 that writes down every layer's gradient norm."""
    rng = np.random.default_rng(0)
    weights = [name for name in net.params if name.endswith(".w")]
    norms, losses, dead = [], [], [dead_share(net, data.x_train)]
    for _ in range(epochs):
        order = rng.permutation(len(data.x_train))
        for rows in np.split(order, range(64, len(order), 64)):
            loss, dlogits = fc.softmax_cross_entropy(net(data.x_train[rows]), data.y_train[rows])
            net.backward(dlogits)
            optimizer.step(net.params, net.grads)
            norms.append([np.linalg.norm(net.grads[name]) for name in weights])
            losses.append(loss)
        dead.append(dead_share(net, data.x_train))
    accuracy = net.evaluate(data.x_test, data.y_test)["accuracy"]
    return Run(np.array(norms), np.array(losses), np.array(dead), accuracy)


def dead_share(net: MLP, x: Array) -> float:
    """The share of hidden units that are not positive for any image."""
    shares = []
    for layer in net.layers:
        x = layer.forward(x)
        if isinstance(layer, Activation):
            shares.append(float((x <= 0).all(0).mean()))
    return float(np.mean(shares))


def deep_net(activation: type[Activation], data: Dataset) -> MLP:
    """Eight hidden layers of 64; the same weights for every activation."""
    inputs = data.x_train[0].size
    return MLP(inputs, *[WIDTH] * HIDDEN, 10, activation=activation, init="glorot", seed=0)


def chapter(material: Material) -> Chapter:
    """Gradient norms, losses and accuracies of the four; then dying and rescued units."""
    data, epochs = material.few(), material.epochs(20)
    runs = {
        activation.__name__: train(deep_net(activation, data), data, fc.SGD(0.01, momentum=0.9), epochs)
        for activation in FOUR
    }
    names = [str(i + 1) for i in range(HIDDEN + 1)]
    pictures = [
        picture(norms_picture(run, names), f"<b>{name}</b>: test accuracy {run.accuracy:.1%}")
        for name, run in runs.items()
    ]
    first, last = runs["Sigmoid"].norms[0, 0], runs["Sigmoid"].norms[0, -1]
    return Chapter(
        "Vanishing gradients",
        text(
            f"One net, {HIDDEN} hidden layers of {WIDTH} units, trained four times on {len(data.x_train):,} "
            f"of {material.source}, from the same weights with the same batches. Only the activation "
            "differs. Each line is the norm of one layer's weight gradient, step by step; layer 1 is the "
            "first, the farthest from the loss."
        )
        + row(*pictures)
        + text(
            "Going back through a layer, the gradient is multiplied by the slope of the activation. The "
            f"sigmoid's is at most 1/4, and 0.25<sup>{HIDDEN}</sup> = {0.25**HIDDEN:.0e}. At the first step "
            f"its layer 1 receives a gradient {last / first:,.0f} times smaller than the last layer, and "
            "learns nothing. The slope of tanh reaches 1, that of ReLU is 1 wherever the unit is on."
        )
        + row(picture(losses_picture(runs), "Loss of each batch, averaged over ten."))
        + table(
            ("activation", "layer 1, first step", "last layer, first step", "ratio", "test accuracy"),
            [
                (name, f"{n[0]:.1e}", f"{n[-1]:.1e}", f"{n[0] / n[-1]:.1e}", f"{run.accuracy:.1%}")
                for name, run in runs.items()
                for n in [run.norms[0]]
            ],
        )
        + dying(material)
        + source(train, dead_share),
    )


def dying(material: Material) -> str:
    """ReLUs killed by long steps, and buried ones that only a leak brings back."""
    data, epochs = material.few(), material.epochs(10)
    inputs = data.x_train[0].size
    rates = (0.05, 0.2, 0.3)
    killed = {
        rate: train(MLP(inputs, 64, 64, 64, 10, seed=0), data, fc.SGD(rate, momentum=0.9), epochs)
        for rate in rates
    }
    rescued = {}
    for activation in (fc.ReLU, fc.LeakyReLU):
        net = MLP(inputs, 64, 10, activation=activation, seed=0)
        net.params["1.b"][:] = -8
        rescued[activation.__name__] = train(net, data, fc.Adam(0.01), material.epochs(20))
    relu, leaky = rescued["ReLU"], rescued["LeakyReLU"]
    worst = killed[rates[-1]]
    return (
        heading("ReLUs die")
        + text(
            "A ReLU whose sum is negative for every image has slope 0 for every image: nothing can change "
            "it any more. One step that is too long can do that to most units at once. With a learning rate "
            f"of {rates[-1]:g}, {worst.dead[-1]:.0%} of the hidden units are dead at the end, and the "
            f"accuracy is {worst.accuracy:.1%}.",
            "A leak of 0.01 leaves a way back. Here all units start buried, with biases of −8: the ReLU "
            f"stays at {relu.accuracy:.1%}, the leaky ReLU digs itself out and reaches {leaky.accuracy:.1%}.",
        )
        + row(
            picture(
                dead_picture({f"rate {rate:g}": run for rate, run in killed.items()}, (GREY, BLUE, ORANGE)),
                "Dead ReLUs in three hidden layers of 64, by learning rate.",
            ),
            picture(dead_picture(rescued, (BLUE, ORANGE)), "Units that start dead: ReLU against leaky ReLU."),
        )
    )


def norms_picture(run: Run, names: list[str]) -> Any:
    figure = plots.gradient_norms(run.norms, names, figure=canvas(None, (3.7, 2.8)))
    figure.axes[0].set_ylim(1e-7, 1e2)
    return figure


def losses_picture(runs: dict[str, Run]) -> Any:
    figure = canvas(None, (4.2, 2.9))
    axes = plain(figure.subplots())
    for name, colour, style in zip(runs, (GREY, BLUE, ORANGE, "#138a4b"), ("-", "-", "-", "--"), strict=True):
        smooth = np.convolve(runs[name].losses, np.full(10, 0.1), "valid")
        axes.plot(np.arange(len(smooth)) + 10, smooth, color=colour, ls=style, lw=1.6, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend(frameon=False)
    return figure


def dead_picture(runs: dict[str, Run], colours: tuple[str, ...]) -> Any:
    figure = canvas(None, (3.7, 2.7))
    axes = plain(figure.subplots())
    for (name, run), colour in zip(runs.items(), colours, strict=True):
        axes.plot(100 * run.dead, color=colour, lw=2, label=name)
    axes.set(xlabel="epoch", ylabel="dead units, %", ylim=(-3, 103))
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.64))
    return figure

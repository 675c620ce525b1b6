"""Fully connected against convolutional: weights counted, then the same digits learned by both."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fastconv as fc
from fastconv.lecture.material import Material, shifted
from fastconv.lecture.page import Chapter, heading, listing, picture, row, source, table, text
from fastconv.nn import one_cycle
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import BLUE, ORANGE, canvas, plain


class Result(NamedTuple):
    """One net of one seed: accuracies on the test digits as they are, and moved by one pixel."""

    accuracy: float
    moved: float


def shallow_net(shape: tuple[int, ...], seed: int) -> fc.Sequential:
    """One hidden layer, every unit of which sees every pixel."""
    inputs = int(np.prod(shape))
    hidden = fc.Linear(inputs, 128, init="he")
    return fc.Sequential(fc.Flatten(), hidden, fc.ReLU(), fc.Linear(128, 10, init="he"), seed=seed)


def conv_net(shape: tuple[int, ...], seed: int) -> fc.Sequential:
    """Convolution, pooling and three fully connected layers."""
    _, height, width = shape
    pixels = (height // 2) * (width // 2)
    return fc.Sequential(
        *(fc.Conv2d(1, 16, 3, padding=1, init="he"), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten()),
        *(fc.Linear(16 * pixels, 32, init="he"), fc.ReLU(), fc.Linear(32, 32, init="he"), fc.ReLU()),
        fc.Linear(32, 10, init="he"),
        seed=seed,
    )


def compete(material: Material) -> dict[str, list[Result]]:
    """Both nets on the same data by the same recipe, seed by seed."""
    d, epochs = material.data, material.epochs(20)
    results: dict[str, list[Result]] = {"fully connected": [], "convolutional": []}
    left, right = (shifted(d.x_test, columns) for columns in (-1, 1))
    for seed in range(material.seeds):
        for name, make in zip(results, (shallow_net, conv_net), strict=True):
            net = make(d.x_train.shape[1:], seed)
            adam, cycle = fc.Adam(4e-3), one_cycle()
            net.fit(d.x_train, d.y_train, epochs=epochs, optimizer=adam, schedule=cycle, seed=seed)
            scores = [net.evaluate(x, d.y_test)["accuracy"] for x in (d.x_test, left, right)]
            results[name].append(Result(scores[0], float(np.mean(scores[1:]))))
    return results


def chapter(material: Material) -> Chapter:
    """Counts of weights, then the contest."""
    shape = material.data.x_train.shape[1:]
    small = fc.Sequential(fc.Conv2d(3, 2, 4, bias=False))
    dense = fc.Sequential(fc.Flatten(), fc.Linear(6 * 6 * 3, 3 * 3 * 2, bias=False))
    results = compete(material)
    nets = {"fully connected": shallow_net(shape, 0), "convolutional": conv_net(shape, 0)}
    summaries = {name: net.summary(shape) for name, net in nets.items()}
    rows = []
    for name, scores in results.items():
        still, moved = (np.array([score[i] for score in scores]) for i in (0, 1))
        total = summaries[name].total
        rows.append((name, f"{total:,}", spread(still), f"{still.min():.1%}", spread(moved)))
    return Chapter(
        "Fully connected against convolutional",
        text(
            "A fully connected unit has a weight for every input. A filter has a weight for every pixel of "
            "its window, in every channel, and is used everywhere. For an input of 6×6×3 and two filters of "
            f"4×4, that is 2·4·4·3 = {small.summary((3, 6, 6)).total} weights. A fully connected layer with "
            f"as many outputs (3·3·2 = 18) has 108·18 = {dense.summary((3, 6, 6)).total:,}."
        )
        + row(*(listing(net.summary((3, 6, 6))) for net in (small, dense)))
        + text("It gets worse with the size of the image, for one of the two:")
        + table(("image", "fully connected, 64 units", "convolutional, 64 filters of 3×3"), growth())
        + heading("Does it pay?")
        + text(
            f"Both nets learn {material.source} ({len(material.data.x_train):,} to train on, "
            f"{len(material.data.x_test):,} to test) by the same recipe: Adam, one cycle, "
            f"{material.epochs(20)} epochs, batches of 64, {len(results['convolutional'])} starts each."
        )
        + row(*(listing(summary) for summary in summaries.values()))
        + table(
            ("net", "parameters", "test accuracy, mean ± deviation", "lowest", "digits moved by one pixel"),
            rows,
        )
        + row(picture(contest_picture(results), "Each dot is one start."))
        + text(verdict(results, summaries["fully connected"].total, summaries["convolutional"].total))
        + source(shallow_net, conv_net, compete),
    )


def growth() -> list[tuple[str, str, str]]:
    """Parameters of a first layer for larger and larger images."""
    rows = []
    for channels, size in ((1, 28), (3, 32), (3, 224)):
        dense = 64 * (channels * size * size + 1)
        conv = fc.Sequential(fc.Conv2d(channels, 64, 3)).summary((channels, size, size)).total
        rows.append((f"{size}×{size}×{channels}", f"{dense:,}", f"{conv:,}"))
    return rows


def spread(values: Array) -> str:
    return f"{values.mean():.2%} ± {values.std():.2%}"


def verdict(results: dict[str, list[Result]], dense: int, conv: int) -> str:
    """What the numbers say, whatever they say."""
    means = {name: np.mean(scores, axis=0) for name, scores in results.items()}
    still, moved = means["convolutional"] - means["fully connected"]
    return (
        f"The convolutional net has {conv / dense:.2f} times the parameters of the other and is "
        f"{'better' if still > 0 else 'worse'} by {abs(100 * still):.1f} points; on digits that moved by one "
        f"pixel, which neither has seen, by {abs(100 * moved):.1f} points"
        f"{'' if (still > 0) == (moved > 0) else ' the other way round'}."
    )


def contest_picture(results: dict[str, list[Result]]) -> Any:
    figure = canvas(None, (4.4, 2.9))
    axes = plain(figure.subplots())
    for (name, scores), colour in zip(results.items(), (BLUE, ORANGE), strict=True):
        for i, values in enumerate(zip(*scores, strict=True)):
            at = i + (-0.12 if colour == BLUE else 0.12)
            axes.plot([at] * len(values), 100 * np.array(values), "o", color=colour, alpha=0.6, ms=6, mew=0)
            axes.plot([at - 0.08, at + 0.08], [100 * np.mean(values)] * 2, color=colour, lw=2)
        axes.plot([], [], "o", color=colour, label=name)
    names = ["test digits", "moved by one pixel"]
    axes.set(xticks=[0, 1], xticklabels=names, ylabel="accuracy, %", xlim=(-0.5, 1.5))
    axes.legend(frameon=False)
    return figure

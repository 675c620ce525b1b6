"""LeNet-5 learns digits, and is looked into: filters, maps, what it attends to, where it errs."""

from __future__ import annotations

import math
import time

import fastconv as fc
from fastconv import plots
from fastconv.lecture.material import Material
from fastconv.lecture.page import Chapter, heading, listing, picture, row, source, text
from fastconv.models import LeNet5
from fastconv.nn import one_cycle, random_shift
from fastconv.nn.receptive import receptive_field
from fastconv.nn.training import History
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import canvas
from fastconv.tools.datasets import Dataset


def learn(data: Dataset, epochs: int) -> tuple[LeNet5, History]:
    """LeNet-5 with ReLU and maximum pooling: Adam, one cycle, digits moved by up to two pixels."""
    net = LeNet5(seed=0)
    history = net.fit(
        data.x_train,
        data.y_train,
        epochs=epochs,
        optimizer=fc.Adam(4e-3),
        schedule=one_cycle(),
        augment=random_shift(2),
        validation_data=(data.x_test, data.y_test),
        seed=0,
    )
    return net, history


def chapter(material: Material) -> Chapter:
    """Train, then one picture after the other."""
    data = material.enlarged()
    started = time.perf_counter()
    net, history = learn(data, material.epochs(12))
    seconds = time.perf_counter() - started
    predictions = net.predict(data.x_test)
    wrong = int((predictions != data.y_test).sum())
    images = len(history["loss"]) * len(data.x_train)
    return Chapter(
        "LeNet-5, and seeing inside",
        text(
            "LeNet-5 (LeCun et al. 1998), with the ReLU and maximum pooling of today: two convolutions with "
            "pooling, three fully connected layers."
        )
        + listing(net.summary((1, 28, 28)))
        + text(
            f"Trained here on {material.source}{enlarged(material)}: {len(history['loss'])} epochs in "
            f"{seconds:.1f} s, {images / seconds:,.0f} images a second. {wrong} of {len(predictions):,} test "
            f"digits are wrong: accuracy {1 - wrong / len(predictions):.2%}."
        )
        + row(
            picture(plots.training_curves(history, figure=canvas(None, (5.2, 2.7))), "Training curves."),
            picture(
                plots.confusion_matrix(data.y_test, predictions, figure=canvas(None, (3.7, 3.5))),
                "Rows are the true digits, columns what LeNet-5 took them for.",
            ),
        )
        + row(*mistakes(data, predictions))
        + heading("Filters and feature maps")
        + text("The six filters that it learned first, and what each layer makes of one digit.")
        + row(
            picture(plots.filters(net, figure=canvas(None, (3, 2.2))), "First convolution."),
            picture(maps(net, data.x_test[0]), "Feature maps, layer by layer."),
        )
        + heading("What a unit sees")
        + text(fields(net))
        + row(*receptive_fields(net, data.x_test[0]))
        + heading("What the answer depends on")
        + text(
            "A grey patch of 5×5 pixels hides part of the digit, wherever its middle is. Where the map is "
            "dark, the net needs what is there."
        )
        + row(*occlusions(net, data, predictions))
        + heading("What a unit looks for")
        + text(
            "The other way round: start from faint noise and change the image, by its gradient, until one "
            "output is as large as can be. These are the ten digits as LeNet-5 would have them."
        )
        + row(picture(dreams(net), "Images that excite each of the ten outputs."))
        + source(learn),
    )


def enlarged(material: Material) -> str:
    height, width = material.data.x_train.shape[2:]
    return "" if height == 28 else f", enlarged from {height}×{width} to 28×28"


def mistakes(data: Dataset, predictions: Array) -> list[str]:
    if (predictions == data.y_test).all():
        return []
    wrong = min(int((predictions != data.y_test).sum()), 10)
    figure = canvas(None, (3.7, 0.4 + math.ceil(wrong / 5)))
    plots.misclassified(data.x_test, data.y_test, predictions, limit=10, columns=5, figure=figure)
    return [picture(figure, "Mistakes: true → predicted.")]


def maps(net: LeNet5, image: Array) -> object:
    shown = [i for i, layer in enumerate(net.layers) if isinstance(layer, (fc.Conv2d, fc.ReLU, fc.MaxPool2d))]
    return plots.feature_maps(net, image, shown, columns=2, figure=canvas(None, (3.7, 6.6)))


def fields(net: LeNet5) -> str:
    """How the receptive field grows, in a sentence."""
    sizes = [receptive_field(net, layer, (1, 28, 28)).size[0] for layer in (0, 2, 3, 5)]
    return (
        "A unit of the first convolution sees {0}×{0} pixels, after the pooling {1}×{1}, after the second "
        "convolution {2}×{2}, after the second pooling {3}×{3}. A filter of F pixels adds (F − 1) times the "
        "distance between two neighbours, in pixels. The frame is what the unit can see; the bright pixels "
        "are what moves it on this digit.".format(*sizes)
    )


def receptive_fields(net: LeNet5, image: Array) -> list[str]:
    return [
        picture(
            plots.receptive_field(net, image, layer, figure=canvas(None, (3.7, 2.2))),
            f"{type(net[layer]).__name__}, layer {layer}.",
        )
        for layer in (0, 3, 5)
    ]


def occlusions(net: LeNet5, data: Dataset, predictions: Array) -> list[str]:
    right = predictions == data.y_test
    chosen = [int((right & (data.y_test == label)).argmax()) for label in (2, 4, 7)]
    pictures = []
    for i in chosen:
        figure = plots.occlusion_map(
            net, data.x_test[i], int(predictions[i]), patch=5, figure=canvas(None, (3.7, 1.9))
        )
        pictures.append(picture(figure, f"How sure it is of the {data.y_test[i]}."))
    return pictures


def dreams(net: LeNet5) -> object:
    shape = (1, 28, 28)
    names = [str(digit) for digit in range(10)]
    figure = canvas(None, (4.4, 2.1))
    return plots.activation_maximization(
        net, input_shape=shape, titles=names, columns=5, blur=0.8, figure=figure
    )

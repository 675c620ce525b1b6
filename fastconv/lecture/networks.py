"""The networks of the course, with the parameters that their papers count, at work."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.lecture.material import Material, photographs
from fastconv.lecture.page import Chapter, heading, picture, row, source, table, text
from fastconv.models import VGG16, AlexNet, LeNet5, Neocognitron, ResNet18, ResNet50, alexnet_augment
from fastconv.nn import random_shift
from fastconv.ops.arrays import Array
from fastconv.plots.canvas import canvas
from fastconv.tools.datasets import Dataset

# name, year, net, input, what the paper or its later implementations count
NETWORKS: tuple[tuple[str, int, Callable[[], fc.Sequential], tuple[int, int, int], str], ...] = (
    ("LeNet-5, as published", 1998, lambda: LeNet5(form="1998", seed=0), (1, 28, 28), "60,000"),
    ("LeNet-5, ReLU form", 1998, lambda: LeNet5(seed=0), (1, 28, 28), "61,706"),
    ("AlexNet", 2012, lambda: AlexNet(seed=0), (3, 224, 224), "60 million"),
    ("VGG-16", 2014, lambda: VGG16(seed=0), (3, 224, 224), "138 million"),
    ("ResNet-18", 2015, lambda: ResNet18(seed=0), (3, 224, 224), "11.7 million"),
    ("ResNet-50", 2015, lambda: ResNet50(seed=0), (3, 224, 224), "25.6 million"),
)


def chapter(material: Material) -> Chapter:
    """Table, AlexNet's training steps on photographs, Neocognitron's digits."""
    losses, seconds = alexnet_steps(1 if material.quick else 6)
    shown = 60 if material.quick else 500
    accuracies = neocognitron(material.data, shown)
    return Chapter(
        "The networks",
        text(
            "From five layers to fifty. <code>summary()</code> counts the parameters; the time is one image "
            "forward, here, with random weights."
        )
        + table(("network", "year", "input", "parameters", "published", "one image"), counted(material))
        + heading("AlexNet sees photographs")
        + text(
            "AlexNet trains on random crops of 224×224 pixels, mirrored or not, their colours shifted along "
            "the principal components of all colours. The two photographs of scikit-learn as it gets them:"
        )
        + row(*augmented())
        + text(
            f"{len(losses)} training steps on eight such crops, temple or flower: loss "
            f"{' → '.join(f'{loss:.2f}' for loss in losses)}, {seconds:.2f} s a step."
        )
        + heading("Neocognitron, before backpropagation")
        + text(
            "Fukushima's neocognitron (1980) has convolution and pooling, but no gradient: the cell that "
            "answers most learns what it saw, and with it all cells that share its filter. It sees no label. "
            f"Organized by {shown} digits of 16×16 pixels, and read out by the nearest class mean:"
        )
        + table(
            ("nearest mean of", "digits in place", "moved by up to two pixels"),
            [(name, *(f"{value:.1%}" for value in values)) for name, values in accuracies.items()],
        )
        + source(alexnet_steps, neocognitron),
    )


def counted(material: Material) -> list[tuple[object, ...]]:
    """A row a network; a quick lecture leaves out the largest."""
    rows: list[tuple[object, ...]] = []
    for name, year, make, shape, published in NETWORKS:
        if material.quick and name in ("VGG-16", "ResNet-50"):
            continue
        net = make()
        x = np.zeros((1, *shape), np.float32)
        net.predict_logits(x)
        started = time.perf_counter()
        net.predict_logits(x)
        milliseconds = 1e3 * (time.perf_counter() - started)
        total = net.summary(shape).total
        size = "×".join(map(str, shape[1:])) + f"×{shape[0]}"
        rows.append((name, year, size, f"{total:,}", published, f"{milliseconds:.3g} ms"))
    return rows


def crops() -> Array:
    """The two photographs, their middle 256x256 pixels, (2, 3, 256, 256)."""
    middle = [image[85:341, 192:448] for image in photographs()]
    return np.ascontiguousarray(np.stack(middle).transpose(0, 3, 1, 2))


def augmented() -> list[str]:
    x = crops()
    augment, rng = alexnet_augment(x), np.random.default_rng(3)
    pictures = []
    for image in augment(x.repeat(3, 0), rng):
        shown = np.clip(image.transpose(1, 2, 0), 0, 1)
        pictures.append(picture(plots.gallery([shown], figure=canvas(None, (1.7, 1.7))), ""))
    return pictures


def alexnet_steps(steps: int) -> tuple[list[float], float]:
    """Losses of training steps on eight crops of two photographs, and the seconds of one."""
    x, labels = crops() - np.float32(0.5), np.arange(2).repeat(4)
    augment, rng = alexnet_augment(x), np.random.default_rng(0)
    net, optimizer = AlexNet(2, seed=0), fc.Adam(1e-4)
    losses = []
    started = time.perf_counter()
    for _ in range(steps):
        loss, dlogits = fc.softmax_cross_entropy(net(augment(x.repeat(4, 0), rng)), labels)
        net.backward(dlogits)
        optimizer.step(net.params, net.grads)
        losses.append(loss)
    return losses, (time.perf_counter() - started) / steps


def neocognitron(data: Dataset, shown: int) -> dict[str, list[float]]:
    """Accuracy of the nearest class mean, of pixels and of features, on test digits in place and moved."""
    x, x_test = sixteen(data.x_train), sixteen(data.x_test)
    moved = random_shift(2)(x_test, np.random.default_rng(0))
    net = Neocognitron(seed=0).fit(x[:shown]).learn_prototypes(x, data.y_train)
    means = np.stack([x[data.y_train == k].mean(0).ravel() for k in range(10)])

    def by_pixels(images: Array) -> float:
        distances = ((images.reshape(len(images), 1, -1) - means) ** 2).sum(2)
        return float((distances.argmin(1) == data.y_test).mean())

    return {
        "pixels": [by_pixels(images) for images in (x_test, moved)],
        "neocognitron": [net.evaluate(images, data.y_test) for images in (x_test, moved)],
    }


def sixteen(x: Array) -> Array:
    """8x8 pixels doubled, or 28x28 with a margin of 2 halved, to 16x16."""
    if x.shape[2] == 8:
        return x.repeat(2, 2).repeat(2, 3)
    return fc.avg_pool2d(x, 2, padding=2)

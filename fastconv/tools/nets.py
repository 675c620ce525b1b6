"""The nets that `fastconv train` knows by name, the images each takes, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastconv.models import MLP, VGG16, AlexNet, LeNet5, ResNet18, ResNet50, alexnet_augment
from fastconv.nn import Sequential, compose, random_flip, random_shift
from fastconv.nn.augment import Augment
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value

Shape = tuple[int, int, int]


class Net(NamedTuple):
    """A model of `fastconv.models`.

    Attributes
    ----------
    build : callable (shape (C, H, W), classes, seed) -> Sequential
    lr : float
        Adam's learning rate, at the top of a one-cycle schedule.
    images : str
        What it takes, in words.
    channels : int or None
        None where it takes any number.
    fits : callable (H, W) -> bool
    side : int
        To which --resize scales; 0 where it must be given.
    digits : int
        The side of scikit-learn's 8x8 digits, each pixel repeated.
    crop : int
        Side of the squares that it is trained on, cut out of the images; 0: whole images.
    """

    build: Callable[[Shape, int, int], Sequential]
    lr: float
    images: str
    channels: int | None
    fits: Callable[[int, int], bool]
    side: int
    digits: int
    crop: int = 0


def lenet(form: str) -> Net:
    def build(shape: Shape, classes: int, seed: int) -> Sequential:
        return LeNet5(classes, form=form, size=shape[1], seed=seed)

    lr = 7e-3 if form == "relu" else 2e-3
    return Net(build, lr, "1x28x28 or 1x32x32", 1, lambda h, w: h == w and h in (28, 32), 28, 32)


def residual(model: type[ResNet18] | type[ResNet50]) -> Net:
    def build(shape: Shape, classes: int, seed: int) -> Sequential:
        return model(classes, seed=seed)

    return Net(build, 1e-3, "3xHxW", 3, lambda h, w: True, 224, 32)


NETS = {
    # The hidden layers of LeCun et al. 1998, section III.C.2.
    "mlp": Net(
        lambda shape, classes, seed: MLP(int(np.prod(shape)), 300, 100, classes, seed=seed),
        *(2e-3, "any size", None, lambda h, w: True, 28, 8),
    ),
    "lenet5": lenet("relu"),
    "lenet5-1998": lenet("1998"),
    # The paper scales to 256 and cuts squares of 224 out.
    "alexnet": Net(
        lambda shape, classes, seed: AlexNet(classes, seed=seed),
        *(2e-4, "3x224x224 or larger", 3, lambda h, w: min(h, w) >= 224, 256, 224, 224),
    ),
    "vgg16": Net(
        lambda shape, classes, seed: VGG16(classes, size=shape[1], seed=seed),
        *(2e-4, "3 channels and a square whose side is a multiple of 32", 3),
        *(lambda h, w: h == w and h % 32 == 0, 224, 32),
    ),
    "resnet18": residual(ResNet18),
    "resnet50": residual(ResNet50),
}
AUGMENTS = ("none", "shift", "flip", "shift+flip")


def adapted(name: str, x: Array, hint: str) -> Array:
    """Images (N, C, H, W) as the net takes them, grey ones in all its channels, or an error with a hint."""
    net = NETS[name]
    c, h, w = x.shape[1:]
    if c == 1 and net.channels is not None:
        x = x.repeat(net.channels, 1)
    if net.channels not in (None, x.shape[1]) or not net.fits(h, w):
        bad_value("data", f"the images are {c}x{h}x{w}", f"{name} takes {net.images}: {hint}")
    return x


def middle(x: Array, side: int) -> Array:
    """The square in the middle of images (..., H, W); 0 for all of it."""
    if not side:
        return x
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return np.ascontiguousarray(x[..., top : top + side, left : left + side])


def augmentation(name: str, kind: str, x: Array) -> Augment | None:
    """The augmentation by its name; AlexNet has its own."""
    net = NETS[name]
    if net.crop:
        if kind != "none":
            bad_value("train", f"--augment is {kind}", f"{name} has its paper's augmentations: leave it out")
        return alexnet_augment(x, size=net.crop)
    parts: list[Augment] = []
    if "shift" in kind:
        parts.append(random_shift(max(1, x.shape[-1] // 14)))  # two pixels of 28
    if "flip" in kind:
        parts.append(random_flip())
    return compose(*parts) if parts else None

"""VGG-16 and the residual nets."""

from __future__ import annotations

from collections.abc import Callable

from fastconv.nn.activations import ReLU
from fastconv.nn.blocks import GlobalAvgPool2d, Residual
from fastconv.nn.layer import Layer, Seed
from fastconv.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d
from fastconv.nn.model import Sequential
from fastconv.nn.norm import BatchNorm2d
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int


class VGG16(Sequential):
    """Thirteen 3x3 convolutions in five stages, three linear layers (configuration D).

    Parameters
    ----------
    classes : int, default 1000
    size : int, default 224
        Height and width of the images, a multiple of 32.
    seed : int or numpy.random.Generator, optional

    References
    ----------
    Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition (2014).

    Examples
    --------
    >>> from fastconv.models import VGG16
    >>> VGG16(10, size=32)[0]
    Conv2d(3, 64, 3, padding=1)
    """

    def __init__(self, classes: int = 1000, *, size: int = 224, seed: Seed = None) -> None:
        size = parse_int("VGG16", "size", size, 32)
        if size % 32:
            bad_value("VGG16", f"size is {size}", "it must be a multiple of 32, since five poolings halve it")
        layers: list[Layer] = []
        c_in = 3
        for c_out, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += [Conv2d(c_in, c_out, 3, padding=1, init="he"), ReLU()]
                c_in = c_out
            layers.append(MaxPool2d(2))
        layers += [Flatten(), Linear(512 * (size // 32) ** 2, 4096), ReLU(), Dropout(0.5)]
        layers += [Linear(4096, 4096), ReLU(), Dropout(0.5), Linear(4096, classes)]
        super().__init__(*layers, seed=seed)


class ResNet18(Sequential):
    """A 7x7 stem and four stages of two blocks of two 3x3 convolutions: 11,689,512 parameters.

    Parameters
    ----------
    classes : int, default 1000
    seed : int or numpy.random.Generator, optional

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition (2015), table 1.

    Examples
    --------
    >>> from fastconv.models import ResNet18
    >>> ResNet18().summary((3, 64, 64)).total
    11689512
    """

    def __init__(self, classes: int = 1000, *, seed: Seed = None) -> None:
        super().__init__(*resnet_layers(basic_block, 1, (2, 2, 2, 2), classes), seed=seed)


class ResNet50(Sequential):
    """A 7x7 stem and four stages of 3, 4, 6, 3 bottleneck blocks: 25,557,032 parameters.

    The stride of a stage is in the 3x3 convolution of its first block, as in most later implementations
    (the paper has it in the 1x1 before).

    Parameters
    ----------
    classes : int, default 1000
    seed : int or numpy.random.Generator, optional

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition (2015), table 1.

    Examples
    --------
    >>> from fastconv.models import ResNet50
    >>> ResNet50().summary((3, 64, 64)).total
    25557032
    """

    def __init__(self, classes: int = 1000, *, seed: Seed = None) -> None:
        super().__init__(*resnet_layers(bottleneck, 4, (3, 4, 6, 3), classes), seed=seed)


def resnet_layers(
    block: Callable[[int, int, int], Residual], widening: int, depths: tuple[int, ...], classes: int
) -> list[Layer]:
    """Stem, stages and classifier; a block's output has `widening` times its width in channels."""
    layers: list[Layer] = [*conv_norm(3, 64, 7, 2), ReLU(), MaxPool2d(3, 2, 1)]
    c_in = 64
    for stage, depth in enumerate(depths):
        width = 64 << stage
        for i in range(depth):
            layers += [block(c_in, width, 2 if stage and i == 0 else 1), ReLU()]
            c_in = widening * width
    return [*layers, GlobalAvgPool2d(), Linear(c_in, classes)]


def conv_norm(c_in: int, c_out: int, window: int, stride: int = 1) -> tuple[Layer, Layer]:
    """A convolution without bias, which the normalization after it would undo."""
    conv = Conv2d(c_in, c_out, window, stride=stride, padding=window // 2, bias=False, init="he")
    return conv, BatchNorm2d(c_out)


def basic_block(c_in: int, width: int, stride: int) -> Residual:
    body = Sequential(*conv_norm(c_in, width, 3, stride), ReLU(), *conv_norm(width, width, 3))
    return Residual(body, shortcut(c_in, width, stride))


def bottleneck(c_in: int, width: int, stride: int) -> Residual:
    body = Sequential(
        *(*conv_norm(c_in, width, 1), ReLU()),
        *(*conv_norm(width, width, 3, stride), ReLU()),
        *conv_norm(width, 4 * width, 1),
    )
    return Residual(body, shortcut(c_in, 4 * width, stride))


def shortcut(c_in: int, c_out: int, stride: int) -> Sequential | None:
    """A 1x1 convolution where the shape changes, else nothing (option B of the paper)."""
    return None if stride == 1 and c_in == c_out else Sequential(*conv_norm(c_in, c_out, 1, stride))

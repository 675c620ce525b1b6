"""AlexNet, and the augmentations it was trained with."""

from __future__ import annotations

from functools import partial

import numpy as np

from fastconv.nn.activations import ReLU
from fastconv.nn.augment import Augment, compose, random_crop, random_flip
from fastconv.nn.layer import Layer, Seed
from fastconv.nn.layers import Conv2d, Dropout, Flatten, Linear, MaxPool2d
from fastconv.nn.model import Sequential
from fastconv.nn.norm import LocalResponseNorm
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value

conv = partial(Conv2d, init="he")


class AlexNet(Sequential):
    """Five convolutions, three of them in two groups, and three linear layers, for images of 3x224x224.

    60,965,224 parameters. They start by He's rule, with which two photographs are told apart in a few steps:
    from the paper's N(0, 0.01) and biases of 1 the loss rises first, from "fan_in" it stands still for long.

    Parameters
    ----------
    classes : int, default 1000
    seed : int or numpy.random.Generator, optional

    References
    ----------
    Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012).

    Examples
    --------
    >>> from fastconv.models import AlexNet
    >>> AlexNet(10)[0]
    Conv2d(3, 96, 11, stride=4, padding=2)
    """

    def __init__(self, classes: int = 1000, *, seed: Seed = None) -> None:
        super().__init__(
            *(conv(3, 96, 11, stride=4, padding=2), ReLU(), response_norm(), MaxPool2d(3, 2)),
            *(conv(96, 256, 5, padding=2, groups=2), ReLU(), response_norm(), MaxPool2d(3, 2)),
            *(conv(256, 384, 3, padding=1), ReLU()),
            *(conv(384, 384, 3, padding=1, groups=2), ReLU()),
            *(conv(384, 256, 3, padding=1, groups=2), ReLU(), MaxPool2d(3, 2), Flatten()),
            *(Dropout(0.5), Linear(9216, 4096, init="he"), ReLU()),
            *(Dropout(0.5), Linear(4096, 4096, init="he"), ReLU()),
            Linear(4096, classes, init="he"),
            seed=seed,
        )


def response_norm() -> Layer:
    """k = 2, n = 5, alpha = 1e-4, beta = 0.75; the paper's alpha is of the sum, the layer's of the mean."""
    return LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def alexnet_augment(images: Array, *, size: int = 224, layout: str = "NCHW") -> Augment:
    """Random crops of `size`, mirror images, and shifts along the principal colours of `images`.

    Parameters
    ----------
    images : ndarray (N, 3, H, W) or (N, H, W, 3)
        Training images, from which the principal components of the colours are taken.
    size : int, default 224
    layout : {"NCHW", "NHWC"}, default "NCHW"

    Returns
    -------
    callable (x, rng) -> ndarray

    References
    ----------
    Krizhevsky, Sutskever, Hinton (2012), section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.models import alexnet_augment
    >>> x = np.random.default_rng(0).random((2, 3, 36, 36), np.float32)
    >>> alexnet_augment(x, size=32)(x, np.random.default_rng(1)).shape
    (2, 3, 32, 32)
    """
    return compose(
        random_crop(size, layout=layout), random_flip(layout=layout), colour_shift(images, layout=layout)
    )


def colour_shift(images: Array, spread: float = 0.1, *, layout: str = "NCHW") -> Augment:
    """Add to all pixels of an image a random multiple of each principal component of the colours.

    The multiples are drawn from N(0, spread) times the component's eigenvalue.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn.alexnet import colour_shift
    >>> x = np.random.default_rng(0).random((2, 3, 4, 4))
    >>> y = colour_shift(x)(x, np.random.default_rng(1))
    >>> bool(np.allclose(y - x, (y - x)[:, :, :1, :1]))
    True
    """
    axis = 1 if layout == "NCHW" else 3
    if np.ndim(images) != 4 or images.shape[axis] != 3:
        bad_value(
            "colour_shift", f"images have shape {np.shape(images)}", f"they must be {layout} with C = 3"
        )
    pixels = np.moveaxis(images, axis, -1).reshape(-1, 3)
    values, vectors = np.linalg.eigh(np.cov(pixels.T.astype(np.float64)))

    return partial(shifted_colours, values=spread * values, vectors=vectors, axis=axis)


def shifted_colours(x: Array, rng: np.random.Generator, *, values: Array, vectors: Array, axis: int) -> Array:
    """All pixels of each image moved along the vectors (in columns) by random multiples of the values."""
    added = (rng.normal(0.0, 1.0, (len(x), 3)) * values) @ vectors.T  # (N, 3) @ (3, 3) -> (N, colours)
    shape = (-1, 3, 1, 1) if axis == 1 else (-1, 1, 1, 3)
    y: Array = x + added.reshape(shape).astype(x.dtype)
    return y

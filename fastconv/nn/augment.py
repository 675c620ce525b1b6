"""Augmentations: functions (x, rng) -> x' of a batch, to be given to `Sequential.fit`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.ops.parse import parse_int, parse_layout

Augment = Callable[[Array, np.random.Generator], Array]


def random_shift(pixels: int = 1, *, layout: str = "NCHW") -> Augment:
    """Shift each image by up to `pixels` in both directions; zeros move in.

    Parameters
    ----------
    pixels : int, default 1
        At least 0.
    layout : {"NCHW", "NHWC"}, default "NCHW"

    Returns
    -------
    callable (x, rng) -> ndarray of x's shape

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn.augment import random_shift
    >>> x = np.ones((2, 1, 8, 8), np.float32)
    >>> random_shift(1)(x, np.random.default_rng(0)).shape
    (2, 1, 8, 8)
    """
    pixels = parse_int("random_shift", "pixels", pixels, 0)
    rows = 1 if parse_layout("random_shift", layout, (0,) * 4)[1] else 2

    def shift(x: Array, rng: np.random.Generator) -> Array:
        pads = [(0, 0)] * 4
        pads[rows : rows + 2] = [(pixels, pixels)] * 2
        size = x.shape[rows : rows + 2]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), size, (rows, rows + 1))  # type: ignore[call-overload]
        down, right = rng.integers(0, 2 * pixels + 1, (2, len(x)))
        images = np.arange(len(x))
        if rows == 1:
            return np.moveaxis(windows[images, down, right], 1, -1)  # (N, C, H, W) -> (N, H, W, C)
        return windows[images, :, down, right]  # type: ignore[no-any-return]

    return shift


def random_flip(*, layout: str = "NCHW") -> Augment:
    """Mirror each image left to right with probability 1/2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn.augment import random_flip
    >>> random_flip()(np.ones((2, 3, 4, 4)), np.random.default_rng(0)).shape
    (2, 3, 4, 4)
    """
    width = 2 if parse_layout("random_flip", layout, (0,) * 4)[1] else 3

    def flip(x: Array, rng: np.random.Generator) -> Array:
        mirrored = rng.random(len(x)) < 0.5
        return np.where(mirrored[:, None, None, None], np.flip(x, width), x)

    return flip


def compose(*augments: Augment) -> Augment:
    """Apply several augmentations one after the other.

    Examples
    --------
    >>> from fastconv.nn.augment import compose, random_flip, random_shift
    >>> augment = compose(random_shift(2), random_flip())
    """

    def composed(x: Array, rng: np.random.Generator) -> Array:
        for augment in augments:
            x = augment(x, rng)
        return x

    return composed

"""Augmentations: functions (x, rng) -> x' of a batch, to be given to `Sequential.fit`.

Partials of functions of this module, so that whatever holds one can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
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

    return partial(shifted, pixels=pixels, rows=rows)


def shifted(x: Array, rng: np.random.Generator, *, pixels: int, rows: int) -> Array:
    """Each image somewhere on a frame of zeros; axis `rows` of x is the height."""
    n, height, width = len(x), x.shape[rows], x.shape[rows + 1]
    framed = list(x.shape)
    framed[rows : rows + 2] = height + 2 * pixels, width + 2 * pixels
    frame = np.zeros(framed, x.dtype)
    middle = (slice(None),) * rows + (slice(pixels, pixels + height), slice(pixels, pixels + width))
    frame[middle] = x
    return windows(frame, (height, width), rng.integers(0, 2 * pixels + 1, (2, n)), rows)


def random_crop(size: int, *, layout: str = "NCHW") -> Augment:
    """Cut a square of `size` pixels out of each image, anywhere.

    Parameters
    ----------
    size : int
        At most the images' height and width.
    layout : {"NCHW", "NHWC"}, default "NCHW"

    Returns
    -------
    callable (x, rng) -> ndarray (N, C, size, size) or (N, size, size, C)

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn.augment import random_crop
    >>> random_crop(5)(np.ones((2, 1, 8, 8), np.float32), np.random.default_rng(0)).shape
    (2, 1, 5, 5)
    """
    size = parse_int("random_crop", "size", size, 1)
    rows = 1 if parse_layout("random_crop", layout, (0,) * 4)[1] else 2

    return partial(cropped, size=size, rows=rows)


def cropped(x: Array, rng: np.random.Generator, *, size: int, rows: int) -> Array:
    """A window of each image; axis `rows` of x is the height."""
    room = np.array(x.shape[rows : rows + 2]) - size
    if room.min() < 0:
        bad_value("random_crop", f"images are {x.shape[rows]}x{x.shape[rows + 1]}", f"at least {size}x{size}")
    return windows(x, (size, size), rng.integers(0, room[:, None] + 1, (2, len(x))), rows)


def windows(x: Array, size: tuple[int, int], corners: Array, rows: int) -> Array:
    """Of image i the window whose first pixel is corners[:, i]; axis `rows` of x is the height."""
    views = np.lib.stride_tricks.sliding_window_view(x, size, (rows, rows + 1))  # type: ignore[call-overload]
    images, (top, left) = np.arange(len(x)), corners
    if rows == 1:
        return np.moveaxis(views[images, top, left], 1, -1)  # (N, C, H, W) -> (N, H, W, C)
    cut: Array = views[images, :, top, left]
    return cut


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

    return partial(flipped, width=width)


def flipped(x: Array, rng: np.random.Generator, *, width: int) -> Array:
    """Half of the images mirrored; axis `width` of x is the width."""
    mirrored = rng.random(len(x)) < 0.5
    return np.where(mirrored[:, None, None, None], np.flip(x, width), x)


def compose(*augments: Augment) -> Augment:
    """Apply several augmentations one after the other.

    Examples
    --------
    >>> from fastconv.nn.augment import compose, random_flip, random_shift
    >>> augment = compose(random_shift(2), random_flip())
    """

    return partial(in_turn, augments=augments)


def in_turn(x: Array, rng: np.random.Generator, *, augments: tuple[Augment, ...]) -> Array:
    """The augmentations of x, the first first."""
    for augment in augments:
        x = augment(x, rng)
    return x

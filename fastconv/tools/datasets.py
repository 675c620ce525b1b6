"""Labelled images as arrays (N, C, H, W), float32 in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastconv.nn.checkpoint import read_npz
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.tools.extras import require


@dataclass(frozen=True)
class Dataset:
    """Images and labels for training and for testing.

    Attributes
    ----------
    x_train, x_test : ndarray (N, C, H, W), float32
    y_train, y_test : integer ndarray (N,)
    classes : tuple of str
        The classes' names, in the order of their labels.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: tuple[str, ...]


def digits(seed: int = 0, test_fraction: float = 0.2) -> Dataset:
    """scikit-learn's 1797 handwritten digits of 8x8 pixels, split with every class in proportion.

    Parameters
    ----------
    seed : int, default 0
        Of the split.
    test_fraction : float, default 0.2

    References
    ----------
    Alpaydin, Kaynak: Optical recognition of handwritten digits (1998).
    """
    load_digits = require("sklearn.datasets", "the digits data").load_digits
    split = require("sklearn.model_selection", "the digits data").train_test_split
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    x_train, x_test, y_train, y_test = split(x, y, test_size=test_fraction, stratify=y, random_state=seed)
    return Dataset(x_train, y_train, x_test, y_test, tuple("0123456789"))


def npz(path: str | Path) -> Dataset:
    """Images from an .npz file with x_train, y_train, x_test, y_test, as MNIST is often kept.

    Images are (N, H, W) or (N, H, W, C); integers are divided by 255.

    Raises
    ------
    ValueError
        Where the file is no such file, or its arrays do not fit together.
    """
    names = ("x_train", "y_train", "x_test", "y_test")
    found = read_npz("data", path, f"an .npz file with {', '.join(names)}")
    missing = [name for name in names if name not in found]
    if missing:
        bad_value("data", f"{path} has no {', '.join(missing)}", f"it must hold {', '.join(names)}")
    x_train, y_train, x_test, y_test = (found[name] for name in names)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim not in (3, 4) or y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            bad_value(
                "data",
                f"{path}: x_{part} is {x.shape}, y_{part} is {y.shape} {y.dtype}",
                "they must be images (N, H, W) or (N, H, W, C) and integer labels (N,)",
            )
    count = int(max(y_train.max(initial=0), y_test.max(initial=0))) + 1
    return Dataset(
        channels_first(x_train),
        y_train.astype(np.int64),
        channels_first(x_test),
        y_test.astype(np.int64),
        tuple(map(str, range(count))),
    )


def channels_first(x: Array) -> Array:
    """(N, H, W[, C]) of any number type -> (N, C, H, W) float32; integers are scaled to [0, 1]."""
    scale = np.float32(1 / 255 if x.dtype.kind in "iu" else 1)
    x = x[..., None] if x.ndim == 3 else x
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32) * scale

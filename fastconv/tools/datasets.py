"""Labelled images as arrays (N, C, H, W), float32 in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastconv.nn.checkpoint import read_npz
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.tools import images
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


def mnist() -> Dataset:
    """The 70,000 digits of MNIST from openml.org, which scikit-learn fetches once and keeps.

    References
    ----------
    LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998).
    """
    fetch = require("sklearn.datasets", "the mnist data").fetch_openml
    try:
        x, y = fetch("mnist_784", version=1, return_X_y=True, as_frame=False, parser="liac-arff")
    except OSError as error:
        bad_value(
            "data", f"MNIST could not be fetched from openml.org ({error})", "give an .npz file of it instead"
        )
    x, y = (x / 255).astype(np.float32).reshape(-1, 1, 28, 28), y.astype(np.int64)
    return Dataset(x[:60_000], y[:60_000], x[60_000:], y[60_000:], tuple("0123456789"))


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
        if x.dtype.kind not in "fiub" or not x.size:
            bad_value("data", f"{path}: x_{part} is {x.shape} {x.dtype}", "it must hold images of numbers")
    return Dataset(
        channels_first(x_train),
        y_train.astype(np.int64),
        channels_first(x_test),
        y_test.astype(np.int64),
        tuple(map(str, range(class_count(path, y_train, y_test)))),
    )


def class_count(path: str | Path, y_train: Array, y_test: Array) -> int:
    """One more than the largest label, where the labels number the classes from 0."""
    low, high = int(min(y_train.min(), y_test.min())), int(y_train.max())
    if low < 0:
        bad_value("data", f"{path}: a label is {low}", "labels must number the classes from 0")
    if y_test.max() > high:
        needed = "both must have the same classes"
        bad_value("data", f"{path}: y_test has labels up to {y_test.max()}, y_train up to {high}", needed)
    used = len(np.unique(y_train))
    if high >= 2 * used:
        bad_value(
            "data",
            f"{path}: the largest label is {high}, but y_train has only {used} different ones",
            f"they must number the classes from 0 to {used - 1}",
        )
    return high + 1


def folder(
    path: Path,
    *,
    channels: int | None = None,
    side: int | None = None,
    seed: int = 0,
    test_fraction: float = 0.2,
) -> Dataset:
    """Image files sorted into folders that name their class.

    PATH/CLASS/*.png is split with every class in proportion; PATH/train/CLASS and PATH/test/CLASS are taken
    as they are.

    Parameters
    ----------
    path : Path
    channels : {1, 3}, optional
        Grey or colours; default: as the first file has it.
    side : int, optional
        Scale the shorter side of every image to it and cut the middle square out.
    seed : int, default 0
        Of the split.
    test_fraction : float, default 0.2

    Raises
    ------
    ValueError
        Where a file cannot be read, images differ in size, or the folders do not fit this description.
    """
    apart = (path / "train").is_dir() and (path / "test").is_dir()
    classes = class_names(path / "train" if apart else path)
    if apart and class_names(path / "test") != classes:
        other = sorted(set(class_names(path / "test")) ^ set(classes))
        bad_value("data", f"{path}: {', '.join(other)} is only in one of train and test", "both need it")
    parts = [path / "train", path / "test"] if apart else [path]
    files = [[list(images.listed(part / name)) for name in classes] for part in parts]
    for part, lists in zip(parts, files, strict=True):
        for name, found in zip(classes, lists, strict=True):
            if len(found) < (1 if apart else 2):
                needed = "it must hold some" if apart else "it must hold at least two, one for the test"
                bad_value("data", f"{part / name} holds {len(found)} images", needed)
    channels = channels or len(images.read(files[0][0][0]))
    first, *rest = (loaded(lists, channels, side) for lists in files)
    if rest:
        return Dataset(*first, *rest[0], classes)
    x, y = first
    test = held_out(y, test_fraction, seed)
    return Dataset(x[~test], y[~test], x[test], y[test], classes)


def class_names(path: Path) -> tuple[str, ...]:
    """The folders in a folder, at least two."""
    names = tuple(f.name for f in sorted(path.iterdir()) if f.is_dir() and f.name[0] != ".")
    if len(names) < 2:
        bad_value(
            "data",
            f"{path} has {len(names)} folders of images",
            "it must have one folder for each class, at least two",
        )
    return names


def loaded(lists: Sequence[Sequence[Path]], channels: int, side: int | None) -> tuple[Array, Array]:
    """Images of the same size (N, C, H, W), and the number of the list that each is from."""
    files = [file for found in lists for file in found]
    parts: list[Array] = []
    for file in files:
        parts.append(images.read(file, channels, side))
        if parts[-1].shape != parts[0].shape:
            (_, h, w), (_, h0, w0) = parts[-1].shape, parts[0].shape
            bad_value(
                "data",
                f"{file} has {h}x{w} pixels, {files[0]} has {h0}x{w0}",
                "all must have as many: --resize scales and crops them",
            )
    return np.stack(parts), np.repeat(np.arange(len(lists)), [len(found) for found in lists])


def held_out(y: Array, fraction: float, seed: int) -> Array:
    """Which rows are for the test: of every class that fraction, at least one and not all."""
    rng, test = np.random.default_rng(seed), np.zeros(len(y), bool)
    for k in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == k))
        test[rows[: min(max(round(fraction * len(rows)), 1), len(rows) - 1)]] = True
    return test


def channels_first(x: Array) -> Array:
    """(N, H, W[, C]) of any number type -> (N, C, H, W) float32; integers are scaled to [0, 1]."""
    scale = np.float32(1 / 255 if x.dtype.kind in "iu" else 1)
    x = x[..., None] if x.ndim == 3 else x
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32) * scale

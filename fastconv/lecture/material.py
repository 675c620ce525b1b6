"""What the experiments work on: digits, a digit of 28x28 pixels, a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.tools import datasets
from fastconv.tools.datasets import Dataset
from fastconv.tools.extras import require

# Of a large data set, as many images as a classroom has patience for; FEW where nets are trained many times.
TRAIN, TEST, FEW = 6000, 2000, 1500


@dataclass(frozen=True)
class Material:
    """Data, and how much of everything to do.

    Attributes
    ----------
    data : Dataset
        Labelled images.
    source : str
        Where they come from, for captions.
    quick : bool
        Few epochs and seeds: whether all runs, not what it shows.
    seeds : int
        Starts of the experiments that compare accuracies.
    """

    data: Dataset
    source: str
    quick: bool
    seeds: int

    def epochs(self, full: int) -> int:
        return 2 if self.quick else full

    def few(self) -> Dataset:
        """At most 1500 images to train on, and as many to test."""
        d = self.data
        return Dataset(d.x_train[:FEW], d.y_train[:FEW], d.x_test[:FEW], d.y_test[:FEW], d.classes)

    def enlarged(self) -> Dataset:
        """The data at 28x28 pixels: as they are, or interpolated."""
        d = self.data
        return Dataset(enlarge(d.x_train), d.y_train, enlarge(d.x_test), d.y_test, d.classes)

    def digit(self, label: int = 2) -> Array:
        """The first test image of a class, (28, 28)."""
        first = int((self.data.y_test == label).argmax())
        image: Array = enlarge(self.data.x_test[first : first + 1])[0, 0]
        return image


def material(path: str | Path | None = None, *, quick: bool = False, seeds: int = 5) -> Material:
    """scikit-learn's digits, or an .npz file with x_train, y_train, x_test, y_test of one channel.

    Raises
    ------
    ValueError
        Where the file is none, or its images are not those of digits in grey.
    """
    if path is None:
        return Material(datasets.digits(), "scikit-learn's digits", quick, 2 if quick else seeds)
    d = datasets.npz(path)
    if d.x_train.shape[1:] != (1, 28, 28) or len(d.classes) != 10:
        raise ValueError(
            f"--data: {path} holds images of shape {d.x_train.shape[1:]} in {len(d.classes)} classes: "
            "the lecture needs (1, 28, 28) and 10, as MNIST has"
        )
    part = Dataset(d.x_train[:TRAIN], d.y_train[:TRAIN], d.x_test[:TEST], d.y_test[:TEST], d.classes)
    return Material(part, f"{len(part.x_train):,} digits of {Path(path).name}", quick, 2 if quick else seeds)


def enlarge(x: Array) -> Array:
    """(N, C, 8, 8) to 28x28 pixels as MNIST has them: 20x20, by cubic splines, in a margin of 4.

    28x28 pixels stay as they are.
    """
    if x.shape[2:] == (28, 28):
        return x
    zoom = require("scipy.ndimage", "enlarging the digits").zoom
    # What the interpolation makes of the identity is its matrix, (20, 8).
    spline = zoom(np.eye(8, dtype=np.float32), (2.5, 1), order=3, mode="nearest", grid_mode=True)
    larger = np.clip(spline @ x @ spline.T, 0, 1)
    return np.pad(larger, ((0, 0), (0, 0), (4, 4), (4, 4)))


def shifted(x: Array, columns: int) -> Array:
    """Images (N, C, H, W) moved to the right, or to the left by a negative number; zeros come in."""
    moved = np.zeros_like(x)
    if columns >= 0:
        moved[..., columns:] = x[..., : x.shape[3] - columns]
    else:
        moved[..., :columns] = x[..., -columns:]
    return moved


def photographs() -> list[Array]:
    """The two photographs that scikit-learn ships, (427, 640, 3) in [0, 1]: a temple and a flower."""
    load = require("sklearn.datasets", "the photographs").load_sample_images
    return [np.asarray(image, np.float32) / 255 for image in load().images]

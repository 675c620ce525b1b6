"""The nets whose training steps are timed (batch 64, SGD), as plain lists that every library builds from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

BATCH, CLASSES, LEARNING_RATE = 64, 10, 0.01


RELU, POOL = ["relu"], ["pool"]


def conv(c_in: int, c_out: int, window: int, padding: int) -> list[Any]:
    return ["conv", c_in, c_out, window, padding]


# name -> (image, layers); "flatten" names the shape it flattens.
NETS: dict[str, tuple[tuple[int, int, int], list[Any]]] = {
    "digits net": (
        (1, 8, 8),
        [
            *(conv(1, 16, 3, 1), RELU, conv(16, 32, 3, 1), RELU, POOL),
            *(["flatten", 32, 4, 4], ["linear", 512, CLASSES]),
        ],
    ),
    "LeNet-5": (
        (1, 28, 28),
        [
            *(conv(1, 6, 5, 2), RELU, POOL, conv(6, 16, 5, 0), RELU, POOL),
            *(["flatten", 16, 5, 5], ["linear", 400, 120], RELU, ["linear", 120, 84], RELU),
            ["linear", 84, CLASSES],
        ],
    ),
    "CIFAR net": (
        (3, 32, 32),
        [
            *(conv(3, 32, 3, 1), RELU, conv(32, 32, 3, 1), RELU, POOL),
            *(conv(32, 64, 3, 1), RELU, conv(64, 64, 3, 1), RELU, POOL),
            *(["flatten", 64, 8, 8], ["linear", 4096, CLASSES]),
        ],
    ),
}


def step_task(name: str, folder: Path) -> dict[str, Any]:
    """The task of training a net, with its images, labels and start in .npy files."""
    image, layers = NETS[name]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x": rng.standard_normal((BATCH, *image), np.float32),
        "labels": rng.integers(0, CLASSES, BATCH),
    }
    for i, (kind, *numbers) in enumerate(layers):
        if kind in ("conv", "linear"):
            shape = (
                (numbers[1], numbers[0], *[numbers[2]] * 2) if kind == "conv" else (numbers[1], numbers[0])
            )
            scale = math.sqrt(2 / math.prod(shape[1:]))
            arrays[f"w{i}"] = rng.standard_normal(shape, np.float32) * np.float32(scale)
            arrays[f"b{i}"] = np.zeros(shape[0], np.float32)
    files = {}
    for key, array in arrays.items():
        files[key] = str(folder / f"{key}.npy")
        np.save(files[key], array)
    return {"kind": "step", "ndim": 2, "layers": layers, "lr": LEARNING_RATE, "files": files}

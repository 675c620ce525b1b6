"""Checkpoints of `fastconv train`: a net's weights, what it is, and how its training goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.nn import Sequential, checkpoint
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.tools.nets import NETS, Shape

# What a checkpoint keeps of the command line, with the defaults; lr is the net's own.
SETTINGS: dict[str, Any] = {
    "data": None,
    "epochs": 10,
    "batch_size": 64,
    "lr": None,
    "seed": 0,
    "augment": "none",
    "resize": False,
}
NEEDED = "it must be a checkpoint that `fastconv train` wrote"


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself.

    Attributes
    ----------
    model : str
        Its name in `fastconv.tools.nets`.
    shape : (C, H, W)
        Of the images that the net takes.
    classes : tuple of str
    settings : dict
        Of the training, named as in SETTINGS.
    checksum : int
        Of the training images and labels.
    finished : bool
    """

    model: str
    shape: Shape
    classes: tuple[str, ...]
    settings: dict[str, Any]
    checksum: int
    finished: bool

    def build(self) -> Sequential:
        """The net, with fresh parameters."""
        return NETS[self.model].build(self.shape, len(self.classes), int(self.settings["seed"]))


def save(path: Path, net: Sequential, about: About, state: dict[str, Array]) -> None:
    """Write all of it to one .npz file; `Sequential.load` takes the weights from it."""
    checkpoint.save(path, net, {**state, "about": np.array(json.dumps(asdict(about)))})


def read_about(path: Path) -> About:
    """What the checkpoint is of; ValueError where the file is no checkpoint of `fastconv train`."""
    found = checkpoint.read_npz("checkpoint", path, NEEDED.removeprefix("it must be "))
    try:
        told = json.loads(str(found["about"]))
        about = About(**told | {"shape": tuple(told["shape"]), "classes": tuple(told["classes"])})
        known = about.model in NETS and len(about.shape) == 3 and about.settings.keys() == SETTINGS.keys()
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        bad_value("checkpoint", f"{path} does not say what it is of", NEEDED)
    return about


def load(path: Path) -> tuple[Sequential, About, dict[str, Array]]:
    """The net with its weights, what it is, and the training's state."""
    about = read_about(path)
    net = about.build()
    state = checkpoint.load(path, net)
    return net.eval(), about, state

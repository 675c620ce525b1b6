"""Weights on disk: an .npz of a layer's parameters and buffers under their names."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastconv.nn.layer import Layer
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value


def tensors(layer: Layer) -> dict[str, Array]:
    """Parameters and buffers by the names they have in a file."""
    return {f"{kind}/{name}": a for kind in ("params", "buffers") for name, a in getattr(layer, kind).items()}


def save(path: str | Path, layer: Layer, more: Mapping[str, Array] | None = None) -> None:
    """Write the layer's tensors, and what else is given under names of other kinds.

    To a temporary file beside `path`, which is then renamed: a crash leaves the old checkpoint whole.
    """
    path = Path(path)
    part = path.with_name(path.name + f".{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **tensors(layer), **(more or {}))  # type: ignore[arg-type]
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | Path, layer: Layer) -> dict[str, Array]:
    """Read into the layer's own arrays, after every name and shape has been compared; returns the rest."""
    everything, wanted = read_npz("load", path, "an .npz file that save() wrote"), tensors(layer)
    found = {name: a for name, a in everything.items() if name.startswith(("params/", "buffers/"))}
    if not found and wanted:
        bad_value("load", f"{path} holds no parameters", "it must be an .npz file that save() wrote")
    for name in sorted(found.keys() ^ wanted.keys()):
        where = "only in the file" if name in found else "only in the net"
        bad_value(
            "load",
            f"{path} is a checkpoint of another net",
            f"{name} is {where}; build the net that was saved",
        )
    for name, a in wanted.items():
        if found[name].shape != a.shape:
            bad_value(
                "load",
                f"{path} is a checkpoint of another net",
                f"{name} has shape {found[name].shape} in the file and {a.shape} in the net",
            )
    for name, a in wanted.items():
        a[...] = found[name]
    return {name: a for name, a in everything.items() if name not in found}


def read_npz(op: str, path: str | Path, needed: str) -> dict[str, Array]:
    """All arrays of an .npz file; pickled objects are refused."""
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        bad_value(op, f"{path} cannot be read", f"it must be {needed}")

"""`fastconv predict lenet5.npz 3.png`: what a trained net sees in image files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fastconv.dispatch.settings import use
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int
from fastconv.tools import images, trained
from fastconv.tools.nets import NETS, middle
from fastconv.tools.trained import About


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", type=Path, help="a file that `fastconv train` wrote")
    add("images", type=Path, nargs="+", help="image files, or folders of them")
    add("--top", type=int, default=3, help="classes to show of each image (default %(default)s)")
    add("--resize", action="store_true", help="scale and crop the images to the net's size")
    add("--invert", action="store_true", help="dark on light becomes light on dark, as MNIST's digits are")
    add("--json", action="store_true", help="print JSON")
    add("--threads", type=int, help="default: FASTCONV_NUM_THREADS, else all CPUs")


def run(args: argparse.Namespace) -> int:
    """Read everything, then predict: a line an image, the most probable classes first."""
    top = parse_int("predict", "--top", args.top, 1)
    if not args.checkpoint.is_file():
        bad_value("predict", f"there is no file {args.checkpoint}", "name a checkpoint of `fastconv train`")
    net, about, _ = trained.load(args.checkpoint)
    files = list(named_files(args.images))
    x = np.stack([read(file, about, resize=args.resize) for file in files])
    with use(threads=args.threads):
        probabilities = net.predict_proba(1 - x if args.invert else x)
    rows = [ranked(row, about.classes, top) for row in probabilities]
    if args.json:
        found = [{"image": str(f), "classes": dict(row)} for f, row in zip(files, rows, strict=True)]
        print(json.dumps(found, indent=1))
        return 0
    width = max(len(str(file)) for file in files)
    for file, row in zip(files, rows, strict=True):
        print(f"{file!s:{width}}  " + ", ".join(f"{name} ({share:.2%})" for name, share in row))
    return 0


def named_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and those in the folders."""
    for path in paths:
        inside = list(images.listed(path)) if path.is_dir() else [path]
        if not inside:
            bad_value("predict", f"{path} holds no images", "name image files or folders of them")
        yield from inside


def read(file: Path, about: About, *, resize: bool) -> Array:
    """One image as the net takes it."""
    net = NETS[about.model]
    c, h, w = about.shape
    side = (net.side if net.crop else min(h, w)) if resize else None
    x = images.read(file, c if c in (1, 3) else None, side)
    x = middle(x, net.crop) if net.crop and min(x.shape[1:]) >= net.crop else x
    if x.shape != about.shape:
        bad_value(
            "predict",
            f"{file} has {x.shape[1]}x{x.shape[2]} pixels",
            f"the net takes {h}x{w}: --resize scales and crops it",
        )
    return x


def ranked(probabilities: Array, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The most probable classes with their probabilities."""
    return [(classes[k], float(probabilities[k])) for k in np.argsort(-probabilities, kind="stable")[:top]]

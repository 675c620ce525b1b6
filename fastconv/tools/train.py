"""`fastconv train --model lenet5 --data mnist.npz`: a net of its paper, trained on one's own images."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.dispatch.settings import use
from fastconv.nn import Adam, Sequential, Trainer, one_cycle
from fastconv.nn.training import History
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int
from fastconv.tools import datasets, trained
from fastconv.tools.datasets import Dataset
from fastconv.tools.extras import require
from fastconv.tools.nets import AUGMENTS, NETS, adapted, augmentation, middle
from fastconv.tools.trained import SETTINGS, About


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", choices=NETS, help="the net")
    add(
        "--data",
        help="an .npz file with x_train, y_train, x_test, y_test; a folder with a folder of images for each "
        "class, or with train and test of that kind; 'digits' (scikit-learn's); 'mnist' (from openml.org)",
    )
    add("--epochs", type=int, help=f"default {SETTINGS['epochs']}")
    add("--batch-size", type=int, help=f"default {SETTINGS['batch_size']}")
    add(
        "--lr", type=float, help="Adam's learning rate at the top of a one-cycle schedule; default: the net's"
    )
    add("--seed", type=int, help="of the start, the split and the order; default 0")
    add("--augment", choices=AUGMENTS, help="change the training images at random; default none")
    add("--resize", action="store_const", const=True, help="scale and crop image files to the net's size")
    add("--save", type=Path, metavar="FILE", help="the checkpoint; default MODEL.npz")
    add(
        "--resume",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE",
        help="go on with an interrupted training; default: the file of --save",
    )
    add("--threads", type=int, help="default: FASTCONV_NUM_THREADS, else all CPUs")
    add("--no-progress", action="store_true", help="a line an epoch, without the bar")


def run(args: argparse.Namespace) -> int:
    """Train to the end, or until a signal stops it: 130 after Ctrl-C, with everything saved."""
    with use(threads=args.threads):
        return go_on(args) if args.resume is not None else begin(args)


def begin(args: argparse.Namespace) -> int:
    """A new training."""
    for name in ("model", "data"):
        if getattr(args, name) is None:
            bad_value("train", f"--{name} is missing", "give --model and --data, or --resume FILE")
    given = {name: getattr(args, name) for name in SETTINGS}
    settings = {name: SETTINGS[name] if value is None else value for name, value in given.items()}
    settings["lr"] = NETS[args.model].lr if args.lr is None else args.lr
    for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
        parse_int("train", f"--{name.replace('_', '-')}", settings[name], least)
    path = args.save or Path(f"{args.model}.npz")
    check_target(path)
    data = load_data(args.model, settings)
    crop = NETS[args.model].crop
    shape = (data.x_train.shape[1], *(2 * (crop,) if crop else data.x_train.shape[2:]))
    if Path(settings["data"]).exists():
        settings["data"] = str(Path(settings["data"]).absolute())
    about = About(args.model, shape, data.classes, settings, checksum(data), finished=False)
    return train(about.build(), about, data, path, {}, progress=bar_wanted(args))


def go_on(args: argparse.Namespace) -> int:
    """The rest of an interrupted training, as if it had not been."""
    default = args.save or (Path(f"{args.model}.npz") if args.model else None)
    path = args.resume if args.resume != Path() else default
    if path is None:
        bad_value("train", "--resume names no file", "give --resume FILE, --save FILE or --model")
    if not path.is_file():
        bad_value("train", f"--resume: there is no file {path}", "name the checkpoint to go on with")
    about = trained.read_about(path)
    if args.model not in (None, about.model):
        bad_value(
            "train", f"--model is {args.model}", f"{path} is a checkpoint of {about.model}: leave it out"
        )
    for name in SETTINGS.keys() - {"data"}:
        given, kept = getattr(args, name), about.settings[name]
        if given not in (None, kept):
            option = f"--{name.replace('_', '-')}"
            bad_value("train", f"{option} is {given}", f"{path} was begun with {kept}: leave {option} out")
    if args.data is not None:
        about = replace(about, settings={**about.settings, "data": args.data})
    if about.finished:
        print(f"{path}: all {about.settings['epochs']} epochs are done")
        return 0
    net, _, state = trained.load(path)
    data = load_data(about.model, about.settings)
    if checksum(data) != about.checksum:
        where = about.settings["data"]
        bad_value("train", f"{where} is not what {path} was trained on", "give the same data by --data")
    return train(net, about, data, args.save or path, state, progress=bar_wanted(args))


def bar_wanted(args: argparse.Namespace) -> bool:
    """On a terminal, unless it is turned off; a log gets a line an epoch."""
    wanted = not args.no_progress and sys.stderr.isatty()
    if wanted:
        require("tqdm", "the progress bar (or give --no-progress)")
    return wanted


def train(
    net: Sequential, about: About, data: Dataset, path: Path, state: dict[str, Array], *, progress: bool
) -> int:
    """Train, saving after each epoch and when stopped."""
    settings = about.settings
    trainer = Trainer(
        net,
        data.x_train,
        data.y_train,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=Adam(settings["lr"]),
        schedule=one_cycle(),
        augment=augmentation(about.model, settings["augment"], data.x_train),
        validation_data=(data.x_test, data.y_test),
        seed=settings["seed"],
        progress=progress,
        on_epoch=lambda history: after_epoch(history),
    )
    say: Callable[[str], Any] = require("tqdm", "the progress bar").tqdm.write if progress else print

    def save() -> None:
        trained.save(path, net, replace(about, finished=trainer.finished), trainer.state())

    def after_epoch(history: History) -> None:
        say(epoch_line(history, settings["epochs"], len(data.x_train)))
        sys.stdout.flush()
        save()

    introduce(net, about, data)
    if state:
        trainer.restore(state)
        print(f"{path}: going on after {progress_so_far(trainer)}", flush=True)
    started = time.perf_counter()
    # A loss that diverges gets a sentence, NumPy's warnings on the way there none.
    with stopped_by_signals(trainer) as received, np.errstate(all="ignore"):
        trainer.run()
    if not trainer.finished:
        save()
        print(f"stopped after {progress_so_far(trainer)}, saved; go on with: fastconv train --resume {path}")
        return 128 + received[0]
    accuracy = trainer.history["val_accuracy"][-1]
    seconds = time.perf_counter() - started
    print(f"test accuracy {accuracy:.2%} after {settings['epochs']} epochs; {seconds:.1f} s; saved to {path}")
    return 0


def check_target(path: Path) -> None:
    """Refuse to write over data, or over a training that can still go on."""
    if not path.absolute().parent.is_dir():
        bad_value("train", f"--save is {path}", "its folder must exist")
    if not os.access(path.absolute().parent, os.W_OK):
        bad_value("train", f"--save is {path}", "its folder must be one that may be written to")
    if path.is_dir():
        bad_value("train", f"--save is {path}, a folder", "it must be a file")
    if not path.exists():
        return
    try:
        finished = trained.read_about(path).finished
    except ValueError:
        bad_value("train", f"{path} exists and is no checkpoint", "choose another file by --save")
    if not finished:
        needed = f"go on with it by --resume {path}, or remove it, or choose another file by --save"
        bad_value("train", f"{path} holds a training that is not finished", needed)


def load_data(model: str, settings: dict[str, Any]) -> Dataset:
    """Images that the model takes, from the place that --data names."""
    where, seed, net = str(settings["data"]), int(settings["seed"]), NETS[model]
    path = Path(where)
    if path.is_dir():
        side = net.side if settings["resize"] else None
        data = datasets.folder(path, channels=net.channels, side=side, seed=seed)
    elif settings["resize"]:
        bad_value("train", f"--resize is given, --data is {where}", "it is for a folder of image files")
    elif path.is_file():
        data = datasets.npz(path)
    elif where == "digits":
        data = datasets.digits(seed)
        times = net.digits // 8
        x_train, x_test = (x.repeat(times, 2).repeat(times, 3) for x in (data.x_train, data.x_test))
        data = replace(data, x_train=x_train, x_test=x_test)
    elif where == "mnist":
        data = datasets.mnist()
    else:
        bad_value(
            "train", f"--data is {where}", "it must be an .npz file, a folder of images, 'digits' or 'mnist'"
        )
    sizes = [x.shape[1:] for x in (data.x_train, data.x_test)]
    if sizes[0] != sizes[1]:
        needed = "both must be of the same size"
        bad_value("data", f"{where}: images are {sizes[0]} to train on, {sizes[1]} to test", needed)
    hint = "--resize scales and crops them" if path.is_dir() else "--model names another net, such as mlp"
    x_train, x_test = (adapted(model, x, hint) for x in (data.x_train, data.x_test))
    return replace(data, x_train=x_train, x_test=middle(x_test, net.crop))


def checksum(data: Dataset) -> int:
    """Of the training images and labels: a resumed training needs the same."""
    x, y = np.ascontiguousarray(data.x_train), np.ascontiguousarray(data.y_train)
    return zlib.crc32(y.data, zlib.crc32(x.data))


def introduce(net: Sequential, about: About, data: Dataset) -> None:
    """The net's layers and the data's sizes."""
    print(net.summary(about.shape), end="\n\n")
    size = "x".join(map(str, data.x_train.shape[1:]))
    counts = f"{len(data.x_train):,} images of {size} to train on, {len(data.x_test):,} to test"
    print(f"{about.settings['data']}: {counts}, {len(data.classes)} classes", flush=True)


def epoch_line(history: History, epochs: int, images: int) -> str:
    """The last epoch's figures."""
    return (
        f"epoch {len(history['loss'])}/{epochs}: loss {history['loss'][-1]:.4f}, "
        f"accuracy {history['accuracy'][-1]:.2%}, test accuracy {history['val_accuracy'][-1]:.2%}, "
        f"{images / history['seconds'][-1]:,.0f} images/s"
    )


def progress_so_far(trainer: Trainer) -> str:
    done = f"{trainer.epoch} of {trainer.epochs} epochs"
    return f"{done} and {trainer.done:,} of {len(trainer.x):,} images" if trainer.done else done


@contextmanager
def stopped_by_signals(trainer: Trainer) -> Iterator[list[int]]:
    """Ctrl-C or a TERM signal ends the training after the step it is in; a second one ends it at once.

    Yields a list that holds the signal's number once it came.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        trainer.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

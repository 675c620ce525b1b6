"""`fastconv digits`: train on scikit-learn's digits, and validate every kernel by training with it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastconv.dispatch.settings import use
from fastconv.nn import (
    Adam,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    one_cycle,
    random_shift,
)
from fastconv.nn.layer import Layer
from fastconv.nn.training import History
from fastconv.ops.parse import parse_int
from fastconv.tools import datasets
from fastconv.tools.agreement import STEPS, agreement, available_kernels, table
from fastconv.tools.datasets import Dataset


class Training(NamedTuple):
    """One seed's net, its split of the data and what it reached."""

    net: Sequential
    data: Dataset
    history: History
    accuracy: float
    seconds: float


def digits_net(seed: int = 0, activation: type[Layer] = ReLU) -> Sequential:
    """conv32 - conv32 - pool - conv64 - dropout - linear on (N, 1, 8, 8)."""
    return Sequential(
        *(Conv2d(1, 32, 3, padding=1), activation()),
        *(Conv2d(32, 32, 3, padding=1), activation(), MaxPool2d(2)),
        *(Conv2d(32, 64, 3, padding=1), activation(), Dropout(0.5)),
        *(Flatten(), Linear(64 * 4 * 4, 10)),
        seed=seed,
    )


def train(seed: int = 0, epochs: int = 40, *, progress: bool = False) -> Training:
    """Train on one split: Adam, one cycle up to 4e-3, shifts of one pixel, batches of 64."""
    data, net = datasets.digits(seed), digits_net(seed)
    started = time.perf_counter()
    history = net.fit(
        data.x_train,
        data.y_train,
        epochs=epochs,
        batch_size=64,
        optimizer=Adam(4e-3),
        schedule=one_cycle(),
        augment=random_shift(1),
        validation_data=(data.x_test, data.y_test),
        seed=seed,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    return Training(net, data, history, history["val_accuracy"][-1], seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="splits and starts to train on (default %(default)s)")
    add("--epochs", type=int, default=40, help="default %(default)s")
    add("--report", type=Path, default=Path("digits.png"), metavar="FILE", help="default %(default)s")
    add(
        "--kernel", help="train with this kernel (see `fastconv info`); default: the fastest for each problem"
    )
    add("--threads", type=int, help="default: FASTCONV_NUM_THREADS, else all CPUs")


def run(args: argparse.Namespace) -> int:
    """Train, compare the kernels, draw the report; 1 where a kernel deviates."""
    seeds = parse_int("digits", "--seeds", args.seeds, 1)
    epochs = parse_int("digits", "--epochs", args.epochs, 1)
    with use(kernel=args.kernel, threads=args.threads):
        trainings = show_training(seeds, epochs)
        rows = agreement(digits_net, available_kernels(), trainings[0].data, STEPS)
    print(f"\nThe loss after {STEPS} steps with each kernel, against the reference's curve:\n")
    print(table(rows))
    from fastconv.tools.digits_report import draw

    draw(trainings).savefig(args.report)
    print(f"\nPictures: {args.report}")
    wrong = [f"{row.kernel} in {row.dtype}" for row in rows if not row.agrees]
    if wrong:
        print(f"These deviate: {', '.join(wrong)}")
    return 1 if wrong else 0


def show_training(seeds: int, epochs: int) -> list[Training]:
    """Train on every seed and print the accuracies."""
    print(digits_net().summary((1, 8, 8)), end="\n\n")
    trainings = []
    for seed in range(seeds):
        trainings.append(train(seed, epochs, progress=True))
        last = trainings[-1]
        print(f"seed {seed}: test accuracy {last.accuracy:.2%} in {last.seconds:.1f} s", flush=True)
    accuracies = [t.accuracy for t in trainings]
    print(f"mean of {seeds}: {np.mean(accuracies):.2%}, lowest {min(accuracies):.2%}")
    return trainings

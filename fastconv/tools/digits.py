"""`fastconv digits`: train on scikit-learn's digits, and validate every kernel by training with it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch.registry import kernels_in_order
from fastconv.dispatch.settings import use
from fastconv.nn import (
    SGD,
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
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem
from fastconv.ops.parse import parse_int
from fastconv.tools import datasets
from fastconv.tools.datasets import Dataset

# A kernel's loss curve must follow the reference's this closely over the first STEPS steps.
STEPS = 20
BOUNDS = {"float64": 1e-10, "float32": 1e-4}


class Agreement(NamedTuple):
    """One kernel's training against the reference's."""

    kernel: str
    net: str
    dtype: str
    final_loss: float
    deviation: float
    bound: float
    seconds: float

    @property
    def agrees(self) -> bool:
        return self.deviation <= self.bound


class Training(NamedTuple):
    """One seed's net, its split of the data and what it reached."""

    net: Sequential
    data: Dataset
    history: History
    accuracy: float
    seconds: float


def digits_net(seed: int = 0) -> Sequential:
    """conv32 - conv32 - pool - conv64 - dropout - linear on (N, 1, 8, 8)."""
    return Sequential(
        *(Conv2d(1, 32, 3, padding=1), ReLU()),
        *(Conv2d(32, 32, 3, padding=1), ReLU(), MaxPool2d(2)),
        *(Conv2d(32, 64, 3, padding=1), ReLU(), Dropout(0.5)),
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


def depthwise_net(seed: int = 0) -> Sequential:
    """Two depthwise convolutions and a linear layer, on digits whose 2x2 pixels have become channels."""
    return Sequential(
        *(PixelsToChannels(), Conv2d(4, 4, 3, padding=1, groups=4, init="he"), ReLU()),
        *(Conv2d(4, 4, 3, padding=1, groups=4, init="he"), ReLU(), Flatten(), Linear(64, 10)),
        seed=seed,
    )


class PixelsToChannels(Layer):
    """(N, 1, H, W) -> (N, 4, H/2, W/2)."""

    def forward(self, x: Array) -> Array:
        n, _, h, w = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(blocks).reshape(n, 4, h // 2, w // 2)


NETS = {"digits": digits_net, "depthwise": depthwise_net}


def loss_curve(
    kernel: str, net_name: str, dtype: str, data: Dataset, steps: int
) -> tuple[list[float], float]:
    """The losses of the first steps with one kernel, and the seconds they took."""
    net, warm_up = (NETS[net_name](seed).astype(dtype) for seed in (0, 1))
    x, y = (np.resize(a, (64 * steps, *a.shape[1:])) for a in (data.x_train, data.y_train))
    with use(kernel=kernel):
        warm_up.fit(x[:64], y[:64], epochs=1)  # just-in-time compilation is not timed
        started = time.perf_counter()
        history = net.fit(x, y, epochs=1, batch_size=64, optimizer=SGD(0.1, 0.9), seed=0)
        return history["step_loss"], time.perf_counter() - started


def agreement(names: Sequence[str], data: Dataset, steps: int = STEPS) -> list[Agreement]:
    """Each kernel's largest relative deviation from the reference's loss curve, in both dtypes.

    A kernel that cannot do the digits net's convolutions trains a net of depthwise ones.
    """
    rows = []
    for dtype, bound in BOUNDS.items():
        curves = {net: loss_curve("reference", net, dtype, data, steps) for net in NETS}
        for name in names:
            try:
                net = "digits"
                losses, seconds = (
                    curves[net] if name == "reference" else loss_curve(name, net, dtype, data, steps)
                )
            except UnsupportedProblem:
                net = "depthwise"
                losses, seconds = loss_curve(name, net, dtype, data, steps)
            deviation = float(np.max(np.abs(np.divide(losses, curves[net][0]) - 1)))
            rows.append(Agreement(name, net, dtype, losses[-1], deviation, bound, seconds))
    return rows


def available_kernels() -> list[str]:
    """Names of the kernels that can run here, the reference first."""
    return sorted((k.name for k in kernels_in_order() if k.missing is None), key=lambda n: n != "reference")


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
        rows = agreement(available_kernels(), trainings[0].data, STEPS)
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


def table(rows: Sequence[Agreement]) -> str:
    """The agreement as text."""
    lines: list[tuple[Any, ...]] = [
        ("kernel", "net", "dtype", "final loss", "largest deviation", "bound", "seconds", "")
    ]
    for r in rows:
        verdict = "agrees" if r.agrees else "DEVIATES"
        figures = (f"{r.final_loss:.6f}", f"{r.deviation:.1e}", f"{r.bound:.0e}", f"{r.seconds:.2f}")
        lines.append((r.kernel, r.net, r.dtype, *figures, verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(8)]
    return "\n".join(
        "  ".join(
            f"{v:<{w}}" if i in (0, 1, 2, 7) else f"{v:>{w}}"
            for i, (v, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

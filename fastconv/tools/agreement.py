"""Kernels compared by training: with the same start and batches each must give the reference's loss curve.

The nets have tanh, not ReLU: where an input of ReLU is zero but for the last bit, kernels that round
differently give different gradients, and training amplifies that (seen: from 1e-6 to 2e-3 in ten steps).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import runtime
from fastconv.dispatch.registry import kernels_by_name
from fastconv.dispatch.settings import use
from fastconv.nn import SGD, Conv2d, Flatten, Layer, Linear, Sequential, Tanh
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem
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


def agreement(
    make: Callable[..., Sequential], names: Sequence[str], data: Dataset, steps: int
) -> list[Agreement]:
    """Each kernel's largest relative deviation from the reference's loss curve, in both dtypes.

    `make(seed, activation)` builds the net; a kernel that cannot do its convolutions trains one of depthwise
    convolutions.
    """
    nets: dict[str, Callable[[int], Sequential]] = {
        "digits": partial(make, activation=Tanh),
        "depthwise": depthwise_net,
    }
    rows = []
    for dtype, bound in BOUNDS.items():
        curves = {net: loss_curve("reference", build, dtype, data, steps) for net, build in nets.items()}
        for name in names:
            net, (losses, seconds) = first_possible(name, nets, curves, dtype, data, steps)
            deviation = float(np.max(np.abs(np.divide(losses, curves[net][0]) - 1)))
            rows.append(Agreement(name, net, dtype, losses[-1], deviation, bound, seconds))
    return rows


def first_possible(
    name: str, nets: dict[str, Callable[[int], Sequential]], curves: dict[str, Any], *run: Any
) -> tuple[str, tuple[list[float], float]]:
    """The first net whose convolutions the kernel can do, and its loss curve."""
    if name == "reference":
        return next(iter(curves.items()))
    for net, build in nets.items():
        try:
            return net, loss_curve(name, build, *run)
        except UnsupportedProblem as error:
            refusal = error
    raise refusal


def depthwise_net(seed: int = 0) -> Sequential:
    """Two depthwise 5x5 convolutions and a linear layer, on images whose 2x2 pixels have become channels."""
    return Sequential(
        *(PixelsToChannels(), Conv2d(4, 4, 5, padding=2, groups=4, init="he"), Tanh()),
        *(Conv2d(4, 4, 5, padding=2, groups=4, init="he"), Tanh(), Flatten(), Linear(64, 10)),
        seed=seed,
    )


class PixelsToChannels(Layer):
    """(N, 1, H, W) -> (N, 4, H/2, W/2)."""

    def forward(self, x: Array) -> Array:
        n, _, h, w = x.shape
        blocks = x.reshape(n, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(blocks).reshape(n, 4, h // 2, w // 2)


def loss_curve(
    kernel: str, make: Callable[[int], Sequential], dtype: str, data: Dataset, steps: int
) -> tuple[list[float], float]:
    """The losses of the first steps with one kernel, and the seconds they took."""
    net, warm_up = (make(seed).astype(dtype) for seed in (0, 1))
    x, y = (np.resize(a, (64 * steps, *a.shape[1:])) for a in (data.x_train, data.y_train))
    with use(kernel=kernel):
        warm_up.fit(x[:64], y[:64], epochs=1)  # just-in-time compilation is not timed
        started = time.perf_counter()
        history = net.fit(x, y, epochs=1, batch_size=64, optimizer=SGD(0.05, 0.9), seed=0)
        return history["step_loss"], time.perf_counter() - started


def available_kernels() -> list[str]:
    """Names of the kernels that can run here, on every instruction set, the reference first."""
    chosen = f"@{runtime.chosen_isa()}"
    names = [n for n, k in kernels_by_name().items() if k.missing is None and not n.endswith(chosen)]
    return sorted(names, key=lambda n: n != "reference")


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

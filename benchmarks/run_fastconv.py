"""fastconv as a contestant: plain calls of the public functions, filters not packed in advance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from contestants import arrays

import fastconv as fc
from fastconv.tools.machine import describe
from fastconv.tools.workload import to_last

DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}


class Library:
    refusals = (fc.UnsupportedProblem,)

    def __init__(self, threads: int, precision: str) -> None:
        self.setting = fc.use(threads=threads, precision=precision)
        self.setting.__enter__()  # for as long as the process lives

    def about(self) -> dict[str, Any]:
        return describe()

    def call(self, task: dict[str, Any]) -> Callable[[], Any]:
        call: Callable[[], Any] = {"conv": conv, "pool": pool, "step": step}[task["kind"]](task)
        return call

    def values(self, task: dict[str, Any], result: Any) -> Any:
        """The result with channels first."""
        if not task["channels_last"] or task["kind"] == "step":
            return result
        if task.get("pass") == "filter_grad":
            return result.transpose(result.ndim - 1, result.ndim - 2, *range(result.ndim - 2))
        return np.moveaxis(result, -1, 1)


def placed(task: dict[str, Any]) -> dict[str, Any]:
    """The task's arrays, contiguous in its layout."""
    a = arrays(task)
    return {n: np.ascontiguousarray(to_last(n, v)) for n, v in a.items()} if task["channels_last"] else a


def layout(task: dict[str, Any]) -> dict[str, Any]:
    last = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
    return {"layout": last[task["ndim"]]} if task["channels_last"] else {}


def conv(task: dict[str, Any]) -> Callable[[], Any]:
    a, op = placed(task), task["op"]
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in task["options"].items()}
    options = {k: v for k, v in options.items() if v != DEFAULTS[k] and set(np.ravel(v)) != {DEFAULTS[k]}}
    options |= layout(task) | ({"kernel": task["kernel"]} if task["kernel"] else {})
    if task["pass"] == "forward":
        return partial(getattr(fc, op), a["x"], a["w"], **options)
    if task["pass"] == "input_grad":
        return partial(getattr(fc, f"{op}_input_grad"), a["dy"], a["w"], a["x"].shape, **options)
    return partial(getattr(fc, f"{op}_filter_grad"), a["x"], a["dy"], a["w"].shape, **options)


def pool(task: dict[str, Any]) -> Callable[[], Any]:
    a, options = placed(task), layout(task)
    shape = {"stride": task["stride"], "padding": task["padding"]} | options
    y, argmax = fc.max_pool2d(a["x"], task["window"], return_argmax=True, **shape)
    if task["pass"] == "max_pool":
        return lambda: fc.max_pool2d(a["x"], task["window"], return_argmax=True, **shape)[0]
    return partial(fc.max_pool2d_grad, np.ones_like(y), argmax, a["x"].shape, **options)


def step(task: dict[str, Any]) -> Callable[[], Any]:
    """One training step, which returns the loss before it."""
    a, options = arrays(task), layout(task)
    last = task["channels_last"]
    layers: list[fc.layers.Layer] = []
    for i, (kind, *numbers) in enumerate(task["layers"]):
        if kind == "conv":
            c_in, c_out, window, padding = numbers
            layers.append(fc.Conv2d(c_in, c_out, window, padding=padding, **options))
        elif kind == "linear":
            layers.append(fc.Linear(*numbers))
        else:
            layers.append(
                {"relu": fc.ReLU, "flatten": fc.Flatten, "pool": partial(fc.MaxPool2d, 2, **options)}[kind]()
            )
        if f"w{i}" in a:
            w = a[f"w{i}"]
            if last and kind == "conv":
                w = w.transpose(2, 3, 1, 0)
            if last and task["layers"][i - 1][0] == "flatten":
                w = w.reshape(len(w), *task["layers"][i - 1][1:]).transpose(0, 2, 3, 1).reshape(w.shape)
            layers[-1].params["w"][...] = w
            layers[-1].params["b"][...] = a[f"b{i}"]
    net, optimizer = fc.Sequential(*layers), fc.SGD(task["lr"])
    x = np.ascontiguousarray(to_last("x", a["x"])) if last else a["x"]

    def train() -> Any:
        loss, dlogits = fc.softmax_cross_entropy(net.forward(x), a["labels"])
        net.backward(dlogits)
        optimizer.step(net.params, net.grads)
        return loss

    return train

"""PyTorch as a contestant: NCHW, and channels_last tensors as its NHWC."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from contestants import Refused, arrays

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class Library:
    refusals = ()

    def __init__(self, threads: int, precision: str) -> None:
        torch.set_num_threads(threads)

    def about(self) -> dict[str, Any]:
        return {"torch": torch.__version__, "torch cpu capability": torch.backends.cpu.get_cpu_capability()}

    def call(self, task: dict[str, Any]) -> Callable[[], Any]:
        if task.get("kernel"):
            raise Refused("kernels are fastconv's")
        if task["kind"] == "copy":
            source = torch.ones(task["nbytes"], dtype=torch.uint8)
            return partial(torch.empty_like(source).copy_, source)
        if task["channels_last"] and task["ndim"] not in CHANNELS_LAST:
            raise Refused("PyTorch has no channels_last for one axis")
        build: Callable[..., Callable[[], Any]] = {"conv": conv, "pool": pool, "step": step}[task["kind"]]
        call = build(task)
        if task["kind"] == "step":
            return call

        def without_graph() -> Any:
            with torch.no_grad():
                return call()

        return without_graph

    def values(self, task: dict[str, Any], result: Any) -> Any:
        return result.detach().contiguous().numpy() if isinstance(result, torch.Tensor) else result


def placed(task: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The task's arrays as tensors in its memory format."""
    tensors = {name: torch.from_numpy(a) for name, a in arrays(task).items()}
    if not task["channels_last"]:
        return tensors
    memory_format = CHANNELS_LAST[task["ndim"]]
    rank = task["ndim"] + 2
    return {n: t.to(memory_format=memory_format) if t.dim() == rank else t for n, t in tensors.items()}


def conv(task: dict[str, Any]) -> Callable[[], Any]:
    t, o = placed(task), task["options"]
    transposed = task["op"].startswith("conv_transpose")
    extra = o.get("output_padding", [0] * task["ndim"])
    if task["pass"] == "forward":
        forward = getattr(F, task["op"])
        tail = (extra, o["groups"], o["dilation"]) if transposed else (o["dilation"], o["groups"])
        return lambda: forward(t["x"], t["w"], None, o["stride"], o["padding"], *tail)
    index = {"input_grad": 0, "filter_grad": 1}[task["pass"]]
    mask = [index == 0, index == 1, False]
    backward = torch.ops.aten.convolution_backward
    sizes = (o["stride"], o["padding"], o["dilation"], transposed, extra, o["groups"])
    return lambda: backward(t["dy"], t["x"], t["w"], None, *sizes, mask)[index]


def pool(task: dict[str, Any]) -> Callable[[], Any]:
    x = placed(task)["x"]
    window, stride, padding = ([task[name]] * 2 for name in ("window", "stride", "padding"))
    y, indices = F.max_pool2d(x, window, stride, padding, return_indices=True)
    if task["pass"] == "max_pool":
        return lambda: F.max_pool2d(x, window, stride, padding, return_indices=True)[0]
    dy, backward = torch.ones_like(y), torch.ops.aten.max_pool2d_with_indices_backward
    return lambda: backward(dy, x, window, stride, padding, [1, 1], False, indices)


def step(task: dict[str, Any]) -> Callable[[], Any]:
    """One training step of the eager net, which returns the loss before it."""
    a = placed(task)
    layers: list[torch.nn.Module] = []
    for i, (kind, *numbers) in enumerate(task["layers"]):
        if kind == "conv":
            c_in, c_out, window, padding = numbers
            layers.append(torch.nn.Conv2d(c_in, c_out, window, padding=padding))
        elif kind == "linear":
            layers.append(torch.nn.Linear(*numbers))
        else:
            modules = {
                "relu": torch.nn.ReLU,
                "flatten": torch.nn.Flatten,
                "pool": lambda: torch.nn.MaxPool2d(2),
            }
            layers.append(modules[kind]())
        if f"w{i}" in a:
            layers[-1].load_state_dict({"weight": a[f"w{i}"], "bias": a[f"b{i}"]})
    net = torch.nn.Sequential(*layers)
    if task["channels_last"]:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=task["lr"])

    def train() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(a["x"]), a["labels"])
        loss.backward()
        optimizer.step()
        return loss.item()

    return train

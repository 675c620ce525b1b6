"""What an adapter gains on its host's own functions, before and after `install()`, in one run.

    FASTCONV_NUM_THREADS=1 python benchmarks/adapters.py [HOST ...] [--networks] > table.md

The hosts are those installed here. Before and after take turns; a figure is the best of the rounds, and a
round that takes longer than two seconds is not repeated. `--networks` runs whole ONNX models on FastEvaluator
and on ONNX Runtime, one thread each: that thread's own time, which other programs disturb little.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.adapters import HOSTS

ROUNDS, LONG = 5, 2.0  # rounds, seconds
Task = Callable[[], Any]
# name -> (x, w, padding) of the convolutions, and the input of a 2x2 pool
CONVS = {
    "conv 32x16x32x32, 32 filters 3x3": ((32, 16, 32, 32), (32, 16, 3, 3), 1),
    "conv 64x1x28x28, 6 filters 5x5": ((64, 1, 28, 28), (6, 1, 5, 5), 2),
}
POOL = ("2x2 max-pool 32x32x32x32", (32, 32, 32, 32))


def array(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def onnx_tasks() -> Iterator[tuple[str, Task]]:
    """Forward, on ReferenceEvaluator; it chooses its operators when it is made."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    def run(op: str, feeds: dict[str, np.ndarray], **attributes: Any) -> Any:
        return ReferenceEvaluator(helper.make_node(op, list(feeds), ["y"], **attributes)).run(None, feeds)

    for name, (x, w, pad) in CONVS.items():
        yield f"{name}, forward", partial(run, "Conv", {"x": array(x), "w": array(w)}, pads=[pad] * 4)
    name, x = POOL
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield f"{name}, forward", partial(run, "MaxPool", {"x": array(x)}, **pool)
    yield "2x2 average pool, forward", partial(run, "AveragePool", {"x": array(x)}, **pool)


def mygrad_tasks() -> Iterator[tuple[str, Task]]:
    """Forward, and forward with backward."""
    import mygrad as mg
    from mygrad.nnet import conv_nd, max_pool

    def run(function: Callable[..., Any], arrays: list[np.ndarray], backward: bool) -> None:
        with mg.no_autodiff if not backward else mg.mem_guard_off:
            y = function(*map(mg.tensor, arrays))
        if backward:
            y.backward(np.ones_like(y.data))

    for name, (x, w, pad) in CONVS.items():
        conv = partial(conv_nd, stride=1, padding=pad)
        yield f"{name}, forward", partial(run, conv, [array(x), array(w)], False)
        yield f"{name}, forward and backward", partial(run, conv, [array(x), array(w)], True)
    name, x = POOL
    yield f"{name}, forward", partial(run, partial(max_pool, pool=(2, 2), stride=2), [array(x)], False)
    yield (
        f"{name}, forward and backward",
        partial(run, partial(max_pool, pool=(2, 2), stride=2), [array(x)], True),
    )


TASKS = {"onnx": onnx_tasks, "mygrad": mygrad_tasks}


def compare(adapter: Any, task: Task) -> tuple[float, float]:
    """Best seconds (before, after) of rounds that take turns."""
    before, after = [], []
    for _ in range(ROUNDS):
        if not before or min(before) < LONG:
            before.append(seconds(task))
        with adapter.installed():
            task()  # warm
            after.append(seconds(task))
    return min(before), min(after)


def seconds(task: Task, clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    task()
    return clock() - start


def hosts_table(hosts: list[str]) -> Iterator[str]:
    yield "| host | problem | before, ms | after, ms | speed-up |"
    yield "|---|---|---|---|---|"
    for host in hosts:
        adapter = importlib.import_module(f"fastconv.adapters.{host}")
        for name, task in TASKS[host]():
            before, after = compare(adapter, task)
            label = f"{HOSTS[host].name} {HOSTS[host].version}"
            yield f"| {label} | {name} | {before * 1e3:.3g} | {after * 1e3:.3g} | {before / after:.3g} |"


def networks_table() -> Iterator[str]:
    """Each network on both engines, taking turns."""
    import onnx_models
    from onnxruntime import InferenceSession, SessionOptions

    from fastconv.adapters.onnx import FastEvaluator

    options = SessionOptions()
    options.intra_op_num_threads = 1
    yield "| network, one image | FastEvaluator, ms | ONNX Runtime, ms | ratio | relative difference |"
    yield "|---|---|---|---|---|"
    for name in onnx_models.NAMES:
        model = onnx_models.load(name)
        feeds = onnx_models.sample_input(model)
        runs = [FastEvaluator(model).run, InferenceSession(model.SerializeToString(), options).run]
        with fc.use(threads=1):
            got, want = (run(None, feeds)[0] for run in runs)
            rounds = [
                [seconds(partial(run, None, feeds), time.thread_time) for run in runs] for _ in range(ROUNDS)
            ]
        ours, theirs = (min(figures) * 1e3 for figures in zip(*rounds, strict=True))
        error = np.abs(got - want).max() / np.abs(want).max()
        yield f"| {name} | {ours:.3g} | {theirs:.3g} | {ours / theirs:.2f} | {error:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hosts", nargs="*", choices=[*TASKS, []], help="default: all that are installed")
    parser.add_argument("--networks", action="store_true", help="whole ONNX models against ONNX Runtime")
    args = parser.parse_args()
    installed = [host for host in TASKS if HOSTS[host].installed]
    lines = networks_table() if args.networks else hosts_table(args.hosts or installed)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()

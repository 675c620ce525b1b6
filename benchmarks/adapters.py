"""What an adapter gains on its host's own functions, before and after `install()`, in one run.

    python benchmarks/adapters.py [HOST ...] [--networks] [--clock cpu] > table.md

The hosts are those installed here. Before and after take turns, one thread each, NumPy's BLAS included; a
figure is the best of the rounds, and what takes longer than a second is not repeated. `--networks` runs whole
ONNX models on FastEvaluator, ONNX Runtime and ReferenceEvaluator. `--clock cpu` measures the CPU time of the
calling thread, which other programs disturb little.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache, partial
from typing import Any

import numpy as np
from adapter_tasks import TASKS, Run, Task, stands_in
from threadpoolctl import threadpool_limits

import fastconv as fc
from fastconv.adapters import HOSTS
from fastconv.adapters.base import MissingHost

ROUNDS, LONG, SHORT = (
    5,
    1.0,
    0.05,
)  # rounds; seconds of what is not repeated; seconds of a round of short tasks
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.thread_time}
Clock = Callable[[], float]
ENGINES = ("FastEvaluator", "ONNX Runtime", "ReferenceEvaluator")


def compare(adapter: Any, task: Task, clock: Clock) -> tuple[float | None, float]:
    """Best seconds (before, after) of rounds that take turns; no before where the host alone cannot do it."""
    before, after = [], []
    for _ in range(ROUNDS):
        if not before or (before[0] is not None and min(before) < LONG):
            before.append(alone(task, clock))
        with adapter.installed():
            run = task.make()
            run()  # chooses kernels
            after.append(best(run, clock))
    return None if before[0] is None else min(before), min(after)


def alone(task: Task, clock: Clock) -> float | None:
    """Seconds of the host's own code; None where Keras needs jax for it."""
    try:
        return best(task.make(), clock)
    except MissingHost:
        return None


def best(run: Run, clock: Clock) -> float:
    """Seconds of the fastest of the calls that fit into a round, one at least."""
    seconds = [timed(run, clock)]
    while sum(seconds) < SHORT:
        seconds.append(timed(run, clock))
    return min(seconds)


def timed(run: Run, clock: Clock) -> float:
    start = clock()
    run()
    return clock() - start


def hosts_table(hosts: list[str], clock: Clock) -> Iterator[str]:
    yield "| host | problem | pass | before, ms | after, ms | speed-up |"
    yield "|---|---|---|---:|---:|---:|"
    for name in hosts:
        host = HOSTS[name]
        label = f"{host.name} {host.version or ('(stand-in)' if stands_in(host.module) else '')}"
        adapter = importlib.import_module(f"fastconv.adapters.{name}")
        for task in TASKS[name]():
            before, after = compare(adapter, task, clock)
            figures = f"{ms(before)} | {ms(after)} | {f'{before / after:.3g}' if before else '-'}"
            yield f"| {label} | {task.problem} | {task.passes} | {figures} |"


def ms(seconds: float | None) -> str:
    """Three significant digits without an exponent."""
    if seconds is None:
        return "needs jax"
    value = seconds * 1e3
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def networks_table(clock: str) -> Iterator[str]:
    """Each network on every engine, taking turns; a process each, whose caches and threads are its own."""
    import onnx_models

    columns = ("network, one image", "FastEvaluator, ms", "ONNX Runtime, ms", "ratio")
    columns += ("ReferenceEvaluator, ms", "ratio", "relative difference")
    yield f"| {' | '.join(columns)} |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    with ExitStack() as stack:
        workers = {
            engine: stack.enter_context(multiprocessing.get_context("spawn").Pool(1)) for engine in ENGINES
        }
        for name in onnx_models.NAMES:
            turns: dict[str, list[tuple[float, np.ndarray]]] = {engine: [] for engine in ENGINES}
            for turn in range(ROUNDS):
                for engine, worker in workers.items():
                    if turn == 0 or turns[engine][0][0] < LONG:
                        turns[engine].append(worker.apply(run_network, (engine, name, clock)))
            fast, runtime, host = (min(seconds for seconds, _ in turns[engine]) for engine in ENGINES)
            got, want = turns["FastEvaluator"][0][1], turns["ONNX Runtime"][0][1]
            error = np.abs(got - want).max() / np.abs(want).max()
            figures = f"{ms(fast)} | {ms(runtime)} | {fast / runtime:.2f} | {ms(host)} | {host / fast:.3g}"
            yield f"| {name} | {figures} | {error:.1e} |"


def run_network(engine: str, name: str, clock: str) -> tuple[float, np.ndarray]:
    """Best seconds of a round, and the output, on one thread."""
    with fc.use(threads=1), threadpool_limits(1):
        run = network(engine, name)
        if engine == "ReferenceEvaluator":
            return best(run, CLOCKS[clock]), np.empty(0)
        return best(run, CLOCKS[clock]), run()[0]


@lru_cache(maxsize=1)
def network(engine: str, name: str) -> Run:
    """The network's `run` with its input, warm where a call is short."""
    import onnx_models

    model = onnx_models.load(name)
    feeds = onnx_models.sample_input(model)
    if engine == "ReferenceEvaluator":
        from onnx.reference import ReferenceEvaluator

        return partial(ReferenceEvaluator(model).run, None, feeds)
    if engine == "FastEvaluator":
        from fastconv.adapters.onnx import FastEvaluator

        return partial(FastEvaluator(model).run, None, feeds)
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    return partial(InferenceSession(model.SerializeToString(), options).run, None, feeds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hosts", nargs="*", choices=[*TASKS, []], help="default: all that are installed")
    parser.add_argument("--networks", action="store_true", help="whole ONNX models")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: the calling thread's CPU time")
    args = parser.parse_args()
    installed = [host for host in TASKS if HOSTS[host].installed]
    clock = CLOCKS[args.clock]
    with fc.use(threads=1), threadpool_limits(1):
        lines = networks_table(args.clock) if args.networks else hosts_table(args.hosts or installed, clock)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()

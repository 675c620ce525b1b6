"""fastconv against PyTorch and ONNX Runtime on the same machine, in one run.

    python benchmarks/side_by_side.py --json result.json --markdown result.md --plot result.png

One process per library (two OpenMP runtimes in one process disturb each other), taking turns on each problem
for several rounds; a figure is the median over the rounds of each round's minimum. The values are checked in
the same run. fastconv is called plainly, filters not packed in advance; ONNX Runtime's filters are constants.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import report
from nets import NETS, step_task
from race import COPY, Contestant, Race, Task, forget, installed, progress, run, values

from fastconv.tools.bench import choose_kernels
from fastconv.tools.problems import PASSES, PROBLEMS, Problem, conv, select
from fastconv.tools.workload import Workload

SECTIONS = ("conv", "steps", "pool", "tiny", "threads", "batch")
LAYOUTS = ("NCHW", "NHWC")
TINY = conv("tiny", 1, 1, 8, 8, 1, 3, 3, 1, 0, 1, 1, source="call overhead")
# (name, (N, C, H, W), window, stride, padding)
POOLS = (
    ("digits 2x2", (64, 32, 8, 8), 2, 2, 0),
    ("cifar 2x2", (64, 64, 32, 32), 2, 2, 0),
    ("vgg 2x2", (4, 64, 224, 224), 2, 2, 0),
    ("resnet 3x3/2", (4, 64, 112, 112), 3, 2, 1),
)
# Threads are compared on problems that take long enough for a second thread to matter.
THREAD_PROBLEMS = ("cifar_c2", "vgg_3_2", "r50_3x3a", "r50_1x1a", "alex_c2", "deeplab_d2")
BATCHES = (1, 4, 16, 64, 256)


def main() -> int:
    args = parse()
    workers = start(args)
    with tempfile.TemporaryDirectory() as folder:
        races = []
        for race in all_races(args, workers, Path(folder)):
            progress(report.one_line(race))
            races.append(race)
    machine: dict[str, Any] = {}
    for contestant in workers.values():
        machine |= contestant.ask(do="about")["about"]
        contestant.close()
    options = {"threads": args.threads, "precision": args.precision, "dtype": args.dtype, "isa": args.isa}
    options |= {"kernels": args.kernels, "rounds": args.rounds, "seconds": args.seconds, "clock": args.clock}
    result = {"machine": machine, "options": options, "races": [asdict(race) for race in races]}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    text = report.markdown(result)
    if args.markdown:
        args.markdown.write_text(text)
    else:
        print(text)
    if args.plot:
        report.plot(result, args.plot)
    wrong = [f"{r.name} {r.pass_name} {label}" for r in races for label, e in r.errors.items() if not e <= 1]
    if wrong:
        print(f"wrong values: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS, help="default: all")
    add("--problems", nargs="+", default=["conv2d"], metavar="NAME", help="names, globs or groups")
    add("--passes", nargs="+", default=list(PASSES), choices=PASSES)
    add(
        "--kernels",
        nargs="+",
        metavar="NAME",
        help="force fastconv kernels (names or globs); the best counts",
    )
    add("--dtype", default="float32", choices=("float32", "float64"))
    add("--threads", type=int, default=2)
    add("--precision", default="high", choices=("high", "highest"))
    add("--isa", choices=("avx512", "avx2", "baseline"), help="fastconv's instruction set")
    add("--peers", nargs="*", default=["torch", "onnxruntime"], choices=("torch", "onnxruntime"))
    add(
        "--peer-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter that has the peers installed",
    )
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.05, help="spent on each turn (default %(default)s)")
    add("--clock", default="wall", choices=("wall", "cpu"), help="cpu, with --threads 1, on a busy machine")
    add("--json", type=Path, metavar="FILE")
    add("--markdown", type=Path, metavar="FILE")
    add("--plot", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.clock == "cpu" and args.threads != 1:
        parser.error("--clock cpu sees the calling thread only: it needs --threads 1")
    return args


def start(args: argparse.Namespace) -> dict[str, Contestant]:
    """fastconv, and every peer that is installed."""
    workers = {"fastconv": Contestant("fastconv", sys.executable, args.threads, args.precision, args.isa)}
    for library in args.peers:
        if installed(library, args.peer_python):
            workers[library] = Contestant(library, args.peer_python, args.threads, args.precision)
        else:
            progress(f"{library} is not installed for {args.peer_python}: left out")
    return workers


def all_races(args: argparse.Namespace, workers: dict[str, Contestant], folder: Path) -> Iterator[Race]:
    """Every race of the chosen sections, run."""
    kernels = choose_kernels(args.kernels) if args.kernels else [""]
    if "tiny" in args.sections:
        yield from conv_races("tiny", [TINY], ["forward"], kernels, args, workers, folder)
    if "conv" in args.sections:
        yield from conv_races("conv", select(args.problems), args.passes, kernels, args, workers, folder)
    if "pool" in args.sections:
        yield from pool_races(args, workers, folder)
    if "steps" in args.sections:
        yield from step_races(args, workers, folder)
    if "threads" in args.sections and args.threads > 1:
        yield from thread_races(args, workers, folder)
    if "batch" in args.sections:
        problems = [replace(PROBLEMS["r50_3x3c"], name=f"N={n}", n=n) for n in BATCHES]
        alone = {"fastconv": workers["fastconv"]}
        yield from conv_races("batch", problems, ["forward"], kernels, args, alone, folder)


def conv_task(problem: Problem, pass_name: str, layout: str, kernel: str, files: dict[str, str]) -> Task:
    return {
        "kind": "conv",
        "op": problem.op,
        "ndim": problem.ndim,
        "pass": pass_name,
        "options": problem.options,
        "channels_last": layout == "NHWC",
        "kernel": kernel,
        "files": files,
    }


def conv_races(
    section: str,
    problems: Sequence[Problem],
    passes: Sequence[str],
    kernels: Sequence[str],
    args: argparse.Namespace,
    workers: dict[str, Contestant],
    folder: Path,
) -> Iterator[Race]:
    """One race a problem and pass: every library with channels first and last ("NCHW", "NHWC")."""
    for problem in problems:
        work = Workload(problem, args.dtype)
        files = save(work.first, folder)
        for pass_name in passes:
            race = Race(section, problem.name, pass_name, problem.flops)
            entries = {}
            for library, contestant in workers.items():
                for kernel in kernels if library == "fastconv" else [""]:
                    for layout in LAYOUTS:
                        task = conv_task(problem, pass_name, layout, kernel, files)
                        entries[f"{library} {layout} {kernel}".strip()] = contestant, task
            check(race, values(race, entries, folder), work.magnitude(pass_name, problem.layouts[0]), work)
            run(race, entries, args.rounds, args.seconds, args.clock)
            yield race
            forget(list(workers.values()))


def check(race: Race, results: dict[str, Any], magnitude: Any, work: Workload) -> None:
    """Every result against a peer's, or against the reference kernel where there is no peer."""
    peers = [label for label in results if not label.startswith("fastconv")]
    want = results[peers[0]] if peers else work.call(race.pass_name, work.problem.layouts[0], "reference")()
    race.errors |= {label: work.error(got, want, magnitude) for label, got in results.items()}


def pool_races(args: argparse.Namespace, workers: dict[str, Contestant], folder: Path) -> Iterator[Race]:
    """Max-pool with argmax, and its gradient."""
    for name, shape, window, stride, padding in POOLS:
        x = np.random.default_rng(0).standard_normal(shape, np.float32).astype(args.dtype)
        task = {"kind": "pool", "ndim": 2, "window": window, "stride": stride, "padding": padding}
        task["files"] = save({"x": x}, folder)
        # either pass reads or writes x, y and argmax once: a copy of half the bytes moves as many
        outputs = math.prod((side + 2 * padding - window) // stride + 1 for side in shape[2:])
        moved = x.nbytes + math.prod(shape[:2]) * outputs * (x.itemsize + np.dtype(np.int32).itemsize)
        for pass_name in ("max_pool", "max_pool_grad"):
            race = Race("pool", name, pass_name)
            entries = {
                f"{library} {layout}": (
                    contestant,
                    task | {"pass": pass_name, "channels_last": layout == "NHWC"},
                )
                for library, contestant in workers.items()
                for layout in LAYOUTS
            }
            results = values(race, entries, folder)
            want = results.get("torch NCHW", next(iter(results.values()), None))
            race.errors |= {
                label: 0.0 if np.array_equal(got, want) else np.inf for label, got in results.items()
            }
            if "torch" in workers:
                entries[COPY] = workers["torch"], {"kind": "copy", "nbytes": moved // 2}
            run(race, entries, args.rounds, args.seconds, args.clock)
            yield race
            forget(list(workers.values()))


def step_races(args: argparse.Namespace, workers: dict[str, Contestant], folder: Path) -> Iterator[Race]:
    """Whole training steps: forward, backward, SGD, batch 64; the first losses must agree to 1e-5."""
    for name in NETS:
        race = Race("steps", name, "step")
        task = step_task(name, folder)
        entries = {
            f"{library} {layout}": (workers[library], task | {"channels_last": layout == "NHWC"})
            for library in ("fastconv", "torch")
            if library in workers
            for layout in LAYOUTS
        }
        losses = values(race, entries, folder)
        want = float(losses.get("torch NCHW", next(iter(losses.values()), 1.0)))
        race.errors |= {label: abs(float(loss) / want - 1) / 1e-5 for label, loss in losses.items()}
        run(race, entries, args.rounds, max(args.seconds, 0.2), args.clock)
        yield race
        forget(list(workers.values()))


def thread_races(args: argparse.Namespace, workers: dict[str, Contestant], folder: Path) -> Iterator[Race]:
    """fastconv on one thread and on all of them."""
    one = Contestant("fastconv", sys.executable, 1, args.precision, args.isa)
    for problem in select(THREAD_PROBLEMS):
        files = save(Workload(problem, args.dtype).first, folder)
        for pass_name in args.passes:
            race = Race("threads", problem.name, pass_name, problem.flops)
            task = conv_task(problem, pass_name, "NCHW", "", files)
            entries = {
                "fastconv 1 thread": (one, task),
                f"fastconv {args.threads} threads": (workers["fastconv"], task),
            }
            run(race, entries, args.rounds, args.seconds, args.clock)
            yield race
            forget([one, workers["fastconv"]])
    one.close()


def save(arrays: dict[str, Any], folder: Path) -> dict[str, str]:
    """The arrays as .npy files, by name."""
    files = {}
    for name, array in arrays.items():
        files[name] = str(folder / f"{name}.npy")
        np.save(files[name], array)
    return files


if __name__ == "__main__":
    sys.exit(main())

"""`fastconv bench`: every kernel on named problems, in ms, GFLOP/s and as a share of the FMA peak."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import fastconv
from fastconv.dispatch import registry, roofline, settings
from fastconv.tools.machine import describe
from fastconv.tools.measure import Bench, Row, mark_winners
from fastconv.tools.problems import GROUPS, PASSES, PROBLEMS, select

CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--problems",
        nargs="+",
        default=["conv2d"],
        metavar="NAME",
        help="names, globs or groups (see --list)",
    )
    add("--passes", nargs="+", default=list(PASSES), choices=PASSES, help="default: all three")
    add("--kernels", nargs="+", default=["*"], metavar="NAME", help="names or globs; name@isa forces a set")
    add(
        "--layouts",
        nargs="+",
        default=["NCHW", "NHWC"],
        choices=("NCHW", "NHWC"),
        help="first or last, any rank",
    )
    add("--dtype", default="float32", choices=("float32", "float64"))
    add("--threads", type=int, help="default: FASTCONV_NUM_THREADS, else all CPUs")
    add("--precision", choices=settings.PRECISIONS, help="highest leaves Winograd out")
    add("--seconds", type=float, default=0.1, help="spent on each measurement (default %(default)s)")
    add("--clock", default="wall", choices=CLOCKS, help="cpu, with --threads 1, on a busy machine")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--plot", type=Path, metavar="FILE", help="draw a chart (needs matplotlib)")
    add("--list", action="store_true", help="list the problems and groups, and stop")


def run(args: argparse.Namespace) -> int:
    if args.list:
        print("\n".join(listing()))
        return 0
    if args.clock == "cpu" and args.threads != 1:
        raise ValueError("--clock cpu sees the calling thread only: it needs --threads 1")
    problems = select(args.problems)
    kernels = choose_kernels(args.kernels)
    with fastconv.use(threads=args.threads, precision=args.precision) as setting:
        peak = roofline.fma_peak(4 if args.dtype == "float32" else 8, setting.threads)
        machine = describe()
        title = f"{machine['cpu']}, {machine['isa']}, {setting.threads} threads, {args.dtype}"
        print(f"{title}\npeak {peak.gflops:.0f} GFLOP/s, measured by {peak.source}\n\n{HEADER}")
        bench = Bench(kernels, args.dtype, setting.threads, args.seconds, CLOCKS[args.clock])
        rows: list[Row] = []
        for problem in problems:
            for pass_name in args.passes:
                block = list(bench.rows(problem, pass_name, args.layouts))
                mark_winners(block)
                print("\n".join(lines(block)), flush=True)
                rows += block
    if args.json:
        report = {"machine": machine, "dtype": args.dtype, "peak": peak._asdict()}
        args.json.write_text(json.dumps(report | {"rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    if args.plot:
        from fastconv.tools.bench_chart import draw

        draw(rows, title, args.plot)
    wrong = [f"{row.kernel} on {row.problem} {row.pass_name} {row.layout}" for row in rows if row.wrong]
    if wrong:
        print(f"\nwrong values: {', '.join(wrong)}")
    return 1 if wrong else 0


def choose_kernels(patterns: Sequence[str]) -> list[str]:
    """The available kernels whose names match, in dispatch's order; "name@isa" where that is spelt out."""
    chosen = [
        name
        for name, kernel in registry.kernels_by_name().items()
        if kernel.missing is None
        and any(fnmatchcase(name, p) and ("@" in p or "@" not in name) for p in patterns)
    ]
    if not chosen:
        raise ValueError(f"kernels: {' '.join(patterns)} matches nothing available here: see `fastconv info`")
    return chosen


COLUMNS = "{:12} {:11} {:6} {:22} {:>9} {:>8} {:>7}  {}"
HEADER = COLUMNS.format("problem", "pass", "layout", "kernel", "ms", "GFLOP/s", "of peak", "note")


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table's lines, with a star at the fastest."""
    for row in rows:
        figures = ("-", "-", "-")
        if row.seconds is not None:
            figures = (f"{row.seconds * 1e3:.4g}", f"{row.gflops:.4g}", f"{row.share_of_peak:.0%}")
        note = " ".join(filter(None, ["WRONG VALUES" if row.wrong else "*" if row.winner else "", row.note]))
        yield COLUMNS.format(row.problem, row.pass_name, row.layout, row.kernel, *figures, note).rstrip()


def listing() -> Iterator[str]:
    """The problems with their sizes and sources, and the groups."""
    for p in PROBLEMS.values():
        shape = "x".join(map(str, (p.n, p.c, *p.size)))
        filters = "x".join(map(str, (p.k, p.c // p.groups, *p.window)))
        sizes = f"x {shape:18} filters {filters:16} {p.flops / 1e6:8.4g} MFLOP"
        yield f"{p.name:12} {p.op:16} {sizes}  {p.source}"
    yield ""
    for group, member in GROUPS.items():
        yield f"{group}: {' '.join(p.name for p in PROBLEMS.values() if member(p))}"

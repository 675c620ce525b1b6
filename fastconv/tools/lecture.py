"""`fastconv lecture`: run every experiment of the course and write them to one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from fastconv.dispatch.settings import use
from fastconv.lecture import CHAPTERS, material, write
from fastconv.ops.parse import parse_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, default=Path("lecture.html"), metavar="FILE", help="default %(default)s")
    add(
        "--data",
        type=Path,
        metavar="FILE.npz",
        help="digits of 28x28 pixels (MNIST) instead of scikit-learn's: x_train, y_train, x_test, y_test",
    )
    add("--chapters", nargs="+", default=CHAPTERS, metavar="NAME", help=f"of {', '.join(CHAPTERS)}")
    add(
        "--seeds",
        type=int,
        default=5,
        help="starts of the experiment that compares nets (default %(default)s)",
    )
    add("--quick", action="store_true", help="few epochs, few starts, small nets: shows that all runs")
    add("--threads", type=int, help="of the large nets; default: FASTCONV_NUM_THREADS, else all CPUs")


def run(args: argparse.Namespace) -> int:
    """Write the page, naming each chapter as it is done."""
    if args.out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out: {args.out} is no HTML file: its name must end in .html")
    if not args.out.absolute().parent.is_dir():
        raise ValueError(f"--out: there is no folder {args.out.absolute().parent}: make it first")
    given = material(args.data, quick=args.quick, seeds=parse_int("lecture", "--seeds", args.seeds, 1))
    with use(threads=args.threads):
        write(args.out, given, args.chapters, lambda name, s: print(f"{name:<12} {s:6.1f} s", flush=True))
    print(f"The lecture: {args.out}")
    return 0

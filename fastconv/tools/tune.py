"""`fastconv tune`: measure the kernels on named problems, and save the winners for `load_tuning`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import fastconv
from fastconv.dispatch import settings
from fastconv.dispatch.tuning import Measured, tune_pass
from fastconv.ops.spec import ConvSpec, conv_spec, conv_transpose_spec
from fastconv.tools.bench import choose_kernels
from fastconv.tools.machine import describe
from fastconv.tools.problems import PASSES, Problem, select

# A transposed convolution is the input gradient of a convolution, and the other way round.
TRANSPOSED_PASSES = {"forward": "input_grad", "input_grad": "forward", "filter_grad": "filter_grad"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--problems",
        nargs="+",
        default=["conv2d"],
        metavar="NAME",
        help="names, globs or groups (see `fastconv bench --list`)",
    )
    add("--passes", nargs="+", default=list(PASSES), choices=PASSES, help="default: all three")
    add(
        "--layouts",
        nargs="+",
        default=["NCHW", "NHWC"],
        choices=("NCHW", "NHWC"),
        help="first or last, any rank",
    )
    add("--kernels", nargs="+", metavar="NAME", help="names or globs; default: all")
    add("--dtype", default="float32", choices=("float32", "float64"))
    add("--threads", type=int, help="default: FASTCONV_NUM_THREADS, else all CPUs")
    add("--precision", choices=settings.PRECISIONS, help="highest leaves Winograd out")
    add("--seconds", type=float, default=1.0, help="spent on each pass (default %(default)s)")
    add("--save", type=Path, metavar="FILE", help="write the winners as JSON; those already there are kept")


def run(args: argparse.Namespace) -> int:
    problems = select(args.problems)
    kernels = None if args.kernels is None else choose_kernels(args.kernels)
    if args.save is not None and args.save.exists():
        fastconv.load_tuning(args.save)
    gains: list[float] = []
    with fastconv.use(threads=args.threads, precision=args.precision) as setting:
        machine = describe()
        print(f"{machine['cpu']}, {machine['isa']}, {setting.threads} threads, {args.dtype}\n\n{HEADER}")
        for problem in problems:
            for name in args.layouts:
                layout = problem.layouts[("NCHW", "NHWC").index(name)]
                spec = spec_of(problem, layout, args.dtype)
                for pass_name in args.passes:
                    inner = TRANSPOSED_PASSES[pass_name] if problem.transposed else pass_name
                    measured = tune_pass(inner, spec, setting, args.seconds, kernels)
                    print(line(problem, pass_name, layout, measured), flush=True)
                    gains += gain(measured)
                    # a long table is not lost with its last row
                    if args.save is not None:
                        fastconv.save_tuning(args.save)
    if gains:
        print(f"\ngeometric mean of the gains: {math.exp(sum(map(math.log, gains)) / len(gains)):.2f}")
    return 0


def spec_of(problem: Problem, layout: str, dtype: str) -> ConvSpec:
    """The convolution that kernels compute for a problem."""
    make = conv_transpose_spec if problem.transposed else conv_spec
    shapes = problem.x_shape(layout), problem.w_shape(layout)
    return make(problem.op, *shapes, np.dtype(dtype), layout=layout, **problem.options)


COLUMNS = "{:12} {:11} {:6} {:18} {:>9} {:18} {:>9} {:>6}"
HEADER = COLUMNS.format("problem", "pass", "layout", "default", "ms", "tuned", "ms", "gain").rstrip()


def line(problem: Problem, pass_name: str, layout: str, measured: Sequence[Measured]) -> str:
    """The row of a pass: the default kernel and its time, the winner and its time, and their ratio."""
    winner = measured[0]
    default = next((m for m in measured if m.default), None)
    was = ("-", "-") if default is None else (default.kernel, milliseconds(default))
    ratio = "".join(f"{g:.2f}" for g in gain(measured)) or "-"
    return COLUMNS.format(
        problem.name, pass_name, layout, *was, winner.kernel, milliseconds(winner), ratio
    ).rstrip()


def milliseconds(measured: Measured) -> str:
    return f"{measured.seconds * 1e3:.4g}"


def gain(measured: Sequence[Measured]) -> Iterator[float]:
    """The default kernel's time over the winner's, where the default was measured."""
    return (m.seconds / measured[0].seconds for m in measured if m.default)

"""Measured choices: the kernels that can do a problem take turns on it, and the fastest is remembered."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from time import perf_counter
from typing import Any

from fastconv.dispatch import settings, winners
from fastconv.dispatch.problem import parse_dtype, random_arguments, seen_by_kernel
from fastconv.dispatch.registry import find_kernel, kernels_in_order
from fastconv.dispatch.select import refusal, walk
from fastconv.dispatch.settings import Settings
from fastconv.dispatch.timing import best_seconds
from fastconv.kernels.kernel import CONV_PASSES, Kernel
from fastconv.ops import launch
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.parse import LAYOUTS, PaddingLike, PerAxis, parse_sequence
from fastconv.ops.spec import ConvSpec, conv_spec

# Turns that each contestant gets, whatever they take.
LEAST_ROUNDS = 3
# A kernel that takes this many times the fastest one's time, after LEAST_ROUNDS turns or in a single call of
# a tenth of the budget, is not called again. One short call would not do: where another process has the core
# of one of its threads, it takes tens of milliseconds longer.
FAR_BEHIND = 3.0

Call = Callable[[], Any]
# Two contests at once would measure each other.
_one_at_a_time = Lock()


def _after_fork() -> None:
    global _one_at_a_time
    _one_at_a_time = Lock()  # a thread that the child does not have may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Measured:
    """One kernel on one pass: its seconds a call, and whether it was chosen by default and by tuning."""

    pass_name: str
    kernel: str
    seconds: float
    default: bool
    winner: bool


class Tuning(list[Measured]):
    """What `tune` measured, fastest first within a pass; it prints as a table."""

    def __repr__(self) -> str:
        columns = "{:12} {:18} {:>10}  {}"
        lines = [columns.format("pass", "kernel", "ms", "")]
        for m in self:
            note = " ".join(["*"] * m.winner + ["default"] * m.default)
            lines.append(columns.format(m.pass_name, m.kernel, f"{m.seconds * 1e3:.4g}", note))
        return "\n".join(line.rstrip() for line in lines)


def tune(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    dtype: Any = "float32",
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    passes: Sequence[str] = CONV_PASSES,
    kernels: Sequence[str] | None = None,
    threads: int | None = None,
    seconds: float = 1.0,
) -> Tuning:
    """Measure the kernels that can do a convolution on this machine, and remember the fastest.

    From then on this process computes exactly this problem (shapes, options, dtype, layout, number of threads
    and precision) with the winner; a kernel forced by an argument, by `use` or by FASTCONV_KERNEL still comes
    first. `save_tuning` keeps the winners for other processes. The kernels take turns, and the quickest call
    of each counts. The machine should be otherwise idle: where another process has one of the cores, a
    parallel call waits for longer than the kernels differ by.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        Shapes of the input and of the filters, with one to three spatial axes.
    dtype : {"float32", "float64"}, default "float32"
    stride, padding, dilation, groups, padding_mode
        As in `conv2d`. Another mode than "zeros" is tuned as the convolution of images padded already.
    layout : str, optional
        As in `conv2d`; by default channels first, for any number of axes.
    passes : sequence of {"forward", "input_grad", "filter_grad"}, default all three
    kernels : sequence of str, optional
        Measure these only; by default every available kernel.
    threads : int, optional
        Threads a call may use; by default as `use` or the environment says.
    seconds : float, default 1
        Spent on each pass, beside compiling (Numba) and calls so long that three rounds take more.

    Returns
    -------
    list of Measured
        With attributes `pass_name`, `kernel`, `seconds`, `default` (the choice without tuning) and `winner`,
        fastest first within a pass. It prints as a table.

    Raises
    ------
    ValueError, TypeError
        As `conv2d`; also where no kernel in `kernels` can do the problem, or where it is empty.

    Examples
    --------
    >>> import fastconv as fc
    >>> tuned = fc.tune((1, 4, 8, 8), (4, 4, 3, 3), passes=["forward"], kernels=["reference"], seconds=0.001)
    >>> [(m.pass_name, m.kernel, m.winner) for m in tuned]
    [('forward', 'reference', True)]
    >>> fc.explain("forward", (1, 4, 8, 8), (4, 4, 3, 3)).why.split(":")[0]
    'tuned'
    """
    parsed = parse_dtype("tune", dtype)
    if layout is None:
        layout = LAYOUTS.get(len(x_shape) - 2, ("NCHW",))[0]
    spec = conv_spec(
        "tune",
        x_shape,
        w_shape,
        parsed,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        layout=layout,
    )
    current = settings.current()
    if threads is not None:
        current = current._replace(threads=settings.checked_threads("tune", threads))
    found = Tuning()
    for pass_name in checked_passes(passes):
        found += tune_pass(pass_name, spec, current, seconds, kernels)
    return found


def checked_passes(passes: Any) -> list[str]:
    needed = f"it must be some of {', '.join(CONV_PASSES)}"
    names = parse_sequence("tune", "passes", passes, needed)
    if not names or not all(name in CONV_PASSES for name in names):
        bad_value("tune", f"passes is {shown(passes)}", needed)
    return names


def tune_pass(
    pass_name: str, spec: ConvSpec, current: Settings, seconds: float, kernels: Sequence[str] | None = None
) -> list[Measured]:
    """Tune one pass of a problem: the measurements, fastest first."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        bad_type("tune", f"seconds is {shown(seconds)}", "it must be a number")
    if not 0 <= seconds < math.inf:
        bad_value("tune", f"seconds is {seconds}", "it must be at least 0 and finite")
    if spec.empty:
        bad_value("tune", f"x {spec.x_shape} with w {spec.w_shape} sums nothing", "no size may be 0")
    inner = seen_by_kernel(spec)
    contest = winners.race(pass_name, inner, current)
    able = contestants(contest, kernels)
    arguments = random_arguments(pass_name, inner)
    calls = {k.name: partial(k.passes[pass_name], inner, *arguments, contest.threads) for k in able}
    with _one_at_a_time:
        taken = compete(calls, seconds)
    order = sorted(taken, key=lambda name: taken[name])
    winners.record({contest: winners.Winner(order[0], taken[order[0]])})
    launch.forget()
    default = walk(pass_name, inner, current)[0].name
    return [Measured(pass_name, n, taken[n], n == default, n == order[0]) for n in order]


def contestants(contest: winners.Race, kernels: Sequence[str] | None) -> list[Kernel]:
    """The kernels, of those named or of all, that can do the problem, in dispatch's order."""
    pass_name, spec, _, precision = contest
    if kernels is None:
        named: Sequence[Kernel] = kernels_in_order()
    else:
        names = parse_sequence("tune", "kernels", kernels, "it must be a sequence of kernels' names")
        named = [find_kernel("tune", name) for name in dict.fromkeys(names)]
    refusals = {k.name: refusal(k, pass_name, spec, precision) for k in named}
    able = [k for k in named if refusals[k.name] is None]
    if not able:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
        bad_value("tune", f"none of the kernels can do the {pass_name} pass ({reasons})", "one must")
    return able


def compete(
    calls: Mapping[str, Call], seconds: float, clock: Callable[[], float] = perf_counter
) -> dict[str, float]:
    """Seconds of each contestant's quickest call; they take short turns until the time is over.

    The order turns around from round to round, so that nobody always runs behind the same neighbour. Whoever
    stays far behind drops out, so that the rest gets more turns. The minimum is compared, as it is what the
    machine can do undisturbed: on a busy one, where most calls of every contestant wait for a core, medians
    tell who waited.
    """
    best = {}
    for name, call in calls.items():
        call()  # compiles, and makes the pages of its workspace
        best[name] = best_seconds(call, 0, least=1, clock=clock)
    remaining = near_best(best, list(calls), seconds / 10)
    end, done = clock() + seconds, 0
    while done < LEAST_ROUNDS or clock() < end:
        for name in remaining:
            # the second call of a turn finds the caches as its own kernel left them
            best[name] = min(best[name], best_seconds(calls[name], 0, least=2, clock=clock))
        done += 1
        if done == LEAST_ROUNDS:
            remaining = near_best(best, remaining, 0)
        remaining.reverse()
    return best


def near_best(best: Mapping[str, float], names: list[str], patience: float) -> list[str]:
    """Those not far behind the fastest; nobody is, whose call takes less than `patience` seconds."""
    limit = max(FAR_BEHIND * min(best.values()), patience)
    return [name for name in names if best[name] <= limit]

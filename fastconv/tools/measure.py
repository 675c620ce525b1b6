"""Time kernels on problems, and check what they return in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from fastconv.dispatch import registry, roofline
from fastconv.dispatch.timing import Clock, best_seconds
from fastconv.ops.errors import UnsupportedProblem
from fastconv.tools.problems import Problem
from fastconv.tools.workload import Array, Workload, to_first

# A kernel that would need more than this many times the budget for one call is left out.
PATIENCE = 20
# Only a call as long as this tells a kernel's speed on larger problems; a short one may be all overhead.
TELLING = 0.1


@dataclass
class Row:
    """One measurement; without seconds, the note says why. An error above 1 is a wrong result."""

    problem: str
    pass_name: str
    layout: str
    kernel: str
    seconds: float | None = None
    gflops: float | None = None
    share_of_peak: float | None = None
    error: float | None = None
    note: str = ""
    winner: bool = False

    @property
    def wrong(self) -> bool:
        return self.error is not None and not self.error <= 1


class Bench:
    """Measures kernels, given by name; remembers how fast each was, to leave out what would take too long."""

    def __init__(
        self, kernels: Sequence[str], dtype: str, threads: int, seconds: float, clock: Clock = perf_counter
    ) -> None:
        self.kernels = kernels
        self.dtype = np.dtype(dtype)
        self.threads = threads
        self.seconds = seconds
        self.clock = clock
        self.rates: dict[tuple[str, str], float] = {}

    def rows(self, problem: Problem, pass_name: str, layouts: Sequence[str]) -> Iterator[Row]:
        """One row a layout and kernel of one pass of a problem; layouts are named "NCHW" and "NHWC"."""
        work = Workload(problem, self.dtype.name)
        want, magnitude = self.oracle(work, pass_name)
        for name in layouts:
            layout = problem.layouts[("NCHW", "NHWC").index(name)]
            for kernel in self.kernels:
                row = Row(problem.name, pass_name, layout, kernel)
                got = self.measure(row, work)
                if got is not None:
                    got = to_first(pass_name, layout, problem, got)
                    row.error = work.error(got, want, magnitude)
                yield row

    def oracle(self, work: Workload, pass_name: str) -> tuple[Array, Array]:
        """The right values, channels first, and the scale of their rounding errors."""
        layout = work.problem.layouts[0]
        return work.call(pass_name, layout, "reference")(), work.magnitude(pass_name, layout, "reference")

    def measure(self, row: Row, work: Workload) -> Array | None:
        """Fill in the row's figures; returns the kernel's result, or None where it was not run."""
        flops = work.problem.flops
        predicted = flops / self.rates.get((row.kernel, row.pass_name), np.inf)
        if predicted > PATIENCE * self.seconds:
            row.note = f"left out: about {predicted:.2g} s a call"
            return None
        call = work.call(row.pass_name, row.layout, row.kernel)
        start = self.clock()
        try:
            got = call()
        except UnsupportedProblem as refusal:
            row.note = f"refused: {str(refusal).rsplit(': ', 1)[-1]}"
            return None
        first = self.clock() - start
        seconds = best_seconds(call, 0, least=1, clock=self.clock)
        if seconds < PATIENCE * self.seconds:
            seconds = min(seconds, best_seconds(call, self.seconds, clock=self.clock))
        if row.kernel.startswith("numba.") and first > seconds + 0.5:
            row.note = f"compiled in {first - seconds:.1f} s"
        row.seconds, row.gflops = seconds, flops / seconds / 1e9
        row.share_of_peak = row.gflops / self.peak(row.kernel)
        if seconds > TELLING:
            self.rates[row.kernel, row.pass_name] = flops / seconds
        return got

    def peak(self, kernel: str) -> float:
        """The FMA peak in GFLOP/s on the kernel's instruction set."""
        isa = registry.find_kernel("bench", kernel).isa
        return roofline.fma_peak(self.dtype.itemsize, self.threads, None if isa == "any" else isa).gflops


def mark_winners(rows: Sequence[Row]) -> None:
    """The fastest right row of each problem, pass and layout."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row.seconds is not None and not row.wrong:
            place = (row.problem, row.pass_name, row.layout)
            if place not in best or row.seconds < (best[place].seconds or np.inf):
                best[place] = row
    for row in best.values():
        row.winner = True

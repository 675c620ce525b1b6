"""A problem with its arrays: the calls that benchmarks time, and the check of what they return."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastconv
from fastconv.tools.problems import Problem

Array = NDArray[Any]
# |error| <= 16 eps (|a| op |b|) is what a sum of products may be off by, however it is ordered. The scale is
# the largest of each plane, since Winograd's rounding errors spread over its tiles.
EPS_FACTOR = 16


class Workload:
    """Random arrays for a problem, the same in every process, in both layouts."""

    def __init__(self, problem: Problem, dtype: str = "float32") -> None:
        self.problem = problem
        self.dtype = np.dtype(dtype)

    @cached_property
    def first(self) -> dict[str, Array]:
        """x, w and dy with channels first."""
        rng = np.random.default_rng(zlib.crc32(self.problem.name.encode()))
        layout = self.problem.layouts[0]
        shapes = {name: getattr(self.problem, f"{name}_shape")(layout) for name in ("x", "w", "dy")}
        return {
            name: rng.standard_normal(shape, np.float32).astype(self.dtype) for name, shape in shapes.items()
        }

    @cached_property
    def last(self) -> dict[str, Array]:
        """x, w and dy with channels last."""
        return {name: np.ascontiguousarray(to_last(name, a)) for name, a in self.first.items()}

    def arrays(self, layout: str) -> dict[str, Array]:
        return self.first if layout == self.problem.layouts[0] else self.last

    def call(self, pass_name: str, layout: str, kernel: str | None = None) -> Callable[[], Array]:
        """The public function of the pass on these arrays, ready to be called."""
        return self._call(pass_name, layout, kernel, self.arrays(layout))

    def magnitude(self, pass_name: str, layout: str, kernel: str | None = None) -> Array:
        """The largest |a| op |b| of each plane, with channels first: the scale of rounding errors."""
        arrays = {name: np.abs(a) for name, a in self.arrays(layout).items()}
        sums = to_first(pass_name, layout, self.problem, self._call(pass_name, layout, kernel, arrays)())
        largest: Array = sums.max(axis=tuple(range(2, sums.ndim)), keepdims=True)
        return largest

    def error(self, got: Array, want: Array, magnitude: Array) -> float:
        """The largest deviation, in units of the bound that a right result keeps to; above 1 is wrong."""
        bound = EPS_FACTOR * float(np.finfo(self.dtype).eps) * magnitude + np.finfo(self.dtype).tiny
        return float(np.max(np.abs(got - want) / bound))

    def _call(
        self, pass_name: str, layout: str, kernel: str | None, a: dict[str, Array]
    ) -> Callable[[], Array]:
        p = self.problem
        keywords = p.options | {"layout": layout, "kernel": kernel}
        if pass_name == "forward":
            return partial(getattr(fastconv, p.op), a["x"], a["w"], **keywords)
        if pass_name == "input_grad":
            return partial(
                getattr(fastconv, f"{p.op}_input_grad"), a["dy"], a["w"], p.x_shape(layout), **keywords
            )
        return partial(
            getattr(fastconv, f"{p.op}_filter_grad"), a["x"], a["dy"], p.w_shape(layout), **keywords
        )


def to_last(name: str, a: Array) -> Array:
    """Channels-first x, dy or w seen with channels last: w (K, C, *window) as (*window, C, K)."""
    if name == "w":
        return a.transpose(*range(2, a.ndim), 1, 0)
    return np.moveaxis(a, 1, -1)


def to_first(pass_name: str, layout: str, problem: Problem, a: Array) -> Array:
    """A pass's result seen with channels first."""
    if layout == problem.layouts[0]:
        return a
    if pass_name == "filter_grad":
        return a.transpose(a.ndim - 1, a.ndim - 2, *range(a.ndim - 2))
    return np.moveaxis(a, -1, 1)

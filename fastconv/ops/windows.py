"""Adaptive windows: output o of O covers the inputs from floor(o*I/O) to ceil((o+1)*I/O) of an axis of I.

The windows overlap where O does not divide I, and may be longer than the stride between them by two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastconv.ops.arrays import Array

Index = NDArray[np.intp]


def starts_and_stops(i: int, o: int) -> tuple[Index, Index]:
    """The first input of each window, and the one after its last."""
    at = np.arange(o)
    return at * i // o, -(-(at + 1) * i // o)


def taps(i: int, o: int) -> Iterator[tuple[Index, Index]]:
    """The second, third, ... inputs of the windows: those that have one, and which it is."""
    starts, stops = starts_and_stops(i, o)
    for tap in range(1, int((stops - starts).max())):
        longer = np.flatnonzero(starts + tap < stops)
        yield longer, starts[longer] + tap


def sum_windows(a: Array, axis: int, o: int) -> Array:
    """Sums over the `o` adaptive windows of one axis.

    Input i lies in the window of output o just where o lies in the window of i when the two sizes change
    places, so this is its own transpose: sums back to the input's size spread a gradient.
    """
    lines = np.moveaxis(a, axis, 0)
    total = lines[starts_and_stops(lines.shape[0], o)[0]]
    for longer, there in taps(lines.shape[0], o):
        total[longer] += lines[there]
    return np.moveaxis(total, 0, axis)


def max_windows(a: Array, at: Array, axis: int, o: int) -> tuple[Array, Array]:
    """Maxima over the adaptive windows of one axis, and their entries of `at`: first maximum, last NaN."""
    lines, places = np.moveaxis(a, axis, 0), np.moveaxis(at, axis, 0)
    starts = starts_and_stops(lines.shape[0], o)[0]
    best, best_at = lines[starts], places[starts]
    for longer, there in taps(lines.shape[0], o):
        value = lines[there]
        wins = (value > best[longer]) | np.isnan(value)
        best[longer] = np.where(wins, value, best[longer])
        best_at[longer] = np.where(wins, places[there], best_at[longer])
    return np.moveaxis(best, 0, axis), np.moveaxis(best_at, 0, axis)

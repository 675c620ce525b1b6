"""Forward and input gradient as one operation: a view of where each written pixel reads.

    to[first + i * stride] = sum over taps of w[tap] * source[i * step + offset[tap]]         (on each axis)

The forward pass is one view. The input gradient at stride s is one view for each of the s phases of a pixel's
position: a phase meets only its own taps, so no product with an inserted zero is formed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.jit import inline

# view[AXIS * a:] describes axis a: number of phases, where they start, destination's stride, source's
# step, sizes of the two; a phase is (positions, first, taps, where they start); a tap is (index in the
# window, offset).
PHASES, PHASES_AT, TO_STRIDE, STEP, SOURCE, TO, AXIS = range(7)
POSITIONS, FIRST, TAPS, TAPS_AT, PHASE = range(5)


def view_of(
    axes: list[tuple[int, int, int, int, list[tuple[int, int, list[tuple[int, int]]]]]],
) -> NDArray[Any]:
    """Axes of (stride, step, source size, destination size, [(positions, first, taps)]) as one array of
    numbers.
    """
    phases_at = 3 * AXIS
    taps_at = phases_at + PHASE * sum(len(phases) for *_, phases in axes)
    header: list[int] = []
    phase_rows: list[int] = []
    tap_rows: list[int] = []
    for stride, step, source, to, phases in axes:
        header += [len(phases), phases_at + len(phase_rows), stride, step, source, to]
        for positions, first, taps in phases:
            phase_rows += [positions, first, len(taps), taps_at + len(tap_rows)]
            for tap in taps:
                tap_rows += tap
    return np.array(header + phase_rows + tap_rows, np.int64)


def padded_axes(spec: Any) -> list[tuple[int, ...]]:
    """(size, window, out, stride, dilation, before) of the three axes; pointwise problems have one long
    row.
    """
    size, window, out, stride, dilation, before = spec.geometry[5:].reshape(6, 3).tolist()
    if max(window) == max(stride) == 1 and max(before) == 0 and size == out:
        size = out = [1, 1, size[0] * size[1] * size[2]]
    return list(zip(size, window, out, stride, dilation, before, strict=True))


@lru_cache(maxsize=4096)
def forward_view(spec: Any) -> NDArray[Any]:
    return view_of(
        [
            (1, stride, size, out, [(out, 0, [(t, t * dilation - before) for t in range(window)])])
            for size, window, out, stride, dilation, before in padded_axes(spec)
        ]
    )


@lru_cache(maxsize=4096)
def input_grad_view(spec: Any) -> NDArray[Any]:
    axes: list[Any] = []
    for size, window, out, stride, dilation, before in padded_axes(spec):
        phases = []
        for first in range(min(stride, size)):
            # dx[first + i * stride] meets dy[o] at tap t where first + i * stride = o * stride + t *
            # dilation - before and taps are numbered backwards, so that their offsets ascend
            taps = [(u, first + before - (window - 1 - u) * dilation) for u in range(window)]
            met = [(u, distance // stride) for u, distance in taps if distance % stride == 0]
            phases.append((-(-(size - first) // stride), first, met))
        axes.append((stride, 1, out, size, phases))
    return view_of(axes)


@inline
def phase_at(view, axis, phase):
    """Where a phase of an axis is described."""
    return view[AXIS * axis + PHASES_AT] + PHASE * phase


@inline
def phases_of(view):
    """Combinations of the phases of the three axes."""
    return view[PHASES] * view[AXIS + PHASES] * view[2 * AXIS + PHASES]


@inline
def phase_numbers(view, number):
    """Where the three phases of a combination are described."""
    h, w = view[AXIS + PHASES], view[2 * AXIS + PHASES]
    return (
        phase_at(view, 0, number // w // h),
        phase_at(view, 1, number // w % h),
        phase_at(view, 2, number % w),
    )

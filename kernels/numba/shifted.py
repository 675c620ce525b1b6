"""Channels-first at stride 1 over padded bands: a tap is a shift of the whole band.

Some rows of a group's channels are copied with their padding, one pitch from row to row. Outputs are then
one long run of positions, those between two rows computed too and dropped, and the register tile reads a
vector of positions for each tap where it lies: (filters, depth x taps) @ (depth x taps, positions).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels.numba.epilogue import ACTIVATIONS, finish
from fastconv.kernels.numba.geometry import clear_run, copy_run
from fastconv.kernels.numba.jit import jit, run, unpack, up, useful_threads, vector_bytes, workspace
from fastconv.kernels.numba.tile import MR, NV, tile
from fastconv.kernels.numba.vector import lanes

Array = NDArray[Any]

BAND_BYTES = 128 * 1024  # of source: with the outputs of a few filters it stays in a level 2 cache
# What the job knows: channels in all and in a group, sizes, how bands are cut, and the filters' strides.
(
    CHANNELS, TO_CHANNELS, DEPTH, ROWS, IN_H, IN_W, OUT_H, OUT_W, BEFORE_H, BEFORE_W, BAND, BANDS, BAND_ROWS,
    PITCH, ACTIVATION, W_START, W_GROUP, W_ROW, W_STEP, BAND_SIZE, STRIP,
) = range(21)  # fmt: skip


def windows(spec: Any) -> tuple[tuple[int, int], ...]:
    """(H, W) of size, window, output, dilation and padding before."""
    size, window, out, _, dilation, before = spec.geometry[5:].reshape(6, 3)[:, 1:].tolist()
    return tuple((h, w) for h, w in (size, window, out, dilation, before))


@lru_cache(maxsize=1024)
def plan_of(spec: Any, backward: bool) -> tuple[Array, Array] | None:
    """(options, segments of the tile), or None where a band would be mostly what it shares with the next."""
    if spec.ndim > 2 or max(spec.stride) > 1 or spec.dilation[-1] > 1 or spec.channels_last:
        return None
    size, (R, S), out, (dilation, _), before = windows(spec)
    c, k = spec.c // spec.groups, spec.k // spec.groups
    depth, rows, row, deep, step = (k, c, R * S, c * R * S, -1) if backward else (c, k, c * R * S, R * S, 1)
    if backward:
        size, out = out, size
        before = (dilation * (R - 1) - before[0], S - 1 - before[1])
    pitch, halo = out[1] + S - 1, (R - 1) * dilation
    fit = BAND_BYTES // spec.dtype.itemsize // (depth * pitch) - halo
    if fit < min(out[0], max(1, 2 * halo)):
        return None
    bands = up(out[0], min(fit, out[0]))
    band = up(out[0], bands)
    L = vector_bytes() // spec.dtype.itemsize
    plane = (band + halo) * pitch
    options = [
        *(
            depth * spec.groups,
            rows * spec.groups,
            depth,
            rows,
            *size,
            *out,
            *before,
            band,
            bands,
            band + halo,
        ),
        *(pitch, 0, R * S - 1 if backward else 0, k * c * R * S, row, step),
        *(up(depth * plane + S + NV * L, L) * L, up(band * pitch + NV * L, L) * L),
    ]
    segments = [
        (S, d * deep + step * r * S, d * plane + r * dilation * pitch) for d in range(depth) for r in range(R)
    ]
    return np.array(options, np.int64), np.array(segments, np.int64).reshape(-1)


@jit
def fill_band(o, x, source, h0, band, at):
    """Rows from h0 on of a group's channels, with padding -> band (depth, rows, pitch)."""
    low, high = max(0, o[BEFORE_W]), min(o[PITCH], o[BEFORE_W] + o[IN_W])
    for d in range(o[DEPTH]):
        for i in range(o[BAND_ROWS]):
            h, to = h0 + i, at + (d * o[BAND_ROWS] + i) * o[PITCH]
            if not 0 <= h < o[IN_H] or low >= high:
                clear_run(band, to, 1, o[PITCH])
                continue
            clear_run(band, to, 1, low)
            row = source + (d * o[IN_H] + h) * o[IN_W]
            copy_run(band, to + low, 1, x, row + low - o[BEFORE_W], 1, high - low)
            clear_run(band, to + high, 1, o[PITCH] - high)


def gather_job(begin, end, thread, arguments):
    """A job: a band of an image's group."""
    o, segments, x, w, bias, y, band, strip, index = unpack(arguments)
    width, groups = NV * lanes(x), o[CHANNELS] // o[DEPTH]
    at, at_strip, at_index = thread * o[BAND_SIZE], thread * MR * o[STRIP], thread * 2 * MR
    for job in range(begin, end):
        number, group, n = job % o[BANDS], job // o[BANDS] % groups, job // o[BANDS] // groups
        first = number * o[BAND]
        lines = min(o[BAND], o[OUT_H] - first)
        if lines <= 0:
            continue
        source = (n * o[CHANNELS] + group * o[DEPTH]) * o[IN_H] * o[IN_W]
        fill_band(o, x, source, first - o[BEFORE_H], band, at)
        positions = lines * o[PITCH]
        for k0 in range(0, o[ROWS], MR):
            rows, channel = min(MR, o[ROWS] - k0), group * o[ROWS] + k0
            for i in range(MR):
                index[at_index + i] = o[W_START] + group * o[W_GROUP] + (k0 + i) * o[W_ROW]
                index[at_index + MR + i] = i * o[STRIP]
            for p in range(0, positions, width):
                tile(
                    rows, w, index, at_index, o[W_STEP], segments, 0, segments.size // 3, band, at + p, 1,
                    strip, index, at_index + MR, at_strip + p, min(width, positions - p), False,
                )  # fmt: skip
            for k in range(rows):
                to = ((n * o[TO_CHANNELS] + channel + k) * o[OUT_H] + first) * o[OUT_W]
                for i in range(lines):
                    copy_run(
                        y, to + i * o[OUT_W], 1, strip, at_strip + k * o[STRIP] + i * o[PITCH], 1, o[OUT_W]
                    )
                if bias.size > 0 or o[ACTIVATION] > 0:
                    finish(y, to, lines * o[OUT_W], bias, channel + k, 0, o[ACTIVATION])


def gather(
    plan: tuple[Array, Array],
    spec: Any,
    source: Array,
    w: Array,
    bias: Array | None,
    to: Array,
    activation: str | None,
    threads: int,
) -> None:
    """The forward pass, or the input gradient with dy for source."""
    options, segments = plan
    if activation is not None:
        options = options.copy()
        options[ACTIVATION] = ACTIVATIONS.index(activation)
    jobs = spec.n * spec.groups * int(options[BANDS])
    threads = useful_threads(threads, jobs, spec.flops)
    run(
        *(gather_job, jobs, threads, options, segments, source, w),
        *(np.empty(0, w.dtype) if bias is None else bias, to),
        workspace(threads * int(options[BAND_SIZE]), w.dtype),
        workspace(threads * MR * int(options[STRIP]), w.dtype),
        workspace(threads * 2 * MR, np.int64),
    )

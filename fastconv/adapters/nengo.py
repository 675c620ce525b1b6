"""Nengo: the convolutions of `nengo.Convolution` and `nengo.ConvolutionTranspose` on fastconv.

Built simulators look these functions up at every step, so they change over with `install` and `uninstall`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, Patch, or_else, require
from fastconv.ops.arrays import Array

require(HOSTS["nengo"])

from nengo.builder import transforms  # noqa: E402

Pair = tuple[int, int]


def _conv2d(x: Array, w: Array, pad: str = "SAME", stride: Pair = (1, 1)) -> Array:
    """x (N, H, W, C), w (R, S, C, K) -> (N, OH, OW, K)."""
    if w.shape[2] != x.shape[3]:
        raise ValueError("only conv2d_groups has groups")
    return _conv2d_groups(x, w, pad, stride)


def _conv2d_groups(x: Array, w: Array, pad: str = "SAME", stride: Pair = (1, 1)) -> Array:
    """x (N, H, W, C), w (R, S, C/groups, K) -> (N, OH, OW, K)."""
    groups = x.shape[3] // w.shape[2]
    dtype = np.result_type(x, w)
    x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    return fc.conv2d(x, w, stride=tuple(stride), padding=pad.lower(), groups=groups, layout="NHWC")


def _conv2d_gradx(w: Array, dy: Array, xsize: Pair, pad: str = "SAME", stride: Pair = (1, 1)) -> Array:
    """dy (N, OH, OW, K), w (R, S, K, C) -> (N, H, W, C), in float64 whatever came.

    Nengo correlates the dilated dy, `cut` pixels narrower than a full correlation at the beginning, with the
    rotated w: the gradient of a convolution of a (N, H, W, C) input padded by `cut`.
    """
    if not {w.dtype, dy.dtype} <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise TypeError("Nengo widens other types in its own way")
    padding = []
    for size, outputs, step, taps in zip(xsize, dy.shape[1:3], stride, w.shape[:2], strict=True):
        cut = taps - 1 - math.ceil(transforms.calc_gradx_pad(pad, outputs, size, step, taps) / 2)
        reach = (outputs - 1) * step + taps - cut
        if not (outputs - 1) * step < size < reach + step:
            raise ValueError("Nengo cuts dy off, or pads it with zeros, where the sizes do not fit")
        padding.append((cut, max(reach - size, 0)))
    dy, w = dy.astype(np.float64, copy=False), w.astype(np.float64, copy=False)
    input_shape = (dy.shape[0], *xsize, w.shape[3])
    filters = w.swapaxes(2, 3)  # (R, S, C, K)
    geometry: dict[str, Any] = {"stride": tuple(stride), "padding": tuple(padding)}
    return fc.conv2d_input_grad(dy, filters, input_shape, **geometry, layout="NHWC")


def _patches() -> list[Patch]:
    return [
        Patch(transforms, "conv2d", partial(or_else, _conv2d)),
        Patch(transforms, "conv2d_groups", partial(or_else, _conv2d_groups)),
        Patch(transforms, "conv2d_gradx", partial(or_else, _conv2d_gradx)),
    ]


_adapter = Adapter(HOSTS["nengo"], _patches)
install, uninstall, installed = _adapter.install, _adapter.uninstall, _adapter.installed

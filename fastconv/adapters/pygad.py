"""PyGAD: `Conv2D`, `MaxPooling2D` and `AveragePooling2D` of `pygad.cnn` on fastconv.

A layer takes one image (H, W, C) and leaves a float64 result, whatever it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, Patch, or_else, require
from fastconv.ops.arrays import Array

require(HOSTS["pygad"])

from pygad.cnn import cnn  # noqa: E402

# PyGAD applies its activation to one number at a time; these do the same to whole arrays
ACTIVATIONS = (None, cnn.relu, cnn.sigmoid)


def _conv(layer: Any, input2D: Array, conv_filter: Array) -> Array:
    """(H, W, C) with filters (K, R, R, C), R odd -> (H-R+1, W-R+1, K)."""
    if input2D.ndim == 2:
        input2D, conv_filter = input2D[..., np.newaxis], conv_filter[..., np.newaxis]
    window = layer.filter_bank_size[1]
    if window % 2 == 0 or conv_filter.shape[1:3] != (window, window):
        raise ValueError("PyGAD crops these in its own way")
    if layer.activation not in ACTIVATIONS:
        raise ValueError("the activation may take scalars only")
    dtype = np.result_type(input2D, conv_filter)
    x, w = input2D[np.newaxis].astype(dtype, copy=False), conv_filter.astype(dtype, copy=False)
    y = fc.conv2d(x, w.transpose(1, 2, 3, 0), layout="NHWC")[0]
    y = y if layer.activation is None else layer.activation(y)
    return np.asarray(y, np.float64)


def _pooling(name: str) -> Callable[..., None]:
    """The method of a pooling layer, by fastconv's function of that name."""

    def pooling(layer: Any, input2D: Array) -> None:
        height, width, channels = input2D.shape
        window, stride = layer.pool_size, layer.stride
        y = getattr(fc, name)(input2D[np.newaxis], window, stride=stride, layout="NHWC")[0]
        # PyGAD counts one window more than fits where the stride divides what is left: it stays zero
        out = np.zeros(((height - window + 1) // stride + 1, (width - window + 1) // stride + 1, channels))
        out[: y.shape[0], : y.shape[1]] = y
        layer.layer_output = out

    return pooling


def _patches() -> list[Patch]:
    return [
        Patch(cnn.Conv2D, "conv_", partial(or_else, _conv)),
        Patch(cnn.MaxPooling2D, "max_pooling", partial(or_else, _pooling("max_pool2d"))),
        Patch(cnn.AveragePooling2D, "average_pooling", partial(or_else, _pooling("avg_pool2d"))),
    ]


_adapter = Adapter(HOSTS["pygad"], _patches)
install, uninstall, installed = _adapter.install, _adapter.uninstall, _adapter.installed

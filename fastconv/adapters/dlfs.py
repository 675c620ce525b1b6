"""`Convolution` and `Pooling` as in the book "Deep Learning from Scratch", alone or in the book's own code.

The book's code is not a package: its users copy a folder `common`. `install` gives the classes of the
`common/layers.py` found on the import path the methods of the ones here, layers built before included. Finish
a step, forward and backward, before changing over.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, MissingHost, Patch, or_else
from fastconv.ops.arrays import Array


class Convolution:
    """Convolution layer of images with the book's attributes.

    Parameters
    ----------
    W : ndarray (K, C, R, S), float32 or float64
        Filters; cross-correlation.
    b : ndarray (K,)
        Bias.
    stride, pad : int, defaults 1 and 0

    Attributes
    ----------
    dW, db : ndarray or None
        The gradients that the last `backward` left.

    Raises
    ------
    ValueError, TypeError
        `forward` and `backward` raise as `fastconv.conv2d` does.

    References
    ----------
    Saito: Deep Learning from Scratch (2016), chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Convolution(np.ones((1, 1, 2, 2)), np.zeros(1))
    >>> layer.forward(np.arange(9.0).reshape(1, 1, 3, 3))[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    >>> layer.backward(np.ones((1, 1, 2, 2)))[0, 0], layer.db
    (array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]]), array([4.]))
    """

    least: type = np.float32  # computes in the type that this, the input and the parameters have in common

    def __init__(self, W: Array, b: Array, stride: int = 1, pad: int = 0) -> None:
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forward(self, x: Array) -> Array:
        """x (N, C, H, W) -> (N, K, OH, OW)."""
        return conv_forward(self, x, self.least)

    def backward(self, dout: Array) -> Array:
        """dout (N, K, OH, OW) -> dx (N, C, H, W); leaves dW and db."""
        return conv_backward(self, dout, self.least)


class Pooling:
    """Max-pooling layer of images with the book's attributes.

    Parameters
    ----------
    pool_h, pool_w : int
        The window.
    stride, pad : int, defaults 1 and 0
        Padding never wins.

    Raises
    ------
    ValueError, TypeError
        `forward` and `backward` raise as `fastconv.max_pool2d` does.

    References
    ----------
    Saito: Deep Learning from Scratch (2016), chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Pooling(2, 2, stride=2)
    >>> layer.forward(np.array([[[[1.0, 2.0, 5.0, 3.0], [4.0, 0.0, 1.0, 5.0]]]]))
    array([[[[4., 5.]]]])
    >>> layer.backward(np.array([[[[1.0, 2.0]]]]))[0, 0]
    array([[0., 0., 2., 0.],
           [1., 0., 0., 0.]])
    """

    least: type = np.float32

    def __init__(self, pool_h: int, pool_w: int, stride: int = 1, pad: int = 0) -> None:
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad
        self.x: Array | None = None
        self.arg_max: Array | None = None

    def forward(self, x: Array) -> Array:
        """x (N, C, H, W) -> (N, C, OH, OW)."""
        return pool_forward(self, x, self.least)

    def backward(self, dout: Array) -> Array:
        """dout (N, C, OH, OW) -> dx (N, C, H, W)."""
        return pool_backward(self, dout, self.least)


def conv_forward(layer: Any, x: Array, least: type) -> Array:
    x_, w, b = in_common(least, x, layer.W, layer.b)
    y = fc.conv2d(x_, w, b, stride=layer.stride, padding=layer.pad)
    layer.x = x
    return y


def conv_backward(layer: Any, dout: Array, least: type) -> Array:
    dy, x, w = in_common(least, dout, layer.x, layer.W)
    geometry: dict[str, Any] = dict(stride=layer.stride, padding=layer.pad)
    layer.dW, layer.db = fc.conv2d_filter_grad(x, dy, w.shape, bias_grad=True, **geometry)
    return fc.conv2d_input_grad(dy, w, x.shape, **geometry)


def pool_forward(layer: Any, x: Array, least: type) -> Array:
    window = (layer.pool_h, layer.pool_w)
    (x_,) = in_common(least, x)
    y, argmax = fc.max_pool2d(x_, window, stride=layer.stride, padding=layer.pad, return_argmax=True)
    layer.x, layer.arg_max = x, argmax
    return y


def pool_backward(layer: Any, dout: Array, least: type) -> Array:
    (dy,) = in_common(least, dout)
    return fc.max_pool2d_grad(dy, layer.arg_max, layer.x.shape)


def in_common(least: type, *arrays: Array) -> list[Array]:
    dtype = np.result_type(least, *arrays)
    return [a.astype(dtype, copy=False) for a in arrays]


def book_pool_forward(layer: Any, x: Array, least: type) -> Array:
    """As the book: the gradient of several NaNs goes to the first, and it has no padding that works."""
    if layer.pad or np.isnan(x).any():
        raise ValueError("the book's own code decides")
    return pool_forward(layer, x, least)


def _replaced(fast: Callable[..., Array]) -> Callable[..., Any]:
    """A method on fastconv; the book's im2col makes float64 of every real type."""
    return partial(or_else, lambda layer, array: fast(layer, array, np.float64))


def _patches() -> list[Patch]:
    try:
        layers = importlib.import_module("common.layers")
    except ModuleNotFoundError as error:
        raise MissingHost(f"the folder 'common' on the import path is not the book's: {error}") from None
    return [
        Patch(layers.Convolution, "forward", _replaced(conv_forward)),
        Patch(layers.Convolution, "backward", _replaced(conv_backward)),
        Patch(layers.Pooling, "forward", _replaced(book_pool_forward)),
        Patch(layers.Pooling, "backward", _replaced(pool_backward)),
    ]


_adapter = Adapter(HOSTS["dlfs"], _patches)
install, uninstall, installed = _adapter.install, _adapter.uninstall, _adapter.installed

"""Normalization layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastconv.nn.layer import Layer, checked_dtype, checked_number
from fastconv.ops.arrays import FLOAT32, Array, check_shape, checked_float
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int, parse_layout
from fastconv.ops.pool2d import avg_pool2d, avg_pool2d_grad


class BatchNorm2d(Layer):
    """Normalize each channel to mean 0 and variance 1 over batch and pixels, then scale and shift it.

    In evaluation mode by running statistics instead of the batch's own.

    Parameters
    ----------
    c : int
        Channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float, default 0.1
        Weight of a batch in the running mean and (unbiased) variance.
    layout : {"NCHW", "NHWC"}, default "NCHW"
    dtype : float32 or float64, default float32

    References
    ----------
    Ioffe, Szegedy: Batch normalization (2015).

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    >>> y = fc.BatchNorm2d(1)(x)
    >>> bool(abs(y.mean()) < 1e-6 and abs(y.std() - 1) < 1e-5)
    True
    """

    def __init__(
        self,
        c: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        layout: str = "NCHW",
        dtype: DTypeLike = FLOAT32,
    ) -> None:
        super().__init__()
        self.c = parse_int("BatchNorm2d", "c", c, 1)
        self.eps = checked_number("BatchNorm2d", "eps", eps, 0.0)
        self.momentum = checked_number("BatchNorm2d", "momentum", momentum, 0.0, below=1.0 + 1e-12)
        self.channels_last = parse_layout("BatchNorm2d", layout, ())[1]
        self.axes = (0, 1, 2) if self.channels_last else (0, 2, 3)
        self.dtype = checked_dtype("BatchNorm2d", dtype)
        self.reset(self.rng)

    def reset(self, rng: np.random.Generator) -> None:
        super().reset(rng)
        dtype = self._params["gamma"].dtype if self._params else self.dtype
        self._params.update(gamma=np.ones(self.c, dtype), beta=np.zeros(self.c, dtype))
        self._buffers.update(mean=np.zeros(self.c, dtype), var=np.ones(self.c, dtype))

    def spread(self, a: Array) -> Array:
        """(C,) broadcastable over the layout."""
        return a if self.channels_last else a[:, None, None]

    def forward(self, x: Array) -> Array:
        gamma, beta = self._params["gamma"], self._params["beta"]
        x = checked_float("BatchNorm2d", "x", x, gamma.dtype)
        if x.ndim != 4 or x.shape[-1 if self.channels_last else 1] != self.c:
            needed = f"(N, H, W, {self.c})" if self.channels_last else f"(N, {self.c}, H, W)"
            bad_value("BatchNorm2d", f"x has shape {x.shape}", f"it must be {needed}")
        by_batch = self.training and x.size > 0
        mean, var = (x.mean(self.axes), x.var(self.axes)) if by_batch else self._buffers.values()
        if by_batch:
            count = x.size // self.c
            for name, new in (("mean", mean), ("var", var * (count / max(count - 1, 1)))):
                self._buffers[name] += self.momentum * (new - self._buffers[name])
        scale = 1 / np.sqrt(var + var.dtype.type(self.eps))
        normal = (x - self.spread(mean)) * self.spread(scale)
        self._kept = normal, scale, by_batch
        return normal * self.spread(gamma) + self.spread(beta)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        normal, scale, by_batch = self.kept()
        check_shape("BatchNorm2d.backward", "dy", dy, normal.shape)
        dbeta, dgamma = dy.sum(self.axes), (dy * normal).sum(self.axes)
        self._grads.update(gamma=dgamma, beta=dbeta)
        if not input_grad:
            return None
        if by_batch:
            # Mean and variance depend on x too: subtract dy's components along 1 and along the normalized x.
            count = normal.size // self.c
            dy = dy - (self.spread(dbeta) + normal * self.spread(dgamma)) / dy.dtype.type(count)
        return dy * self.spread(self._params["gamma"] * scale)

    def settings(self) -> str:
        return str(self.c)


class LocalResponseNorm(Layer):
    """Divide each element by (k + alpha * mean of the squares of `size` neighbouring channels) ** beta.

    The mean counts channels outside the image as zeros. The paper's alpha multiplies the sum, not the mean:
    it is this one divided by `size`.

    Parameters
    ----------
    size : int
        Channels the mean runs over, centred on the element's own.
    alpha, beta, k : float, default 1e-4, 0.75, 1

    References
    ----------
    Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import LocalResponseNorm
    >>> LocalResponseNorm(3, alpha=3.0, beta=1.0)(np.ones((1, 3, 1, 1))).ravel()
    array([0.33333333, 0.25      , 0.33333333])
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = parse_int("LocalResponseNorm", "size", size, 1)
        self.alpha = checked_number("LocalResponseNorm", "alpha", alpha, 0.0)
        self.beta = checked_number("LocalResponseNorm", "beta", beta, 0.0)
        self.k = checked_number("LocalResponseNorm", "k", k, 0.0)
        # Over channels as over the rows of an image: (N, C, H, W) -> (N, 1, C, H*W).
        self.pooling: dict[str, Any] = {
            "window": (self.size, 1),
            "stride": 1,
            "padding": ((self.size // 2, (self.size - 1) // 2), (0, 0)),
        }

    def forward(self, x: Array) -> Array:
        x = checked_float("LocalResponseNorm", "x", x)
        if x.ndim != 4:
            bad_value("LocalResponseNorm", f"x has shape {x.shape}", "it must be (N, C, H, W)")
        planes = (len(x), 1, x.shape[1], x.shape[2] * x.shape[3])
        mean = avg_pool2d((x * x).reshape(planes), **self.pooling).reshape(x.shape)
        scale = self.k + x.dtype.type(self.alpha) * mean
        y: Array = x * scale**-self.beta
        self._kept = x, y, scale, planes
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        x, y, scale, planes = self.kept()
        check_shape("LocalResponseNorm.backward", "dy", dy, x.shape)
        if not input_grad:
            return None
        spread = avg_pool2d_grad((dy * y / scale).reshape(planes), planes, **self.pooling).reshape(x.shape)
        dx: Array = dy * scale**-self.beta - x.dtype.type(2 * self.alpha * self.beta) * x * spread
        return dx

    def settings(self) -> str:
        return f"{self.size}, {self.alpha:g}, {self.beta:g}, {self.k:g}"

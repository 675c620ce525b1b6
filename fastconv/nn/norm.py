"""Normalization layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from fastconv.nn.layer import Layer, checked_dtype, checked_number
from fastconv.ops.arrays import FLOAT32, Array, check_shape, checked_float
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int, parse_layout


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

"""What deep nets are built of beside plain layers: residual blocks and global pooling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastconv.nn.layer import Container, Layer
from fastconv.ops.arrays import Array, check_shape, checked_float
from fastconv.ops.errors import bad_type, bad_value, shown


class Residual(Container):
    """y = body(x) + shortcut(x).

    Parameters
    ----------
    body : Layer
    shortcut : Layer, optional
        Default: x itself.

    Raises
    ------
    TypeError
        Where one is not a layer.

    References
    ----------
    He et al.: Deep residual learning for image recognition (2015).

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> from fastconv.layers import Residual
    >>> Residual(fc.ReLU())(np.array([[-1.0, 2.0]]))
    array([[-1.,  4.]])
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        for name, layer in (("body", body), ("shortcut", shortcut)):
            if not isinstance(layer, Layer) and not (layer is None and name == "shortcut"):
                bad_type("Residual", f"{name} is {shown(layer)}", "it must be a fastconv layer")
        self.body, self.shortcut = body, shortcut

    def children(self) -> Mapping[str, Layer]:
        return {"body": self.body} | ({} if self.shortcut is None else {"shortcut": self.shortcut})

    def forward(self, x: Array) -> Array:
        beside = x if self.shortcut is None else self.shortcut.forward(x)
        y = self.body.forward(x)
        if y.shape != beside.shape:
            bad_value(
                "Residual",
                f"body gives shape {y.shape}, the shortcut {beside.shape}",
                "both must be the same: give a shortcut with the body's stride and channels",
            )
        return y + beside

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        dx = self.body.backward(dy, input_grad=input_grad)
        beside = dy if self.shortcut is None else self.shortcut.backward(dy, input_grad=input_grad)
        return None if dx is None or beside is None else dx + beside

    def settings(self) -> str:
        return f"{self.body!r}, {self.shortcut!r}"


class GlobalAvgPool2d(Layer):
    """Mean of each channel: (N, C, H, W) -> (N, C) (Lin et al. 2013).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import GlobalAvgPool2d
    >>> GlobalAvgPool2d()(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    def forward(self, x: Array) -> Array:
        x = checked_float("GlobalAvgPool2d", "x", x)
        if x.ndim != 4:
            bad_value("GlobalAvgPool2d", f"x has shape {x.shape}", "it must be (N, C, H, W)")
        self._kept = x.shape
        y: Array = x.mean((2, 3))
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        shape = self.kept()
        check_shape("GlobalAvgPool2d.backward", "dy", dy, shape[:2])
        if not input_grad:
            return None
        share = dy / dy.dtype.type(shape[2] * shape[3])
        return np.broadcast_to(share[:, :, None, None], shape).copy()

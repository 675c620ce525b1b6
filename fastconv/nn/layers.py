"""The layers with windows or weights, and those that reshape, drop or normalize."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastconv.nn.init import checked_init, draw_weights
from fastconv.nn.layer import Layer, Seed, checked_dtype, checked_number
from fastconv.ops.arrays import FLOAT32, Array, check_shape, checked_float
from fastconv.ops.conv2d import conv2d, conv2d_filter_grad, conv2d_input_grad
from fastconv.ops.errors import bad_value
from fastconv.ops.linear import linear, linear_filter_grad, linear_input_grad
from fastconv.ops.parse import (
    PADDING_MODES,
    PaddingLike,
    PerAxis,
    parse_axes,
    parse_flag,
    parse_int,
    parse_layout,
    parse_padding,
)
from fastconv.ops.pool2d import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad


class Conv2d(Layer):
    """Convolution with learned filters and bias.

    Parameters
    ----------
    c_in, c_out : int
        Input and output channels.
    window : int or (int, int)
        Filter height and width.
    stride, padding, dilation, groups, padding_mode, layout
        As in `fastconv.conv2d`.
    bias : bool, default True
    init : {"fan_in", "he", "glorot"}, default "fan_in"
        See `fastconv.nn.init.draw_weights`.
    dtype : float32 or float64, default float32
    seed : int or numpy.random.Generator, optional
        Fixes the start; the same in both layouts and both dtypes.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> conv = fc.Conv2d(3, 8, 3, padding=1)
    >>> conv(np.ones((2, 3, 5, 5), np.float32)).shape
    (2, 8, 5, 5)
    >>> {name: p.shape for name, p in conv.params.items()}
    {'w': (8, 3, 3, 3), 'b': (8,)}
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        window: PerAxis,
        *,
        stride: PerAxis = 1,
        padding: PaddingLike = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        layout: str = "NCHW",
        init: str = "fan_in",
        dtype: DTypeLike = FLOAT32,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        op = "Conv2d"
        self.c_in, self.c_out = parse_int(op, "c_in", c_in, 1), parse_int(op, "c_out", c_out, 1)
        groups = parse_int(op, "groups", groups, 1)
        for name, channels in (("c_in", self.c_in), ("c_out", self.c_out)):
            if channels % groups:
                bad_value(op, f"{name} is {channels} in {groups} groups", f"groups must divide {name}")
        if padding_mode not in PADDING_MODES:
            bad_value(
                op, f"padding_mode is {padding_mode!r}", f"it must be one of {', '.join(PADDING_MODES)}"
            )
        self.channels_last = parse_layout(op, layout, ())[1]
        self.window = parse_axes(op, "window", window, 2, 1)
        self.options: dict[str, Any] = {
            "stride": short(parse_axes(op, "stride", stride, 2, 1)),
            "padding": plain_padding(op, padding),
            "dilation": short(parse_axes(op, "dilation", dilation, 2, 1)),
            "groups": groups,
            "padding_mode": padding_mode,
            "layout": layout,
        }
        self.bias = parse_flag(op, "bias", bias)
        self.init = checked_init(op, init)
        self.dtype = checked_dtype(op, dtype)
        self.reset(self.rng)

    def reset(self, rng: np.random.Generator) -> None:
        super().reset(rng)
        dtype = self._params["w"].dtype if self._params else self.dtype
        w, b = draw_weights(rng, self.init, (self.c_out, self.c_in // self.options["groups"], *self.window))
        if self.channels_last:
            w = w.transpose(2, 3, 1, 0)
        self._params["w"] = np.ascontiguousarray(w, dtype)
        if self.bias:
            self._params["b"] = b.astype(dtype, copy=False)

    def forward(self, x: Array, activation: str | None = None) -> Array:
        """The convolution, with an activation fused into it as `fastconv.conv2d` does."""
        self._kept = x
        return conv2d(x, self._params["w"], self._params.get("b"), activation=activation, **self.options)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        x, w = self.kept(), self._params["w"]
        if self.bias:
            dw, db = conv2d_filter_grad(x, dy, w.shape, bias_grad=True, **self.options)
            self._grads.update(w=dw, b=db)
        else:
            self._grads["w"] = conv2d_filter_grad(x, dy, w.shape, **self.options)
        return conv2d_input_grad(dy, w, x.shape, **self.options) if input_grad else None

    def settings(self) -> str:
        default: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        default |= {"padding_mode": "zeros", "layout": "NCHW"}
        changed = [f"{name}={value!r}" for name, value in self.options.items() if value != default[name]]
        sizes = f"{self.c_in}, {self.c_out}, {short(self.window)}"
        return ", ".join([sizes, *changed, *["bias=False"] * (not self.bias)])


def pool_options(
    op: str, window: PerAxis, stride: PerAxis | None, padding: PaddingLike, ceil_mode: bool, layout: str
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A pooling layer's checked window and the keywords that both kinds share."""
    window = parse_axes(op, "window", window, 2, 1)
    stride = window if stride is None else parse_axes(op, "stride", stride, 2, 1)
    parse_layout(op, layout, ())
    return window, {
        "stride": short(stride),
        "padding": plain_padding(op, padding),
        "ceil_mode": parse_flag(op, "ceil_mode", ceil_mode),
        "layout": layout,
    }


def plain_padding(op: str, padding: PaddingLike) -> str | int | tuple[tuple[int, int], ...]:
    """A name, whose pixels depend on the input's size, or one int for all sides, or (before, after) pairs."""
    one = (1, 1)
    pairs = parse_padding(op, padding, one, one, one, one)
    if isinstance(padding, str):
        return padding
    sides = {side for pair in pairs for side in pair}
    return sides.pop() if len(sides) == 1 else pairs


def pool_settings(window: tuple[int, ...], options: dict[str, Any]) -> str:
    """The arguments of a pooling layer that are not the default."""
    default: dict[str, Any] = {
        "stride": short(window),
        "padding": 0,
        "dilation": 1,
        "layout": "NCHW",
    }
    default |= {"ceil_mode": False, "count_include_pad": True}
    changed = [f"{name}={value!r}" for name, value in options.items() if value != default[name]]
    return ", ".join([str(short(window)), *changed])


def short(value: Any) -> Any:
    """(3, 3) as 3: a pair of equals as the one value it could be given as, which a call finds sooner."""
    while isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return value


class MaxPool2d(Layer):
    """Largest element of each window.

    Parameters
    ----------
    window : int or (int, int)
    stride : int or (int, int), optional
        Default: the window.
    padding, dilation, ceil_mode, layout
        As in `fastconv.max_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    def __init__(
        self,
        window: PerAxis,
        stride: PerAxis | None = None,
        padding: PaddingLike = 0,
        *,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
        layout: str = "NCHW",
    ) -> None:
        super().__init__()
        self.window, self.options = pool_options("MaxPool2d", window, stride, padding, ceil_mode, layout)
        self.options["dilation"] = short(parse_axes("MaxPool2d", "dilation", dilation, 2, 1))

    def forward(self, x: Array) -> Array:
        y, argmax = max_pool2d(x, self.window, return_argmax=True, **self.options)
        self._kept = argmax, x.shape, y
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        argmax, shape, _ = self.kept()
        return max_pool2d_grad(dy, argmax, shape, layout=self.options["layout"]) if input_grad else None

    @property
    def output(self) -> Array:
        """What the last `forward` returned."""
        y: Array = self.kept()[2]
        return y

    def settings(self) -> str:
        return pool_settings(self.window, self.options)


class AvgPool2d(Layer):
    """Mean of each window.

    Parameters
    ----------
    window : int or (int, int)
    stride : int or (int, int), optional
        Default: the window.
    padding, ceil_mode, count_include_pad, layout
        As in `fastconv.avg_pool2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    def __init__(
        self,
        window: PerAxis,
        stride: PerAxis | None = None,
        padding: PaddingLike = 0,
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        layout: str = "NCHW",
    ) -> None:
        super().__init__()
        self.window, self.options = pool_options("AvgPool2d", window, stride, padding, ceil_mode, layout)
        self.options["count_include_pad"] = parse_flag("AvgPool2d", "count_include_pad", count_include_pad)

    def forward(self, x: Array) -> Array:
        self._kept = x.shape
        return avg_pool2d(x, self.window, **self.options)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        return avg_pool2d_grad(dy, self.kept(), self.window, **self.options) if input_grad else None

    def settings(self) -> str:
        return pool_settings(self.window, self.options)


class Linear(Layer):
    """y = x @ w.T + b: every output sees every input.

    Parameters
    ----------
    n_in, n_out : int
        Inputs and outputs; w is (n_out, n_in).
    bias : bool, default True
    init, dtype, seed
        As in `Conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Linear(4, 3)(np.ones((2, 4), np.float32)).shape
    (2, 3)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        init: str = "fan_in",
        dtype: DTypeLike = FLOAT32,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        self.n_in, self.n_out = parse_int("Linear", "n_in", n_in, 1), parse_int("Linear", "n_out", n_out, 1)
        self.bias = parse_flag("Linear", "bias", bias)
        self.init = checked_init("Linear", init)
        self.dtype = checked_dtype("Linear", dtype)
        self.reset(self.rng)

    def reset(self, rng: np.random.Generator) -> None:
        super().reset(rng)
        dtype = self._params["w"].dtype if self._params else self.dtype
        w, b = draw_weights(rng, self.init, (self.n_out, self.n_in))
        self._params["w"] = w.astype(dtype, copy=False)
        if self.bias:
            self._params["b"] = b.astype(dtype, copy=False)

    def forward(self, x: Array) -> Array:
        w = self._params["w"]
        x = checked_float("Linear", "x", x, w.dtype)
        if x.ndim != 2 or x.shape[1] != self.n_in:
            hint = "; put Flatten before it" if math.prod(x.shape[1:]) == self.n_in else ""
            bad_value("Linear", f"x has shape {x.shape}", f"it must be (N, {self.n_in}){hint}")
        self._kept = x
        y = linear(x, w)
        if self.bias:
            y += self._params["b"]
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        x, w = self.kept(), self._params["w"]
        dy = checked_float("Linear.backward", "dy", dy, w.dtype)
        check_shape("Linear.backward", "dy", dy, (len(x), self.n_out))
        self._grads["w"] = linear_filter_grad(x, dy)
        if self.bias:
            self._grads["b"] = dy.sum(0)
        return linear_input_grad(dy, w) if input_grad else None

    def settings(self) -> str:
        return f"{self.n_in}, {self.n_out}" + ", bias=False" * (not self.bias)


class Flatten(Layer):
    """(N, ...) -> (N, product of the rest).

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Flatten()(np.ones((2, 3, 4, 4))).shape
    (2, 48)
    """

    def forward(self, x: Array) -> Array:
        self._kept = x.shape
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        shape: tuple[int, ...] = self.kept()
        return dy.reshape(shape) if input_grad else None


class Dropout(Layer):
    """In training, zero each element with probability p and scale the others by 1 / (1 - p).

    Parameters
    ----------
    p : float, default 0.5
        In [0, 1).
    seed : int or numpy.random.Generator, optional
        Fixes the masks; `Sequential.fit` replaces it by its own.

    References
    ----------
    Srivastava et al.: Dropout (2014).

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.Dropout(0.5).eval()(np.ones(4))
    array([1., 1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, seed: Seed = None) -> None:
        super().__init__(seed)
        self.p = checked_number("Dropout", "p", p, 0.0, below=1.0)

    def forward(self, x: Array) -> Array:
        x = checked_float("Dropout", "x", x)
        scale = x.dtype.type(1 / (1 - self.p) if self.training else 1)
        mask = scale
        if self.training:
            mask = (self.rng.random(x.shape, np.float32) >= self.p) * scale
        self._kept = mask
        y: Array = x * mask
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        mask: Array = self.kept()
        return dy * mask if input_grad else None

    def settings(self) -> str:
        return f"{self.p:g}"

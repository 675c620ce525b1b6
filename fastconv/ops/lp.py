"""Lp pooling of any rank and its gradient, by the average-pooling passes: y = (sum of x**p) ** (1/p)."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, cast

import numpy as np

from fastconv.ops.arrays import Array, check_out, check_shape, checked_float, contiguous, writable
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.launch import pool_launch
from fastconv.ops.memory import empty
from fastconv.ops.parse import PaddingLike, PerAxis
from fastconv.ops.pool import max_pool, max_pool_grad


def parse_norm(op: str, p: Any) -> float:
    """The exponent: any positive number, infinity included."""
    if isinstance(p, (bool, np.bool_)) or not isinstance(p, (Real, np.integer, np.floating)):
        bad_type(op, f"p is {shown(p)}", "it must be a number")
    try:
        exponent = float(p)
    except OverflowError:
        bad_value(op, f"p is {shown(p)}", "it must fit a float")
    if not exponent > 0:
        bad_value(op, f"p is {shown(p)}", "it must be positive")
    return exponent


def lp_forward(
    op: str,
    x: Array,
    window: PerAxis,
    p: float,
    stride: PerAxis | None,
    padding: PaddingLike,
    dilation: PerAxis,
    ceil_mode: bool,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The forward pass."""
    x = checked_float(op, "x", x)
    p = parse_norm(op, p)
    if p == math.inf:
        peaks = max_pool(
            op, np.abs(x), window, stride, padding, dilation, ceil_mode, layout, False, out, kernel
        )
        return cast(Array, peaks)
    spec, run, threads, _, y_shape = pool_launch(
        op,
        "avg_pool",
        "x",
        x.dtype,
        ceil_mode,
        True,
        x.shape,
        window,
        stride,
        padding,
        dilation,
        None,
        layout,
        None,
        kernel,
    )
    if out is not None:
        check_out(op, out, y_shape, x.dtype, x)
    y = empty(y_shape, x.dtype)
    result = y if out is None else out
    with np.errstate(all="ignore"):
        run(spec, contiguous(x) ** p, y, threads)
        y *= math.prod(spec.window)
        np.power(y, 1 / p, out=result)
    return result


def lp_backward(
    op: str,
    dy: Array,
    x: Array,
    y: Array,
    window: PerAxis,
    p: float,
    stride: PerAxis | None,
    padding: PaddingLike,
    dilation: PerAxis,
    ceil_mode: bool,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The gradient: dx = x**(p-1) * (sum over the windows that hold it of dy * y**(1-p)).

    For an infinite p it goes to the first largest magnitude.
    """
    dy = checked_float(op, "dy", dy)
    x = checked_float(op, "x", x, dy.dtype)
    y = checked_float(op, "y", y, dy.dtype)
    p = parse_norm(op, p)
    spec, run, threads, x_shape, y_shape = pool_launch(
        op,
        "avg_pool_grad",
        "x",
        x.dtype,
        ceil_mode,
        True,
        x.shape,
        window,
        stride,
        padding,
        dilation,
        None,
        layout,
        None,
        kernel,
    )
    check_shape(op, "dy", dy, y_shape)
    check_shape(op, "y", y, y_shape)
    if out is None:
        dx = empty(x_shape, x.dtype)
    else:
        check_out(op, out, x_shape, x.dtype, dy, x, y)
        dx = writable(out)
    if p == math.inf:
        options = (window, stride, padding, dilation, ceil_mode, layout, True, None, kernel)
        argmax = max_pool(op, np.abs(x), *options)[1]
        routed = max_pool_grad(op, dy, argmax, x_shape, layout, None, kernel)
        return np.multiply(routed, np.sign(x), out=out, order="C")
    with np.errstate(all="ignore"):
        # PyTorch's rule: a window whose norm is 0 passes nothing on, though y**(1-p) is infinite there
        share = np.where(y == 0, dy.dtype.type(0), dy * y ** (1 - p) * math.prod(spec.window))
        run(spec, contiguous(share), dx, threads)
        dx *= x ** (p - 1)
    if out is not None and dx is not out:
        out[...] = dx
    return dx if out is None else out

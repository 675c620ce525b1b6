"""Max- and average pooling of any rank and their gradients: check, allocate, call the kernel.

`op` names the caller for messages and carries the rank.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastconv.ops.arrays import (
    Array,
    check_argmax,
    check_out,
    check_shape,
    checked_float,
    contiguous,
    result,
    writable,
)
from fastconv.ops.launch import pool_launch
from fastconv.ops.memory import empty
from fastconv.ops.parse import PaddingLike, PerAxis, parse_flag


def max_pool(
    op: str,
    x: Array,
    window: PerAxis,
    stride: PerAxis | None,
    padding: PaddingLike,
    dilation: PerAxis,
    ceil_mode: bool,
    layout: str,
    return_argmax: bool,
    out: Array | None,
    kernel: str | None,
) -> Array | tuple[Array, Array]:
    """Max-pooling."""
    x = checked_float(op, "x", x)
    spec, run, threads, _, y_shape = pool_launch(
        op,
        "max_pool",
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
    argmax = empty(y_shape, spec.argmax_dtype) if parse_flag(op, "return_argmax", return_argmax) else None
    if out is None:
        y = empty(y_shape, x.dtype)
    else:
        check_out(op, out, y_shape, x.dtype, x)
        y = writable(out)
    run(spec, contiguous(x), y, argmax, threads)
    y = result(y, out)
    return y if argmax is None else (y, argmax)


def max_pool_grad(
    op: str,
    dy: Array,
    argmax: Array,
    input_shape: Sequence[int],
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The routing gradient: a pooling of window 1 carries its geometry, dy's size aside."""
    dy = checked_float(op, "dy", dy)
    spec, run, threads, x_shape, _ = pool_launch(
        op,
        "max_pool_grad",
        "input",
        dy.dtype,
        False,
        True,
        input_shape,
        1,
        None,
        0,
        1,
        None,
        layout,
        dy.shape,
        kernel,
    )
    argmax = check_argmax(op, argmax, dy.shape, spec)
    if out is None:
        dx = empty(x_shape, dy.dtype)
    else:
        check_out(op, out, x_shape, dy.dtype, dy, argmax)
        dx = writable(out)
    run(spec, contiguous(dy), argmax, dx, threads)
    return result(dx, out)


def avg_pool(
    op: str,
    x: Array,
    window: PerAxis,
    stride: PerAxis | None,
    padding: PaddingLike,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """Average pooling."""
    x = checked_float(op, "x", x)
    spec, run, threads, _, y_shape = pool_launch(
        op,
        "avg_pool",
        "x",
        x.dtype,
        ceil_mode,
        count_include_pad,
        x.shape,
        window,
        stride,
        padding,
        1,
        divisor_override,
        layout,
        None,
        kernel,
    )
    if out is None:
        y = empty(y_shape, x.dtype)
    else:
        check_out(op, out, y_shape, x.dtype, x)
        y = writable(out)
    run(spec, contiguous(x), y, threads)
    return result(y, out)


def avg_pool_grad(
    op: str,
    dy: Array,
    input_shape: Sequence[int],
    window: PerAxis,
    stride: PerAxis | None,
    padding: PaddingLike,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    layout: str,
    out: Array | None,
    kernel: str | None,
) -> Array:
    """The gradient of average pooling."""
    dy = checked_float(op, "dy", dy)
    spec, run, threads, x_shape, y_shape = pool_launch(
        op,
        "avg_pool_grad",
        "input",
        dy.dtype,
        ceil_mode,
        count_include_pad,
        input_shape,
        window,
        stride,
        padding,
        1,
        divisor_override,
        layout,
        None,
        kernel,
    )
    check_shape(op, "dy", dy, y_shape)
    if out is None:
        dx = empty(x_shape, dy.dtype)
    else:
        check_out(op, out, x_shape, dy.dtype, dy)
        dx = writable(out)
    run(spec, contiguous(dy), dx, threads)
    return result(dx, out)

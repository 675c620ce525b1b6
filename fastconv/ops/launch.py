"""From arguments to a kernel call: specs and choices are remembered, so that a tiny call stays tiny.

A remembered launch is found by the arguments as they came, before any of them is checked; what is not plainly
the same argument (a list, a float that equals an int) is checked and built anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fastconv.dispatch import runtime, settings
from fastconv.dispatch.problem import as_seen, seen_by_kernel
from fastconv.dispatch.select import select
from fastconv.ops.spec import ConvSpec, PoolSpec, Size, conv_spec, conv_transpose_spec, pool_spec

# What messages call the input and the filters of each pass.
X_W, INPUT_W, X_FILTER = ("x", "w"), ("input", "w"), ("x", "filter")
# Problems remembered by each table, about 1 KB each, before it starts again.
MOST_REMEMBERED = 4096


class ConvLaunch(NamedTuple):
    """A convolution pass ready to run."""

    spec: ConvSpec
    run: Callable[..., None]
    threads: int
    x_shape: Size
    w_shape: Size
    y_shape: Size


class PoolLaunch(NamedTuple):
    """A pooling pass ready to run."""

    spec: PoolSpec
    run: Callable[..., None]
    threads: int
    x_shape: Size
    y_shape: Size


Launch = TypeVar("Launch", ConvLaunch, PoolLaunch)
_convs: dict[tuple[Any, ...], ConvLaunch] = {}
_transposes: dict[tuple[Any, ...], ConvLaunch] = {}
_pools: dict[tuple[Any, ...], PoolLaunch] = {}
SCALARS = {int, str, type(None)}


def forget() -> None:
    """Choose anew from the next call on: in a forked child, or when what choices rest on has changed."""
    global _convs, _transposes, _pools
    # new tables, so that a launch chosen before this and remembered after it is not found again
    _convs, _transposes, _pools = {}, {}, {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


def plain(*given: Any, nested: int = 2) -> bool:
    """True where equal values are the same argument; 1.0, True and np.int64(1) equal 1 but are others."""
    for value in given:
        kind = type(value)
        if kind is tuple:
            if not (SCALARS.issuperset(map(type, value)) or (nested and plain(*value, nested=nested - 1))):
                return False
        elif kind not in SCALARS:
            return False
    return True


def remember(table: dict[tuple[Any, ...], Launch], key: tuple[Any, ...], launch: Launch) -> Launch:
    """The launch, found by `key` from now on."""
    if len(table) >= MOST_REMEMBERED:
        table.clear()
    table[key] = launch
    return launch


def conv_launch(
    op: str,
    pass_name: str,
    names: tuple[str, str],
    dtype: Any,
    x_shape: Any,
    w_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    layout: Any,
    kernel: Any,
) -> ConvLaunch:
    """A convolution's spec and the chosen kernel's pass."""
    table = _convs
    key: tuple[Any, ...] | None = None
    # arrays' shapes and plain integers need no closer look: what most calls are
    integers = type(stride) is type(padding) is type(dilation) is type(groups) is int
    if ((integers and names is X_W) or plain(x_shape, w_shape, stride, padding, dilation, groups)) and plain(
        padding_mode, layout, kernel
    ):
        current = settings.current()
        key = (
            op,
            pass_name,
            dtype.num,
            x_shape,
            w_shape,
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
            layout,
            kernel,
            current,
        )
        launch = table.get(key)
        if launch is not None:
            return launch
    spec = conv_spec(
        op,
        x_shape,
        w_shape,
        dtype,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        layout=layout,
        names=names,
    )
    launch = launch_of(op, pass_name, spec, kernel)
    return launch if key is None else remember(table, key, launch)


def launch_of(op: str, pass_name: str, spec: ConvSpec, kernel: str | None) -> ConvLaunch:
    """The chosen kernel's pass for a spec."""
    current = settings.current()
    inner = seen_by_kernel(spec)
    run = select(op, pass_name, inner, current, kernel).passes[pass_name]
    if inner is not spec:
        run = as_seen(pass_name, run, spec)
    threads = runtime.threads_allowed(current.threads)
    return ConvLaunch(spec, run, threads, spec.x_shape, spec.w_shape, spec.y_shape)


def conv_transpose_launch(
    op: str,
    pass_name: str,
    names: tuple[str, str],
    dtype: Any,
    x_shape: Any,
    w_shape: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any,
    kernel: Any,
) -> ConvLaunch:
    """The same for a transposed convolution: its spec is the convolution's whose gradient it is."""
    table = _transposes
    key: tuple[Any, ...] | None = None
    if plain(x_shape, w_shape, stride, padding, output_padding, dilation, groups, layout, kernel):
        current = settings.current()
        key = (
            op,
            pass_name,
            dtype.num,
            x_shape,
            w_shape,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            layout,
            kernel,
            current,
        )
        launch = table.get(key)
        if launch is not None:
            return launch
    spec = conv_transpose_spec(
        op,
        x_shape,
        w_shape,
        dtype,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
        layout=layout,
        names=names,
    )
    launch = launch_of(op, pass_name, spec, kernel)
    return launch if key is None else remember(table, key, launch)


def pool_launch(
    op: str,
    pass_name: str,
    name: str,
    dtype: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    x_shape: Any,
    window: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    divisor_override: Any,
    layout: Any,
    out_shape: Any,
    kernel: Any,
) -> PoolLaunch:
    """A pooling's spec and the chosen kernel's pass."""
    table = _pools
    key: tuple[Any, ...] | None = None
    if type(ceil_mode) is type(count_include_pad) is bool and plain(
        x_shape, window, stride, padding, dilation, divisor_override, layout, out_shape, kernel
    ):
        current = settings.current()
        key = (
            op,
            pass_name,
            dtype.num,
            ceil_mode,
            count_include_pad,
            x_shape,
            window,
            stride,
            padding,
            dilation,
            divisor_override,
            layout,
            out_shape,
            kernel,
            current,
        )
        launch = table.get(key)
        if launch is not None:
            return launch
    spec = pool_spec(
        op,
        x_shape,
        window,
        dtype,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        needs_input=pass_name == "max_pool" or not (count_include_pad or divisor_override),
        out_shape=out_shape,
        names=(name, "dy"),
    )
    current = settings.current()
    run = select(op, pass_name, spec, current, kernel).passes[pass_name]
    launch = PoolLaunch(spec, run, runtime.threads_allowed(current.threads), spec.x_shape, spec.y_shape)
    return launch if key is None else remember(table, key, launch)

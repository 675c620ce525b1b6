"""From checked arguments to a kernel call: specs and choices are cached, so that a tiny call stays tiny."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import runtime
from fastconv.dispatch.select import select
from fastconv.dispatch.settings import Settings
from fastconv.ops import padding as padding_modes
from fastconv.ops.spec import ConvSpec, PoolSpec, Size, conv_spec, pool_spec


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


PLAIN = (int, str, bool, type(None))


def plain(value: Any) -> bool:
    """True where equal values are the same argument: 1.0 and np.int64(1) equal 1 but are checked apart."""
    kind = type(value)
    return kind is int or kind is str or value is None or (kind is tuple and all(map(plain, value)))


def conv_launch(
    op: str,
    pass_name: str,
    names: tuple[str, str],
    x_shape: Size,
    w_shape: Size,
    dtype: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    layout: Any,
    kernel: Any,
    settings: Settings,
) -> ConvLaunch:
    """The spec and the chosen kernel's pass for a convolution's arguments."""
    make = (
        _conv_launch
        if plain((x_shape, w_shape, stride, padding, dilation, groups, padding_mode, layout, kernel))
        else _conv_launch.__wrapped__
    )
    return make(
        *(op, pass_name, names, x_shape, w_shape, dtype, stride, padding, dilation, groups),
        *(padding_mode, layout, kernel, settings, runtime.threads_allowed(settings.threads)),
    )


@lru_cache(maxsize=4096)
def _conv_launch(
    op: str,
    pass_name: str,
    names: tuple[str, str],
    x_shape: Size,
    w_shape: Size,
    dtype: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    layout: Any,
    kernel: Any,
    settings: Settings,
    threads: int,
) -> ConvLaunch:
    spec = conv_spec(
        *(op, x_shape, w_shape, dtype),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        layout=layout,
        names=names,
    )
    return launch_of(op, pass_name, spec, kernel, settings, threads)


def launch_of(
    op: str, pass_name: str, spec: ConvSpec, kernel: str | None, settings: Settings, threads: int
) -> ConvLaunch:
    """The chosen kernel's pass for a spec; the border of other padding modes is added around it."""
    if spec.padding_mode == "zeros" or spec.empty:
        run = select(op, pass_name, spec, settings, kernel).passes[pass_name]
    else:
        inner = padding_modes.padded_spec(spec, spec.n)
        run = padding_modes.around(pass_name, select(op, pass_name, inner, settings, kernel).passes[pass_name])
    return ConvLaunch(spec, run, threads, spec.x_shape, spec.w_shape, spec.y_shape)


def pool_launch(
    op: str, pass_name: str, x_shape: Size, window: Any, dtype: Any, kernel: Any, settings: Settings, **options: Any
) -> PoolLaunch:
    """The spec and the chosen kernel's pass for a pooling's arguments."""
    items = tuple(options.items())
    make = (
        _pool_launch
        if plain((x_shape, window, kernel)) and all(type(v) is bool or plain(v) for v in options.values())
        else _pool_launch.__wrapped__
    )
    threads = runtime.threads_allowed(settings.threads)
    return make(op, pass_name, x_shape, window, dtype, kernel, settings, threads, items)


@lru_cache(maxsize=4096, typed=True)
def _pool_launch(
    op: str,
    pass_name: str,
    x_shape: Size,
    window: Any,
    dtype: Any,
    kernel: Any,
    settings: Settings,
    threads: int,
    options: tuple[tuple[str, Any], ...],
) -> PoolLaunch:
    spec = pool_spec(op, x_shape, window, dtype, **dict(options))
    run = select(op, pass_name, spec, settings, kernel).passes[pass_name]
    return PoolLaunch(spec, run, threads, spec.x_shape, spec.y_shape)

"""From arguments to a kernel call: specs and choices are remembered, so that a tiny call stays tiny."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import runtime, settings
from fastconv.dispatch.select import select
from fastconv.dispatch.settings import Settings
from fastconv.ops import padding as padding_modes
from fastconv.ops.spec import ConvSpec, PoolSpec, Size, conv_spec, conv_transpose_spec, pool_spec

CACHED = 4096


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


SCALARS = {int, str, type(None)}
FLAGS = {bool}


def plain(given: tuple[Any, ...]) -> bool:
    """True where equal values are the same argument; 1.0, True and np.int64(1) equal 1 but are others."""
    for value in given:
        kind = type(value)
        if kind is tuple:
            if not (SCALARS.issuperset(map(type, value)) or plain(value)):
                return False
        elif kind not in SCALARS:
            return False
    return True


def conv_launch(op: str, pass_name: str, names: tuple[str, str], dtype: Any, *given: Any) -> ConvLaunch:
    """A convolution's spec and the chosen kernel's pass; `given` is what `_conv_launch` unpacks."""
    make = _conv_launch if plain(given) else _conv_launch.__wrapped__
    current = settings.current()
    return make(op, pass_name, names, dtype, given, current, runtime.threads_allowed(current.threads))


@lru_cache(maxsize=CACHED)
def _conv_launch(
    op: str,
    pass_name: str,
    names: tuple[str, str],
    dtype: Any,
    given: tuple[Any, ...],
    settings: Settings,
    threads: int,
) -> ConvLaunch:
    x_shape, w_shape, stride, padding, dilation, groups, padding_mode, layout, kernel = given
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
    return launch_of(op, pass_name, spec, kernel, settings, threads)


def launch_of(
    op: str, pass_name: str, spec: ConvSpec, kernel: str | None, settings: Settings, threads: int
) -> ConvLaunch:
    """The chosen kernel's pass for a spec; the border of other padding modes is added around it."""
    if spec.padding_mode == "zeros" or spec.empty:
        run = select(op, pass_name, spec, settings, kernel).passes[pass_name]
    else:
        inner = padding_modes.padded_spec(spec)
        run = padding_modes.around(
            pass_name, select(op, pass_name, inner, settings, kernel).passes[pass_name]
        )
    return ConvLaunch(spec, run, threads, spec.x_shape, spec.w_shape, spec.y_shape)


def conv_transpose_launch(
    op: str, pass_name: str, names: tuple[str, str], dtype: Any, *given: Any
) -> ConvLaunch:
    """The same for a transposed convolution: its spec is the convolution's whose gradient it is."""
    make = _conv_transpose_launch if plain(given) else _conv_transpose_launch.__wrapped__
    current = settings.current()
    return make(op, pass_name, names, dtype, given, current, runtime.threads_allowed(current.threads))


@lru_cache(maxsize=CACHED)
def _conv_transpose_launch(
    op: str,
    pass_name: str,
    names: tuple[str, str],
    dtype: Any,
    given: tuple[Any, ...],
    settings: Settings,
    threads: int,
) -> ConvLaunch:
    x_shape, w_shape, stride, padding, output_padding, dilation, groups, layout, kernel = given
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
    return launch_of(op, pass_name, spec, kernel, settings, threads)


def pool_launch(
    op: str,
    pass_name: str,
    name: str,
    dtype: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    *given: Any,
) -> PoolLaunch:
    """A pooling's spec and the chosen kernel's pass; `given` is what `_pool_launch` unpacks."""
    cacheable = plain(given) and FLAGS.issuperset((type(ceil_mode), type(count_include_pad)))
    make = _pool_launch if cacheable else _pool_launch.__wrapped__
    current = settings.current()
    threads = runtime.threads_allowed(current.threads)
    return make(op, pass_name, name, dtype, ceil_mode, count_include_pad, given, current, threads)


@lru_cache(maxsize=CACHED)
def _pool_launch(
    op: str,
    pass_name: str,
    name: str,
    dtype: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    given: tuple[Any, ...],
    settings: Settings,
    threads: int,
) -> PoolLaunch:
    x_shape, window, stride, padding, dilation, divisor_override, layout, out_shape, kernel = given
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
    run = select(op, pass_name, spec, settings, kernel).passes[pass_name]
    return PoolLaunch(spec, run, threads, spec.x_shape, spec.y_shape)

"""Keras 3 on its NumPy backend: convolutions and poolings on fastconv, and Keras without jax.

Keras' NumPy backend asks jax for these operations and cannot be imported without it. Where jax is missing,
importing this module first imports Keras with stand-ins that say so when something asks for jax after all.
The replaced functions are Keras' internals, so other versions than the tested ones may have moved them:
`install` then replaces nothing and says what it missed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, MissingHost, Patch, UnsupportedHost, by_rank, or_else, require
from fastconv.ops.arrays import Array

BACKEND = "keras.src.backend.numpy.nn"
STAND_INS = ("jax", "keras.src.backend.jax.math")
USED = ("backend", "check_conv_input_channels", "compute_conv_transpose_padding_args_for_jax")
LAYOUTS = {
    "channels_first": {1: "NCW", 2: "NCHW", 3: "NCDHW"},
    "channels_last": {1: "NWC", 2: "NHWC", 3: "NDHWC"},
}
Sizes = int | Sequence[int]


class _NoJax(ModuleType):
    """Stands for a module of jax while Keras is imported; whatever it is asked for raises when called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{self.__name__}.{name}")


class _Absent:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> _Absent:
        return _Absent(f"{self.name}.{name}")

    def __call__(self, *args: Any, **options: Any) -> Any:
        refusal = sys.exception()  # fastconv's reason, where Keras' own function is the fallback
        reason = f" (fastconv: {refusal})" if refusal else ""
        raise MissingHost(f"Keras on NumPy needs {self.name} for this: pip install jax{reason}")


@contextmanager
def _without_jax() -> Iterator[None]:
    """Stand-ins in the place of jax, where it is not installed, for as long as Keras is imported."""
    here = "keras" in sys.modules or importlib.util.find_spec("jax")
    names = () if here else STAND_INS
    sys.modules.update({name: _NoJax(name) for name in names})
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


os.environ.setdefault("KERAS_BACKEND", "numpy")
with _without_jax():
    keras = require(HOSTS["keras"])


def _backend() -> ModuleType:
    """The functions of Keras' NumPy backend."""
    if keras.backend.backend() != "numpy":
        raise UnsupportedHost(
            f"Keras runs on {keras.backend.backend()}: set KERAS_BACKEND=numpy before Keras is imported"
        )
    try:
        nn = importlib.import_module(BACKEND)
        missing = [name for name in USED if not hasattr(nn, name)]
    except ModuleNotFoundError:
        missing = [""]
    if missing:
        where, host = ".".join([BACKEND, *missing[:1]]).rstrip("."), HOSTS["keras"]
        raise UnsupportedHost(
            f"Keras {host.version} has no {where}: this adapter was tested with Keras {host.tested}"
        )
    return nn


def _geometry(x: Any, data_format: str | None, nn: Any) -> tuple[Array, str, bool]:
    """The input as an array, its layout in fastconv's words, and whether its channels come last."""
    x = np.asarray(x)
    data_format = nn.backend.standardize_data_format(data_format)
    layout = LAYOUTS[data_format].get(x.ndim - 2, "")  # of no other rank: by_rank refuses it
    return x, layout, data_format == "channels_last"


def _filters(w: Array, last: bool) -> Array:
    """Keras' (R, S, C, K) in the layout of the images, as a view: (K, C, R, S) where channels come first."""
    return w if last else np.moveaxis(w, (-1, -2), (0, 1))


def _conv(
    nn: Any,
    inputs: Any,
    kernel: Any,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    x, layout, last = _geometry(inputs, data_format, nn)
    w = np.asarray(kernel)
    channels = x.shape[-1 if last else 1]
    options = dict(stride=strides, padding=padding, dilation=dilation_rate, groups=channels // w.shape[-2])
    y: Array = by_rank("conv{}d", x.ndim - 2)(x, _filters(w, last), layout=layout, **options)
    return y


def _depthwise_conv(
    nn: Any,
    inputs: Any,
    kernel: Any,
    strides: Sizes = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    x, w = np.asarray(inputs), np.asarray(kernel)
    nn.check_conv_input_channels(x, w, nn.backend.standardize_data_format(data_format))
    w = w.reshape(*w.shape[:-2], 1, -1)  # (R, S, C, M) -> (R, S, 1, C*M)
    return _conv(nn, x, w, strides, padding, data_format, dilation_rate)


def _conv_transpose(
    nn: Any,
    inputs: Any,
    kernel: Any,
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    data_format: str | None = None,
    dilation_rate: Sizes = 1,
) -> Array:
    """Keras counts `padding` on the dilated input, fastconv how much of the full result is cut off."""
    x, layout, last = _geometry(inputs, data_format, nn)
    w = np.asarray(kernel)  # (R, S, K, C)
    dilation = (dilation_rate,) * (x.ndim - 2) if isinstance(dilation_rate, int) else dilation_rate
    counted = nn.compute_conv_transpose_padding_args_for_jax(
        x.shape, w.shape, strides, padding, output_padding, dilation_rate
    )
    reach = [d * (r - 1) for d, r in zip(dilation, w.shape, strict=False)]
    cut = [(r - before, max(r - after, 0)) for r, (before, after) in zip(reach, counted, strict=True)]
    added = [max(after - r, 0) for r, (_, after) in zip(reach, counted, strict=True)]
    options = dict(stride=strides, padding=cut, output_padding=added, dilation=dilation, layout=layout)
    y: Array = by_rank("conv_transpose{}d", x.ndim - 2)(x, _filters(w, last), **options)
    return y


def _pool(
    name: str,
    options: dict[str, bool],
    nn: Any,
    inputs: Any,
    pool_size: Sizes,
    strides: Sizes | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    x, layout, _ = _geometry(inputs, data_format, nn)
    pool = by_rank(name, x.ndim - 2)
    y: Array = pool(x, pool_size, stride=strides, padding=padding, layout=layout, **options)
    return y


REPLACED: dict[str, Callable[..., Array]] = {
    "conv": _conv,
    "depthwise_conv": _depthwise_conv,  # separable_conv calls it, and conv
    "conv_transpose": _conv_transpose,
    "max_pool": partial(_pool, "max_pool{}d", {}),
    "average_pool": partial(_pool, "avg_pool{}d", {"count_include_pad": False}),
}


def _halves(fast: Callable[..., Array]) -> Callable[..., Array]:
    """`fast`, with half precision computed in float32 and rounded: the fallback where jax is missing."""

    def call(nn: Any, *args: Any, **options: Any) -> Array:
        types = {str(a.dtype) for a in args if hasattr(a, "dtype")}
        if types != {"float16"}:
            return fast(nn, *args, **options)
        wide = [np.asarray(a).astype(np.float32) if hasattr(a, "dtype") else a for a in args]
        return fast(nn, *wide, **options).astype(np.float16)

    return call


def _patches() -> list[Patch]:
    nn = _backend()
    jax = importlib.util.find_spec("jax") is not None
    fast = REPLACED if jax else {name: _halves(function) for name, function in REPLACED.items()}
    return [Patch(nn, name, partial(or_else, partial(fast[name], nn))) for name in REPLACED]


_adapter = Adapter(HOSTS["keras"], _patches)
install, uninstall, installed = _adapter.install, _adapter.uninstall, _adapter.installed

"""A problem given by its shapes alone: the geometry that kernels see, and arrays to run them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.ops.axes import fewer_axes, reshaped
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.padding import Pass, around, padded_spec
from fastconv.ops.spec import ConvSpec, PoolSpec


def parse_dtype(op: str, dtype: Any) -> np.dtype[Any]:
    """float32 or float64, in any form NumPy takes."""
    needed = "it must be float32 or float64"
    try:
        parsed: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        bad_type(op, f"dtype is {shown(dtype)}", needed)
    if parsed not in (np.float32, np.float64):
        bad_value(op, f"dtype is {parsed}", needed)
    return parsed


def seen_by_kernel(spec: Any) -> Any:
    """A kernel gets images padded already, unless with zeros, and two spatial axes where two will do."""
    if isinstance(spec, PoolSpec) or spec.empty:
        return spec
    return fewer_axes(spec if spec.padding_mode == "zeros" else padded_spec(spec))


def as_seen(pass_name: str, run: Pass, spec: ConvSpec) -> Pass:
    """A pass for `spec` by a kernel's pass for `seen_by_kernel(spec)`."""
    if spec.padding_mode == "zeros":
        return reshaped(pass_name, run, spec)

    def band(spec: ConvSpec, *arguments: Any) -> None:
        reshaped(pass_name, run, spec)(spec, *arguments)

    return around(pass_name, band)


def random_arguments(pass_name: str, spec: Any) -> tuple[Any, ...]:
    """Random arrays in the order of the pass's arguments (see the docstring of fastconv.kernels)."""
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...]) -> NDArray[Any]:
        return rng.standard_normal(shape, np.float32).astype(spec.dtype, copy=False)

    x, y = normal(spec.x_shape), normal(spec.y_shape)
    if isinstance(spec, ConvSpec):
        w = normal(spec.w_shape)
        arguments = {
            "forward": (x, w, None, y, None),
            "input_grad": (y, w, x),
            "filter_grad": (x, y, w, None),
        }
        return arguments[pass_name]
    argmax = rng.integers(0, int(np.prod(spec.size)), spec.y_shape, spec.argmax_dtype)
    return {"max_pool": (x, y, argmax), "max_pool_grad": (y, argmax, x)}.get(
        pass_name, (x, y) if pass_name == "avg_pool" else (y, x)
    )

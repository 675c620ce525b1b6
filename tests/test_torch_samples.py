"""PyTorch's own test inputs (its OpInfo samples, references and errors), where PyTorch is installed.

Outputs, gradients and indices are PyTorch's in float64; in both layouts, both types and some memory order.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from strategies import MEMORY_ORDERS, in_memory_order

import fastconv as fc
from fastconv.ops.spec import LAYOUTS

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("expecttest", reason="PyTorch's own test inputs need expecttest")
op_db = pytest.importorskip("torch.testing._internal.common_methods_invocations").op_db

# PyTorch's positional arguments after the input.
ARGUMENTS = {
    "conv": "weight bias stride padding dilation groups",
    "conv_transpose": "weight bias stride padding output_padding groups dilation",
    "max_pool": "kernel_size stride padding dilation ceil_mode return_indices",
    "avg_pool": "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "adaptive_avg_pool": "output_size",
    "adaptive_max_pool": "output_size return_indices",
    "max_unpool": "indices kernel_size stride padding output_size",
}
# Of fastconv's functions after the input, by PyTorch's names; all others are the keywords of the same name.
POSITIONAL = {"weight", "bias", "indices", "kernel_size", "output_size"}
OPS = [
    (op, kind, ndim)
    for op in op_db
    for kind in ARGUMENTS
    for ndim in LAYOUTS
    if op.name == f"nn.functional.{kind}{ndim}d" and not op.variant_test_name
]
each_op = pytest.mark.parametrize(("op", "kind", "ndim"), OPS, ids=[op.name.split(".")[-1] for op, *_ in OPS])
ORDERS = [order for order in MEMORY_ORDERS if order != "broadcast"]  # which changes the values
# PyTorch refuses these; fastconv computes them, or another test is about them (docs/semantics.md).
COMPUTED = "pad should be at most half|padding='same' is not supported for strided"


def arguments(kind: str, sample: Any) -> dict[str, Any]:
    """A sample's arguments by name; PyTorch takes (2,) for 2 on every axis, and () for the default."""
    given = dict(zip(ARGUMENTS[kind].split(), sample.args, strict=False)) | sample.kwargs
    given.pop("return_indices", None)
    for name, value in given.items():
        if isinstance(value, tuple) and name != "output_size" and len(value) < 2:
            given[name] = value[0] if value else None
    return given


def samples(op: Any, kind: str, ndim: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Different inputs and arguments; those without a batch get one."""
    seen = set()
    for source in (op.sample_inputs, op.reference_inputs):
        for sample in source("cpu", torch.float64):
            x, given = sample.input, arguments(kind, sample)
            if x.dim() == ndim + 1:
                x = x[None]
            shown = {k: getattr(v, "shape", v) for k, v in given.items()}
            if repr((x.shape, shown)) not in seen:
                seen.add(repr((x.shape, shown)))
                yield x, given


def in_torch(kind: str, ndim: int, x: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Output, indices and gradients, for a dy of whole numbers."""
    function = getattr(torch.nn.functional, f"{kind}{ndim}d")
    leaves = {"x": x} | {k: given[k] for k in ("weight", "bias") if given.get(k) is not None}
    leaves = {k: v.detach().clone().requires_grad_() for k, v in leaves.items()}
    options = given | leaves | ({"return_indices": True} if kind.endswith("max_pool") else {})
    y = function(options.pop("x"), **options)
    y, indices = y if isinstance(y, tuple) else (y, given.get("indices"))
    dy = torch.from_numpy(np.random.default_rng(0).integers(-4, 5, y.shape).astype(np.float64))
    grads = torch.autograd.grad(y, leaves.values(), dy, allow_unused=True)
    found = {"x": x, "y": y, "dy": dy, "indices": indices, "weight": given.get("weight")}
    found |= {f"d{k}": torch.zeros_like(x) if g is None else g for k, g in zip(leaves, grads, strict=True)}
    return {k: v.detach().numpy() for k, v in found.items() if v is not None}


def in_fastconv(
    kind: str, ndim: int, layout: str, a: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The same by fastconv; `a` are the arrays in its layout."""
    name = f"{kind}{ndim}d"
    function, grad = getattr(fc, name), getattr(fc, f"{name}_grad", None)
    keywords = {k: v for k, v in given.items() if k not in POSITIONAL} | {"layout": layout}
    if kind.startswith("conv"):
        found = {"y": function(a["x"], a["weight"], a.get("bias"), **keywords)}
        found["dx"] = getattr(fc, f"{name}_input_grad")(a["dy"], a["weight"], a["x"].shape, **keywords)
        filter_grad = getattr(fc, f"{name}_filter_grad")
        found["dweight"], db = filter_grad(a["x"], a["dy"], a["weight"].shape, bias_grad=True, **keywords)
        return found | ({"dbias": db} if "bias" in a else {})
    if kind == "max_unpool":
        keywords = {"layout": layout}
        y = function(a["x"], a["indices"], a["dy"].shape, **keywords)
        return {"y": y, "dx": grad(a["dy"], a["indices"], **keywords)}
    window = given.get("kernel_size", given.get("output_size"))
    if kind.endswith("max_pool"):
        y, argmax = function(a["x"], window, return_argmax=True, **keywords)
        dx = grad(a["dy"], argmax, a["x"].shape, layout=layout)
        return {"y": y, "indices": argmax, "dx": dx}
    y = function(a["x"], window, **keywords)
    if kind == "avg_pool":
        return {"y": y, "dx": grad(a["dy"], a["x"].shape, window, **keywords)}
    return {"y": y, "dx": grad(a["dy"], a["x"].shape, **keywords)}


def channels_last(name: str, a: Any) -> Any:
    if a.ndim == 1:
        return a
    return np.moveaxis(a, (0, 1), (-1, -2)) if "weight" in name else np.moveaxis(a, 1, -1)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@each_op
def test_sample_inputs(op: Any, kind: str, ndim: int) -> None:
    rng = random.Random(op.name)
    for x, given in samples(op, kind, ndim):
        theirs = in_torch(kind, ndim, x, given)
        if given.get("bias") is not None:
            theirs["bias"] = given["bias"].numpy()
        for layout in LAYOUTS[ndim]:
            dtype = rng.choice([np.float32, np.float64])
            order = rng.choice(ORDERS)
            arrays = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in theirs.items()}
            if layout != LAYOUTS[ndim][0]:
                arrays = {k: channels_last(k, v) for k, v in arrays.items()}
            given_arrays = {
                k: in_memory_order(order if v.dtype.kind == "f" else "reversed", v) for k, v in arrays.items()
            }
            case = f"{op.name} {x.shape} {given} {layout} {order}"
            for name, mine in in_fastconv(kind, ndim, layout, given_arrays, given).items():
                wanted = arrays[name]
                assert mine.shape == wanted.shape, case
                if name == "indices":
                    np.testing.assert_array_equal(mine, wanted, err_msg=case)
                    continue
                assert mine.dtype == dtype, case
                largest = np.abs(wanted).max(initial=1)
                bound = 300 * np.finfo(dtype).eps * largest
                np.testing.assert_allclose(mine, wanted, rtol=0, atol=bound, err_msg=f"{name} of {case}")


@pytest.mark.parametrize(
    ("op", "kind", "ndim"),
    [entry for entry in OPS if entry[0].error_inputs_func],
    ids=[op.name.split(".")[-1] for op, *_ in OPS if op.error_inputs_func],
)
def test_error_inputs(op: Any, kind: str, ndim: int) -> None:
    """What PyTorch refuses is refused as a wrong value or type."""
    function = getattr(fc, f"{kind}{ndim}d")
    for error in op.error_inputs("cpu"):
        given = arguments(kind, error.sample_input)
        if re.search(COMPUTED, error.error_regex):
            continue
        arrays = [given[k].numpy() for k in ("weight", "bias", "indices") if given.get(k) is not None]
        x = error.sample_input.input.detach().numpy()
        others = [given[k] for k in ("kernel_size", "output_size") if k in given and kind != "max_unpool"]
        keywords = {k: v for k, v in given.items() if k not in POSITIONAL} if kind != "max_unpool" else {}
        with pytest.raises((ValueError, TypeError)):
            function(x, *arrays, *others, *([x.shape] if kind == "max_unpool" else []), **keywords)

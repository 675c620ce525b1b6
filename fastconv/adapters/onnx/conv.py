"""ONNX's Conv and ConvTranspose. Sizes and padding are as the specification of the operators defines them."""

from __future__ import annotations

from typing import Any

from fastconv.adapters.base import by_rank
from fastconv.ops.arrays import Array
from fastconv.ops.errors import UnsupportedProblem

PADDINGS = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}
Ints = list[int] | None
Pairs = tuple[tuple[int, int], ...]


def conv(
    node: Any,
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> tuple[Array]:
    """Conv, opsets 1 to 22: x (N, C, ...), w (K, C/group, ...), bias (K,)."""
    check_window(w, kernel_shape)
    function = by_rank("conv{}d", x.ndim - 2)
    y: Array = function(x, w, bias, **geometry(auto_pad, dilations, group, pads, strides))
    return (y,)


def geometry(
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    pads: Ints = None,
    strides: Ints = None,
) -> dict[str, Any]:
    """Conv's attributes as fastconv's keywords."""
    return {
        "stride": per_axis(strides),
        "padding": padding(auto_pad, pads),
        "dilation": per_axis(dilations),
        "groups": group,
    }


def conv_transpose(
    node: Any,
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    output_padding: Ints = None,
    output_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> tuple[Array]:
    """ConvTranspose, opsets 1 to 22: x (N, C, ...), w (C, K/group, ...), bias (K,)."""
    check_window(w, kernel_shape)
    size, window = x.shape[2:], w.shape[2:]
    rank = len(size)
    function = by_rank("conv_transpose{}d", rank)
    stride, dilation, extra = strides or [1] * rank, dilations or [1] * rank, output_padding or [0] * rank
    same = auto_pad.startswith("SAME")
    if same and output_shape is None:
        output_shape = [i * s for i, s in zip(size, stride, strict=True)]
    if output_shape is None:
        cut = padding(auto_pad, pads)
    else:
        spans = zip(size, window, stride, dilation, extra, strict=True)
        whole = [(i - 1) * s + (f - 1) * d + 1 + more for i, f, s, d, more in spans]
        surplus = [full - wanted for full, wanted in zip(whole, output_shape[-rank:], strict=True)]
        extra = [more + max(0, -left) for more, left in zip(extra, surplus, strict=True)]
        cut = tuple(halves(max(0, left), more_after=auto_pad == "SAME_UPPER") for left in surplus)
    y: Array = function(
        x,
        w,
        bias,
        stride=per_axis(stride),
        padding=cut,
        output_padding=tuple(extra),
        dilation=per_axis(dilation),
        groups=group,
    )
    return (y,)


def padding(auto_pad: str, pads: Ints) -> str | int | Pairs:
    """Padding as fastconv takes it; ONNX lists all the begins, then all the ends."""
    if auto_pad != "NOTSET":
        return PADDINGS[auto_pad]
    if not pads:
        return 0
    rank = len(pads) // 2
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def per_axis(values: Ints) -> int | tuple[int, ...]:
    """Strides or dilations as tuples, by which fastconv remembers its choices (by lists it does not)."""
    return tuple(values) if values else 1


def halves(total: int, more_after: bool) -> tuple[int, int]:
    """(before, after) with sum `total`."""
    small, large = total // 2, total - total // 2
    return (small, large) if more_after else (large, small)


def check_window(w: Array, kernel_shape: Ints) -> None:
    """Leave to the host a node that contradicts its filters."""
    if kernel_shape and tuple(kernel_shape) != w.shape[2:]:
        raise UnsupportedProblem(f"Conv: kernel_shape is {kernel_shape}, w has {w.shape[2:]}")

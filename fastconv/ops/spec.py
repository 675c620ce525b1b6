"""The geometry of a convolution or pooling: all output-size arithmetic and every shape error.

A spec is immutable and hashable; kernels receive one and may trust it. Sizes are tuples over the spatial
axes, outermost first ((W,), (H, W) or (D, H, W)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.ops.errors import bad_value, shown
from fastconv.ops.parse import (
    LAYOUTS,
    MAX_EXTENT,
    PADDING_MODES,
    Padding,
    Size,
    batch_shape,
    check_padding_mode,
    check_positive,
    parse_axes,
    parse_flag,
    parse_int,
    parse_layout,
    parse_padding,
    parse_shape,
    split_shape,
)

__all__ = [
    "LAYOUTS",
    "PADDING_MODES",
    "ConvSpec",
    "Padding",
    "PoolSpec",
    "Size",
    "batch_shape",
    "conv_spec",
    "pool_spec",
]


# A padded plane may have this many pixels, and this many for each of its own and of the output's. No net
# comes near: a pixel that 31x31 filters see on a plane of its own becomes 961.
MOST_PADDED, PADDED_FACTOR = 2**24, 64


@dataclass(frozen=True)
class ConvSpec:
    """One convolution: x (N, C, *size) with w (K, C/groups, *window) gives y (N, K, *out_size)."""

    n: int
    c: int
    k: int
    groups: int
    size: Size
    window: Size
    out_size: Size
    stride: Size
    dilation: Size
    padding: Padding
    padding_mode: str
    channels_last: bool
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def x_shape(self) -> Size:
        return batch_shape(self.n, self.c, self.size, self.channels_last)

    @property
    def y_shape(self) -> Size:
        return batch_shape(self.n, self.k, self.out_size, self.channels_last)

    @property
    def w_shape(self) -> Size:
        c = self.c // self.groups
        return (*self.window, c, self.k) if self.channels_last else (self.k, c, *self.window)

    @property
    def empty(self) -> bool:
        """True where no product is summed: an empty batch or no channels on either side."""
        return 0 in (self.n, self.c, self.k)

    @property
    def flops(self) -> int:
        """2 per multiply-add of the direct sum, padding included: the figure every library quotes."""
        return (
            2 * self.n * self.k * (self.c // self.groups) * math.prod(self.window) * math.prod(self.out_size)
        )

    @cached_property
    def geometry(self) -> NDArray[np.int64]:
        """The spec as `struct Geometry` of microkernels/geometry.hpp, spatial axes filled up to (D, H, W)."""
        before = tuple(b for b, _ in self.padding)
        return _packed(
            (self.n, self.c, self.k, self.groups, int(self.channels_last)),
            *((self.size, 1), (self.window, 1), (self.out_size, 1)),
            *((self.stride, 1), (self.dilation, 1), (before, 0)),
        )


@dataclass(frozen=True)
class PoolSpec:
    """One pooling: x (N, C, *size) with a window gives y (N, C, *out_size)."""

    n: int
    c: int
    size: Size
    window: Size
    out_size: Size
    stride: Size
    dilation: Size
    padding: Padding
    channels_last: bool
    dtype: np.dtype[Any]
    count_include_pad: bool = True
    divisor_override: int | None = None

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def x_shape(self) -> Size:
        return batch_shape(self.n, self.c, self.size, self.channels_last)

    @property
    def y_shape(self) -> Size:
        return batch_shape(self.n, self.c, self.out_size, self.channels_last)

    @property
    def argmax_dtype(self) -> np.dtype[Any]:
        return argmax_dtype(self.size)

    @property
    def empty(self) -> bool:
        return 0 in (self.n, self.c)

    @cached_property
    def divisors(self) -> tuple[NDArray[np.int64], ...]:
        """Per axis, the number of elements a window counts at each output position (avg-pool)."""
        counts = []
        for i, f, o, s, d, (before, after) in zip(
            self.size, self.window, self.out_size, self.stride, self.dilation, self.padding, strict=True
        ):
            starts = np.arange(o) * s - before
            low, high = (-before, i + after) if self.count_include_pad else (0, i)
            # taps t of [0, f) with low <= start + d*t < high: those below high less those below low
            below = [np.clip(-((starts - limit) // d), 0, f) for limit in (low, high)]
            counts.append(below[1] - below[0])
        return tuple(counts)

    @cached_property
    def geometry(self) -> NDArray[np.int64]:
        """The spec as `struct Geometry` of microkernels/geometry.hpp, spatial axes filled up to (D, H, W)."""
        before = tuple(b for b, _ in self.padding)
        return _packed(
            (self.n, self.c, self.c, self.c, int(self.channels_last)),
            *((self.size, 1), (self.window, 1), (self.out_size, 1)),
            *((self.stride, 1), (self.dilation, 1), (before, 0)),
        )


def _packed(head: Size, *axes: tuple[Size, int]) -> NDArray[np.int64]:
    values = list(head)
    for sizes, fill in axes:
        values += [fill] * (3 - len(sizes)) + list(sizes)
    return np.array(values, np.int64)


def argmax_dtype(size: Size) -> np.dtype[Any]:
    """The integers that index a plane of `size`."""
    return np.dtype(np.int32 if math.prod(size) <= 2**31 else np.int64)


def split_filter_shape(
    op: str, name: str, shape: Any, ndim: int, channels_last: bool
) -> tuple[Size, int, int]:
    """(window, C/groups, K) of a filter's shape."""
    axes = "TRS"[3 - ndim :]
    shape = parse_shape(op, name, shape, ndim + 2, f"{axes}CK" if channels_last else f"KC{axes}")
    return (shape[:-2], *shape[-2:]) if channels_last else (shape[2:], shape[1], shape[0])


def conv_spec(
    op: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    dtype: np.dtype[Any],
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "zeros",
    layout: str = "NCHW",
    names: tuple[str, str] = ("x", "w"),
) -> ConvSpec:
    """Check a convolution's arguments and work out its geometry; `names` are the arguments' for messages."""
    x_name, w_name = names
    ndim, channels_last = parse_layout(op, layout, x_shape)
    x_shape = parse_shape(op, x_name, x_shape, ndim + 2, layout)
    n, c, size = split_shape(x_shape, channels_last)
    window, c_group, k = split_filter_shape(op, w_name, w_shape, ndim, channels_last)
    groups = parse_int(op, "groups", groups, least=1)
    if c % groups:
        bad_value(op, f"{x_name} has {c} channels in {groups} groups", "groups must divide the channels")
    if k % groups:
        bad_value(op, f"{w_name} has {k} filters in {groups} groups", "groups must divide the filters")
    if c_group * groups != c:
        bad_value(
            op,
            f"{w_name} has {c_group} input channels per group, {x_name} has {c} channels in {groups} groups",
            f"{w_name}.shape[{ndim if channels_last else 1}] must be {c // groups}",
        )
    check_positive(op, w_name, window)
    check_positive(op, x_name, size)
    stride = parse_axes(op, "stride", stride, ndim, least=1)
    dilation = parse_axes(op, "dilation", dilation, ndim, least=1)
    padding = parse_padding(op, padding, size, window, stride, dilation)
    check_padding_mode(op, padding_mode, padding, size)
    out_size = output_size(op, size, window, stride, dilation, padding, ceil_mode=False)
    check_padded_size(op, size, padding, out_size)
    stride, dilation = steps_taken(out_size, stride, window, dilation)
    spec = ConvSpec(
        *(n, c, k, groups, size, window, out_size, stride, dilation),
        *(padding, padding_mode, channels_last, dtype),
    )
    check_addressable(op, dtype, spec.x_shape, spec.w_shape, spec.y_shape)
    return spec


def conv_transpose_spec(
    op: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    dtype: np.dtype[Any],
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    layout: str = "NCHW",
    names: tuple[str, str] = ("x", "w"),
) -> ConvSpec:
    """The convolution whose input gradient a transposed convolution is.

    The spec's y is the transposed convolution's x, its input the transposed convolution's output, and both
    have the same filters: (C, K/groups, *window), where C are the channels of the transposed convolution's x.
    The spec's out_size is x's size, also where a large output_padding leaves room for one more step.
    """
    x_name, w_name = names
    ndim, channels_last = parse_layout(op, layout, x_shape)
    x_shape = parse_shape(op, x_name, x_shape, ndim + 2, layout)
    n, c, size = split_shape(x_shape, channels_last)
    window, k_group, w_c = split_filter_shape(op, w_name, w_shape, ndim, channels_last)
    groups = parse_int(op, "groups", groups, least=1)
    if w_c != c:
        axis = ndim + 1 if channels_last else 0
        bad_value(
            op, f"{w_name} takes {w_c} channels, {x_name} has {c}", f"{w_name}.shape[{axis}] must be {c}"
        )
    if c % groups:
        bad_value(op, f"{x_name} has {c} channels in {groups} groups", "groups must divide the channels")
    check_positive(op, w_name, window)
    check_positive(op, x_name, size)
    stride = parse_axes(op, "stride", stride, ndim, least=1)
    dilation = parse_axes(op, "dilation", dilation, ndim, least=1)
    extra = parse_axes(op, "output_padding", output_padding, ndim, least=0)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            bad_value(
                op, f"output_padding is {e}", f"it must be below the stride or the dilation, {max(s, d)}"
            )
    padding, out_size = transposed_size(op, padding, size, window, stride, extra, dilation)
    check_padded_size(op, out_size, padding, size)
    stride, dilation = steps_taken(size, stride, window, dilation)
    spec = ConvSpec(
        *(n, k_group * groups, c, groups, out_size, window, size, stride, dilation),
        *(padding, "zeros", channels_last, dtype),
    )
    check_addressable(op, dtype, spec.x_shape, spec.w_shape, spec.y_shape)
    return spec


def pool_spec(
    op: str,
    x_shape: Sequence[int],
    window: Any,
    dtype: np.dtype[Any],
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str = "NCHW",
    count_include_pad: bool = True,
    divisor_override: Any = None,
    needs_input: bool = False,
    out_shape: Any = None,
    names: tuple[str, str] = ("x", "dy"),
) -> PoolSpec:
    """Check a pooling's arguments and work out its geometry.

    `needs_input` refuses windows that hold no input element (max kinds). `out_shape` is dy's where the output
    size does not follow from the other arguments (the gradient of max-pooling needs no window). `names` are
    the input's and the output's for messages.
    """
    name, out_name = names
    ndim, channels_last = parse_layout(op, layout, x_shape)
    x_shape = parse_shape(op, name, x_shape, ndim + 2, layout)
    n, c, size = split_shape(x_shape, channels_last)
    check_positive(op, name, size)
    window = parse_axes(op, "window", window, ndim, least=1)
    stride = window if stride is None else parse_axes(op, "stride", stride, ndim, least=1)
    dilation = parse_axes(op, "dilation", dilation, ndim, least=1)
    ceil_mode = parse_flag(op, "ceil_mode", ceil_mode)
    count_include_pad = parse_flag(op, "count_include_pad", count_include_pad)
    if divisor_override is not None:
        divisor_override = parse_int(op, "divisor_override", divisor_override, least=-MAX_EXTENT)
        if divisor_override == 0:
            bad_value(op, "divisor_override is 0", "it must be another integer")
    padding = parse_padding(op, padding, size, window, stride, dilation)
    if out_shape is None:
        out_size = output_size(op, size, window, stride, dilation, padding, ceil_mode=ceil_mode)
    else:
        out_size = size_of_output(op, out_name, out_shape, n, c, layout, channels_last)
    check_padded_size(op, size, padding, out_size)
    spec = PoolSpec(
        *(n, c, size, window, out_size, stride, dilation, padding, channels_last, dtype),
        *(count_include_pad, divisor_override),
    )
    check_addressable(op, dtype, spec.x_shape, spec.y_shape)
    if needs_input:
        check_windows_hold_input(op, spec)
    return spec


def output_size(
    op: str, size: Size, window: Size, stride: Size, dilation: Size, padding: Padding, *, ceil_mode: bool
) -> Size:
    """floor or ceil of (I + before + after - dilation*(F-1) - 1) / stride, plus 1."""
    out = []
    for axis, (i, f, s, d, (before, after)) in enumerate(
        zip(size, window, stride, dilation, padding, strict=True)
    ):
        padded, extent = i + before + after, d * (f - 1) + 1
        if max(padded, extent, padded + s) >= MAX_EXTENT:
            bad_value(
                op,
                f"axis {axis}: padded size {padded}, window extent {extent}, stride {s}",
                "each must be below 2**62",
            )
        room = padded - extent
        o = -(-room // s) + 1 if ceil_mode else room // s + 1
        if ceil_mode and (o - 1) * s >= i + before:
            o -= 1
        if o < 1:
            bad_value(
                op,
                f"axis {axis}: a window of extent {extent} on an input of {i} padded to {padded}",
                "the output would be empty: the padded input must be at least the window's extent",
            )
        out.append(o)
    return tuple(out)


def transposed_size(
    op: str, padding: Any, size: Size, window: Size, stride: Size, extra: Size, dilation: Size
) -> tuple[Padding, Size]:
    """The padding of a transposed convolution, and its output size (I-1)*s - padding + d*(F-1) + extra + 1.

    "same" and "same_lower" give I * s outputs, as TensorFlow and ONNX define them.
    """
    full = []
    for axis, (i, f, s, e, d) in enumerate(zip(size, window, stride, extra, dilation, strict=True)):
        full.append((i - 1) * s + d * (f - 1) + e + 1)
        if full[-1] >= MAX_EXTENT:
            bad_value(op, f"axis {axis}: output size {full[-1]}", "it must be below 2**62")
    if isinstance(padding, str) and padding in ("same", "same_lower"):
        out_size = tuple(i * s for i, s in zip(size, stride, strict=True))
        total = tuple(max(whole - o, 0) for whole, o in zip(full, out_size, strict=True))
        halves = tuple((t // 2, t - t // 2) for t in total)
        return (halves if padding == "same" else tuple((b, a) for a, b in halves)), out_size
    padding = parse_padding(op, padding, size, window, stride, dilation)
    out_size = tuple(whole - before - after for whole, (before, after) in zip(full, padding, strict=True))
    for axis, (o, whole, ends) in enumerate(zip(out_size, full, padding, strict=True)):
        if o < 1:
            bad_value(op, f"axis {axis}: an output of {whole} less the padding {ends}", "one must be left")
    return padding, out_size


def size_of_output(
    op: str, name: str, dy_shape: Any, n: int, c: int, layout: str, channels_last: bool
) -> Size:
    """The spatial size of dy, whose batch and channels must be the input's."""
    dy_shape = parse_shape(op, name, dy_shape, len(layout), layout)
    dy_n, dy_c, size = split_shape(dy_shape, channels_last)
    if (dy_n, dy_c) != (n, c):
        bad_value(op, f"{name} has {dy_n} images of {dy_c} channels", f"it must have the input's {n} of {c}")
    check_positive(op, name, size)
    return size


def steps_taken(out_size: Size, stride: Size, window: Size, dilation: Size) -> tuple[Size, Size]:
    """Stride and dilation, 1 on the axes where no step is taken: one output, one tap.

    The result is the same, and kernels never multiply sizes that mean nothing.
    """
    return (
        tuple(1 if o == 1 else s for o, s in zip(out_size, stride, strict=True)),
        tuple(1 if f == 1 else d for f, d in zip(window, dilation, strict=True)),
    )


def check_padded_size(op: str, size: Size, padding: Padding, out_size: Size) -> None:
    """Refuse padding out of all proportion to the arrays: kernels copy padded parts of a plane."""
    padded = math.prod(i + before + after for i, (before, after) in zip(size, padding, strict=True))
    limit = max(MOST_PADDED, PADDED_FACTOR * (math.prod(size) + math.prod(out_size)))
    if padded > limit:
        bad_value(
            op,
            f"padding {shown(padding)} makes {padded} pixels of a plane of {size} for {out_size} outputs",
            f"there must be at most {limit}",
        )


def check_addressable(op: str, dtype: np.dtype[Any], *shapes: Size) -> None:
    """Every array of the problem must have a byte size that an index can hold."""
    limit = np.iinfo(np.intp).max // dtype.itemsize
    for shape in shapes:
        if math.prod(max(s, 1) for s in shape) > limit:
            bad_value(op, f"an array of shape {shape} is needed", f"it must have at most {limit} elements")


def check_windows_hold_input(op: str, spec: PoolSpec) -> None:
    """Every window must hold an input element.

    A window that starts inside holds its first tap. One that starts before the input first meets the input
    at start mod d: inside whenever d <= I, and then the first window is the one most likely to end too early.
    """
    for axis, (i, f, o, s, d, (before, _)) in enumerate(
        zip(spec.size, spec.window, spec.out_size, spec.stride, spec.dilation, spec.padding, strict=True)
    ):
        leading = min(o, -(-before // s))
        suspects = np.arange(leading) if d > i else np.arange(min(leading, 1))
        starts = np.append(suspects, o - 1) * s - before
        tap = np.maximum(0, -(starts // d))
        if np.any((tap >= f) | (starts + tap * d >= i)):
            bad_value(
                op,
                f"axis {axis}: a window (size {f}, dilation {d}, stride {s}, padding {before}) "
                f"holds no element of the {i} inputs",
                "every window must hold at least one",
            )

"""Geometry: output sizes, padding forms, windows without input, overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import conv_specs, pool_specs

from fastconv.ops.spec import ConvSpec, PoolSpec, conv_spec, conv_transpose_spec, pool_spec

F32 = np.dtype(np.float32)
AXIS = dict(
    i=st.integers(1, 20),
    f=st.integers(1, 6),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 4),
    ends=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)


def starts(
    i: int, f: int, stride: int, dilation: int, ends: tuple[int, int], *, ceil_mode: bool = False
) -> list[int]:
    """Where windows begin: while they fit; with ceil_mode one more, but none in the trailing padding."""
    extent, end = dilation * (f - 1) + 1, i + ends[1]
    begins = list(range(-ends[0], end - extent + 1, stride))
    if ceil_mode and not begins and extent - (end + ends[0]) < stride:
        begins.append(-ends[0])  # a window that reaches past the end by less than a stride
    elif ceil_mode and begins:
        if begins[-1] + extent < end:
            begins.append(begins[-1] + stride)
        if begins[-1] >= i:
            begins.pop()
    return begins


@given(**AXIS)
def test_convolution_output_size_is_the_number_of_places_a_window_fits(
    i: int, f: int, stride: int, dilation: int, ends: tuple[int, int]
) -> None:
    windows = starts(i, f, stride, dilation, ends)

    def spec() -> ConvSpec:
        return conv_spec(
            "conv1d",
            (1, 1, i),
            (1, 1, f),
            F32,
            stride=stride,
            dilation=dilation,
            padding=(ends,),
            layout="NCW",
        )

    if windows:
        assert spec().out_size == (len(windows),)
    else:
        with pytest.raises(ValueError, match="the output would be empty"):
            spec()


@given(**AXIS, ceil_mode=st.booleans())
def test_pooling_output_size_and_windows_without_input(
    i: int, f: int, stride: int, dilation: int, ends: tuple[int, int], ceil_mode: bool
) -> None:
    windows = starts(i, f, stride, dilation, ends, ceil_mode=ceil_mode)
    holds_input = all(any(0 <= begin + t * dilation < i for t in range(f)) for begin in windows)

    def spec(needs_input: bool) -> PoolSpec:
        options: dict[str, Any] = {
            "stride": stride,
            "dilation": dilation,
            "padding": (ends,),
            "layout": "NCW",
        }
        return pool_spec("p1d", (1, 1, i), f, F32, ceil_mode=ceil_mode, needs_input=needs_input, **options)

    if not windows:
        with pytest.raises(ValueError, match="the output would be empty"):
            spec(False)
        return
    assert spec(False).out_size == (len(windows),)
    if holds_input:
        assert spec(True) == spec(False)
    else:
        with pytest.raises(ValueError, match="every window must hold at least one"):
            spec(True)


@given(spec=pool_specs(needs_input=False))
def test_average_divisors_count_the_window_clipped_to_the_input(spec: PoolSpec) -> None:
    for axis, counts in enumerate(spec.divisors):
        before, after = spec.padding[axis]
        low, high = (-before, spec.size[axis] + after) if spec.count_include_pad else (0, spec.size[axis])
        for p, count in enumerate(counts):
            begin = p * spec.stride[axis] - before
            assert count == len(set(range(begin, begin + spec.window[axis])) & set(range(low, high)))


@given(spec=conv_specs())
def test_shapes_geometry_and_hash(spec: ConvSpec) -> None:
    x, y, w = spec.x_shape, spec.y_shape, spec.w_shape
    c_group = spec.c // spec.groups
    if spec.channels_last:
        assert x == (spec.n, *spec.size, spec.c) and y == (spec.n, *spec.out_size, spec.k)
        assert w == (*spec.window, c_group, spec.k)
    else:
        assert x == (spec.n, spec.c, *spec.size) and y == (spec.n, spec.k, *spec.out_size)
        assert w == (spec.k, c_group, *spec.window)
    fill = [1] * (3 - spec.ndim)
    axes = [
        *fill,
        *spec.size,
        *fill,
        *spec.window,
        *fill,
        *spec.out_size,
        *fill,
        *spec.stride,
        *fill,
        *spec.dilation,
    ]
    before = [0] * (3 - spec.ndim) + [b for b, _ in spec.padding]
    head = [spec.n, spec.c, spec.k, spec.groups, int(spec.channels_last)]
    assert spec.geometry.tolist() == [*head, *axes, *before]
    assert hash(spec) == hash(ConvSpec(**{name: getattr(spec, name) for name in spec.__dataclass_fields__}))


@pytest.mark.parametrize("bits", [31, 40, 61])
def test_sizes_beyond_int32_are_counted_exactly(bits: int) -> None:
    """An axis may be longer than an int32; only arrays of more bytes than an address can hold are refused."""
    i = 2**bits // 4 - 3
    spec = conv_spec("conv1d", (1, 1, i), (1, 1, 3), F32, stride=2, padding=1, layout="NCW")
    assert spec.out_size == ((i + 2 - 3) // 2 + 1,)
    assert spec.flops == 2 * 3 * spec.out_size[0]


@pytest.mark.parametrize("n", [2**31, 2**61, 2**62, 2**63, 2**64])
@pytest.mark.parametrize("where", ["x", "w", "y"])
def test_arrays_that_no_address_reaches_are_an_error(n: int, where: str) -> None:
    shapes = {"x": ((n, n, 3), (1, n, 3)), "w": ((1, n, 3), (n, n, 3)), "y": ((n, 1, 3), (n, 1, 3))}
    with pytest.raises(ValueError, match=r"at most|must be below"):
        conv_spec("conv1d", *shapes[where], F32, layout="NCW")


def test_steps_that_are_never_taken_are_one() -> None:
    """One output takes no stride, one tap no dilation; kernels never see the number, however large."""
    options: dict[str, Any] = {"padding": ((1, 0), (0, 0)), "layout": "NCHW"}
    spec = conv_spec(
        "conv2d", (1, 1, 3, 9), (1, 1, 4, 1), F32, stride=(2**61, 2), dilation=(1, 2**61), **options
    )
    assert (spec.out_size, spec.stride, spec.dilation) == ((1, 5), (1, 2), (1, 1))
    shapes: Any = ((1, 1, 1, 2), (1, 1, 4, 1))
    transposed = conv_transpose_spec(
        "conv_transpose2d", *shapes, F32, stride=(2**61, 2), dilation=(1, 2**60), layout="NCHW"
    )
    assert (transposed.size, transposed.stride, transposed.dilation) == ((4, 3), (1, 2), (1, 1))

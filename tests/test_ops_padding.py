"""Reflect, replicate and circular padding: against NumPy's pad, in bands of any height, in every rank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS, Array, conv_specs, integers

import fastconv as fc
from fastconv.kernels.reference import KERNEL as REFERENCE
from fastconv.ops import padding
from fastconv.ops.spec import LAYOUTS, ConvSpec

NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
MODES = st.sampled_from(sorted(NUMPY_MODES))


@st.composite
def problems(draw: st.DrawFn) -> ConvSpec:
    """A convolution whose padding its mode allows."""
    spec, mode = draw(conv_specs(dtype=np.float64)), draw(MODES)
    limits = [{"reflect": i - 1, "circular": i, "replicate": i + 3}[mode] for i in spec.size]
    ends = tuple((min(b, most), min(a, most)) for (b, a), most in zip(spec.padding, limits, strict=True))
    out_size = tuple(
        (i + b + a - d * (f - 1) - 1) // s + 1
        for i, (b, a), f, d, s in zip(spec.size, ends, spec.window, spec.dilation, spec.stride, strict=True)
    )
    if min(out_size) < 1:
        return draw(problems())
    return replace(spec, padding=ends, out_size=out_size, padding_mode=mode)


def padded_copy(spec: ConvSpec, x: Array) -> Array:
    widths = [(0, 0), *spec.padding, (0, 0)] if spec.channels_last else [(0, 0), (0, 0), *spec.padding]
    return np.pad(x, widths, mode=NUMPY_MODES[spec.padding_mode])  # type: ignore[call-overload,no-any-return]


@given(problems(), st.sampled_from([1, 500, 3000, 1 << 22]), SEEDS)
def test_bands_of_any_height_give_the_padded_copy(spec: ConvSpec, band_bytes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w, dy = (integers(rng, shape, spec.dtype) for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    bias, whole = integers(rng, (spec.k,), spec.dtype), padding.padded_spec(spec)
    y, dw, db = np.empty(spec.y_shape), np.empty(spec.w_shape), np.empty(spec.k)
    REFERENCE.passes["forward"](whole, padded_copy(spec, x), w, bias, y, None, 1)
    REFERENCE.passes["filter_grad"](whole, padded_copy(spec, x), dy, dw, db, 1)
    call = {
        name: padding.around(name, REFERENCE.passes[name])
        for name in ("forward", "input_grad", "filter_grad")
    }
    got_y, got_dx, got_dw, got_db = (np.full(a, np.nan) for a in (y.shape, x.shape, dw.shape, db.shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "BAND_BYTES", band_bytes)
        call["forward"](spec, x, w, bias, got_y, None, 1)
        call["input_grad"](spec, dy, w, got_dx, 1)
        call["filter_grad"](spec, x, dy, got_dw, got_db, 1)
    np.testing.assert_array_equal(got_y, y)
    np.testing.assert_array_equal(got_dw, dw)
    np.testing.assert_array_equal(got_db, db)
    # the gradient of x is the adjoint of y - bias
    ones = np.broadcast_to(bias if spec.channels_last else bias.reshape(-1, *[1] * spec.ndim), y.shape)
    assert np.vdot(got_dx, x) == np.vdot(y - ones, dy)


@given(problems(), st.sampled_from([1, 500, 3000]))
def test_a_band_is_no_larger_than_its_limit_or_one_line_of_output(spec: ConvSpec, band_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "BAND_BYTES", band_bytes)
        pieces = list(padding.bands(spec))
    for band in pieces:
        nbytes = int(np.prod(band.inner.x_shape)) * spec.dtype.itemsize
        one_line = band.last - band.first == 1 and band.inner.n == 1
        one_image = band.inner.n == 1 and band.inner.out_size == spec.out_size
        assert nbytes <= band_bytes or one_line or one_image
    assert sum((b.last - b.first) * b.inner.n for b in pieces) == spec.n * spec.out_size[0]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
def test_the_public_functions_in_every_rank(mode: str, n: int, last: bool) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, *(6, 5, 4)[:n], 4) if last else (2, 4, *(6, 5, 4)[:n]))
    w = rng.standard_normal((*[3] * n, 2, 6) if last else (6, 2, *[3] * n))
    conv, layout = getattr(fc, f"conv{n}d"), LAYOUTS[n][last]
    keywords: dict[str, Any] = {"stride": 2, "groups": 2, "layout": layout}
    pads = [(2, 1)] * n
    widths = [(0, 0), *pads, (0, 0)] if last else [(0, 0), (0, 0), *pads]
    copy = np.pad(x, widths, mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
    y = conv(x, w, padding=pads, padding_mode=mode, **keywords)
    np.testing.assert_allclose(y, conv(copy, w, **keywords), rtol=1e-12, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    dx = getattr(fc, f"conv{n}d_input_grad")(dy, w, x.shape, padding=pads, padding_mode=mode, **keywords)
    assert np.vdot(dx, x) == pytest.approx(np.vdot(dy, y), rel=1e-10)
    dw = getattr(fc, f"conv{n}d_filter_grad")(x, dy, w.shape, padding=pads, padding_mode=mode, **keywords)
    expected = getattr(fc, f"conv{n}d_filter_grad")(copy, dy, w.shape, **keywords)
    np.testing.assert_allclose(dw, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("mode", "width", "limit"), [("reflect", 4, 3), ("circular", 5, 4), ("circular", 2**40, 4)]
)
def test_padding_beyond_what_the_mode_can_repeat_is_refused(mode: str, width: int, limit: int) -> None:
    message = (
        rf"padding\[0\] is \({width}, {width}\) on an axis of 4: padding_mode '{mode}' takes at most {limit}"
    )
    with pytest.raises(ValueError, match=message):
        fc.conv1d(np.ones((1, 1, 4)), np.ones((1, 1, 1)), padding=width, padding_mode=mode)

"""The public functions: padding forms and modes, memory orders, `out`, layouts, empty inputs, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import MEMORY_ORDERS, SEEDS, Array, conv_specs, in_memory_order, integers, pool_specs, reals

import fastconv as fc
from fastconv.kernels.reference import ACTIVATIONS
from fastconv.ops.spec import LAYOUTS, ConvSpec, PoolSpec

# A drawn spec is called through the public functions of its rank; "fewer outputs" specs have no public form.
CONVS = conv_specs().filter(
    lambda spec: (spec.ndim == 2 or hasattr(fc, f"conv{spec.ndim}d")) and formula(spec)
)
MAX_POOLS = pool_specs().filter(lambda spec: spec.ndim == 2 or hasattr(fc, f"max_pool{spec.ndim}d"))
AVG_POOLS = pool_specs(needs_input=False).filter(
    lambda spec: spec.ndim == 2 or hasattr(fc, f"avg_pool{spec.ndim}d")
)
KEYWORDS = ("stride", "padding", "dilation", "groups")


def formula(spec: ConvSpec) -> bool:
    """True where the output size is the one the arguments give."""
    sizes = zip(spec.size, spec.padding, spec.window, spec.dilation, spec.stride, spec.out_size, strict=True)
    return all((i + a + b - d * (f - 1) - 1) // s + 1 == o for i, (a, b), f, d, s, o in sizes)


def conv_functions(spec: ConvSpec) -> tuple[Callable[..., Any], ...]:
    """(forward, input gradient, filter gradient) of the spec's rank."""
    name = f"conv{spec.ndim}d"
    return getattr(fc, name), getattr(fc, f"{name}_input_grad"), getattr(fc, f"{name}_filter_grad")


def conv_keywords(spec: ConvSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in KEYWORDS} | {
        "layout": LAYOUTS[spec.ndim][spec.channels_last]
    }


def arrays(spec: ConvSpec, seed: int, make: Any = integers) -> tuple[Array, Array, Array]:
    """(x, w, dy)"""
    rng = np.random.default_rng(seed)
    x, w, dy = (make(rng, shape, spec.dtype) for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    return x, w, dy


def swap(a: Array, *, filters: bool = False) -> Array:
    """An array of the other layout: (N, C, ...) to (N, ..., C), or (K, C, ...) to (..., C, K)."""
    return np.ascontiguousarray(np.moveaxis(a, (0, 1), (-1, -2)) if filters else np.moveaxis(a, 1, -1))


@given(spec=CONVS, seed=SEEDS)
def test_adjoint_identity(spec: ConvSpec, seed: int) -> None:
    """<conv(x, w), dy> = <x, input_grad(dy, w)> = <w, filter_grad(x, dy)>, exactly for whole numbers."""
    x, w, dy = arrays(spec, seed)
    conv, input_grad, filter_grad = conv_functions(spec)
    keywords = conv_keywords(spec)
    with fc.use(precision="highest"):
        y, dx = conv(x, w, **keywords), input_grad(dy, w, x.shape, **keywords)
        dw, db = filter_grad(x, dy, w.shape, bias_grad=True, **keywords)
    product = np.vdot(y.astype(np.float64), dy)
    assert np.vdot(x.astype(np.float64), dx) == product
    assert np.vdot(w.astype(np.float64), dw) == product
    pixels = tuple(range(dy.ndim - 1)) if spec.channels_last else (0, *range(2, dy.ndim))
    np.testing.assert_array_equal(db, dy.sum(pixels))


@given(spec=CONVS, seed=SEEDS, orders=st.tuples(*[st.sampled_from(MEMORY_ORDERS)] * 3))
def test_memory_order_does_not_matter(spec: ConvSpec, seed: int, orders: tuple[str, str, str]) -> None:
    """The same bits, from arrays that are not written, into new C-contiguous arrays."""
    x, w, dy = (in_memory_order(o, a) for o, a in zip(orders, arrays(spec, seed, reals), strict=True))
    plain = [np.array(a, order="C") for a in (x, w, dy)]
    for function, of in calls(spec):
        result, expected = function(*of(x, w, dy)), function(*of(*plain))
        np.testing.assert_array_equal(result, expected, strict=True)
        assert result.flags.c_contiguous and result.flags.writeable and result.flags.owndata
        assert not any(np.shares_memory(result, a) for a in (x, w, dy))
    for a, before in zip((x, w, dy), plain, strict=True):
        np.testing.assert_array_equal(a, before)


def calls(spec: ConvSpec) -> list[tuple[Callable[..., Any], Callable[..., tuple[Any, ...]]]]:
    """The three passes as (function of arrays, which arrays of x, w, dy it takes)."""
    conv, input_grad, filter_grad = conv_functions(spec)
    keywords = conv_keywords(spec)
    return [
        (lambda x, w, **kw: conv(x, w, **keywords, **kw), lambda x, w, dy: (x, w)),
        (lambda dy, w, **kw: input_grad(dy, w, spec.x_shape, **keywords, **kw), lambda x, w, dy: (dy, w)),
        (lambda x, dy, **kw: filter_grad(x, dy, spec.w_shape, **keywords, **kw), lambda x, w, dy: (x, dy)),
    ]


@given(
    spec=CONVS,
    seed=SEEDS,
    order=st.sampled_from([o for o in MEMORY_ORDERS if o not in ("read-only", "broadcast")]),
)
def test_out_of_any_memory_order_receives_the_result(spec: ConvSpec, seed: int, order: str) -> None:
    x, w, dy = arrays(spec, seed, reals)
    for function, of in calls(spec):
        expected = function(*of(x, w, dy))
        out = in_memory_order(order, np.full_like(expected, np.nan))
        assert function(*of(x, w, dy), out=out) is out
        np.testing.assert_array_equal(out, expected)


@given(spec=MAX_POOLS, seed=SEEDS, order=st.sampled_from(MEMORY_ORDERS))
def test_max_pool_in_any_memory_order(spec: PoolSpec, seed: int, order: str) -> None:
    x = in_memory_order(order, integers(np.random.default_rng(seed), spec.x_shape, spec.dtype))
    pool, pool_grad = getattr(fc, f"max_pool{spec.ndim}d"), getattr(fc, f"max_pool{spec.ndim}d_grad")
    layout = LAYOUTS[spec.ndim][spec.channels_last]
    ceil_mode = not floored(spec)
    keywords = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation, "layout": layout}
    y, argmax = pool(x, spec.window, ceil_mode=ceil_mode, return_argmax=True, **keywords)
    plain, plain_at = pool(np.array(x), spec.window, ceil_mode=ceil_mode, return_argmax=True, **keywords)
    np.testing.assert_array_equal(y, plain, strict=True)
    np.testing.assert_array_equal(argmax, plain_at, strict=True)
    assert argmax.dtype == np.int32
    out = np.full_like(y, np.nan)
    assert pool(x, spec.window, ceil_mode=ceil_mode, out=out, **keywords) is out
    np.testing.assert_array_equal(out, y)
    dx = pool_grad(y, argmax, x.shape, layout=layout)
    odd = pool_grad(
        in_memory_order("sliced", y), np.asfortranarray(argmax).astype(np.uint64), x.shape, layout=layout
    )
    np.testing.assert_array_equal(dx, odd, strict=True)
    assert dx.sum(dtype=np.float64) == y.sum(dtype=np.float64)


def floored(spec: PoolSpec) -> bool:
    sizes = zip(spec.size, spec.padding, spec.window, spec.dilation, spec.stride, spec.out_size, strict=True)
    return all((i + a + b - d * (f - 1) - 1) // s + 1 == o for i, (a, b), f, d, s, o in sizes)


@given(spec=AVG_POOLS, seed=SEEDS)
def test_avg_pool_gradient_is_the_adjoint(spec: PoolSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, spec.x_shape, np.float64), integers(rng, spec.y_shape, np.float64)
    pool, pool_grad = getattr(fc, f"avg_pool{spec.ndim}d"), getattr(fc, f"avg_pool{spec.ndim}d_grad")
    names = ("stride", "padding", "count_include_pad", "divisor_override")
    keywords = {name: getattr(spec, name) for name in names} | {
        "layout": LAYOUTS[spec.ndim][spec.channels_last]
    }
    y = pool(x, spec.window, ceil_mode=not floored(spec), **keywords)
    dx = pool_grad(dy, x.shape, spec.window, ceil_mode=not floored(spec), **keywords)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(x, dx), rtol=1e-12, atol=1e-9)


@given(spec=CONVS, seed=SEEDS)
def test_both_layouts_agree(spec: ConvSpec, seed: int) -> None:
    if spec.channels_last:
        return
    x, w, dy = arrays(spec, seed)
    conv, input_grad, filter_grad = conv_functions(spec)
    first = conv_keywords(spec)
    last = first | {"layout": LAYOUTS[spec.ndim][1]}
    lx, lw, ldy = swap(x), swap(w, filters=True), swap(dy)
    with fc.use(precision="highest"):
        np.testing.assert_array_equal(swap(conv(x, w, **first)), conv(lx, lw, **last))
        dx = input_grad(dy, w, x.shape, **first)
        np.testing.assert_array_equal(swap(dx), input_grad(ldy, lw, lx.shape, **last))
        dw = filter_grad(x, dy, w.shape, **first)
        np.testing.assert_array_equal(swap(dw, filters=True), filter_grad(lx, ldy, lw.shape, **last))


@pytest.mark.parametrize(
    "padding", [2, (2, 2), [2, 2], ((2, 2), (2, 2)), [[2, 2], [2, 2]], np.array([2, 2]), "same", np.int64(2)]
)
def test_every_form_of_padding(padding: Any) -> None:
    x, w = np.random.default_rng(0).random((2, 3, 7, 8)), np.random.default_rng(0).random((4, 3, 5, 5))
    np.testing.assert_array_equal(
        fc.conv2d(x, w, padding=padding), fc.conv2d(np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2))), w)
    )


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize(("f", "dilation"), [(1, 1), (2, 1), (3, 1), (3, 2), (4, 3)])
def test_same_gives_ceil_of_size_by_stride(size: int, stride: int, f: int, dilation: int) -> None:
    x, w = np.random.default_rng(0).random((1, 1, size, 1)), np.random.default_rng(0).random((1, 1, f, 1))
    out = -(-size // stride)
    total = max((out - 1) * stride + dilation * (f - 1) + 1 - size, 0)
    for padding, ends in [
        ("same", (total // 2, -(-total // 2))),
        ("same_lower", (-(-total // 2), total // 2)),
    ]:
        y = fc.conv2d(x, w, padding=padding, stride=stride, dilation=(dilation, 1))
        assert y.shape == (1, 1, out, 1)
        padded = np.pad(x, ((0, 0), (0, 0), ends, (0, 0)))
        np.testing.assert_allclose(y, fc.conv2d(padded, w, stride=stride, dilation=(dilation, 1)), rtol=1e-12)


MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@given(data=st.data(), seed=SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_padding_modes_are_a_padded_copy_and_their_gradients_adjoint(
    mode: str, data: st.DataObject, seed: int
) -> None:
    spec = data.draw(CONVS.filter(lambda s: fits(s, mode)))
    x, w, dy = arrays(spec, seed)
    conv, input_grad, filter_grad = conv_functions(spec)
    keywords = conv_keywords(spec) | {"padding_mode": mode}
    widths = [(0, 0), *spec.padding, (0, 0)] if spec.channels_last else [(0, 0), (0, 0), *spec.padding]
    padded: Any = np.pad(x, widths, mode=MODES[mode])  # type: ignore[call-overload]
    with fc.use(precision="highest"):
        y = conv(x, w, **keywords)
        np.testing.assert_array_equal(y, conv(padded, w, **keywords | {"padding": 0}))
        dx = input_grad(dy, w, x.shape, **keywords)
        dw, db = filter_grad(x, dy, w.shape, bias_grad=True, **keywords)
        whole, whole_b = filter_grad(padded, dy, w.shape, bias_grad=True, **keywords | {"padding": 0})
    assert np.vdot(x.astype(np.float64), dx) == np.vdot(y.astype(np.float64), dy)
    np.testing.assert_array_equal(dw, whole)
    np.testing.assert_array_equal(db, whole_b)


def fits(spec: ConvSpec, mode: str) -> bool:
    """Whether the mode has elements enough to fill the padding, and some padding to fill."""
    most = [i - 1 if mode == "reflect" else i for i in spec.size]
    return any(map(any, spec.padding)) and (
        mode == "replicate" or all(max(ends) <= m for ends, m in zip(spec.padding, most, strict=True))
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fused_activation_is_the_activation_of_the_result(activation: str) -> None:
    rng = np.random.default_rng(0)
    x, w, bias = rng.normal(size=(2, 3, 8, 8)), rng.normal(size=(5, 3, 3, 3)), rng.normal(size=5)
    plain = fc.conv2d(x, w, bias, padding=1)
    fused = fc.conv2d(x, w, bias, padding=1, activation=activation)
    np.testing.assert_allclose(fused, ACTIVATIONS[activation](plain), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("n", "c", "k"), [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
def test_nothing_to_sum(n: int, c: int, k: int, layout: str) -> None:
    """An empty batch gives an empty result and zero gradients; no input channels, the bias alone."""
    first = layout == "NCHW"
    x = np.ones((n, c, 5, 6) if first else (n, 5, 6, c), np.float32)
    w = np.ones((k, c, 3, 3) if first else (3, 3, c, k), np.float32)
    bias = np.arange(k, dtype=np.float32)
    y = fc.conv2d(x, w, bias, layout=layout)
    assert y.shape == ((n, k, 3, 4) if first else (n, 3, 4, k))
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None, None] if first else bias, y.shape))
    np.testing.assert_array_equal(fc.conv2d(x, w, -bias, layout=layout, activation="relu"), np.zeros_like(y))
    dx = fc.conv2d_input_grad(y, w, x.shape, layout=layout)
    np.testing.assert_array_equal(dx, np.zeros_like(x))
    dw, db = fc.conv2d_filter_grad(x, y, w.shape, layout=layout, bias_grad=True)
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    np.testing.assert_array_equal(db, y.sum((0, 2, 3) if first else (0, 1, 2)))


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (2, 0, 6, 6)])
def test_pooling_of_nothing(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    y, argmax = fc.max_pool2d(x, 2, return_argmax=True)
    assert y.shape == argmax.shape == (*shape[:2], 3, 3)
    np.testing.assert_array_equal(fc.max_pool2d_grad(y, argmax, shape), x)
    np.testing.assert_array_equal(fc.avg_pool2d(x, 2), y)
    np.testing.assert_array_equal(fc.avg_pool2d_grad(y, shape, 2), x)


def numeric_gradient(f: Callable[[Array], float], a: Array, step: float = 1e-6) -> Array:
    """Central differences of a scalar function of a float64 array."""
    grad = np.empty_like(a)
    for at in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[at] += step
        down[at] -= step
        grad[at] = (f(up) - f(down)) / (2 * step)
    return grad


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"stride": 2, "padding": ((1, 0), (2, 1))},
        {"dilation": 2, "padding": "same"},
        {"groups": 2, "padding": 1, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "circular", "stride": (1, 3)},
        {"padding": 3, "padding_mode": "replicate"},
    ],
)
def test_conv_gradients_numerically(keywords: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    x, bias = rng.normal(size=(2, 4, 5, 6)), rng.normal(size=4)
    w = rng.normal(size=(4, 4 // keywords.get("groups", 1), 3, 2))
    dy = rng.normal(size=fc.conv2d(x, w, bias, **keywords).shape)

    def loss(x: Array, w: Array, bias: Array) -> float:
        return float(np.vdot(fc.conv2d(x, w, bias, **keywords), dy))

    dx = fc.conv2d_input_grad(dy, w, x.shape, **keywords)
    dw, db = fc.conv2d_filter_grad(x, dy, w.shape, bias_grad=True, **keywords)
    np.testing.assert_allclose(dx, numeric_gradient(lambda a: loss(a, w, bias), x), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dw, numeric_gradient(lambda a: loss(x, a, bias), w), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(db, numeric_gradient(lambda a: loss(x, w, a), bias), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("keywords", [{}, {"stride": 1, "padding": 1}, {"stride": 3, "ceil_mode": True}])
def test_pool_gradients_numerically(keywords: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    x = rng.permutation(2 * 3 * 7 * 6).reshape(2, 3, 7, 6) / 10.0  # no ties within a step
    y, argmax = fc.max_pool2d(x, 2, return_argmax=True, **keywords)
    dy = rng.normal(size=y.shape)
    dx = fc.max_pool2d_grad(dy, argmax, x.shape)
    numeric = numeric_gradient(lambda a: float(np.vdot(fc.max_pool2d(a, 2, **keywords), dy)), x)
    np.testing.assert_allclose(dx, numeric, rtol=1e-6, atol=1e-7)
    dx = fc.avg_pool2d_grad(dy, x.shape, 2, **keywords)
    numeric = numeric_gradient(lambda a: float(np.vdot(fc.avg_pool2d(a, 2, **keywords), dy)), x)
    np.testing.assert_allclose(dx, numeric, rtol=1e-6, atol=1e-7)


def test_subclasses_that_are_plain_arrays_in_all_but_name(tmp_path: Any) -> None:
    x = np.random.default_rng(0).random((1, 2, 5, 5)).astype(np.float32)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=x.shape)
    mapped[...] = x
    w = np.random.default_rng(0).random((3, 2, 3, 3)).astype(np.float32)
    y = fc.conv2d(mapped, w)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, fc.conv2d(x, w))


def test_a_subclass_cannot_stand_between_an_array_and_its_memory() -> None:
    class Liar(np.ndarray):
        shape = property(lambda self: (9, 9, 9, 9))  # type: ignore[assignment]
        strides = property(lambda self: (8, 8, 8, 8))  # type: ignore[assignment]

        def view(self, *_: Any) -> Any:
            raise AssertionError("an overridden view was called")

    x, w = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4), np.ones((1, 2, 2, 2), np.float32)
    lying = np.ndarray.view(x, Liar)
    np.testing.assert_array_equal(fc.conv2d(lying, w), fc.conv2d(x, w))
    np.testing.assert_array_equal(fc.max_pool2d(lying, 2), fc.max_pool2d(x, 2))


def test_argmax_is_int64_only_where_a_plane_needs_it() -> None:
    x = np.zeros((1, 1, 2, 2), np.float32)
    assert fc.max_pool2d(x, 2, return_argmax=True)[1].dtype == np.int32
    wide = np.broadcast_to(np.float32(0), (0, 1, 2**16 + 2, 2**15))
    assert fc.max_pool2d(wide, 2, return_argmax=True)[1].dtype == np.int64

"""FastEvaluator against ONNX's reference evaluator, operator by operator and in graphs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="ONNX is not installed")
import onnx
import onnx.parser
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from fastconv.adapters import onnx as adapter
from fastconv.adapters.base import count_calls
from fastconv.adapters.onnx import FastEvaluator
from fastconv.adapters.onnx.chains import ConvChain, ViewChain

RNG = np.random.default_rng(0)
TOLERANCE = {np.float32: dict(rtol=1e-5, atol=1e-5), np.float64: dict(rtol=1e-12, atol=1e-12)}


def values(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def whole(*shape, dtype=np.float32):
    """Few different integers: many ties."""
    return RNG.integers(-3, 4, shape).astype(dtype)


def both(op, *inputs, outputs=1, **attributes):
    """(fastconv's outputs, the reference's, fastconv's calls) of one node."""
    names = [f"i{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"o{i}" for i in range(outputs)], **attributes)
    feeds = dict(zip(names, inputs, strict=True))
    with count_calls() as calls:
        got = FastEvaluator(node).run(None, feeds)
    return got, ReferenceEvaluator(node).run(None, feeds), calls


def assert_same(got, want, dtype=np.float32):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **TOLERANCE[dtype])


def ints(low, high):
    return st.integers(low, high)


@st.composite
def windows(draw, strides=(1, 3)):
    """Attributes that every windowed operator has, for one to three axes."""
    rank = draw(ints(1, 3))
    axes = st.lists(ints(1, 3), min_size=rank, max_size=rank)
    window = draw(axes)
    return dict(
        kernel_shape=window,
        strides=draw(st.lists(ints(*strides), min_size=rank, max_size=rank)),
        pads=[draw(ints(0, f - 1)) for f in window * 2],
    ), [draw(ints(4, 7)) for _ in window]


@given(windows(), ints(1, 2), ints(1, 2), st.booleans(), st.sampled_from(list(TOLERANCE)))
def test_conv(problem, group, dilation, bias, dtype):
    attributes, size = problem
    x = values(2, 2 * group, *size, dtype=dtype)
    w = values(3 * group, 2, *attributes["kernel_shape"], dtype=dtype)
    dilations = [dilation if f == 2 else 1 for f in attributes["kernel_shape"]]
    inputs = (x, w, values(3 * group, dtype=dtype)) if bias else (x, w)
    got, want, calls = both("Conv", *inputs, group=group, dilations=dilations, **attributes)
    assert calls.total() == 1
    assert_same(got, want, dtype)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_auto_pad(auto_pad, stride):
    x, w = values(1, 2, 7, 8), values(3, 2, 4, 3)
    got, want, calls = both("Conv", x, w, auto_pad=auto_pad, strides=[stride] * 2)
    assert calls["conv2d"] == 1
    assert_same(got, want)


@given(windows(), ints(0, 1), st.booleans())
def test_conv_transpose(problem, more, bias):
    attributes, size = problem
    x, w = values(2, 3, *size), values(3, 2, *attributes["kernel_shape"])
    extra = [min(more, s - 1) for s in attributes["strides"]]
    inputs = (x, w, values(2)) if bias else (x, w)
    got, want, calls = both("ConvTranspose", *inputs, output_padding=extra, **attributes)
    assert calls.total() == 1
    assert_same(got, want)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_conv_transpose_auto_pad(auto_pad):
    x, w = values(1, 3, 5, 4), values(3, 2, 4, 3)
    got, want, calls = both("ConvTranspose", x, w, auto_pad=auto_pad, strides=[2, 2])
    assert calls["conv_transpose2d"] == 1
    assert got[0].shape == (1, 2, 10, 8)
    assert_same(got, want)


def test_conv_transpose_output_shape_cuts_more_at_the_beginning():
    """As the specification says: total // 2 at the end (the reference evaluator refuses)."""
    x, w = np.ones((1, 1, 2), np.float32), np.array([[[1, 10, 100]]], np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_shape=[4])
    (got,) = FastEvaluator(node).run(None, {"x": x, "w": w})
    np.testing.assert_array_equal(got.ravel(), [10, 101, 10, 100])  # of 1, 10, 101, 10, 100


@given(windows(strides=(2, 3)), st.booleans(), st.sampled_from(list(TOLERANCE)))
def test_max_pool(problem, ceil_mode, dtype):
    """With ties, and with Indices, which ONNX counts over the whole tensor."""
    attributes, size = problem
    got, want, calls = both(
        "MaxPool", whole(2, 3, *size, dtype=dtype), outputs=2, ceil_mode=int(ceil_mode), **attributes
    )
    assert calls.total() == 2
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_max_pool_storage_order():
    got, want, _ = both(
        "MaxPool", whole(2, 3, 6, 8), outputs=2, kernel_shape=[2, 3], strides=[2, 2], storage_order=1
    )
    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("where", [0, 1])
def test_a_nan_in_a_pooling_window_is_the_hosts(where):
    """The reference keeps a NaN that comes first in its window and drops any other."""
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    x[..., where] = np.nan
    got, want, calls = both("MaxPool", x, kernel_shape=[2], strides=[2])
    np.testing.assert_array_equal(got[0], want[0])
    assert calls["max_pool1d"] == 1
    assert np.isnan(got[0][0, 0, 0]) == (where == 0)


@given(windows(strides=(1, 2)), st.booleans(), st.booleans())
def test_average_pool(problem, count_include_pad, ceil_mode):
    attributes, size = problem
    options = dict(count_include_pad=int(count_include_pad), ceil_mode=int(ceil_mode))
    got, want, calls = both("AveragePool", values(2, 3, *size), **options, **attributes)
    assert calls.total() == 1
    assert_same(got, want)


@given(windows(strides=(1, 2)), ints(1, 4))
def test_lp_pool(problem, p):
    attributes, size = problem
    got, want, calls = both("LpPool", values(2, 3, *size), p=p, **attributes)
    assert calls.total() == 1
    assert_same(got, want)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(op):
    got, want, calls = both(op, values(2, 3, 5, 4))
    assert calls.total() == 1
    assert_same(got, want)


def test_max_unpool():
    x = whole(2, 3, 6, 8)
    (y, indices), _, _ = both("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    for shape in ((), (np.array([2, 3, 7, 9]),)):
        got, want, calls = both("MaxUnpool", y, indices, *shape, kernel_shape=[2, 2], strides=[2, 2])
        assert calls["max_unpool2d"] == 1
        assert_same(got, want)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16])
def test_other_dtypes_are_the_hosts(dtype):
    got, want, calls = both("MaxPool", whole(1, 2, 6, 6).astype(dtype), kernel_shape=[2, 2], strides=[2, 2])
    assert not calls
    np.testing.assert_array_equal(got[0], want[0])
    assert got[0].dtype == dtype


def test_a_host_error_stays_the_hosts():
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    feeds = {"x": values(1, 2, 5, 5), "w": values(1, 3, 2, 2)}
    for evaluator in (FastEvaluator, ReferenceEvaluator):
        with pytest.raises(ValueError, match="Shape inconsistencies"):
            evaluator(node).run(None, feeds)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_lrn(size):
    """One image for each channel, because the reference evaluator sums for the first N channels only."""
    got, want, _ = both("LRN", values(7, 7, 2, 2), size=size, alpha=0.1, beta=0.6, bias=1.5)
    assert_same(got, want)


def test_batch_normalization_before_opset_14_is_inference():
    x, (scale, bias, mean, var) = values(2, 3, 4, 4), np.abs(values(4, 3))
    model = parse("y = BatchNormalization (x, scale, bias, mean, var)", "x, scale, bias, mean, var", opset=9)
    feeds = dict(x=x, scale=scale, bias=bias, mean=mean, var=var)
    want = both("BatchNormalization", *feeds.values())[1]
    assert_same(FastEvaluator(model).run(None, feeds), want)


def parse(body, inputs="x", outputs="y", opset=22, functions=""):
    """A model of float inputs without shapes."""
    declared = ", ".join(f"float[] {name}" for name in inputs.split(", "))
    results = ", ".join(f"float[] {name}" for name in outputs.split(", "))
    head = f'<ir_version: 10, opset_import: ["": {opset}, "local": 1]>'
    return onnx.parser.parse_model(f"{head} net ({declared}) => ({results}) {{ {body} }} {functions}")


def with_weights(model, **weights):
    for name, value in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return model


def test_functions_of_the_model_and_subgraphs_are_reached():
    function = (
        '<opset_import: ["": 22], domain: "local"> twice (a, b) => (c) { d = Conv (a, b) c = Conv (d, b) }'
    )
    branches = "then_branch = g1 () => (t) { t = Conv (x, w) }, else_branch = g2 () => (e) { e = Relu (x) }"
    model = parse(
        f"f = local.twice (x, w) c = ReduceMax <keepdims = 0> (x) k = Cast <to = 9> (c) "
        f"g = If <{branches}> (k) y = Add (f, f)",
        "x, w",
        "y, g",
        functions=function,
    )
    feeds = {"x": values(1, 1, 6, 6), "w": values(1, 1, 1, 1)}
    with count_calls() as calls:
        got = FastEvaluator(model).run(None, feeds)
    assert calls["conv2d"] == 3
    assert_same(got, ReferenceEvaluator(model).run(None, feeds))


def block():
    """Conv, BatchNormalization, Mul, Add, the sum with a shortcut, Relu; and the shortcut's own Conv."""
    weights = dict(w=values(4, 3, 3, 3), b=values(4), s=values(4, 3, 1, 1), f=values(4), g=values(1, 4, 1, 1))
    weights |= {name: np.abs(values(4)) + 0.5 for name in ("scale", "bias", "mean", "var")}
    model = parse(
        "c = Conv <pads = [1, 1, 1, 1]> (x, w, b) n = BatchNormalization (c, scale, bias, mean, var) "
        "f1 = Unsqueeze (f, axes) m = Mul (f1, n) a = Add (m, g) "
        "t = Conv (x, s) z = Add (a, t) y = Relu (z)"
    )
    return with_weights(model, axes=np.array([1, 2]), **weights)


def test_what_follows_a_convolution_is_joined_to_it():
    model, feeds = block(), {"x": values(2, 3, 5, 6)}
    evaluator = FastEvaluator(model)
    assert [type(node) for node in evaluator._fused.nodes] == [ConvChain, ConvChain]
    with count_calls() as calls:
        got = evaluator.run(None, feeds)
    assert calls == {"conv2d": 2}
    assert_same(got, ReferenceEvaluator(model).run(None, feeds))


def test_a_shuffle_of_channels_is_one_step():
    body = "r = Reshape (x, split) t = Transpose <perm = [0, 2, 1, 3]> (r) y = Reshape (t, joined)"
    model = with_weights(parse(body), split=np.array([2, 3, 2, 20]), joined=np.array([2, 6, 4, -1]))
    evaluator, feeds = FastEvaluator(model), {"x": values(2, 6, 4, 5)}
    assert [type(node) for node in evaluator._fused.nodes] == [ViewChain]
    assert_same(evaluator.run(None, feeds), ReferenceEvaluator(model).run(None, feeds))
    feeds["x"] = values(2, 6, 4, 4)
    with pytest.raises(ValueError) as host:
        ReferenceEvaluator(model).run(None, feeds)
    with pytest.raises(ValueError) as here:
        evaluator.run(None, feeds)
    assert str(here.value) == str(host.value)


@pytest.mark.parametrize(
    "body",
    [
        "y = Reshape (x, shape)",
        "t = Transpose (x) y = Reshape (t, zeros)",
        "y = Transpose (x)",
        "r = Reshape (x, flat) s = Neg (r) t = Transpose (r) y = Sub (t, s)",
    ],
)
def test_views_of_all_kinds(body):
    model = parse(body, "x, shape")
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    model = with_weights(model, zeros=np.array([0, -1]), flat=np.array([-1]))
    feeds = {"x": values(2, 6, 4, 5), "shape": np.array([5, 0, 8])}
    assert_same(FastEvaluator(model).run(None, feeds), ReferenceEvaluator(model).run(None, feeds))


def test_who_asks_for_more_sees_every_node():
    model, feeds = block(), {"x": values(2, 3, 5, 6)}
    fast, reference = FastEvaluator(model), ReferenceEvaluator(model)
    got, want = (e.run(None, feeds, intermediate=True) for e in (fast, reference))
    assert got.keys() == want.keys()
    assert_same([got["n"], got["m"]], [want["n"], want["m"]])
    assert_same(fast.run(["n", "y"], feeds), reference.run(["n", "y"], feeds))
    feeds["b"] = np.zeros(4, np.float32)  # in the place of the initializer
    assert_same(fast.run(None, feeds), reference.run(None, feeds))


def test_a_joined_convolution_of_what_fastconv_refuses_is_the_hosts():
    model = with_weights(parse("c = Conv (x, w) y = Relu (c)"), w=values(2, 3, 2, 2).astype(np.float16))
    feeds = {"x": values(1, 3, 4, 4).astype(np.float16)}
    with count_calls() as calls:
        got = FastEvaluator(model).run(None, feeds)
    assert not calls
    np.testing.assert_array_equal(got[0], ReferenceEvaluator(model).run(None, feeds)[0])


@pytest.mark.parametrize(
    "body, outputs",
    [
        ("c = Conv (x, w) y = Relu (c) z = Neg (c)", "y, z"),
        ("c = Conv (x, w) y = Relu (c)", "y, c"),
        ("c = Conv (x, w) y = Add (c, c)", "y"),
        ("c = Conv (x, w) y = Mul (c, k)", "y"),
        ("c = Conv (x, w) y = Mul (c, x)", "y"),
        ("c = Conv (x, w) r = Relu (c) y = Relu (r)", "y"),
        ("c = Conv (x, w) d = Add (c, row) y = Clip (d, low, high)", "y"),
        ("c = Conv (x, w) y = Clip (c, low)", "y"),
        ('c = Conv (x, w) y = Clip (c, "", high)', "y"),
    ],
)
def test_only_what_one_reader_needs_is_joined(body, outputs):
    body = body.replace('""', "")
    weights = dict(
        w=values(2, 2, 1, 1), k=np.float32(3), row=values(5), low=np.float32(-0.5), high=np.float32(0.5)
    )
    model = with_weights(parse(body, outputs=outputs), **{n: np.asarray(v) for n, v in weights.items()})
    feeds = {"x": values(1, 2, 4, 5)}
    assert_same(FastEvaluator(model).run(None, feeds), ReferenceEvaluator(model).run(None, feeds))


def test_operators_of_ones_own_come_first():
    class Conv(OpRun):
        op_domain = ""

        def _run(self, x, w, **attributes):
            return (x + 1,)

    model = with_weights(parse("c = Conv (x, w) y = Relu (c)"), w=values(1, 1, 1, 1))
    x = values(1, 1, 3, 3)
    (got,) = FastEvaluator(model, new_ops=[Conv]).run(None, {"x": x})
    np.testing.assert_array_equal(got, np.maximum(x + 1, 0))


def test_installed_the_reference_evaluator_is_fast():
    load = ReferenceEvaluator._load_impl
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    with count_calls() as calls, adapter.installed():
        ReferenceEvaluator(node).run(None, {"x": values(1, 1, 4, 4), "w": values(1, 1, 2, 2)})
    assert calls == {"conv2d": 1}
    assert ReferenceEvaluator._load_impl is load

"""Layers: gradients against central differences, modes, starts, and the errors of wrong arguments."""

import numpy as np
import pytest
from numerical import numerical_grad

import fastconv as fc
import fastconv.layers
from fastconv.nn import activations
from fastconv.nn.layer import Layer

NCHW, NHWC = (2, 4, 5, 6), (2, 5, 6, 4)
LAYERS = {
    "conv": (lambda: fc.Conv2d(4, 3, 3, padding=1, dtype="float64", seed=1), NCHW),
    "conv-strided-grouped": (
        lambda: fc.Conv2d(4, 6, (2, 3), stride=(2, 1), dilation=(1, 2), groups=2, dtype="float64", seed=1),
        NCHW,
    ),
    "conv-same-no-bias": (
        lambda: fc.Conv2d(4, 2, 2, padding="same", bias=False, dtype="float64", seed=1),
        NCHW,
    ),
    "conv-reflect": (
        lambda: fc.Conv2d(4, 2, 3, padding=((1, 2), (0, 1)), padding_mode="reflect", dtype="float64", seed=1),
        NCHW,
    ),
    "conv-nhwc": (lambda: fc.Conv2d(4, 3, 3, padding=1, layout="NHWC", dtype="float64", seed=1), NHWC),
    "max-pool": (lambda: fc.MaxPool2d(2), NCHW),
    "max-pool-overlapping": (lambda: fc.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), NCHW),
    "max-pool-nhwc": (lambda: fc.MaxPool2d((2, 3), layout="NHWC"), NHWC),
    "avg-pool": (lambda: fc.AvgPool2d(2), NCHW),
    "avg-pool-padded": (lambda: fc.AvgPool2d(3, 2, 1, count_include_pad=False), NCHW),
    "avg-pool-nhwc": (lambda: fc.AvgPool2d(2, layout="NHWC"), NHWC),
    "linear": (lambda: fc.Linear(7, 5, dtype="float64", seed=1), (3, 7)),
    "linear-no-bias": (lambda: fc.Linear(7, 5, bias=False, dtype="float64", seed=1), (3, 7)),
    "flatten": (fc.Flatten, NCHW),
    "relu": (fc.ReLU, NCHW),
    "leaky-relu": (lambda: fc.LeakyReLU(0.1), NCHW),
    "sigmoid": (fc.Sigmoid, NCHW),
    "tanh": (fc.Tanh, NCHW),
    "softmax": (fc.Softmax, (3, 5)),
    "dropout-eval": (lambda: fc.Dropout(0.4).eval(), NCHW),
    "batch-norm": (lambda: fc.BatchNorm2d(4, dtype="float64"), NCHW),
    "batch-norm-eval": (lambda: fc.BatchNorm2d(4, dtype="float64").eval(), NCHW),
    "batch-norm-nhwc": (lambda: fc.BatchNorm2d(4, layout="NHWC", dtype="float64"), NHWC),
    "sequential": (
        lambda: fc.Sequential(fc.Conv2d(4, 3, 3), fc.Tanh(), fc.Flatten(), fc.Linear(36, 2), seed=1).astype(
            "float64"
        ),
        NCHW,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_the_numerical_ones(name):
    make, shape = LAYERS[name]
    layer, rng = make(), np.random.default_rng(0)
    x = rng.normal(size=shape)
    for p in layer.params.values():
        p += rng.normal(size=p.shape)  # batch-norm starts at 1 and 0, where mistakes can hide
    dy = rng.normal(size=layer(x).shape)
    dx = layer.backward(dy, input_grad=True)

    def value():
        return float((layer(x) * dy).sum())

    assert layer.grads.keys() == layer.params.keys()
    np.testing.assert_allclose(dx, numerical_grad(value, x), rtol=1e-6, atol=1e-7)
    grads = {n: g.copy() for n, g in layer.grads.items()}
    for n, p in layer.params.items():
        np.testing.assert_allclose(grads[n], numerical_grad(value, p), rtol=1e-6, atol=1e-7, err_msg=n)


@pytest.mark.parametrize("name", LAYERS)
def test_results_keep_the_dtype_and_inputs_are_not_written(name):
    make, shape = LAYERS[name]
    layer = make().astype("float32")
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x.flags.writeable = False
    y = layer(x)
    assert y.dtype == np.float32
    dy = np.ones_like(y)
    dy.flags.writeable = False
    assert layer.backward(dy, input_grad=True).dtype == np.float32
    assert all(g.dtype == np.float32 for g in layer.grads.values())


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch_gives_an_empty_result(name):
    make, shape = LAYERS[name]
    layer = make()
    dtype = next((p.dtype for p in layer.params.values()), np.float64)
    full = layer(np.ones(shape, dtype))
    empty = layer(np.ones((0, *shape[1:]), dtype))
    assert empty.shape == (0, *full.shape[1:])
    assert layer.backward(empty, input_grad=True).shape == (0, *shape[1:])
    assert not any(g.any() for g in layer.grads.values())


@pytest.mark.parametrize("name", LAYERS)
def test_backward_needs_a_forward(name):
    layer = LAYERS[name][0]()
    with pytest.raises(RuntimeError, match="call forward first"):
        layer.backward(np.ones((1, 2)))


@pytest.mark.parametrize("name", LAYERS)
def test_no_input_gradient_unless_asked(name):
    make, shape = LAYERS[name]
    layer = make()
    y = layer(np.random.default_rng(0).normal(size=shape))
    assert layer.backward(y, input_grad=False) is None
    assert layer.grads.keys() == layer.params.keys()


def test_conv_takes_bias_and_filter_gradient_from_one_call(monkeypatch):
    calls = []
    original = fc.nn.layers.conv2d_filter_grad

    def counted(*args, **kwargs):
        calls.append(kwargs["bias_grad"])
        return original(*args, **kwargs)

    monkeypatch.setattr("fastconv.nn.layers.conv2d_filter_grad", counted)
    conv = fc.Conv2d(1, 2, 3)
    conv.backward(conv(np.ones((1, 1, 5, 5), np.float32)))
    assert calls == [True]


def test_relu_after_a_convolution_is_fused_into_it(monkeypatch):
    conv, relu, x = fc.Conv2d(1, 2, 3, seed=0), fc.ReLU(), np.random.default_rng(0).normal(size=(2, 1, 5, 5))
    conv.astype("float64")
    y = relu(conv(x))
    dx = conv.backward(relu.backward(y))
    grads = {name: g.copy() for name, g in conv.grads.items()}
    net = fc.Sequential(conv, relu)
    monkeypatch.setattr(relu, "function", None)
    np.testing.assert_array_equal(net(x), y)
    np.testing.assert_array_equal(net.backward(y, input_grad=True), dx)
    assert all(np.array_equal(grads[name], g) for name, g in conv.grads.items())


def test_first_layer_of_a_net_computes_no_input_gradient(monkeypatch):
    calls = []
    original = fc.nn.layers.conv2d_input_grad

    def counted(dy, w, *args, **kwargs):
        calls.append(w.shape)
        return original(dy, w, *args, **kwargs)

    monkeypatch.setattr("fastconv.nn.layers.conv2d_input_grad", counted)
    net = fc.Sequential(fc.ReLU(), fc.Conv2d(1, 2, 3), fc.ReLU(), fc.Conv2d(2, 4, 3))
    y = net(np.ones((1, 1, 7, 7), np.float32))
    assert net.backward(y) is None
    assert calls == [(4, 2, 3, 3)]
    assert net.backward(y, input_grad=True).shape == (1, 1, 7, 7)
    assert calls[1:] == [(4, 2, 3, 3), (2, 1, 3, 3)]


def test_same_seed_same_function_in_both_layouts_and_dtypes():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    first, last = (fc.Conv2d(3, 4, 3, layout=layout, dtype="float64", seed=5) for layout in ("NCHW", "NHWC"))
    np.testing.assert_allclose(first(x).transpose(0, 2, 3, 1), last(x.transpose(0, 2, 3, 1)), rtol=1e-12)
    single = fc.Conv2d(3, 4, 3, seed=5)
    np.testing.assert_array_equal(single.params["w"], first.params["w"].astype(np.float32))


@pytest.mark.parametrize(
    ("init", "spread", "bias"),
    [
        ("fan_in", 1 / np.sqrt(3 * 576), True),
        ("he", np.sqrt(2 / 576), False),
        ("glorot", np.sqrt(2 / 864), False),
    ],
)
def test_starts_have_their_variance(init, spread, bias):
    conv = fc.Conv2d(64, 32, 3, init=init, seed=0)
    assert conv.params["w"].std() == pytest.approx(spread, rel=0.02)
    assert bool(conv.params["b"].any()) == bias


def test_sequential_seed_draws_every_layer_anew():
    def net(seed):
        return fc.Sequential(fc.Conv2d(1, 2, 3), fc.Flatten(), fc.Linear(8, 3), seed=seed)

    a, b, c = net(0).params, net(0).params, net(1).params
    assert list(a) == ["0.w", "0.b", "2.w", "2.b"]
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert not any(np.array_equal(a[n], c[n]) for n in a)


def test_dropout_scales_what_it_keeps_and_routes_the_gradient_the_same_way():
    dropout = fc.Dropout(0.25, seed=0)
    x = np.ones((100, 100), np.float32)
    y = dropout(x)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(dropout.backward(x), y)
    assert (dropout(x) != y).any()
    np.testing.assert_array_equal(dropout.eval()(x), x)
    np.testing.assert_array_equal(dropout.backward(x), x)


def test_batch_norm_normalizes_by_the_batch_and_then_by_running_statistics():
    rng = np.random.default_rng(0)
    norm = fc.BatchNorm2d(2, momentum=0.25, eps=0.0, dtype="float64")
    x = rng.normal(3, 2, (4, 2, 3, 3))
    y = norm(x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1)
    mean, var = 0.25 * x.mean((0, 2, 3)), 0.75 + 0.25 * x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(norm.buffers["mean"], mean)
    np.testing.assert_allclose(norm.buffers["var"], var)
    wanted = (x - mean[:, None, None]) / np.sqrt(var)[:, None, None]
    np.testing.assert_allclose(norm.eval()(x), wanted)
    np.testing.assert_allclose(norm.buffers["mean"], mean)


def test_activations_at_their_corners():
    x = np.array([-np.inf, -1000.0, -1.0, 0.0, 1.0, 1000.0, np.inf])
    np.testing.assert_array_equal(activations.step(x), [0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(activations.relu(x), [0, 0, 0, 0, 1, 1000, np.inf])
    np.testing.assert_array_equal(activations.leaky_relu(x), [-np.inf, -10, -0.01, 0, 1, 1000, np.inf])
    np.testing.assert_allclose(activations.sigmoid(x), [0, 0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1, 1])
    assert activations.sigmoid(np.float64(-700.0)) > 0
    np.testing.assert_array_equal(activations.leaky_relu(x[1:-1], 2.0), [-2000, -2, 0, 1, 1000])
    rows = activations.softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]]))
    np.testing.assert_array_equal(rows, [[0.5, 0.5], [0, 1]])
    for function in (activations.relu, activations.leaky_relu, activations.sigmoid, activations.tanh):
        assert np.isnan(function(np.array([np.nan]))).all()


def test_derivatives_at_zero():
    zero, one = np.zeros(1), np.ones(1)
    for layer, wanted in ((fc.ReLU(), 0), (fc.LeakyReLU(0.2), 0.2), (fc.Sigmoid(), 0.25), (fc.Tanh(), 1)):
        layer(zero)
        assert layer.backward(one) == wanted


def test_step_says_why_it_cannot_be_trained_through():
    step = fc.Step()
    step(np.zeros((1, 2)))
    with pytest.raises(
        ValueError, match=r"Step.backward: the step has no derivative at 0 .*: train with Sigmoid"
    ):
        step.backward(np.ones((1, 2)))


def test_forget_drops_what_backward_needs():
    net = fc.Sequential(fc.Flatten(), fc.Linear(4, 2))
    y = net(np.ones((1, 2, 2), np.float32))
    net.forget()
    with pytest.raises(RuntimeError, match=r"Linear.backward"):
        net.backward(y)


def test_train_and_eval_reach_nested_layers():
    inner = fc.Dropout(0.5)
    net = fc.Sequential(fc.Sequential(inner), fc.ReLU())
    assert net.eval() is net
    assert not inner.training
    assert net.train() is net
    assert inner.training


def test_astype_converts_parameters_and_buffers():
    net = fc.Sequential(fc.Conv2d(1, 2, 3), fc.BatchNorm2d(2)).astype(np.float64)
    assert {a.dtype for a in (*net.params.values(), *net.buffers.values())} == {np.dtype(np.float64)}
    assert net.dtype == np.float64
    net.reset(np.random.default_rng(0))
    assert net.dtype == np.float64


def test_public_paths_hold_the_same_classes():
    layers = {
        name
        for name in fc.__all__
        if isinstance(getattr(fc, name), type) and issubclass(getattr(fc, name), Layer)
    }
    assert layers > {"Conv2d", "MaxPool2d", "Linear", "BatchNorm2d", "Sequential"}
    for name in layers:
        assert getattr(fc, name) is getattr(fastconv.layers, name)


def test_repr_shows_the_arguments():
    assert repr(fc.Conv2d(1, 2, 3)) == "Conv2d(1, 2, 3)"
    text = repr(fc.Conv2d(2, 4, 3, stride=2, padding="same", groups=2, bias=False))
    assert text == "Conv2d(2, 4, 3, stride=2, padding='same', groups=2, bias=False)"
    assert repr(fc.Conv2d(1, 2, (3, 5), padding=(1, 2))) == "Conv2d(1, 2, (3, 5), padding=((1, 1), (2, 2)))"
    uneven = fc.Conv2d(1, 2, 3, padding=((1, 2), (1, 2)))
    assert repr(uneven) == "Conv2d(1, 2, 3, padding=((1, 2), (1, 2)))"
    assert uneven(np.ones((1, 1, 4, 5), np.float32)).shape == (1, 2, 5, 6)
    assert repr(fc.MaxPool2d(2)) == "MaxPool2d(2)"
    assert repr(fc.MaxPool2d(3, 2, 1, dilation=2)) == "MaxPool2d(3, stride=2, padding=1, dilation=2)"
    assert (
        repr(fc.AvgPool2d(3, 2, count_include_pad=False)) == "AvgPool2d(3, stride=2, count_include_pad=False)"
    )
    assert repr(fc.Sequential(fc.Flatten(), fc.Linear(4, 2))) == "Sequential(Flatten(), Linear(4, 2))"


BAD = {
    "c_in": (lambda: fc.Conv2d(0, 1, 3), ValueError, "Conv2d: c_in is 0: it must be at least 1"),
    "c_out": (lambda: fc.Conv2d(1, 1.5, 3), TypeError, "Conv2d: c_out is 1.5: it must be an integer"),
    "window": (lambda: fc.Conv2d(1, 1, (3, 3, 3)), ValueError, "Conv2d: window has 3 elements"),
    "stride": (lambda: fc.Conv2d(1, 1, 3, stride=0), ValueError, "Conv2d: stride is 0"),
    "padding": (lambda: fc.Conv2d(1, 1, 3, padding="full"), ValueError, "Conv2d: padding is 'full'"),
    "groups": (
        lambda: fc.Conv2d(3, 4, 3, groups=2),
        ValueError,
        "c_in is 3 in 2 groups: groups must divide c_in",
    ),
    "layout": (lambda: fc.Conv2d(1, 1, 3, layout="HWC"), ValueError, "Conv2d: layout is 'HWC'"),
    "mode": (lambda: fc.Conv2d(1, 1, 3, padding_mode="wrap"), ValueError, "Conv2d: padding_mode is 'wrap'"),
    "init": (
        lambda: fc.Conv2d(1, 1, 3, init="ones"),
        ValueError,
        "Conv2d: init is 'ones': it must be one of",
    ),
    "dtype": (lambda: fc.Linear(1, 1, dtype="int8"), ValueError, "Linear: dtype is int8: it must be float32"),
    "no dtype": (lambda: fc.Linear(1, 1, dtype="tiny"), TypeError, "Linear: dtype is 'tiny'"),
    "seed": (
        lambda: fc.Linear(1, 1, seed=-1),
        ValueError,
        "seed: -1: it must be None, an integer of at least 0",
    ),
    "p": (lambda: fc.Dropout(1.0), ValueError, "Dropout: p is 1.0: it must be at least 0 and below 1"),
    "p type": (lambda: fc.Dropout("half"), TypeError, "Dropout: p is 'half': it must be a number"),
    "alpha": (lambda: fc.LeakyReLU(-1), ValueError, "LeakyReLU: alpha is -1: it must be at least 0"),
    "pool": (lambda: fc.MaxPool2d(0), ValueError, "MaxPool2d: window is 0"),
    "channels": (lambda: fc.BatchNorm2d(True), TypeError, "BatchNorm2d: c is True: it must be an integer"),
    "nothing": (fc.Sequential, ValueError, "Sequential: no layers came"),
    "list": (lambda: fc.Sequential([fc.ReLU()]), TypeError, r"unpack the list: Sequential\(\*layers\)"),
    "linear x": (
        lambda: fc.Linear(12, 2)(np.ones((2, 3, 4), np.float32)),
        ValueError,
        r"Linear: x has shape \(2, 3, 4\): it must be \(N, 12\); put Flatten before it",
    ),
    "linear dtype": (
        lambda: fc.Linear(2, 2)(np.ones((1, 2))),
        TypeError,
        r"Linear: x is float64, the other arrays float32: cast it: x.astype\(np.float32\)",
    ),
    "norm x": (
        lambda: fc.BatchNorm2d(3)(np.ones((1, 2, 4, 4), np.float32)),
        ValueError,
        r"BatchNorm2d: x has shape \(1, 2, 4, 4\): it must be \(N, 3, H, W\)",
    ),
    "relu x": (lambda: fc.ReLU()(np.ones(3, int)), TypeError, "ReLU: x has dtype int64"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments_are_named(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call()


def test_a_layer_cannot_appear_twice():
    layer = fc.ReLU()
    with pytest.raises(ValueError, match="a layer appears twice"):
        fc.Sequential(layer, fc.Sequential(layer))


def test_wrong_output_gradients_are_refused():
    for layer, x in ((fc.Linear(2, 3), (4, 2)), (fc.ReLU(), (4, 2)), (fc.BatchNorm2d(2), (4, 2, 3, 3))):
        layer(np.ones(x, np.float32))
        with pytest.raises(ValueError, match=r"backward: dy has shape \(4, 7\)"):
            layer.backward(np.ones((4, 7), np.float32))

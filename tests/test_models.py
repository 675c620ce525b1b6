"""The models: layer lists, published parameter counts, gradients, and that each can be trained."""

import numpy as np
import pytest
from numerical import numerical_grad

import fastconv as fc
from fastconv.layers import GlobalAvgPool2d, LocalResponseNorm, Residual
from fastconv.models import MLP, VGG16, AlexNet, LeNet5, ResNet18, ResNet50, alexnet_augment
from fastconv.nn.alexnet import colour_shift
from fastconv.nn.augment import random_crop
from fastconv.nn.lenet import C3_TABLE, DIGIT_CODES, CodeWords, Field, ScaledTanh, Subsampling, TableConv2d

NCHW = (2, 6, 4, 6)
LAYERS = {
    "response-norm": (lambda: LocalResponseNorm(5, 2.0, 0.75, 2.0), NCHW),
    "response-norm-even": (lambda: LocalResponseNorm(2, 1.5, 0.5, 1.0), NCHW),
    "residual": (lambda: Residual(fc.Sequential(fc.Conv2d(6, 6, 3, padding=1), fc.Tanh())), NCHW),
    "residual-shortcut": (lambda: Residual(fc.Conv2d(6, 4, 3), fc.Conv2d(6, 4, 3, bias=False)), NCHW),
    "global-average": (GlobalAvgPool2d, NCHW),
    "scaled-tanh": (ScaledTanh, NCHW),
    "subsampling": (lambda: Subsampling(6), NCHW),
    "table-conv": (lambda: TableConv2d(((0, 2), (1,), (0, 3, 5)), 3), NCHW),
    "field": (lambda: Field(12), (2, 1, 8, 8)),
    "code-words": (lambda: CodeWords(DIGIT_CODES), (3, 84)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_the_numerical_ones(name):
    make, shape = LAYERS[name]
    layer, rng = make().astype("float64"), np.random.default_rng(0)
    layer.reset(rng)
    x = rng.normal(size=shape)
    for p in layer.params.values():
        p += rng.normal(size=p.shape)
    dy = rng.normal(size=layer(x).shape)
    dx = layer.backward(dy)
    grads = {n: g.copy() for n, g in layer.grads.items()}
    assert grads.keys() == layer.params.keys()

    def value():
        return float((layer(x) * dy).sum())

    np.testing.assert_allclose(dx, numerical_grad(value, x), rtol=1e-5, atol=1e-6)
    for n, p in layer.params.items():
        np.testing.assert_allclose(grads[n], numerical_grad(value, p), rtol=1e-5, atol=1e-6, err_msg=n)
    assert layer.backward(dy, input_grad=False) is None


def test_response_norm_by_hand():
    x = np.arange(1.0, 6.0).reshape(1, 5, 1, 1)
    y = LocalResponseNorm(3, alpha=0.3, beta=2.0, k=1.0)(x).ravel()
    sums = np.array([1 + 4, 1 + 4 + 9, 4 + 9 + 16, 9 + 16 + 25, 16 + 25])
    np.testing.assert_allclose(y, np.arange(1, 6) / (1 + 0.1 * sums) ** 2)


def test_residual_refuses_shapes_that_cannot_be_added():
    block = Residual(fc.Conv2d(2, 3, 3))
    with pytest.raises(
        ValueError, match=r"Residual: body gives shape \(1, 3, 2, 2\), the shortcut \(1, 2, 4, 4\)"
    ):
        block(np.ones((1, 2, 4, 4), np.float32))
    with pytest.raises(TypeError, match="Residual: body is 3: it must be a fastconv layer"):
        Residual(3)


def counts(net, shape):
    """Parameters of the layers that have any."""
    return [count for _, _, count in net.summary(shape).rows if count]


def test_lenet5_has_the_papers_parameters():
    # LeCun et al. 1998, section II.B: C1, S2, C3, S4, C5, F6
    assert counts(LeNet5(form="1998"), (1, 28, 28)) == [156, 12, 1516, 32, 48120, 10164]
    assert counts(LeNet5(), (1, 28, 28)) == [156, 2416, 48120, 10164, 850]
    assert LeNet5(size=32).summary((1, 32, 32)).total == 61706
    assert [len(row) for row in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert all(sum(c in row for row in C3_TABLE) == 10 for c in range(6))


def test_alexnet_has_the_papers_layers():
    summary = AlexNet().summary((3, 224, 224))
    convs = [(shape, count) for name, shape, count in summary.rows if name.startswith("Conv2d")]
    assert convs == [
        ((96, 55, 55), 34944),
        ((256, 27, 27), 307456),
        ((384, 13, 13), 885120),
        ((384, 13, 13), 663936),
        ((256, 13, 13), 442624),
    ]
    assert summary.total == 60_965_224


def test_deep_nets_have_the_published_parameters():
    assert VGG16(size=224).summary((3, 224, 224)).total == 138_357_544
    assert ResNet18().summary((3, 224, 224)).total == 11_689_512
    resnet = ResNet50().summary((3, 224, 224))
    assert resnet.total == 25_557_032
    shapes = [shape for _, shape, _ in resnet.rows]
    assert [s for i, s in enumerate(shapes) if s != shapes[i - 1]] == [
        *((64, 112, 112), (64, 56, 56), (256, 56, 56), (512, 28, 28), (1024, 14, 14)),
        *((2048, 7, 7), (2048,), (1000,)),
    ]


def test_mlp_sizes():
    assert MLP(4, 5, 3).summary((1, 2, 2)).total == 4 * 5 + 5 + 5 * 3 + 3
    assert repr(MLP(4, 5, 3, activation=fc.Tanh)[2]) == "Tanh()"
    with pytest.raises(ValueError, match=r"MLP: sizes are \(4,\): there must be at least two"):
        MLP(4)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: MLP(64, 16, 10, seed=0), (1, 8, 8)),
        (lambda: LeNet5(seed=0), (1, 28, 28)),
        (lambda: LeNet5(form="1998", seed=0), (1, 28, 28)),
        (lambda: ResNet18(10, seed=0), (3, 32, 32)),
        (lambda: VGG16(10, size=32, seed=0), (3, 32, 32)),
    ],
    ids=["MLP", "LeNet5", "LeNet5-1998", "ResNet18", "VGG16"],
)
def test_every_gradient_arrives_and_a_step_lowers_the_loss(make, shape):
    net, rng = make(), np.random.default_rng(0)
    x, y = rng.random((8, *shape), np.float32), np.arange(8)
    for layer in net.walk():
        if isinstance(layer, fc.Dropout):
            layer.p = 0.0
    loss, dy = fc.softmax_cross_entropy(net(x), y)
    net.backward(dy)
    assert net.grads.keys() == net.params.keys()
    assert all(g.any() for g in net.grads.values())
    length = np.sqrt(sum(float((g * g).sum()) for g in net.grads.values()))
    fc.SGD(1e-2 / length).step(net.params, net.grads)
    assert fc.softmax_cross_entropy(net(x), y)[0] < loss


def test_residual_nets_are_saved_whole(tmp_path):
    net, twin = ResNet18(3, seed=0), ResNet18(3, seed=1)
    x = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    net(x)
    net.save(tmp_path / "net.npz")
    assert np.any(net.predict_logits(x) != twin.predict_logits(x))
    np.testing.assert_array_equal(net.predict_logits(x), twin.load(tmp_path / "net.npz").predict_logits(x))


def test_code_words_draw_ten_different_digits():
    codes = CodeWords(DIGIT_CODES).buffers["codes"]
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1, 1}
    assert len(np.unique(codes, axis=0)) == 10
    np.testing.assert_array_equal(CodeWords(DIGIT_CODES)(codes).argmax(1), np.arange(10))
    assert CodeWords(DIGIT_CODES)(codes)[3, 3] == 0


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_alexnets_augmentations(layout):
    rng = np.random.default_rng(0)
    x = rng.random((40, 3, 10, 12))
    given = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    y = alexnet_augment(given, size=8, layout=layout)(given, np.random.default_rng(1))
    assert y.shape == ((40, 3, 8, 8) if layout == "NCHW" else (40, 8, 8, 3))
    assert len({i.tobytes() for i in y}) == 40
    cut = random_crop(8, layout=layout)(given, np.random.default_rng(1))
    cut = cut if layout == "NCHW" else cut.transpose(0, 3, 1, 2)
    places = [np.argwhere(x[i, 0] == cut[i, 0, 0, 0])[0] for i in range(40)]
    for i, (top, left) in enumerate(places):
        np.testing.assert_array_equal(cut[i], x[i, :, top : top + 8, left : left + 8])
    assert {tuple(p) for p in places} > {(0, 0), (2, 4)}
    with pytest.raises(ValueError, match="random_crop: images are 10x12: at least 11x11"):
        random_crop(11, layout=layout)(given, rng)
    with pytest.raises(ValueError, match="colour_shift: images have shape"):
        colour_shift(np.ones((2, 4, 4, 4)), layout=layout)


def test_colours_shift_along_their_principal_components():
    rng = np.random.default_rng(0)
    brightness = rng.normal(size=(500, 1, 1, 1))
    x = brightness * np.array([1.0, 1.0, 0.0])[:, None, None]
    moved = (colour_shift(x, 1.0)(x, rng) - x)[:, :, 0, 0]
    np.testing.assert_allclose(moved[:, 0], moved[:, 1], atol=1e-9)
    np.testing.assert_allclose(moved[:, 2], 0, atol=1e-9)
    # Along (1, 1, 0)/sqrt(2) the variance is 2 var(brightness); the multiples are N(0, 1) times it.
    assert moved[:, 0].std() == pytest.approx(2 * brightness.var() / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LeNet5(form="2024"), "LeNet5: form is '2024': it must be 'relu' or '1998'"),
        (
            lambda: LeNet5(7, form="1998"),
            "LeNet5: classes is 7: the form '1998' has code words for 10 digits",
        ),
        (lambda: LeNet5(size=30), "LeNet5: size is 30: it must be 28 or 32"),
        (lambda: VGG16(size=100), "VGG16: size is 100: it must be a multiple of 32"),
        (lambda: LocalResponseNorm(3)(np.ones((2, 3))), r"LocalResponseNorm: x has shape \(2, 3\)"),
        (lambda: GlobalAvgPool2d()(np.ones((2, 3))), r"GlobalAvgPool2d: x has shape \(2, 3\)"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

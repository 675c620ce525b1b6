"""Looking into nets: receptive fields, occlusion, gradients of a unit, the image that a unit likes most."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import GlobalAvgPool2d, LocalResponseNorm, Residual
from fastconv.models import AlexNet, LeNet5
from fastconv.nn.inside import layer_outputs, maximize_activation, occlusion, unit_gradient
from fastconv.nn.receptive import ReceptiveField, receptive_field

NETS = {
    "strides and dilation": (
        lambda: fc.Sequential(
            *(fc.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=1), fc.Tanh(), fc.BatchNorm2d(3)),
            *(
                fc.MaxPool2d(3, 2, 1),
                fc.Conv2d(3, 2, 3, dilation=(1, 2)),
                LocalResponseNorm(2, 1.0, 0.5, 1.0),
            ),
        ),
        5,
    ),
    "same padding": (
        lambda: fc.Sequential(fc.Conv2d(2, 2, 4, padding="same"), fc.ReLU(), fc.AvgPool2d(2)),
        2,
    ),
    "blocks": (
        lambda: fc.Sequential(
            fc.Sequential(fc.Conv2d(2, 2, 3, padding=1), fc.ReLU()),
            Residual(fc.Sequential(fc.Conv2d(2, 3, 3, padding=1, stride=2)), fc.Conv2d(2, 3, 1, stride=2)),
            Residual(fc.Conv2d(3, 3, 1)),
        ),
        2,
    ),
    "channels last": (
        lambda: fc.Sequential(fc.Conv2d(2, 3, 3, layout="NHWC"), fc.MaxPool2d(2, layout="NHWC")),
        1,
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_receptive_field_is_where_a_nan_reaches_the_unit(name):
    make, layer = NETS[name]
    net, size = make().eval(), (13, 12)
    last = name == "channels last"
    shape = (*size, 2) if last else (2, *size)
    field = receptive_field(net, layer, shape)
    x = np.random.default_rng(0).normal(size=(sum(size), *shape)).astype(np.float32)
    for axis, first in ((0, 0), (1, size[0])):  # one image a row, then one a column, that is NaN
        for i in range(size[axis]):
            lines = np.moveaxis(x[first + i], axis + (not last), 0)
            lines[i] = np.nan
    with fc.use(kernel="reference"):
        y = net(x)
    maps = y[..., 0] if last else y[:, 0]
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            reached = np.isnan(maps[:, row, column])
            rows, columns = field.of(row, column)
            wanted = [rows.start <= i < rows.stop for i in range(size[0])]
            wanted += [columns.start <= i < columns.stop for i in range(size[1])]
            np.testing.assert_array_equal(reached, wanted)


def test_receptive_fields_of_the_papers():
    assert receptive_field(LeNet5(), 3, (1, 28, 28)) == ReceptiveField((14, 14), (2, 2), (-2, -2))
    # AlexNet's last pooling: 11 + 2*4 + 4*8 + 2*8 + 3 * 2*16 + 2*16
    assert receptive_field(AlexNet(2), 14, (3, 224, 224)).size == (195, 195)


def test_receptive_field_refuses_what_has_no_window():
    net = LeNet5()
    with pytest.raises(ValueError, match="layer 6 is or follows a Flatten: it must give maps"):
        receptive_field(net, 6, (1, 28, 28))
    with pytest.raises(ValueError, match="receptive_field: layer is 12: it must be below 12"):
        receptive_field(net, 12, (1, 28, 28))
    with pytest.raises(TypeError, match=r"receptive_field: the window of \w+ is not known"):
        receptive_field(LeNet5(form="1998"), 4, (1, 28, 28))
    with pytest.raises(ValueError, match="follows a GlobalAvgPool2d"):
        receptive_field(fc.Sequential(GlobalAvgPool2d()), 0, (1, 4, 4))


def test_occlusion_hides_one_patch_at_a_time():
    net = fc.Sequential(fc.Flatten(), fc.Linear(12, 2, bias=False, seed=0))
    w = net.params["1.w"]
    w[:] = 0
    w[1, 5] = 4.0  # the class depends on pixel (1, 1) alone
    image = np.ones((1, 3, 4), np.float32)
    table = occlusion(net, image, 1, patch=1, fill=0.0)
    seen = 1 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(table, np.where(np.arange(12).reshape(3, 4) == 5, 0.5, seen), rtol=1e-6)
    larger = occlusion(net, image, patch=2, fill=0.0)
    np.testing.assert_array_equal(larger == 0.5, [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]])
    assert occlusion(net, image, 1, stride=2).shape == (2, 2)
    colours = fc.Sequential(fc.Conv2d(2, 3, 1, layout="NHWC"), fc.Flatten(), fc.Linear(36, 2), seed=0)
    assert occlusion(colours, np.ones((3, 4, 2))).shape == (3, 4)


def test_gradient_of_a_unit():
    net = fc.Sequential(fc.Conv2d(1, 2, 3, seed=0), fc.MaxPool2d(2))
    image = np.random.default_rng(0).random((1, 8, 8))
    unit, moved = unit_gradient(net, image, 0, (1, 2, 3))
    assert unit == (1, 2, 3)
    wanted = np.zeros((8, 8), np.float32)
    wanted[2:5, 3:6] = net[0].params["w"][1, 0]
    np.testing.assert_array_equal(moved, wanted)
    (channel, row, column), _ = unit_gradient(net, image, 0)
    maps = layer_outputs(net, image)[0][0]
    assert (row, column) == (3, 3)
    assert maps[channel, 3, 3] == maps[:, 3, 3].max()
    for unit in ((2, 0, 0), (0, 6, 0), (0, 0), (-1, 0, 0)):
        with pytest.raises(ValueError, match="unit_gradient: unit is"):
            unit_gradient(net, image, 0, unit)


def test_maximized_images_excite_their_unit_more_than_others():
    net = LeNet5(seed=0)
    images = maximize_activation(net, [0, 3, 7], input_shape=(1, 28, 28), steps=30)
    logits = net.predict_logits(images)[:, [0, 3, 7]]
    np.testing.assert_array_equal(logits.argmax(0), [0, 1, 2])
    channels = maximize_activation(net, layer=0, input_shape=(1, 28, 28), steps=5, blur=0)
    assert channels.shape == (6, 1, 28, 28)
    assert net.training


def test_a_linear_unit_likes_its_own_weights():
    net = fc.Sequential(fc.Flatten(), fc.Linear(16, 3, seed=0))
    images = maximize_activation(net, input_shape=(1, 4, 4), blur=0, decay=0.1, steps=200)
    for image, w in zip(images, net.params["1.w"], strict=True):
        np.testing.assert_allclose(image.ravel() / np.linalg.norm(image), w / np.linalg.norm(w), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 2}, "maximize_activation: layer is 2: it must be below 2"),
        ({"units": [3]}, r"maximize_activation: units are \[3\]: they must be below 3"),
        ({"steps": 0}, "maximize_activation: steps"),
        ({"decay": 1.0}, "maximize_activation: decay is 1.0: it must be at least 0 and below 1"),
    ],
)
def test_wrong_arguments_of_maximize_activation(options, message):
    net = fc.Sequential(fc.Flatten(), fc.Linear(16, 3))
    with pytest.raises(ValueError, match=message):
        maximize_activation(net, input_shape=(1, 4, 4), **options)
    with pytest.raises(ValueError, match="the layer is a Softmax: its outputs hold each other down"):
        maximize_activation(fc.Sequential(fc.Softmax()), input_shape=(1, 4, 4))


def test_images_of_wrong_shape():
    net = LeNet5()
    with pytest.raises(
        ValueError, match=r"occlusion: image has shape \(1, 1, 28, 28\): it must be one image"
    ):
        occlusion(net, np.zeros((1, 1, 28, 28)))
    with pytest.raises(ValueError, match="occlusion: label is 10: it must be below 10"):
        occlusion(net, np.zeros((1, 28, 28)), 10)
    with pytest.raises(ValueError, match="occlusion: patch"):
        occlusion(net, np.zeros((1, 28, 28)), patch=0)

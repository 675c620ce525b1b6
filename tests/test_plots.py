"""Every picture is a matplotlib figure that shows what it says."""

import numpy as np
import pytest

import fastconv as fc

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from fastconv import plots
from fastconv.plots.canvas import near_square


def net():
    return fc.Sequential(
        *(fc.Conv2d(1, 6, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2)),
        *(fc.Dropout(0.5), fc.Flatten(), fc.Linear(96, 3)),
        seed=0,
    )


def drawn(figure, tmp_path):
    """The figure's axes, after it could be saved."""
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    return figure.axes


def test_training_curves(tmp_path):
    history = {
        "loss": [2.0, 1.0],
        "accuracy": [0.5, 0.75],
        "val_loss": [2.5, 1.5],
        "val_accuracy": [0.4, 0.7],
    }
    loss, accuracy = drawn(plots.training_curves(history), tmp_path)
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2, 1], [2.5, 1.5]]
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.5, 0.75], [0.4, 0.7]]
    assert accuracy.lines[0].get_xdata().tolist() == [1, 2]
    without = plots.training_curves({"loss": [1.0], "accuracy": [1.0]})
    assert len(without.axes[0].lines) == 1


def test_confusion_matrix_counts(tmp_path):
    labels, predictions = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0])
    (axes,) = drawn(plots.confusion_matrix(labels, predictions, ("a", "b", "c")), tmp_path)
    assert {(t.get_position()[::-1], t.get_text()) for t in axes.texts} == {
        ((0, 0), "1"),
        ((0, 1), "1"),
        ((1, 1), "1"),
        ((2, 0), "2"),
    }
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.5, 0.5, 0], [0, 1, 0], [1, 0, 0]])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="confusion_matrix: labels have shape"):
        plots.confusion_matrix(labels, predictions[:2])


def test_misclassified_shows_the_wrong_ones(tmp_path):
    x = np.arange(5 * 4, dtype=np.float32).reshape(5, 1, 2, 2)
    labels, predictions = np.array([0, 1, 2, 3, 4]), np.array([0, 7, 2, 8, 4])
    figure = plots.misclassified(x, labels, predictions, columns=3)
    shown = [axes for axes in drawn(figure, tmp_path) if axes.images]
    assert [axes.get_title() for axes in shown] == ["1 → 7", "3 → 8"]
    np.testing.assert_array_equal(shown[1].images[0].get_array(), x[3, 0])
    assert figure.get_suptitle() == "2 of 5 misclassified"
    assert "(first 1)" in plots.misclassified(x, labels, predictions, limit=1).get_suptitle()
    assert plots.misclassified(x, labels, labels).get_suptitle() == "0 of 5 misclassified"


def test_filters_of_a_net_a_layer_and_an_array(tmp_path):
    model = net()
    (axes,) = drawn(plots.filters(model), tmp_path)
    image = axes.images[0].get_array()
    assert image.shape == (2 * 3 + 1, 3 * 3 + 2)
    np.testing.assert_array_equal(image[:3, :3], model[0].params["w"][0, 0])
    np.testing.assert_array_equal(image[4:7, 8:11], model[0].params["w"][5, 0])
    last = fc.Conv2d(2, 3, (1, 2), layout="NHWC", seed=0)
    tiles = plots.filters(last).axes[0].images[0].get_array()
    np.testing.assert_array_equal(tiles[0, :2], last.params["w"][0, :, 0, 0])
    colours = plots.filters(np.random.default_rng(0).normal(size=(4, 3, 5, 5))).axes[0].images[0].get_array()
    assert colours.shape == (11, 11, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    with pytest.raises(ValueError, match="filters: ReLU has no convolution: give a Conv2d"):
        plots.filters(fc.ReLU())
    with pytest.raises(ValueError, match=r"filters: the array has shape \(2, 2\)"):
        plots.filters(np.ones((2, 2)))


def test_feature_maps_of_each_layer_in_evaluation_mode(tmp_path):
    model = net()
    image = np.random.default_rng(0).random((1, 8, 8))
    axes = drawn(plots.feature_maps(model, image), tmp_path)
    assert [a.get_title() for a in axes] == [
        "input\n1x8x8",
        "Conv2d\n6x8x8",
        "ReLU\n6x8x8",
        "MaxPool2d\n6x4x4",
    ]
    assert [a.get_title()[:4] for a in plots.feature_maps(model, image, [2, 1]).axes] == [
        "inpu",
        "ReLU",
        "MaxP",
    ]
    wanted = model[0](image[None].astype(np.float32))[0, 0]
    np.testing.assert_array_equal(axes[1].images[0].get_array()[:8, :8], wanted)
    assert model.training


def test_figures_can_be_given():
    figure = Figure()
    upper, lower = figure.subfigures(2, 1)
    assert plots.filters(net(), figure=upper) is upper
    assert plots.confusion_matrix(np.array([0]), np.array([0]), figure=lower) is lower
    assert len(figure.axes) == 2


@pytest.mark.parametrize(
    ("n", "columns"), [(1, 1), (2, 2), (6, 3), (32, 8), (64, 8), (7, 3), (12, 4), (48, 8)]
)
def test_grids_are_filled_where_they_can_be(n, columns):
    assert near_square(n) == columns


def test_missing_matplotlib_names_the_extra(monkeypatch):
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, "matplotlib", None)
    monkeypatch.setitem(modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"fastconv.plots needs matplotlib: pip install 'fastconv\[\w+\]'"):
        plots.filters(net())


def test_activation_and_its_derivative(tmp_path):
    (axes,) = drawn(plots.activation(fc.LeakyReLU(0.1), span=2), tmp_path)
    function, derivative = axes.lines[2:]
    x = function.get_xdata()
    np.testing.assert_allclose(function.get_ydata(), np.where(x > 0, x, 0.1 * x))
    np.testing.assert_allclose(derivative.get_ydata(), np.where(x > 0, 1, 0.1))
    (alone,) = plots.activation(fc.Step()).axes
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["Step"]
    with pytest.raises(TypeError, match="activation: layer is Flatten"):
        plots.activation(fc.Flatten())


def test_gradient_norms(tmp_path):
    norms = np.array([[1.0, 2.0], [0.0, 4.0], [3.0, 8.0]])
    (axes,) = drawn(plots.gradient_norms(norms, ("first", "last"), title="tanh"), tmp_path)
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1, np.nan, 3])
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [1, 2, 3])
    with pytest.raises(ValueError, match=r"gradient_norms: norms have shape \(3, 2\) with 1 names"):
        plots.gradient_norms(norms, ("one",))


def test_gallery(tmp_path):
    images = [np.eye(3), -2 * np.eye(3), np.zeros((3, 3))]
    axes = drawn(plots.gallery(images, ("a", "b", "c"), columns=2, signed=True), tmp_path)
    assert [a.get_title() for a in axes] == ["a", "b", "c", ""]
    assert {image.get_clim() for a in axes for image in a.images} == {(-2, 2)}
    with pytest.raises(ValueError, match="gallery: 3 images with 1 titles"):
        plots.gallery(images, ("a",))
    with pytest.raises(ValueError, match="gallery: 0 images"):
        plots.gallery([])


def test_receptive_field_frames_the_unit(tmp_path):
    model, image = net(), np.random.default_rng(0).random((1, 8, 8))
    left, right = drawn(plots.receptive_field(model, image, 2, (1, 0, 2)), tmp_path)
    frame = left.patches[0]
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((2.5, -1.5), 4, 4)
    moved = right.images[0].get_array()
    outside = np.ones((8, 8), bool)
    outside[:3, 3:7] = False
    assert moved.max() > 0
    assert not moved[outside].any()
    with pytest.raises(ValueError, match="layer 4 is or follows a Flatten"):
        plots.receptive_field(model, image, 4)


def test_occlusion_map(tmp_path):
    model, image = net(), np.random.default_rng(0).random((1, 8, 8))
    left, right, _ = drawn(plots.occlusion_map(model, image, 1, patch=2), tmp_path)
    assert left.get_title() == f"class 1: {model.predict_proba(image[None])[0, 1]:.1%}"
    assert right.images[0].get_array().shape == (8, 8)


def test_activation_maximization(tmp_path):
    figure = plots.activation_maximization(net(), [2, 0], input_shape=(1, 8, 8), steps=3)
    axes = drawn(figure, tmp_path)
    assert [a.get_title() for a in axes] == ["2", "0"]
    assert all((a.images[0].get_array().min(), a.images[0].get_array().max()) == (0, 1) for a in axes)


def test_feature_maps_of_channels_last_and_in_rows():
    model = fc.Sequential(
        fc.Conv2d(3, 4, 3, layout="NHWC"), fc.ReLU(), fc.MaxPool2d(2, layout="NHWC"), seed=0
    )
    image = np.random.default_rng(0).random((6, 7, 3)).astype(np.float32)
    axes = plots.feature_maps(model, image, columns=2).axes
    assert [a.get_title() for a in axes] == [
        "input\n6x7x3",
        "Conv2d\n4x5x4",
        "ReLU\n4x5x4",
        "MaxPool2d\n2x2x4",
    ]
    np.testing.assert_array_equal(axes[0].images[0].get_array(), image)
    np.testing.assert_array_equal(axes[1].images[0].get_array()[:4, :5], model[0](image[None])[0, ..., 0])


def test_every_picture_is_exported():
    assert all(callable(getattr(plots, name)) for name in plots.__all__)

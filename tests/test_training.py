"""Losses, optimizers, schedules, augmentation, and Sequential's training, prediction and files."""

import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv.nn import (
    compose,
    cosine,
    mean_squared_error,
    one_cycle,
    random_crop,
    random_flip,
    random_shift,
    softmax_cross_entropy,
    steps,
)
from fastconv.nn.alexnet import colour_shift
from fastconv.nn.losses import checked_labels


def corners(n=96, seed=0):
    """Images of 6x6 with one bright 2x2 corner, its number the label: a net must learn it exactly."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = rng.random((n, 1, 6, 6), np.float32) * 0.5
    for i, k in enumerate(y):
        x[i, 0, (k // 2) * 4 :, (k % 2) * 4 :][:2, :2] += 1
    return x, y


def corner_net(seed=0, dropout=0.0):
    return fc.Sequential(
        *(fc.Conv2d(1, 4, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2)),
        *(fc.Dropout(dropout), fc.Flatten(), fc.Linear(36, 4)),
        seed=seed,
    )


def test_cross_entropy_by_hand():
    logits = np.log(np.array([[1.0, 2.0, 1.0], [3.0, 3.0, 2.0]]))
    loss, grad = softmax_cross_entropy(logits, np.array([1, 2]))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2)
    np.testing.assert_allclose(grad, [[0.125, -0.25, 0.125], [0.1875, 0.1875, -0.375]])


def test_cross_entropy_weights_are_shares():
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [5.0, 1.0]])
    labels = np.array([0, 0, 1])
    loss, grad = softmax_cross_entropy(logits, labels, np.array([3.0, 1.0, 0.0]))
    one, two = (softmax_cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in (0, 1))
    assert loss == pytest.approx(0.75 * one[0] + 0.25 * two[0])
    np.testing.assert_allclose(grad, [*(0.75 * one[1]), *(0.25 * two[1]), [0, 0]])


@pytest.mark.parametrize("loss", [softmax_cross_entropy, mean_squared_error])
def test_loss_gradients_are_the_numerical_ones(loss):
    rng = np.random.default_rng(0)
    outputs, weights = rng.normal(size=(4, 3)), np.array([1.0, 2.0, 0.5, 0.0])
    targets = np.array([0, 2, 1, 1]) if loss is softmax_cross_entropy else rng.normal(size=(4, 3))
    for given in (None, weights):
        grad = loss(outputs, targets, given)[1]
        for i in np.ndindex(outputs.shape):
            bump = np.zeros_like(outputs)
            bump[i] = 1e-6
            slope = (loss(outputs + bump, targets, given)[0] - loss(outputs - bump, targets, given)[0]) / 2e-6
            assert grad[i] == pytest.approx(slope, abs=1e-8)


def test_losses_of_extreme_and_of_no_rows():
    loss, grad = softmax_cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(grad, np.array([[1, -1]], np.float32))
    assert grad.dtype == np.float32
    assert softmax_cross_entropy(np.empty((0, 3)), np.empty(0, int))[0] == 0
    assert mean_squared_error(np.empty((0, 3)), np.empty((0, 3)))[0] == 0


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (np.array([0, 3]), ValueError, "labels range from 0 to 3: they must be 0 to 2, the columns"),
        (np.array([-1, 2]), ValueError, "labels range from -1 to 2"),
        (np.array([0.0, 1.0]), TypeError, "labels have dtype float64: they must be integers"),
        (np.array([0]), ValueError, r"labels has shape \(1,\): it must be \(2,\)"),
    ],
)
def test_wrong_labels_are_named(labels, kind, message):
    with pytest.raises(kind, match=message):
        softmax_cross_entropy(np.zeros((2, 3)), labels)
    with pytest.raises(kind, match=message):
        checked_labels("fit", labels, 2, 3)


@pytest.mark.parametrize("weights", [[1.0, -1.0], [np.nan, 1.0], [1.0]])
def test_wrong_weights_are_named(weights):
    with pytest.raises(ValueError, match="softmax_cross_entropy: weights"):
        softmax_cross_entropy(np.zeros((2, 3)), np.zeros(2, int), np.array(weights))


def test_sgd_by_hand():
    p = {"w": np.array([1.0])}
    sgd = fc.SGD(0.1, momentum=0.5, weight_decay=0.2)
    sgd.step(p, {"w": np.array([2.0])})
    assert p["w"] == pytest.approx(1 - 0.1 * 2.2)
    sgd.step(p, {"w": np.array([2.0])})
    assert p["w"] == pytest.approx(0.78 - 0.1 * (0.5 * 2.2 + 2 + 0.2 * 0.78))


def test_adam_by_hand():
    p, adam = {"w": np.array([1.0])}, fc.Adam(0.1, betas=(0.5, 0.8), eps=0.0)
    adam.step(p, {"w": np.array([2.0])})
    assert p["w"] == pytest.approx(0.9)
    adam.step(p, {"w": np.array([-1.0])})
    mean, square = (0.5 * 1 - 0.5) / (1 - 0.25), (0.8 * 0.2 * 4 + 0.2) / (1 - 0.64)
    assert p["w"] == pytest.approx(0.9 - 0.1 * mean / np.sqrt(square))


@pytest.mark.parametrize("optimizer", [fc.SGD(0.1, 0.9), fc.Adam(0.1)])
def test_optimizers_change_arrays_in_place_and_keep_float32(optimizer):
    w = np.ones(3, np.float32)
    optimizer.step({"w": w}, {"w": np.full(3, 0.5, np.float32)})
    assert w.dtype == np.float32
    assert (w < 1).all()
    assert all(a.dtype == np.float32 for a in optimizer.state["w"].values())


def test_schedules():
    factor = one_cycle(0.25, start=0.1, end=0.01)
    assert [factor(t) for t in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx([0.1, 0.55, 1, 0.505, 0.01])
    assert one_cycle(0.0)(0.0) == 1
    assert [cosine(0.5)(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.75, 0.5])
    assert [steps((0.5,), 0.5)(t) for t in (0, 0.49, 0.5, 1)] == [1, 1, 0.5, 0.5]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_random_shift_moves_each_image_within_its_frame(layout):
    x = np.zeros((300, 2, 5, 7), np.float32)
    x[:, 0, 2, 3], x[:, 1, 2, 3] = 1, 2
    given = x if layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    y = random_shift(2, layout=layout)(given, np.random.default_rng(0))
    assert y.shape == given.shape
    y = y if layout == "NCHW" else y.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(y[:, 1], 2 * y[:, 0])
    image, row, column = y[:, 0].nonzero()
    np.testing.assert_array_equal(image, np.arange(300))
    assert set(row) == set(range(5))
    assert set(column) == set(range(1, 6))
    assert random_shift(3)(np.ones((1, 1, 4, 4)), np.random.default_rng(3)).sum() < 16


def test_flip_and_compose():
    x = np.arange(6.0).reshape(1, 1, 2, 3).repeat(50, 0)
    y = random_flip()(x, np.random.default_rng(0))
    mirrored = (y != x).any((1, 2, 3))
    assert 10 < mirrored.sum() < 40
    np.testing.assert_array_equal(y[mirrored], x[mirrored][..., ::-1])
    last = random_flip(layout="NHWC")(x.transpose(0, 2, 3, 1), np.random.default_rng(0))
    np.testing.assert_array_equal(last, y.transpose(0, 2, 3, 1))
    both = compose(lambda x, rng: x + 1, lambda x, rng: x * 2)
    np.testing.assert_array_equal(both(x, np.random.default_rng(0)), (x + 1) * 2)


def test_augmentations_can_be_pickled():
    x = np.random.default_rng(0).random((9, 3, 8, 8))
    augment = compose(random_shift(1), random_flip(), random_crop(6), colour_shift(x))
    twin = pickle.loads(pickle.dumps(augment))
    np.testing.assert_array_equal(twin(x, np.random.default_rng(1)), augment(x, np.random.default_rng(1)))


def test_fit_learns_and_records():
    x, y = corners()
    net = corner_net()
    history = net.fit(
        x, y, epochs=30, batch_size=40, optimizer=fc.Adam(0.02), validation_data=corners(40, 1), seed=0
    )
    assert history["accuracy"][-1] == 1
    assert history["val_accuracy"][-1] == 1
    assert history["loss"][-1] < 0.1 < history["loss"][0]
    assert history["val_loss"][-1] == pytest.approx(net.evaluate(*corners(40, 1))["loss"])
    assert {len(v) for k, v in history.items() if k != "step_loss"} == {30}
    assert len(history["step_loss"]) == 30 * 3
    np.testing.assert_array_equal(net.predict(x), y)
    assert not net.training


def test_fit_repeats_itself_given_a_seed():
    x, y = corners()

    def trained(seed):
        net = corner_net(dropout=0.3)
        net[3].rng = np.random.default_rng()
        net.fit(x, y, epochs=2, batch_size=16, augment=random_shift(1), seed=seed)
        return net.params

    a, b, c = trained(0), trained(0), trained(1)
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert any(not np.array_equal(a[n], c[n]) for n in a)


def test_a_step_is_forward_backward_update():
    x, y = corners(8)
    net, twin = corner_net(), corner_net()
    net.fit(x, y, epochs=1, batch_size=8, optimizer=fc.SGD(0.5))
    loss, dy = fc.softmax_cross_entropy(twin(x), y)
    twin.backward(dy)
    for name, p in twin.params.items():
        np.testing.assert_allclose(net.params[name], p - np.float32(0.5) * twin.grads[name], atol=1e-6)
    assert loss > 0


def test_schedule_ends_the_cycle_and_the_rate_is_restored():
    x, y = corners(8)
    rates = []

    class Spy(fc.SGD):
        def step(self, params, grads):
            rates.append(self.lr)

    optimizer = Spy(2.0)
    corner_net().fit(x, y, epochs=3, batch_size=4, optimizer=optimizer, schedule=lambda done: 1 - done / 2)
    assert rates == pytest.approx([2 * (1 - i / 10) for i in range(6)])
    assert optimizer.lr == 2.0


def test_rows_of_weight_zero_teach_nothing():
    x, y = corners(32)
    wrong = np.where(np.arange(32) < 16, y, (y + 1) % 4)
    a, b = corner_net(), corner_net()
    a.fit(x, wrong, epochs=1, batch_size=32, optimizer=fc.SGD(0.1), sample_weight=np.arange(32) < 16)
    b.fit(x[:16], y[:16], epochs=1, batch_size=16, optimizer=fc.SGD(0.1))
    for name, p in a.params.items():
        np.testing.assert_allclose(p, b.params[name], atol=1e-6)


def test_on_epoch_can_stop():
    x, y = corners(8)
    history = corner_net().fit(x, y, epochs=9, on_epoch=lambda h: len(h["loss"]) == 3)
    assert len(history["loss"]) == 3


def test_integer_images_are_cast():
    x, y = corners(8)
    bytes_ = (x * 100).astype(np.uint8)
    net = corner_net()
    np.testing.assert_allclose(net.predict_logits(bytes_), net.predict_logits(bytes_.astype(np.float32)))
    net.fit(bytes_, y, epochs=1, optimizer=fc.SGD(1e-6))


def test_regression_by_another_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    t = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    net = fc.Sequential(fc.Linear(3, 1), seed=0)
    history = net.fit(x, t, epochs=60, batch_size=16, optimizer=fc.SGD(0.1), loss=mean_squared_error, seed=0)
    assert history["loss"][-1] < 1e-4
    assert net.evaluate(x, t, loss=mean_squared_error)["loss"] < 1e-4


def test_prediction_does_not_depend_on_the_batches_and_keeps_the_mode():
    x, _ = corners(50)
    net = corner_net(dropout=0.5)
    whole = net.predict_proba(x, batch_size=50)
    np.testing.assert_allclose(net.predict_proba(x, batch_size=7), whole, atol=1e-6)
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(net.predict(x), whole.argmax(1))
    assert net.training
    assert net.predict(x[:0]).shape == (0,)
    with_softmax = fc.Sequential(*net.layers, fc.Softmax())
    np.testing.assert_allclose(with_softmax.predict_proba(x), whole, atol=1e-6)


def test_predicting_keeps_no_activations():
    net = corner_net()
    net.predict(corners(8)[0])
    with pytest.raises(RuntimeError, match="call forward first"):
        net.backward(np.ones((8, 4), np.float32))


def test_summary_counts_parameters_and_shapes():
    summary = corner_net().summary((1, 6, 6))
    assert summary.total == 4 * 9 + 4 + 36 * 4 + 4
    assert [shape for _, shape, _ in summary.rows] == [
        (4, 6, 6),
        (4, 6, 6),
        (4, 3, 3),
        (4, 3, 3),
        (36,),
        (4,),
    ]
    assert str(summary).splitlines()[-1].split() == ["total", "188"]
    # 96 weights: the course's example of two 4x4 filters on a 6x6 image of 3 channels
    assert fc.Sequential(fc.Conv2d(3, 2, 4, bias=False)).summary((3, 6, 6)).total == 96
    with pytest.raises(ValueError, match=r"summary: input_shape\[1\] is 0"):
        corner_net().summary((1, 0, 6))
    with pytest.raises(ValueError, match="conv2d: w has 1 input channels"):
        corner_net().summary((3, 6, 6))


def test_save_and_load(tmp_path):
    x, y = corners()
    net = fc.Sequential(fc.Conv2d(1, 2, 3), fc.BatchNorm2d(2), fc.Flatten(), fc.Linear(32, 4), seed=0)
    net.fit(x, y, epochs=1)
    net.save(tmp_path / "net.npz")
    twin = fc.Sequential(fc.Conv2d(1, 2, 3), fc.BatchNorm2d(2), fc.Flatten(), fc.Linear(32, 4), seed=1)
    assert twin.load(tmp_path / "net.npz") is twin
    np.testing.assert_array_equal(twin.predict_logits(x), net.predict_logits(x))
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def test_a_checkpoint_of_another_net_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "net.npz"
    corner_net().save(path)
    wider = fc.Sequential(
        fc.Conv2d(1, 4, 3, padding=1), fc.Flatten(), fc.Flatten(), fc.ReLU(), fc.ReLU(), fc.Linear(9, 4)
    )
    before = {n: p.copy() for n, p in wider.params.items()}
    with pytest.raises(
        ValueError, match=r"checkpoint of another net: params/5.w has shape \(4, 36\) in the file and"
    ):
        wider.load(path)
    assert all(np.array_equal(before[n], p) for n, p in wider.params.items())
    with pytest.raises(ValueError, match=r"another net: params/0.b is only in the file"):
        fc.Sequential(fc.Conv2d(1, 4, 3, bias=False)).load(path)
    with pytest.raises(ValueError, match=r"params/0.b is only in the net"):
        fc.Sequential(fc.Linear(2, 2, bias=False)).save(path) or fc.Sequential(fc.Linear(2, 2)).load(path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    for content in (b"", b"not a zip file", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"net.npz cannot be read: it must be an .npz file that save\(\) wrote"
        ):
            corner_net().load(path)
    with open(path, "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="cannot be read"):
        corner_net().load(path)
    with pytest.raises(FileNotFoundError):
        corner_net().load(tmp_path / "nothing.npz")


X, Y = corners(8)
BAD = {
    "lengths": (
        {"x": X, "y": Y[:5]},
        ValueError,
        r"fit: x holds 8 inputs, y has shape \(5,\): both must have",
    ),
    "labels": ({"x": X, "y": Y + 1}, ValueError, "fit: labels range from 1 to 4: they must be 0 to 3"),
    "float labels": ({"x": X, "y": Y / 1}, TypeError, "fit: labels have dtype float64"),
    "channels": ({"x": X.repeat(3, 1), "y": Y}, ValueError, "conv2d: w has 1 input channels"),
    "text": ({"x": X.astype(str), "y": Y}, TypeError, "fit: x has dtype <U"),
    "flat": ({"x": Y, "y": Y}, ValueError, r"fit: x has shape \(8,\): it must be \(N, ...\)"),
    "empty": ({"x": X[:0], "y": Y[:0]}, ValueError, "fit: x is empty"),
    "nan": ({"x": X * np.nan, "y": Y}, ValueError, "fit: x holds NaN or infinite values"),
    "epochs": ({"x": X, "y": Y, "epochs": 0}, ValueError, "fit: epochs is 0: it must be at least 1"),
    "batch": (
        {"x": X, "y": Y, "batch_size": 2.5},
        TypeError,
        "fit: batch_size is 2.5: it must be an integer",
    ),
    "optimizer": (
        {"x": X, "y": Y, "optimizer": "adam"},
        TypeError,
        "fit: optimizer is 'adam': it must be an optimizer",
    ),
    "weights": ({"x": X, "y": Y, "sample_weight": np.ones(3)}, ValueError, r"fit: weights has shape \(3,\)"),
    "validation": (
        {"x": X, "y": Y, "validation_data": X},
        TypeError,
        "validation_data is 'ndarray': it must be a pair",
    ),
    "validation y": (
        {"x": X, "y": Y, "validation_data": (X, Y + 9)},
        ValueError,
        "validation_data: labels range from 9",
    ),
    "seed": ({"x": X, "y": Y, "seed": "one"}, ValueError, "seed: 'one'"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments_are_named_before_any_work(name):
    arguments, kind, message = BAD[name]
    net = corner_net()
    before = {n: p.copy() for n, p in net.params.items()}
    with pytest.raises(kind, match=message):
        net.fit(**arguments)
    assert all(np.array_equal(before[n], p) for n, p in net.params.items())


def test_a_net_that_ends_in_softmax_or_in_maps_is_refused():
    with pytest.raises(ValueError, match="ends in Softmax: the loss takes logits and contains the softmax"):
        fc.Sequential(*corner_net().layers, fc.Softmax()).fit(X, Y)
    with pytest.raises(
        ValueError, match=r"output for one input has shape \(2, 4, 4\): it must be \(classes,\)"
    ):
        fc.Sequential(fc.Conv2d(1, 2, 3)).fit(X, Y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_diverging_loss_stops_training():
    with pytest.raises(
        FloatingPointError, match=r"fit: the loss became (nan|inf) in epoch \d+, step \d+: lower the"
    ):
        corner_net().fit(X * 1e30, Y, epochs=20, optimizer=fc.SGD(1e30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fc.SGD(-1.0), "SGD: lr is -1.0: it must be at least 0"),
        (lambda: fc.SGD(0.1, momentum=1.0), "SGD: momentum is 1.0: it must be at least 0 and below 1"),
        (lambda: fc.Adam(np.nan), "Adam: lr is nan"),
        (lambda: fc.Adam(betas=(0.9, 1.0)), r"Adam: betas\[1\] is 1.0"),
        (lambda: fc.Adam(betas=0.9), "Adam: betas is 0.9: it must be two numbers"),
        (lambda: one_cycle(warmup=1.0), "one_cycle: warmup is 1.0"),
        (lambda: random_shift(-1), "random_shift: pixels is -1"),
        (lambda: random_flip(layout="CHW"), "random_flip: layout is 'CHW'"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_progress_without_tqdm_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: pip install 'fastconv\[digits\]'"):
        corner_net().fit(X, Y, epochs=1, progress=True)


def test_progress_shows_loss_and_accuracy(capsys):
    pytest.importorskip("tqdm")
    corner_net().fit(X, Y, epochs=2, progress=True, validation_data=(X, Y))
    shown = capsys.readouterr().err
    assert "epoch 2/2, loss" in shown
    assert "validation" in shown
    assert "img/s" in shown

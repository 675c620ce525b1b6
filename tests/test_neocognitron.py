"""The neocognitron: its cells by hand, learning without labels, and tolerance of shifts."""

import numpy as np
import pytest

from fastconv.models import Neocognitron
from fastconv.nn.neocognitron import CellLayer, Stage, winners


def bars(n=40, size=16, seed=0):
    """Bars across the image in four directions, at random places; the direction is the label."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    row, column = np.mgrid[:size, :size]
    lines = (row - 8, column - 8, row - column, row + column - 15)
    at = rng.integers(-3, 4, n)
    x = np.stack([(np.abs(lines[k] - shift) <= 1).astype(np.float32) for k, shift in zip(y, at, strict=True)])
    return x[:, None], y


def test_s_cells_answer_to_what_they_learned_at_any_contrast():
    stage = Stage(2, 3, 3, 1, 4.0, 4.0)
    layer = CellLayer(stage, 1, np.random.default_rng(0))
    x = np.zeros((1, 1, 7, 7), np.float32)
    x[0, 0, :, 3] = 1
    layer.learn(x)
    learned = int(layer.inhibition.argmax())
    assert layer.inhibition[1 - learned] == 0
    answers = layer.s_cells(x, layer.energy(x))[0, learned]
    weak = layer.s_cells(0.1 * x, layer.energy(0.1 * x))[0, learned]
    across = x.transpose(0, 1, 3, 2)
    other = layer.s_cells(across, layer.energy(across))[0, learned]
    # Where it learned the cosine is 1, and r * ((1 + e) / (1 + e * r/(1+r)) - 1) -> r * 1/r for a large e
    assert answers.max() == pytest.approx(1, rel=0.01)
    assert weak.max() == pytest.approx(1, rel=0.1)
    assert answers.argmax() == weak.argmax()
    assert other.max() < 0.1


def test_energy_is_the_root_mean_square():
    layer = CellLayer(Stage(1, 3, 3, 1, 1.0, 1.0), 2, np.random.default_rng(0))
    v = layer.energy(np.full((1, 2, 5, 5), 3.0, np.float32))
    np.testing.assert_allclose(v[0, 0, 1:-1, 1:-1], 3, rtol=1e-6)


def test_winners_are_best_of_their_column_and_of_their_plane():
    s = np.zeros((2, 12, 12), np.float32)
    s[0, 2, 2], s[1, 3, 3] = 5, 4  # one column: plane 0 wins
    s[0, 9, 2] = 6  # another column: better than plane 0's other winner
    s[1, 9, 9] = 2
    assert sorted(winners(s)) == [(0, 9, 2), (1, 9, 9)]
    assert winners(np.zeros_like(s)) == []


def test_it_organizes_itself_and_forgives_shifts():
    x, y = bars(seed=0)
    net = Neocognitron(seed=0).fit(x).learn_prototypes(x, y)
    unseen, labels = bars(60, seed=1)
    assert net.evaluate(unseen, labels) == 1
    pixels = np.stack([x[y == k].mean(0).ravel() for k in range(4)])
    nearest = ((unseen.reshape(60, 1, -1) - pixels) ** 2).sum(2).argmin(1)
    assert (nearest == labels).mean() < 0.95
    np.testing.assert_allclose(np.linalg.norm(net.features(unseen), axis=1), 1, rtol=1e-5)
    assert not net.features(np.zeros((1, 1, 16, 16), np.float32)).any()


def test_learning_needs_no_labels_and_repeats_itself():
    x, _ = bars(12)
    a, b, c = (Neocognitron(seed=s).fit(x, seed=0) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.features(x), b.features(x))
    assert not np.array_equal(a.features(x), c.features(x))
    assert all(layer.r == layer.stage.r for layer in a.layers)


def test_labels_are_given_back_as_they_came():
    x, y = bars(16)
    net = Neocognitron(seed=0).fit(x).learn_prototypes(x, 10 * y + 7)
    assert set(net.predict(x)) == {7, 17, 27, 37}


def test_it_learns_scikit_learns_digits():
    datasets = pytest.importorskip("fastconv.tools.datasets")
    pytest.importorskip("sklearn")
    data = datasets.digits()
    x, x_test = (a.repeat(2, 2).repeat(2, 3) for a in (data.x_train, data.x_test))
    net = Neocognitron(seed=0).fit(x[:300]).learn_prototypes(x, data.y_train)
    assert net.evaluate(x_test, data.y_test) > 0.8
    shifted = np.roll(x_test, 2, 3)
    assert net.evaluate(shifted, data.y_test) > 0.7


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Neocognitron(()), ValueError, "Neocognitron: no stages came"),
        (lambda: Neocognitron(channels=0), ValueError, "Neocognitron: channels is 0"),
        (lambda: Neocognitron().fit(np.ones((2, 3, 16, 16))), ValueError, r"it must be \(N, 1, H, W\)"),
        (lambda: Neocognitron().fit(bars(4)[0], epochs=0), ValueError, "Neocognitron.fit: epochs is 0"),
        (
            lambda: Neocognitron().predict(bars(4)[0]),
            RuntimeError,
            "no prototypes: call learn_prototypes first",
        ),
        (
            lambda: Neocognitron().learn_prototypes(bars(4)[0], np.zeros(3)),
            ValueError,
            "Neocognitron.learn_prototypes: x holds 4 inputs",
        ),
    ],
)
def test_wrong_use_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()

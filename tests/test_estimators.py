"""The scikit-learn estimators: scikit-learn's own checks, and what those do not cover."""

import pickle

import numpy as np
import pytest

import fastconv as fc

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastconv.estimators import ConvFeatures, ConvNetClassifier
from fastconv.nn import random_shift


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small gain nothing from two threads."""
    with fc.use(threads=1):
        yield


@parametrize_with_checks([ConvNetClassifier(), ConvFeatures(random_state=0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def stripes(n=60, size=8, channels=None, seed=0):
    """Horizontal and vertical stripes at random places, labelled in words."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, size, size)).astype(np.float32) * 0.3
    for i, at in enumerate(rng.integers(0, size, n)):
        x[i, at if i % 2 else slice(None), slice(None) if i % 2 else at] += 1
    y = np.array(["down", "across"])[np.arange(n) % 2]
    return (x if channels is None else np.repeat(x[..., None], channels, -1)), y


def small(**settings):
    return ConvNetClassifier((4,), epochs=15, batch_size=16, learning_rate=0.02, random_state=0, **settings)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_images_with_and_without_channels(channels):
    x, y = stripes(channels=channels)
    fitted = small().fit(x, y)
    assert fitted.score(*stripes(channels=channels, seed=1)) > 0.9
    assert fitted.image_shape_ == (channels or 1, 8, 8)
    assert fitted.net_.dtype == np.float32
    assert fitted.predict(x[:3]).tolist() == ["down", "across", "down"]


def test_flat_rows_are_the_same_images():
    x, y = stripes(channels=3)
    flat = small(image_shape=(8, 8, 3)).fit(x.reshape(60, -1), y)
    images = small().fit(x, y)
    np.testing.assert_array_equal(flat.predict_proba(x.reshape(60, -1)), images.predict_proba(x))
    assert small().fit(x[:, 0, :, 0], y).image_shape_ == (1, 1, 8)


def test_integers_are_computed_in_float32_and_doubles_in_float64():
    x, y = stripes()
    assert small().fit((x * 100).astype(np.uint8), y).net_.dtype == np.float32
    assert small().fit(x.astype(np.float64), y).net_.dtype == np.float64


def test_in_pipelines_grids_and_cross_validation():
    x, y = stripes(90)
    flat = x.reshape(90, -1)
    assert cross_val_score(small(image_shape=(8, 8)), flat, y, cv=3).mean() > 0.95
    grid = GridSearchCV(small(image_shape=(8, 8)), {"channels": [(2,), (4,)], "epochs": [1, 15]}, cv=2).fit(
        flat, y
    )
    assert grid.best_params_["epochs"] == 15
    features = ConvFeatures(8, image_shape=(8, 8), random_state=0)
    pipeline = make_pipeline(features, LogisticRegression()).fit(flat, y)
    assert pipeline.score(*[a.reshape(len(a), -1) if a.ndim == 3 else a for a in stripes(seed=1)]) > 0.95
    assert pipeline[:-1].get_feature_names_out()[0] == "convfeatures0"


def test_partial_fit_learns_batch_by_batch():
    x, y = stripes(200)
    classifier = small()
    for start in range(0, 200, 20):
        for _ in range(3):
            classifier.partial_fit(x[start : start + 20], y[start : start + 20], classes=["across", "down"])
    assert classifier.score(*stripes(seed=1)) > 0.95
    with pytest.raises(ValueError, match=r"partial_fit: y has .*'round'.*, which the first call's classes"):
        classifier.partial_fit(x[:1], ["round"])
    with pytest.raises(ValueError, match="the first call had"):
        classifier.partial_fit(x[:1], y[:1], classes=["a", "b"])
    with pytest.raises(ValueError, match="the first call must name all classes"):
        small().partial_fit(x, y)


def test_warm_start_goes_on():
    x, y = stripes()
    cold, warm = small(), small(warm_start=True)
    for estimator in (cold, warm):
        estimator.set_params(epochs=3).fit(x, y)
        first = estimator.history_["loss"][0]
        estimator.fit(x, y)
        assert (estimator.history_["loss"][0] < first) == estimator.warm_start
    with pytest.raises(ValueError, match="warm_start: y has classes"):
        warm.fit(x, np.arange(60) % 3)
    with pytest.raises(ValueError, match=r"X holds images \(C, H, W\) of \(1, 8, 7\), fit saw \(1, 8, 8\)"):
        warm.fit(x[:, :, :7], y)


def test_a_changed_learning_rate_counts_where_training_goes_on():
    x, y = stripes()
    for go_on in ("fit", "partial_fit"):
        warm = small(warm_start=True).fit(x, y).set_params(learning_rate=0.0, epochs=1)
        before = warm.predict_proba(x)
        getattr(warm, go_on)(x, y)
        np.testing.assert_array_equal(warm.predict_proba(x), before)


def test_many_images_are_transformed_some_at_a_time(monkeypatch):
    x, _ = stripes(300)
    features = ConvFeatures(4, random_state=0).fit(x)
    whole, sizes = features.transform(x), []
    monkeypatch.setattr(
        "fastconv.estimators.conv2d", lambda a, *b, **c: sizes.append(len(a)) or fc.conv2d(a, *b, **c)
    )
    large = np.tile(x, (1, 40, 40))
    wide = ConvFeatures(4, random_state=0).fit(large[:40])
    sizes.clear()
    assert wide.transform(large[:120]).shape == (120, 64)
    assert sizes == [40, 40, 40]
    np.testing.assert_array_equal(features.transform(x[:9]), whole[:9])


def test_early_stopping_returns_to_the_best_epoch():
    x, y = stripes(100)
    noisy = np.where(np.random.default_rng(0).random(100) < 0.3, "across", y)
    stopped = small(early_stopping=True, patience=3, validation_fraction=0.3)
    stopped.set_params(epochs=200).fit(x, noisy)
    losses = stopped.history_["val_loss"]
    assert stopped.n_iter_ == len(losses) == np.argmin(losses) + 1 + 3
    # The net that was kept is the best epoch's, not the last's: continuing from there lowers nothing it had.
    again = clone(stopped).set_params(epochs=200).fit(x, noisy, sample_weight=np.ones(100))
    assert again.n_iter_ == stopped.n_iter_
    np.testing.assert_allclose(again.predict_proba(x), stopped.predict_proba(x), atol=1e-4)


def test_best_weights_come_back():
    from fastconv.estimators import Best

    net = fc.Sequential(fc.Linear(1, 1), seed=0)
    best, w = Best(net, patience=2), net.params["0.w"]
    stops = []
    for epoch, loss in enumerate((3.0, 1.0, 2.0, 1.5)):
        w[:] = epoch
        stops.append(best({"val_loss": [3.0, 1.0, 2.0, 1.5][: epoch + 1]}))
        assert loss
    assert stops == [False, False, False, True]
    best.restore()
    assert w == 1


def test_pickled_classifiers_predict_and_go_on():
    x, y = stripes()
    fitted = small(warm_start=True, dropout=0.2, augment=random_shift(1)).fit(x, y)
    twin = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(twin.predict_proba(x), fitted.predict_proba(x))
    twin.fit(x, y)


def test_filters_of_edges_are_found():
    x, _ = stripes(200)
    features = ConvFeatures(6, grid=1, random_state=0).fit(x)
    assert features.filters_.shape == (6, 1, 3, 3)
    np.testing.assert_allclose(features.filters_.sum((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features.filters_.reshape(6, -1), axis=1), 1)
    answers = features.transform(x)
    across, down = answers[1::2].mean(0), answers[::2].mean(0)
    assert (np.abs(across - down) / (across + down)).max() > 0.5
    assert ConvFeatures(6, grid=3, random_state=0).fit_transform(x).shape == (200, 54)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, y: small(image_shape=(4, 4)).fit(x.reshape(60, -1), y),
            r"image_shape is \(4, 4\) and X has 64",
        ),
        (lambda x, y: small().fit(x[:, None, None], y), "X has 5 dimensions: it must be"),
        (lambda x, y: small().fit(x, y, sample_weight=np.zeros(60)), "at least one"),
        (lambda x, y: small().set_params(epochs=0).fit(x, y), "epochs is 0: it must be at least 1"),
        (lambda x, y: small().set_params(window=0).fit(x, y), "window is 0: it must be at least 1"),
        (lambda x, y: ConvFeatures(0).fit(x), "ConvFeatures: n_filters is 0"),
    ],
)
def test_wrong_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*stripes())

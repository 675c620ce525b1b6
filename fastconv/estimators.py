"""scikit-learn estimators: a convolutional classifier, and a transformer that learns filters without labels.

Images come as (n, H, W), (n, H, W, C), or flat rows with `image_shape`; flat rows without it are images one
pixel high. float32 and float64 images are computed in their own type, others in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from fastconv.nn import Adam, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, one_cycle
from fastconv.nn.augment import Augment
from fastconv.nn.layer import Layer
from fastconv.nn.training import History
from fastconv.ops.arrays import FLOAT32, FLOAT64, Array
from fastconv.ops.conv2d import conv2d
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int
from fastconv.tools.extras import require

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.cluster import KMeans
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ModuleNotFoundError:
    require("sklearn", "fastconv.estimators")
    raise


class ImageEstimator(BaseEstimator):  # type: ignore[misc]
    """What both share: rows become standardized images (N, C, H, W)."""

    image_shape: Sequence[int] | None
    random_state: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def images(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Checked images (N, C, H, W), with y where it is given; `reset` at the start of a fit."""
        checked = validate_data(self, X, y, reset=reset, allow_nd=True, dtype=(FLOAT32, FLOAT64))
        x, rest = (checked[0], checked[1:]) if isinstance(checked, tuple) else (checked, ())
        x = self.arranged(x)
        if reset:
            self.image_shape_ = x.shape[1:]
        elif x.shape[1:] != self.image_shape_:
            raise ValueError(f"X holds images (C, H, W) of {x.shape[1:]}, fit saw {self.image_shape_}")
        return (x, *rest) if rest else x

    def arranged(self, x: Array) -> Array:
        """(n, H, W), (n, H, W, C) or flat rows -> (n, C, H, W)."""
        if x.ndim > 4:
            raise ValueError(f"X has {x.ndim} dimensions: it must be (n, H, W[, C]) or flat rows")
        if x.ndim == 2:
            shape = (1, x.shape[1]) if self.image_shape is None else tuple(self.image_shape)
            if len(shape) not in (2, 3) or math.prod(shape) != x.shape[1]:
                raise ValueError(
                    f"image_shape is {shape} and X has {x.shape[1]} features: "
                    "it must be (H, W) or (H, W, C) with as many values"
                )
            x = x.reshape(len(x), *shape)
        x = x[..., None] if x.ndim == 3 else x
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def generator(self) -> np.random.Generator:
        """A generator from scikit-learn's kind of random state."""
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31))

    def learn_scale(self, x: Array, weights: Array | None = None) -> None:
        """One mean and one spread for all pixels."""
        self.mean_ = float(np.average(x.mean((1, 2, 3), dtype=np.float64), weights=weights))
        squares = ((x - self.mean_) ** 2).mean((1, 2, 3), dtype=np.float64)
        self.scale_ = math.sqrt(float(np.average(squares, weights=weights))) or 1.0

    def scaled(self, x: Array) -> Array:
        y: Array = (x - x.dtype.type(self.mean_)) / x.dtype.type(self.scale_)
        return y


class ConvNetClassifier(ClassifierMixin, ImageEstimator):  # type: ignore[misc]
    """Convolutional net: 3x3 convolutions with ReLU and max-pooling, then one linear layer.

    Parameters
    ----------
    channels : sequence of int, default (32, 64)
        Output channels of each convolution; each is followed by 2x2 max-pooling where the map allows it.
    window : int, default 3
        Side of the filters.
    dropout : float, default 0
        Before the linear layer.
    epochs : int, default 30
    batch_size : int, default 64
    learning_rate : float, default 2e-3
        Of Adam, at the top of a one-cycle schedule (constant in `partial_fit`).
    augment : callable (x, rng) -> x, optional
        Of batches (N, C, H, W) of standardized images, as in `fastconv.nn.augment`, whose functions can be
        pickled with the classifier.
    image_shape : (H, W) or (H, W, C), optional
        Of flat rows.
    early_stopping : bool, default False
        Hold out `validation_fraction` of the data, stop when its loss (without sample weights) has not fallen
        for `patience` epochs, and go back to the best epoch.
    validation_fraction : float, default 0.1
    patience : int, default 5
    warm_start : bool, default False
        Go on from the last fit where the classes and images are the same.
    random_state : int, RandomState or None
    verbose : bool, default False
        Show a progress bar (needs tqdm).

    Attributes
    ----------
    net_ : Sequential
    classes_ : ndarray
    history_ : dict
        Of the last fit, see `Sequential.fit`.
    n_iter_ : int
        Epochs of the last fit.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastconv.estimators import ConvNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = ConvNetClassifier((16,), image_shape=(8, 8), epochs=10, random_state=0)
    >>> classifier = classifier.fit(X[:1000], y[:1000])
    >>> bool(classifier.score(X[1000:], y[1000:]) > 0.8)
    True
    """

    classes_: Array

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        *,
        window: int = 3,
        dropout: float = 0.0,
        epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        augment: Augment | None = None,
        image_shape: Sequence[int] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.channels = channels
        self.window = window
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.augment = augment
        self.image_shape = image_shape
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on images X and labels y; a weight counts like that many copies of its row."""
        goes_on = self.warm_start and hasattr(self, "net_")
        x, y = self.images(X, y, reset=not goes_on)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start: y has classes {classes}, the last fit had {self.classes_}")
        self.classes_ = classes
        x, labels, weights = weighed(x, labels, sample_weight)
        rng = self.generator()
        if not goes_on:
            self.start(x, weights, rng)
        self.optimizer_.lr = Adam(self.learning_rate).lr
        x = self.scaled(x)
        best = (
            Best(self.net_, parse_int("fit", "patience", self.patience, 1)) if self.early_stopping else None
        )
        held_out = None
        if best is not None:
            seed = int(rng.integers(2**31))
            options = {"test_size": self.validation_fraction, "stratify": labels, "random_state": seed}
            if weights is not None:
                x, x_held, labels, labels_held, weights, _ = train_test_split(x, labels, weights, **options)
            else:
                x, x_held, labels, labels_held = train_test_split(x, labels, **options)
            held_out = (x_held, labels_held)
        self.history_: History = self.net_.fit(
            x,
            labels,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer_,
            schedule=one_cycle(),
            augment=self.augment,
            sample_weight=weights,
            validation_data=held_out,
            seed=rng,
            progress=bool(self.verbose),
            on_epoch=best,
        )
        if best is not None:
            best.restore()
        self.n_iter_ = len(self.history_["loss"])
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on some more data; the first call names all classes."""
        first = not hasattr(self, "net_")
        x, y = self.images(X, y, reset=first)
        check_classification_targets(y)
        if first:
            if classes is None:
                raise ValueError("partial_fit: classes is None: the first call must name all classes")
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"partial_fit: classes is {classes}, the first call had {self.classes_}")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"partial_fit: y has {unknown}, which the first call's classes do not name")
        x, labels, weights = weighed(x, np.searchsorted(self.classes_, y), sample_weight)
        rng = self.generator()
        if first:
            self.start(x, weights, rng)
        self.optimizer_.lr = Adam(self.learning_rate).lr
        self.history_ = self.net_.fit(
            self.scaled(x),
            labels,
            epochs=1,
            batch_size=self.batch_size,
            optimizer=self.optimizer_,
            augment=self.augment,
            sample_weight=weights,
            seed=rng,
        )
        self.n_iter_ = 1
        return self

    def start(self, x: Array, weights: Array | None, rng: np.random.Generator) -> None:
        """Scale, net and optimizer of a new fit."""
        self.learn_scale(x, weights)
        self.net_ = self.built(x.shape[1:], rng).astype(x.dtype)
        self.optimizer_ = Adam(self.learning_rate)

    def built(self, shape: tuple[int, ...], rng: np.random.Generator) -> Sequential:
        """The net for images (C, H, W)."""
        c, h, w = shape
        window = parse_int("ConvNetClassifier", "window", self.window, 1)
        layers: list[Layer] = []
        for k in self.channels:
            layers += [Conv2d(c, k, (min(window, h), min(window, w)), padding="same", init="he"), ReLU()]
            pool = min(2, h), min(2, w)
            layers.append(MaxPool2d(pool))
            c, h, w = k, h // pool[0], w // pool[1]
        if self.dropout:
            layers.append(Dropout(self.dropout))
        return Sequential(*layers, Flatten(), Linear(c * h * w, len(self.classes_)), seed=rng)

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class, (n, classes)."""
        check_is_fitted(self)
        return self.net_.predict_proba(self.scaled(self.images(X, reset=False)))

    def predict(self, X: Any) -> Array:
        """The most probable class of each image."""
        check_is_fitted(self)
        labels: Array = self.classes_[self.predict_proba(X).argmax(1)]
        return labels


class ConvFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ImageEstimator):  # type: ignore[misc]
    """Filters learned without labels, as centres of patches; their answers, averaged over a grid.

    Parameters
    ----------
    n_filters : int, default 32
    window : int, default 3
        Side of the filters.
    grid : int, default 4
        Each answer is averaged over grid x grid fields of the image.
    threshold : float, default 0.5
        What an answer must exceed, in units of its spread, to count.
    patches : int, default 20000
        Patches to learn from.
    image_shape : (H, W) or (H, W, C), optional
        Of flat rows.
    random_state : int, RandomState or None

    Attributes
    ----------
    filters_ : ndarray (K, C, R, S)

    References
    ----------
    Coates, Lee, Ng: An analysis of single-layer networks in unsupervised feature learning (2011).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastconv.estimators import ConvFeatures
    >>> X, y = load_digits(return_X_y=True)
    >>> ConvFeatures(16, image_shape=(8, 8), random_state=0).fit_transform(X).shape
    (1797, 256)
    """

    def __init__(
        self,
        n_filters: int = 32,
        *,
        window: int = 3,
        grid: int = 4,
        threshold: float = 0.5,
        patches: int = 20_000,
        image_shape: Sequence[int] | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_filters = n_filters
        self.window = window
        self.grid = grid
        self.threshold = threshold
        self.patches = patches
        self.image_shape = image_shape
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the filters; y is not used."""
        x = self.images(X, reset=True)
        for name in ("n_filters", "window", "grid", "patches"):
            parse_int("ConvFeatures", name, getattr(self, name), 1)
        self.learn_scale(x)
        c, h, w = x.shape[1:]
        window = min(self.window, h), min(self.window, w)
        rng = self.generator()
        patches = random_patches(self.scaled(x), window, self.patches, rng)
        centred = patches - patches.mean(1, keepdims=True)
        clusters = min(self.n_filters, len(np.unique(centred, axis=0)))
        k_means = KMeans(clusters, n_init=1, random_state=int(rng.integers(2**31))).fit(centred)
        # Sorted, since k-means numbers its centres at random; a flat patch has no direction and stays zero.
        centres = k_means.cluster_centers_[np.argsort(-np.bincount(k_means.labels_), kind="stable")]
        lengths = np.linalg.norm(centres, axis=1, keepdims=True)
        unit = np.where(lengths > 1e-6, centres / np.maximum(lengths, 1e-6), 0)
        self.filters_ = np.ascontiguousarray(unit.reshape(clusters, c, *window), FLOAT64)
        # The answers' standard deviation, from sums that parts of the images add to.
        sums = np.zeros(3)
        for answers in self.answers(self.scaled(x[: self.patches])):
            sums += answers.size, answers.sum(dtype=np.float64), (answers**2).sum(dtype=np.float64)
        mean, square = sums[1:] / sums[0]
        self._spread = math.sqrt(max(square - mean * mean, 0.0)) or 1.0
        self._n_features_out = clusters * min(self.grid, h) * min(self.grid, w)
        return self

    def transform(self, X: Any) -> Array:
        """Features (n, filters * grid * grid)."""
        check_is_fitted(self)
        x = self.scaled(self.images(X, reset=False))
        return np.concatenate([self.pooled(answers) for answers in self.answers(x)])

    def pooled(self, answers: Array) -> Array:
        """What exceeds the threshold, averaged over each field: (N, K, H, W) -> (N, grid * grid * K)."""
        answers = np.maximum(answers - answers.dtype.type(self.threshold * self._spread), 0)
        rows, columns = (np.array_split(range(size), min(self.grid, size)) for size in answers.shape[2:])
        fields = [
            answers[:, :, r[0] : r[-1] + 1, s[0] : s[-1] + 1].mean((2, 3)) for r in rows for s in columns
        ]
        return np.concatenate(fields, axis=1)

    def answers(self, x: Array) -> Iterator[Array]:
        """Each filter's answer at each pixel, (N, K, H, W), for some images at a time."""
        filters = self.filters_.astype(x.dtype)
        # 2**24 answers: 64 MB in float32
        count = max(2**24 // (len(filters) * x.shape[2] * x.shape[3]), 1)
        for start in range(0, len(x), count):
            yield conv2d(x[start : start + count], filters, padding="same")


class Best:
    """Called after each epoch: keeps the best epoch's weights, and says when to stop."""

    def __init__(self, net: Sequential, patience: int) -> None:
        self.net, self.patience = net, patience
        self.loss, self.epoch = math.inf, 0
        self.params: dict[str, Array] = {}

    def __call__(self, history: History) -> bool:
        losses = history["val_loss"]
        if losses[-1] < self.loss:
            self.loss, self.epoch = losses[-1], len(losses)
            self.params = {name: p.copy() for name, p in self.net.params.items()}
        return len(losses) - self.epoch >= self.patience

    def restore(self) -> None:
        for name, p in self.params.items():
            self.net.params[name][...] = p


def weighed(x: Array, labels: Array, sample_weight: Any) -> tuple[Array, Array, Array | None]:
    """Rows that count, with their weights: a weight of zero removes its row."""
    if sample_weight is None:
        return x, labels, None
    weights = _check_sample_weight(sample_weight, x, dtype=FLOAT64, ensure_non_negative=True)
    counted = weights > 0
    if not counted.any():
        bad_value("sample_weight", "every weight is 0", "at least one row must count")
    return x[counted], labels[counted], weights[counted]


def random_patches(x: Array, window: tuple[int, int], count: int, rng: np.random.Generator) -> Array:
    """`count` patches, or all where there are fewer, each a row (C*R*S)."""
    views = np.lib.stride_tricks.sliding_window_view(x, window, (2, 3))  # type: ignore[call-overload]
    n, c, rows, columns = views.shape[:4]
    total = n * rows * columns
    at = rng.choice(total, count, replace=False) if total > count else np.arange(total)
    images, places = np.divmod(at, rows * columns)
    patches: Array = views[images, :, places // columns, places % columns]
    return patches.reshape(len(at), c * window[0] * window[1])

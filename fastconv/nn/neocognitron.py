"""The neocognitron: convolution and pooling before backpropagation, organized without a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastconv.nn.activations import relu
from fastconv.nn.layer import Seed, generator
from fastconv.nn.training import batches, checked_pair, progress_bar
from fastconv.ops.arrays import FLOAT32, Array
from fastconv.ops.conv2d import conv2d
from fastconv.ops.errors import bad_value
from fastconv.ops.parse import parse_int
from fastconv.ops.pool2d import max_pool2d


class Stage(NamedTuple):
    """One layer of S-cells and the layer of C-cells on it.

    Attributes
    ----------
    planes : int
        Cell planes, each of which comes to answer to one feature.
    window : int
        Side of an S-cell's receptive field, odd.
    blur : int
        Side of a C-cell's receptive field.
    stride : int
        Step between C-cells, in S-cells.
    r_learning, r : float
        Strength of the inhibition while the stage learns and afterwards: an S-cell answers where the cosine
        between its filter and the input is above r / (1 + r).
    """

    planes: int
    window: int
    blur: int
    stride: int
    r_learning: float
    r: float


# For digits of 16x16 pixels, the paper's size.
STAGES = (Stage(32, 5, 5, 2, 16.0, 5.0), Stage(150, 7, 5, 2, 4.0, 1.5))
# What a winner adds, in units of its input. The paper has 1 to 16; with much more a plane is as strong after
# its first win as after its hundredth, so that planes which learned early do not win everything.
GAIN = 1e4
# Side of the S-columns in which cells compete.
COLUMN = 5


class Neocognitron:
    """Layers of S-cells, which find features, and C-cells, which forgive shifts; the winners learn.

    An S-cell divides what excites it by the energy of its input and answers to what it has learned, at any
    contrast. `fit` shows the images one by one, layer after layer; in every S-column the cell that answers
    most, if it is the best of its plane, learns its input, and with it all cells of its plane, since they
    share their filter. There is no loss and no gradient. Inhibition is stronger while a layer learns than
    afterwards, so that planes part and yet answer to what is only alike.

    Parameters
    ----------
    stages : sequence of Stage, default STAGES
    channels : int, default 1
        Of the images.
    seed : int or numpy.random.Generator, optional
        Draws the small filters from which the planes part.

    References
    ----------
    Fukushima: Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
    unaffected by shift in position (1980); Fukushima, Tanigawa: Use of different thresholds in learning and
    recognition (1996).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.models import Neocognitron
    >>> x = np.zeros((4, 1, 16, 16), np.float32)
    >>> x[:2, :, :, 7], x[2:, :, 7, :] = 1, 1
    >>> y = np.array([0, 0, 1, 1])
    >>> net = Neocognitron(seed=0).fit(x, epochs=2).learn_prototypes(x, y)
    >>> net.predict(np.roll(x, 1, axis=(2, 3)))
    array([0, 0, 1, 1])
    """

    def __init__(self, stages: Sequence[Stage] = STAGES, *, channels: int = 1, seed: Seed = None) -> None:
        if not stages:
            bad_value("Neocognitron", "no stages came", "there must be at least one")
        rng = generator(seed)
        c_in = parse_int("Neocognitron", "channels", channels, 1)
        self.layers: list[CellLayer] = []
        for stage in stages:
            self.layers.append(CellLayer(stage, c_in, rng))
            c_in = stage.planes
        self.prototypes: Array | None = None
        self.classes: Array | None = None

    def fit(self, x: Array, *, epochs: int = 1, seed: Seed = 0, progress: bool = False) -> Neocognitron:
        """Organize the layers, the first first, by images alone.

        Parameters
        ----------
        x : ndarray (N, C, H, W)
        epochs : int, default 1
            Times each layer sees every image.
        seed : int or numpy.random.Generator, default 0
            Of the order in which it sees them.
        progress : bool, default False
            Show a progress bar (needs tqdm).
        """
        for layer in self.layers:
            layer.r = layer.stage.r_learning
        x, epochs = self.checked(x), parse_int("Neocognitron.fit", "epochs", epochs, 1)
        rng = generator(seed)
        with progress_bar(len(self.layers) * epochs * len(x), enabled=progress) as bar:
            for layer in self.layers:
                for _ in range(epochs):
                    for i in rng.permutation(len(x)):
                        layer.learn(x[i : i + 1])
                        bar.update(1)
                layer.r = layer.stage.r
                x = layer.forward(x)
        return self

    def features(self, x: Array) -> Array:
        """Answers of the last C-cells, (N, features), each row of length 1 where any cell answers."""
        parts = []
        for (part,) in batches(256, FLOAT32, self.checked(x)):
            for layer in self.layers:
                part = layer.forward(part)
            parts.append(part.reshape(len(part), -1))
        rows = np.concatenate(parts)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: Array = rows / np.where(lengths > 0, lengths, 1)
        return unit

    def learn_prototypes(self, x: Array, y: Array) -> Neocognitron:
        """Take each class's mean features as its prototype: the only use of labels."""
        x, y = checked_pair("Neocognitron.learn_prototypes", x, y)
        features = self.features(x)
        self.classes = np.unique(y)
        self.prototypes = np.stack([features[y == k].mean(0) for k in self.classes])
        return self

    def predict(self, x: Array) -> Array:
        """The class of the nearest prototype."""
        if self.prototypes is None or self.classes is None:
            raise RuntimeError("Neocognitron.predict: it has no prototypes: call learn_prototypes first")
        # |f - p|^2 = |p|^2 - 2 f.p + |f|^2, and |f| is the same for all prototypes
        distance = (self.prototypes**2).sum(1) - 2 * self.features(x) @ self.prototypes.T
        labels: Array = self.classes[distance.argmin(1)]
        return labels

    def evaluate(self, x: Array, y: Array) -> float:
        """Share of the images whose nearest prototype is their class's."""
        x, y = checked_pair("Neocognitron.evaluate", x, y)
        return float((self.predict(x) == y).mean())

    def checked(self, x: Array) -> Array:
        x = np.asarray(x, FLOAT32)
        if x.ndim != 4 or x.shape[1] != self.layers[0].filters.shape[1]:
            channels = self.layers[0].filters.shape[1]
            bad_value("Neocognitron", f"x has shape {x.shape}", f"it must be (N, {channels}, H, W)")
        return x


class CellLayer:
    """S-cells and C-cells of one stage.

    filters : (planes, C, window, window), excitatory connections a
    inhibition : (planes,), inhibitory connections b
    """

    def __init__(self, stage: Stage, c_in: int, rng: np.random.Generator) -> None:
        self.stage, self.r = stage, stage.r_learning
        near = decaying(stage.window)
        # c: an input's energy is weighted the same in all its channels, and in sum by 1
        self.weights = np.broadcast_to(near / (c_in * near.sum()), (1, c_in, *near.shape)).copy()
        blur = decaying(stage.blur)
        self.blur = np.broadcast_to(blur / blur.sum(), (stage.planes, 1, *blur.shape)).copy()
        self.filters = 1e-2 * self.weights * rng.random((stage.planes, *self.weights.shape[1:]), np.float32)
        self.inhibition = np.zeros(stage.planes, np.float32)

    def forward(self, x: Array) -> Array:
        """The C-cells' answers, (N, C, H, W) -> (N, planes, H', W')."""
        s = self.s_cells(x, self.energy(x))
        half, planes = self.stage.blur // 2, self.stage.planes
        blurred = conv2d(s, self.blur, padding=half, stride=self.stage.stride, groups=planes)
        lateral = blurred.mean(1, keepdims=True)
        c = relu((1 + blurred) / (1 + lateral) - 1)
        saturated: Array = c / (0.5 + c)
        return saturated

    def energy(self, x: Array) -> Array:
        """v: the weighted root mean square of every receptive field, (N, 1, H, W)."""
        v: Array = np.sqrt(conv2d(x * x, self.weights, padding="same"))
        return v

    def s_cells(self, x: Array, v: Array) -> Array:
        """r * relu((1 + excitation) / (1 + inhibition) - 1)"""
        inhibition = 2 * self.r / (1 + self.r) * self.inhibition[:, None, None] * v
        s: Array = self.r * relu((1 + conv2d(x, self.filters, padding="same")) / (1 + inhibition) - 1)
        return s

    def learn(self, x: Array) -> None:
        """Show one image (1, C, H, W): the winners add their input to their plane's connections."""
        v = self.energy(x)
        s = self.s_cells(x, v)[0]
        half = self.stage.window // 2
        framed = np.pad(x[0], ((0, 0), (half, half), (half, half)))
        for plane, row, column in winners(s):
            field = framed[:, row : row + self.stage.window, column : column + self.stage.window]
            self.filters[plane] += GAIN * self.weights[0] * field
            self.inhibition[plane] += GAIN / 2 * v[0, 0, row, column]


def winners(s: Array) -> list[tuple[int, int, int]]:
    """(plane, row, column) of the cells that answer most in an S-column and best of their plane."""
    most = s.max(0)
    column = max_pool2d(most[None, None], COLUMN, stride=1, padding=COLUMN // 2)[0, 0]
    rows, columns = np.nonzero((most == column) & (most > 0))
    planes = s[:, rows, columns].argmax(0)
    best: dict[int, tuple[int, int, int]] = {}
    for i in np.argsort(-most[rows, columns], kind="stable"):
        best.setdefault(int(planes[i]), (int(planes[i]), int(rows[i]), int(columns[i])))
    return list(best.values())


def decaying(side: int, ratio: float = 0.8) -> Array:
    """Weights that fall with the distance from the middle, in powers of `ratio`."""
    offset = np.arange(side) - (side - 1) / 2
    weights: Array = (ratio ** np.hypot(*np.meshgrid(offset, offset))).astype(np.float32)
    return weights

"""Sequential: layers one after the other, with training, prediction, summary and weights on disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeGuard

import numpy as np

from fastconv.nn import checkpoint
from fastconv.nn.activations import Activation, ReLU, Softmax, softmax
from fastconv.nn.augment import Augment
from fastconv.nn.layer import Container, Layer, Seed
from fastconv.nn.layers import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d
from fastconv.nn.losses import Loss, softmax_cross_entropy
from fastconv.nn.optim import Optimizer, Schedule
from fastconv.nn.summary import Summary, summarize
from fastconv.nn.training import History, OnEpoch, Trainer, batches, checked_pair
from fastconv.ops.arrays import FLOAT32, Array
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.parse import parse_int

# Their input gradient is an array of its own.
FRESH = (Conv2d, Linear, MaxPool2d, AvgPool2d)


def elementwise(layer: Layer) -> TypeGuard[Activation]:
    """True for an activation whose gradient is the one that `Activation` computes."""
    return isinstance(layer, Activation) and type(layer).backward is Activation.backward


class Sequential(Container):
    """A net whose layers follow each other; its output are logits, one column a class.

    Parameters
    ----------
    *layers : Layer
        At least one; a Sequential is a layer too.
    seed : int or numpy.random.Generator, optional
        Draws the parameters of all layers anew, in order.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not a layer, appears twice, or there is none.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> net = fc.Sequential(fc.Conv2d(1, 4, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(),
    ...                     fc.Linear(64, 3), seed=0)
    >>> x, y = np.zeros((6, 1, 8, 8), np.float32), np.array([0, 1, 2, 0, 1, 2])
    >>> net(x).shape
    (6, 3)
    >>> history = net.fit(x, y, epochs=2, optimizer=fc.SGD(0.1))
    >>> len(history["loss"]), net.predict(x).shape
    (2, (6,))
    """

    def __init__(self, *layers: Layer, seed: Seed = None) -> None:
        super().__init__(seed)
        if not layers:
            bad_value("Sequential", "no layers came", "it must have at least one")
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                hint = "; unpack the list: Sequential(*layers)" if isinstance(layer, (list, tuple)) else ""
                bad_type("Sequential", f"layer {i} is {shown(layer)}", f"it must be a fastconv layer{hint}")
        self.layers = layers
        everything = [id(layer) for child in layers for layer in child.walk()]
        if len(set(everything)) < len(everything):
            bad_value("Sequential", "a layer appears twice", "every layer keeps state of its own: make two")
        if seed is not None:
            self.reset(self.rng)

    def children(self) -> Mapping[str, Layer]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def forward(self, x: Array) -> Array:
        for layer in self.walk():  # what the last step kept makes room for this one's
            layer._kept = None
        return self.run(x, keep=True)

    def run(self, x: Array, *, keep: bool) -> Array:
        """The output; unless `keep`, each layer forgets at once what `backward` would need."""
        fused: ReLU | None = None
        for layer, after in itertools.zip_longest(self.layers, self.layers[1:]):
            if fused is not None and layer is fused:
                fused.keep(x)
            elif type(layer) is Conv2d and isinstance(after, ReLU):
                x, fused = layer.forward(x, activation="relu"), after
            else:
                x = layer.forward(x)
            if not keep:
                layer.forget()
        return x

    def backward(self, dy: Array, input_grad: bool = False) -> Array | None:
        """Set the gradients of all parameters, given that of the output.

        Without `input_grad` (the default) the first layer with parameters computes no input gradient and the
        layers before it, which learn nothing, are not entered.
        """
        learning = [i for i, layer in enumerate(self.layers) if layer.params]
        first = 0 if input_grad else min(learning, default=len(self.layers))
        dx: Array | None = dy
        ours = False  # dx was made here and nobody holds it: what follows may overwrite it
        done: Layer | None = None
        for i in range(len(self.layers) - 1, first - 1, -1):
            layer, before = self.layers[i], self.layers[max(i - 1, 0)]
            assert dx is not None
            if layer is done:
                continue
            if elementwise(layer):
                dx = layer.gradient(dx, layer.kept(), out=dx if ours else None)
            elif type(layer) is MaxPool2d and i > first and elementwise(before):
                # the gradient goes to one element, whose activation is the window's result: a fourth as many
                dy = before.gradient(dx, layer.output, out=dx if ours else None)
                dx, done = layer.backward(dy), before
            else:
                dx = layer.backward(dx, input_grad=input_grad or i > first)
            ours = ours if type(layer) is Flatten else type(layer) in FRESH or elementwise(layer)
        return dx if input_grad else None

    def fit(
        self,
        x: Array,
        y: Array,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        optimizer: Optimizer | None = None,
        validation_data: tuple[Array, Array] | None = None,
        augment: Augment | None = None,
        seed: Seed = None,
        progress: bool = False,
        schedule: Schedule | None = None,
        loss: Loss = softmax_cross_entropy,
        sample_weight: Array | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> History:
        """Train on images and labels by shuffled mini-batches.

        Parameters
        ----------
        x : ndarray (N, ...)
            Inputs; batches are cast to the net's dtype.
        y : integer ndarray (N,)
            Class of each input, 0 to K-1 (or whatever `loss` takes).
        epochs : int, default 10
        batch_size : int, default 64
            The last batch of an epoch may be smaller.
        optimizer : Optimizer, optional
            Default: `Adam(1e-3)`. Given again, it goes on from its state.
        validation_data : (x, y), optional
            Evaluated after each epoch.
        augment : callable (x, rng) -> x, optional
            Applied to each training batch.
        seed : int or numpy.random.Generator, optional
            Fixes shuffling, augmentation and dropout.
        progress : bool, default False
            Show a progress bar (needs tqdm).
        schedule : callable, optional
            From the fraction of this call's steps that is done to a factor on the optimizer's learning
            rate (`fastconv.nn`: one_cycle, cosine, steps).
        loss : callable, default softmax_cross_entropy
        sample_weight : ndarray (N,), optional
            Weight of each input in the loss.
        on_epoch : callable, optional
            Called after each epoch with the history; training ends where it returns True.

        Returns
        -------
        dict of str to list of float
            Per epoch "loss", "accuracy" (of the batches as they were trained), "val_loss", "val_accuracy"
            (with validation data), "lr", "seconds"; per step "step_loss".

        Raises
        ------
        ValueError, TypeError
            For every argument that does not fit, before any work.
        FloatingPointError
            Where the loss becomes NaN or infinite.
        """
        return Trainer(
            self,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            validation_data=validation_data,
            augment=augment,
            seed=seed,
            progress=progress,
            schedule=schedule,
            loss=loss,
            sample_weight=sample_weight,
            on_epoch=on_epoch,
        ).run()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters; float32 where there are none."""
        return next((p.dtype for p in self.params.values()), FLOAT32)

    def outputs(self, x: Array, batch_size: int = 256) -> Iterator[Array]:
        """Outputs batch by batch in evaluation mode; nothing is kept for `backward`."""
        batch_size = parse_int("predict", "batch_size", batch_size, 1)
        modes = [(layer, layer.training) for layer in self.walk()]
        self.eval()
        try:
            for (batch,) in batches(batch_size, self.dtype, x):
                yield self.run(batch, keep=False)
        finally:
            for layer, training in modes:
                layer.training = training

    def predict_logits(self, x: Array, *, batch_size: int = 256) -> Array:
        """Outputs (N, K) in evaluation mode."""
        return np.concatenate(list(self.outputs(np.asarray(x), batch_size)))

    def predict_proba(self, x: Array, *, batch_size: int = 256) -> Array:
        """Class probabilities (N, K): the softmax of the logits."""
        logits = self.predict_logits(x, batch_size=batch_size)
        return logits if isinstance(self.layers[-1], Softmax) else softmax(logits)

    def predict(self, x: Array, *, batch_size: int = 256) -> Array:
        """Class labels (N,): the largest logit's column."""
        labels: Array = self.predict_logits(x, batch_size=batch_size).argmax(1)
        return labels

    def evaluate(
        self, x: Array, y: Array, *, batch_size: int = 256, loss: Loss = softmax_cross_entropy
    ) -> dict[str, float]:
        """Mean loss and accuracy over labelled inputs, as {"loss": ..., "accuracy": ...}."""
        x, y = checked_pair("evaluate", x, y)
        logits = self.predict_logits(x, batch_size=batch_size)
        scores = {"loss": loss(logits, y)[0]}
        if y.ndim == 1:
            scores["accuracy"] = float((logits.argmax(1) == y).mean()) if len(y) else 0.0
        return scores

    def summary(self, input_shape: Sequence[int]) -> Summary:
        """Table of layers, output shapes and parameter counts, for inputs of `input_shape` (without N).

        Examples
        --------
        >>> import fastconv as fc
        >>> print(fc.Sequential(fc.Flatten(), fc.Linear(4, 3)).summary((1, 2, 2)))
        layer         output  parameters
        Flatten()     (4,)             0
        Linear(4, 3)  (3,)            15
        total                         15
        """
        return summarize(self, input_shape)

    def save(self, path: str | Path) -> None:
        """Write parameters and buffers to an .npz file."""
        checkpoint.save(path, self)

    def load(self, path: str | Path) -> Self:
        """Read what `save` wrote; ValueError where the file is of another net or is no checkpoint."""
        checkpoint.load(path, self)
        return self

    def settings(self) -> str:
        return ", ".join(map(repr, self.layers))

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

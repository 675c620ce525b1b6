"""The training loop: shuffled mini-batches, a schedule, a history."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.nn.activations import Softmax
from fastconv.nn.augment import Augment
from fastconv.nn.layer import Seed, generator
from fastconv.nn.losses import Loss, checked_labels, normalized, softmax_cross_entropy
from fastconv.nn.optim import Adam, Optimizer, Schedule
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.parse import parse_int
from fastconv.tools.extras import require

if TYPE_CHECKING:
    from fastconv.nn.model import Sequential

History = dict[str, list[float]]
OnEpoch = Callable[[History], Any]


def fit(
    net: Sequential,
    x: Array,
    y: Array,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer | None,
    validation_data: tuple[Array, Array] | None,
    augment: Augment | None,
    seed: Seed,
    progress: bool,
    schedule: Schedule | None,
    loss: Loss,
    sample_weight: Array | None,
    on_epoch: OnEpoch | None,
) -> History:
    """See `Sequential.fit`."""
    x, y = checked_data("fit", net, x, y, loss)
    if validation_data is not None:
        validation_data = checked_validation(net, validation_data, loss)
    epochs, batch_size = parse_int("fit", "epochs", epochs, 1), parse_int("fit", "batch_size", batch_size, 1)
    optimizer = Adam() if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        bad_type(
            "fit", f"optimizer is {shown(optimizer)}", "it must be an optimizer such as fastconv.Adam(1e-3)"
        )
    if sample_weight is not None:
        sample_weight = normalized("fit", sample_weight, len(x)) * len(x)
    rng = generator(seed)
    for layer in net.walk():
        layer.rng = rng
    history: History = {"loss": [], "accuracy": [], "lr": [], "seconds": [], "step_loss": []}
    base_lr, steps = optimizer.lr, epochs * -(-len(x) // batch_size)
    net.train()
    try:
        with progress_bar(epochs * len(x), enabled=progress) as bar:
            for epoch in range(epochs):
                started = time.perf_counter()
                losses: list[float] = []
                hits = 0
                for batch in shuffled(rng, batch_size, net.dtype, x, y, sample_weight):
                    if schedule is not None:
                        optimizer.lr = base_lr * schedule(len(history["step_loss"]) / max(steps - 1, 1))
                    value, correct = train_step(net, batch, loss, optimizer, augment, rng)
                    check_finite(value, epoch, len(losses))
                    losses.append(value * len(batch[0]))
                    hits += correct
                    history["step_loss"].append(value)
                    bar.update(len(batch[0]))
                record(history, net, losses, hits, len(x), optimizer.lr, validation_data, loss)
                history["seconds"].append(time.perf_counter() - started)
                bar.set_postfix_str(latest(history, epoch, epochs))
                if on_epoch is not None and on_epoch(history) is True:
                    break
    finally:
        optimizer.lr = base_lr
        net.eval()
        net.forget()
    return history


def train_step(
    net: Sequential,
    batch: tuple[Array, ...],
    loss: Loss,
    optimizer: Optimizer,
    augment: Augment | None,
    rng: np.random.Generator,
) -> tuple[float, int]:
    """Forward, backward, update: the loss before the update and the number of right answers."""
    x, y, *weights = batch
    outputs = net.forward(x if augment is None else augment(x, rng))
    value, dy = loss(outputs, y, *weights)
    net.backward(dy)
    optimizer.step(net.params, net.grads)
    return value, int((outputs.argmax(1) == y).sum()) if y.ndim == 1 else 0


def record(
    history: History,
    net: Sequential,
    losses: list[float],
    hits: int,
    n: int,
    lr: float,
    validation_data: tuple[Array, Array] | None,
    loss: Loss,
) -> None:
    """Append an epoch's figures."""
    history["loss"].append(sum(losses) / n)
    history["accuracy"].append(hits / n)
    history["lr"].append(lr)
    if validation_data is not None:
        for name, value in net.evaluate(*validation_data, loss=loss).items():
            history.setdefault(f"val_{name}", []).append(value)


def batches(batch_size: int, dtype: Any, x: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Slices of the arrays, x cast to dtype; one empty batch where x is empty."""
    for start in range(0, max(len(x), 1), batch_size):
        part = slice(start, start + batch_size)
        yield (np.asarray(x[part], dtype), *(a[part] for a in others))


def shuffled(
    rng: np.random.Generator, batch_size: int, dtype: Any, x: Array, y: Array, weights: Array | None
) -> Iterator[tuple[Array, ...]]:
    """Batches in a random order."""
    order = rng.permutation(len(x))
    for start in range(0, len(x), batch_size):
        rows = order[start : start + batch_size]
        batch = np.asarray(x[rows], dtype), y[rows]
        yield batch if weights is None else (*batch, weights[rows])


def checked_pair(op: str, x: Any, y: Any) -> tuple[Array, Array]:
    """Numeric inputs and as many targets."""
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind not in "fiub":
        bad_type(op, f"x has dtype {x.dtype}", "it must be an array of numbers")
    if x.ndim < 2:
        bad_value(op, f"x has shape {x.shape}", "it must be (N, ...), one row an input")
    if y.ndim < 1 or len(x) != len(y):
        bad_value(op, f"x holds {len(x)} inputs, y has shape {y.shape}", "both must have the same length")
    return x, y


def checked_data(op: str, net: Sequential, x: Any, y: Any, loss: Loss) -> tuple[Array, Array]:
    """Data the net can be trained on; an empty batch shows the net's output width before any work."""
    x, y = checked_pair(op, x, y)
    if not len(x):
        bad_value(op, "x is empty", "it must hold at least one input")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad_value(op, "x holds NaN or infinite values", "every input must be finite")
    if loss is softmax_cross_entropy:
        if isinstance(net.layers[-1], Softmax):
            bad_value(
                op,
                "the net ends in Softmax",
                "the loss takes logits and contains the softmax: remove the layer",
            )
        outputs = net.forward(np.zeros((0, *x.shape[1:]), net.dtype))
        if outputs.ndim != 2:
            bad_value(
                op, f"the net's output for one input has shape {outputs.shape[1:]}", "it must be (classes,)"
            )
        checked_labels(op, y, len(x), outputs.shape[1])
    return x, y


def checked_validation(net: Sequential, data: Any, loss: Loss) -> tuple[Array, Array]:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        bad_type("fit", f"validation_data is {shown(type(data).__name__)}", "it must be a pair (x, y)")
    x, y = data
    return checked_data("fit: validation_data", net, x, y, loss)


def check_finite(value: float, epoch: int, step: int) -> None:
    if not np.isfinite(value):
        raise FloatingPointError(
            f"fit: the loss became {value} in epoch {epoch + 1}, step {step + 1}: "
            "lower the learning rate or scale the inputs to a range such as 0 to 1"
        )


class NoBar:
    """Stands in for a progress bar that nobody asked for."""

    def __enter__(self) -> NoBar:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, images: int) -> None:
        pass

    def set_postfix_str(self, text: str) -> None:
        pass


def progress_bar(images: int, *, enabled: bool) -> Any:
    """A tqdm bar over all images of all epochs."""
    if not enabled:
        return NoBar()
    tqdm = require("tqdm.auto", "progress=True").tqdm
    return tqdm(total=images, unit="img", unit_scale=True, leave=False)


def latest(history: History, epoch: int, epochs: int) -> str:
    """The last epoch's figures, for the progress bar."""
    text = (
        f"epoch {epoch + 1}/{epochs}, loss {history['loss'][-1]:.4f}, accuracy {history['accuracy'][-1]:.2%}"
    )
    if "val_accuracy" in history:
        text += f", validation {history['val_accuracy'][-1]:.2%}"
    return text

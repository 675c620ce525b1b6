"""The training loop: shuffled mini-batches, a schedule, a history; stoppable between any two steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
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


class Trainer:
    """One training of a net: `run` does it, or goes on with it.

    Between two steps it can be stopped (by `stop`, from `on_epoch`, a signal handler or another thread),
    written down (`state`) and taken up again, in another process too: `restore` on a Trainer of the same
    arguments, and a net with the parameters of that moment. The result is the same, bit for bit, as without
    the interruption, on as many threads.

    Parameters
    ----------
    net : Sequential
    x, y, epochs, batch_size, ...
        As in `Sequential.fit`, which is `Trainer(...).run()`.

    Attributes
    ----------
    history : dict
        See `Sequential.fit`.
    epoch : int
        Epochs done.
    done : int
        Images of the current epoch that have been trained on.
    stop : bool
        Set it, and `run` returns after the step it is in.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> from fastconv.nn import Trainer
    >>> x, y = np.eye(4, dtype=np.float32), np.arange(4)
    >>> trainer = Trainer(fc.Sequential(fc.Linear(4, 4), seed=0), x, y, epochs=5, seed=0)
    >>> len(trainer.run()["loss"]), trainer.finished
    (5, True)
    """

    def __init__(
        self,
        net: Sequential,
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
    ) -> None:
        self.net, self.augment, self.loss, self.schedule = net, augment, loss, schedule
        self.x, self.y = checked_data("fit", net, x, y, loss, augment)
        self.validation_data = (
            None if validation_data is None else checked_validation(net, validation_data, loss)
        )
        self.epochs = parse_int("fit", "epochs", epochs, 1)
        self.batch_size = parse_int("fit", "batch_size", batch_size, 1)
        self.optimizer = Adam() if optimizer is None else optimizer
        if not isinstance(self.optimizer, Optimizer):
            needed = "it must be an optimizer such as fastconv.Adam(1e-3)"
            bad_type("fit", f"optimizer is {shown(optimizer)}", needed)
        n = len(self.x)
        self.weights = None if sample_weight is None else normalized("fit", sample_weight, n) * n
        self.rng = generator(seed)
        self.progress, self.on_epoch = progress, on_epoch
        self.history: History = {"loss": [], "accuracy": [], "lr": [], "seconds": [], "step_loss": []}
        self.epoch = self.done = self.hits = 0
        self.loss_sum = self.seconds = 0.0
        self.order: Array = np.zeros(0, np.int64)
        self.stop = False

    @property
    def finished(self) -> bool:
        return self.epoch == self.epochs

    def run(self) -> History:
        """Train until all epochs are done or `stop` is set; returns the history."""
        self.stop = False
        for layer in self.net.walk():
            layer.rng = self.rng
        base_lr, n = self.optimizer.lr, len(self.x)
        self.net.train()
        try:
            with progress_bar(self.epochs * n, self.epoch * n + self.done, enabled=self.progress) as bar:
                while not (self.finished or self.stop):
                    self.run_epoch(bar, base_lr)
        finally:
            self.optimizer.lr = base_lr
            self.net.eval()
            self.net.forget()
        return self.history

    def run_epoch(self, bar: Any, base_lr: float) -> None:
        """The rest of the current epoch, or less where `stop` is set."""
        n, steps = len(self.x), self.epochs * -(-len(self.x) // self.batch_size)
        started = time.perf_counter()
        if not self.done:
            self.order, self.loss_sum, self.hits, self.seconds = self.rng.permutation(n), 0.0, 0, 0.0
        while self.done < n and not self.stop:
            if self.schedule is not None:
                done = len(self.history["step_loss"]) / max(steps - 1, 1)
                self.optimizer.lr = base_lr * self.schedule(done)
            size = self.step()
            bar.set_postfix_str(self.shown(), refresh=False)
            bar.update(size)
        self.seconds += time.perf_counter() - started
        if self.done == n:
            self.record()
            bar.set_postfix_str(self.shown())
            self.epoch, self.done = self.epoch + 1, 0
            if self.on_epoch is not None and self.on_epoch(self.history) is True:
                self.stop = True

    def step(self) -> int:
        """Forward, backward, update on the next batch; returns its size."""
        rows = self.order[self.done : self.done + self.batch_size]
        x, y = np.asarray(self.x[rows], self.net.dtype), self.y[rows]
        outputs = self.net.forward(x if self.augment is None else self.augment(x, self.rng))
        value, dy = self.loss(outputs, y, *(() if self.weights is None else (self.weights[rows],)))
        check_finite(value, self.epoch, self.done // self.batch_size)
        self.net.backward(dy)
        self.optimizer.step(self.net.params, self.net.grads)
        self.history["step_loss"].append(value)
        self.loss_sum += value * len(rows)
        self.hits += int((outputs.argmax(1) == y).sum()) if y.ndim == 1 else 0
        self.done += len(rows)
        return len(rows)

    def record(self) -> None:
        """Append the epoch's figures to the history."""
        n = len(self.x)
        for name, value in (("loss", self.loss_sum / n), ("accuracy", self.hits / n)):
            self.history[name].append(value)
        self.history["lr"].append(self.optimizer.lr)
        if self.validation_data is not None:
            for name, value in self.net.evaluate(*self.validation_data, loss=self.loss).items():
                self.history.setdefault(f"val_{name}", []).append(value)
        self.history["seconds"].append(self.seconds)

    def shown(self) -> str:
        """The current epoch's figures so far, for the progress bar."""
        text = f"epoch {self.epoch + 1}/{self.epochs}, loss {self.loss_sum / self.done:.4f}"
        if self.y.ndim == 1:
            text += f", accuracy {self.hits / self.done:.2%}"
        if self.history.get("val_accuracy"):
            text += f", validation {self.history['val_accuracy'][-1]:.2%}"
        return text

    def state(self) -> dict[str, Array]:
        """What `restore` needs beside the net's parameters and buffers, as arrays by name."""
        rng = json.dumps(self.rng.bit_generator.state, default=np.ndarray.tolist)
        figures = {name: getattr(self, name) for name in ("epoch", "done", "hits", "loss_sum", "seconds")}
        arrays = {f"training/{name}": np.array(value) for name, value in figures.items()}
        arrays |= {"training/order": self.order, "training/rng": np.array(rng)}
        arrays |= {f"history/{name}": np.array(values) for name, values in self.history.items()}
        arrays["optimizer/steps"] = np.array(self.optimizer.steps)
        for parameter, state in self.optimizer.state.items():
            arrays |= {f"optimizer/{parameter}/{name}": a for name, a in state.items()}
        return arrays

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` wrote down; the net's parameters come from `Sequential.load`.

        Raises
        ------
        ValueError
            Where the state is of another training.
        """
        order, done = state["training/order"], int(state["training/done"])
        if len(order) not in (0, len(self.x)) or int(state["training/epoch"]) > self.epochs:
            bad_value(
                "restore",
                f"the state is of {len(order)} images, epoch {int(state['training/epoch'])}",
                f"this training has {len(self.x)} images, {self.epochs} epochs",
            )
        self.order, self.done = order, done
        self.epoch, self.hits = int(state["training/epoch"]), int(state["training/hits"])
        self.loss_sum, self.seconds = float(state["training/loss_sum"]), float(state["training/seconds"])
        self.rng.bit_generator.state = json.loads(str(state["training/rng"]))
        self.optimizer.steps = int(state["optimizer/steps"])
        for name, a in state.items():
            kind, _, rest = name.partition("/")
            if kind == "history":
                self.history[rest] = a.tolist()
            elif kind == "optimizer" and rest != "steps":
                parameter, _, part = rest.rpartition("/")
                self.optimizer.state.setdefault(parameter, {})[part] = a.copy()


def batches(batch_size: int, dtype: Any, x: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Slices of the arrays, x cast to dtype; one empty batch where x is empty."""
    for start in range(0, max(len(x), 1), batch_size):
        part = slice(start, start + batch_size)
        yield (np.asarray(x[part], dtype), *(a[part] for a in others))


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


def checked_data(
    op: str, net: Sequential, x: Any, y: Any, loss: Loss, augment: Augment | None = None
) -> tuple[Array, Array]:
    """Data the net can be trained on; an empty batch shows the net's output width before any work.

    Of the size that the augmentation, which may crop, makes of the first input.
    """
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
        first = x[:1] if augment is None else augment(x[:1].astype(net.dtype), np.random.default_rng(0))
        outputs = net.forward(np.zeros((0, *first.shape[1:]), net.dtype))
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

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        pass


def progress_bar(images: int, done: int = 0, *, enabled: bool) -> Any:
    """A tqdm bar over all images of all epochs, with the images per second."""
    if not enabled:
        return NoBar()
    tqdm = require("tqdm.auto", "progress=True").tqdm
    return tqdm(total=images, initial=done, unit="img", unit_scale=True, leave=False, dynamic_ncols=True)

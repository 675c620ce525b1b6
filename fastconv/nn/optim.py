"""Optimizers change parameters in place; schedules change their learning rate during training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fastconv.nn.layer import checked_number
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value, shown

Schedule = Callable[[float], float]


class Optimizer:
    """State and learning rate; a subclass says what `update` does to one parameter.

    Attributes
    ----------
    lr : float
        Learning rate, may be changed between steps.
    steps : int
        Steps taken.
    state : dict of str to dict of str to ndarray
        Per parameter, the running averages.
    """

    def __init__(self, lr: float, weight_decay: float) -> None:
        name = type(self).__name__
        self.lr = checked_number(name, "lr", lr, 0.0)
        self.weight_decay = checked_number(name, "weight_decay", weight_decay, 0.0)
        self.steps = 0
        self.state: dict[str, dict[str, Array]] = {}

    def step(self, params: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change every parameter that has a gradient of the same name."""
        self.steps += 1
        for name, g in grads.items():
            p = params[name]
            if self.weight_decay:
                g = g + p.dtype.type(self.weight_decay) * p
            self.update(p, g, self.state.setdefault(name, {}))

    def update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum * v + g; p -= lr * v.

    Parameters
    ----------
    lr : float, default 0.01
    momentum : float, default 0
        In [0, 1).
    weight_decay : float, default 0
        Adds weight_decay * p to the gradient.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> p = {"w": np.ones(2)}
    >>> fc.SGD(0.1).step(p, {"w": np.array([1.0, 2.0])})
    >>> p["w"]
    array([0.9, 0.8])
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.0, *, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = checked_number("SGD", "momentum", momentum, 0.0, below=1.0)

    def update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        if self.momentum:
            if not state:
                state["velocity"] = np.zeros_like(p)
            v = state["velocity"]
            v *= p.dtype.type(self.momentum)
            v += g
            g = v
        p -= p.dtype.type(self.lr) * g


class Adam(Optimizer):
    """Steps by the gradient's running mean over the root of its running square, corrected for their start.

    Parameters
    ----------
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Decay of the running mean and square.
    eps : float, default 1e-8
    weight_decay : float, default 0
        Adds weight_decay * p to the gradient.

    References
    ----------
    Kingma, Ba: Adam (2015).

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> p = {"w": np.ones(2)}
    >>> fc.Adam(0.1).step(p, {"w": np.array([1.0, -100.0])})
    >>> p["w"].round(6)
    array([0.9, 1.1])
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            bad_value("Adam", f"betas is {shown(betas)}", "it must be two numbers")
        self.betas = tuple(
            checked_number("Adam", f"betas[{i}]", b, 0.0, below=1.0) for i, b in enumerate(betas)
        )
        self.eps = checked_number("Adam", "eps", eps, 0.0)

    def update(self, p: Array, g: Array, state: dict[str, Array]) -> None:
        real = p.dtype.type
        b1, b2 = self.betas
        if not state:
            state.update(mean=np.zeros_like(p), square=np.zeros_like(p))
        m, v = state["mean"], state["square"]
        m += real(1 - b1) * (g - m)
        v += real(1 - b2) * (g * g - v)
        scale = self.lr / (1 - b1**self.steps)
        root = np.sqrt(v)
        root *= real(1 / math.sqrt(1 - b2**self.steps))
        root += real(self.eps)
        p -= real(scale) * m / root


def one_cycle(warmup: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000) -> Schedule:
    """Rise along a cosine from `start` to 1 of the learning rate, then fall to `end`.

    Parameters
    ----------
    warmup : float, default 0.3
        Fraction of the training that rises.
    start, end : float
        Factors at both ends; the defaults are PyTorch's.

    Returns
    -------
    callable
        From the fraction of the training that is done to the factor on the learning rate.

    References
    ----------
    Smith, Topin: Super-convergence (2018).

    Examples
    --------
    >>> from fastconv.nn.optim import one_cycle
    >>> factor = one_cycle()
    >>> [round(factor(t), 3) for t in (0.0, 0.3, 1.0)]
    [0.04, 1.0, 0.0]
    """
    checked_number("one_cycle", "warmup", warmup, 0.0, below=1.0)

    def factor(done: float) -> float:
        if done < warmup:
            return _between(start, 1.0, done / warmup)
        return _between(1.0, end, (done - warmup) / (1 - warmup))

    return factor


def cosine(end: float = 0.0) -> Schedule:
    """Fall from 1 to `end` of the learning rate along a half cosine (Loshchilov, Hutter 2017).

    Examples
    --------
    >>> from fastconv.nn.optim import cosine
    >>> [round(cosine()(t), 3) for t in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    return lambda done: _between(1.0, end, done)


def steps(at: Sequence[float] = (0.5, 0.75), factor: float = 0.1) -> Schedule:
    """Multiply the learning rate by `factor` at each of the fractions `at` of the training.

    Examples
    --------
    >>> from fastconv.nn.optim import steps
    >>> [round(steps()(t), 3) for t in (0.0, 0.5, 0.75)]
    [1.0, 0.1, 0.01]
    """
    return lambda done: float(factor ** sum(done >= t for t in at))


def _between(a: float, b: float, t: float) -> float:
    return b + (a - b) * (1 + math.cos(math.pi * min(t, 1.0))) / 2

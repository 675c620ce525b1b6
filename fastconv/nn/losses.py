"""Losses: a function of (outputs, targets) that returns the mean loss and its gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.ops.arrays import Array, check_shape, checked_float
from fastconv.ops.errors import bad_type, bad_value, shown

Loss = Callable[..., tuple[float, Array]]


def softmax_cross_entropy(logits: Array, labels: Array, weights: Array | None = None) -> tuple[float, Array]:
    """Mean of -log softmax(logits)[label], and its gradient.

    Parameters
    ----------
    logits : ndarray (N, K), float32 or float64
    labels : integer ndarray (N,)
        Class of each row, 0 to K-1.
    weights : ndarray (N,), optional
        Weight of each row, none negative; the mean is then the weighted one.

    Returns
    -------
    loss : float
        0 for an empty batch.
    dlogits : ndarray (N, K)

    Raises
    ------
    ValueError, TypeError
        Where shapes do not match or a label is out of range.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> loss, dlogits = fc.softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4), dlogits
    (1.3863, array([[ 0.25,  0.25, -0.75,  0.25]]))
    """
    op = "softmax_cross_entropy"
    logits = checked_float(op, "logits", logits)
    if logits.ndim != 2 or logits.shape[1] == 0:
        bad_value(op, f"logits have shape {logits.shape}", "they must be (N, classes)")
    labels = checked_labels(op, labels, *logits.shape)
    n = len(labels)
    rows = np.arange(n)
    shifted = logits - np.maximum.reduce(logits, 1, keepdims=True)
    dlogits = np.exp(shifted)
    total = np.add.reduce(dlogits, 1, keepdims=True)
    losses = np.log(total[:, 0]) - shifted[rows, labels]
    dlogits /= total
    dlogits[rows, labels] -= 1
    if weights is None:
        share = 1 / max(n, 1)
        dlogits *= logits.dtype.type(share)
        return float(losses.sum(dtype=np.float64)) * share, dlogits
    shares = normalized(op, weights, n)
    dlogits *= shares[:, None].astype(logits.dtype)
    return float(losses @ shares), dlogits


def mean_squared_error(outputs: Array, targets: Array, weights: Array | None = None) -> tuple[float, Array]:
    """Mean over rows of the mean squared difference, and its gradient.

    Parameters
    ----------
    outputs, targets : ndarray (N, ...), float32 or float64
    weights : ndarray (N,), optional
        Weight of each row.

    Returns
    -------
    loss : float
    doutputs : ndarray of outputs' shape

    Raises
    ------
    ValueError, TypeError
        Where shapes or dtypes do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.nn.losses import mean_squared_error
    >>> mean_squared_error(np.array([[1.0, 3.0]]), np.zeros((1, 2)))
    (5.0, array([[1., 3.]]))
    """
    op = "mean_squared_error"
    outputs = checked_float(op, "outputs", outputs)
    targets = checked_float(op, "targets", targets, outputs.dtype)
    check_shape(op, "targets", targets, outputs.shape)
    n = len(outputs)
    share = np.full(n, 1 / max(n, 1)) if weights is None else normalized(op, weights, n)
    difference = outputs - targets
    per_row = max(outputs[:1].size, 1)
    losses = (difference.reshape(n, per_row) ** 2).mean(1) if n else np.zeros(0)
    scale = (2 / per_row * share).astype(outputs.dtype)
    return float(losses @ share), difference * scale.reshape(-1, *[1] * (outputs.ndim - 1))


def checked_labels(op: str, labels: Array, n: int, classes: int) -> Array:
    """`n` integers from 0 to classes - 1."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        bad_type(op, f"labels have dtype {labels.dtype}", "they must be integers, the class of each row")
    check_shape(op, "labels", labels, (n,))
    if n and (labels.min() < 0 or labels.max() >= classes):
        bad_value(
            op,
            f"labels range from {labels.min()} to {labels.max()}",
            f"they must be 0 to {classes - 1}, the columns of the net's output",
        )
    return labels


def normalized(op: str, weights: Array, n: int) -> Array:
    """Weights as shares of their sum, in float64."""
    weights = np.asarray(weights, np.float64)
    check_shape(op, "weights", weights, (n,))
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        bad_value(op, f"weights are {shown(weights)}", "they must be finite and not negative")
    share: Array = weights / (weights.sum() or 1.0)
    return share

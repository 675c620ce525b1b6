"""Gradients by central differences."""

import numpy as np


def numerical_grad(f, a, h=1e-6):
    """d f / d a by central differences, changing `a` in place."""
    grad = np.empty_like(a)
    for i in np.ndindex(a.shape):
        kept = a[i]
        a[i] = kept + h
        above = f()
        a[i] = kept - h
        grad[i] = (above - f()) / (2 * h)
        a[i] = kept
    return grad

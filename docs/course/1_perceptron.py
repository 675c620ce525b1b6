"""1. The perceptron: one step, one learning rule (Rosenblatt 1958), real digits."""

import numpy as np

import fastconv as fc
from fastconv.nn import step
from fastconv.tools.datasets import digits

data = digits()


def pair(x, y, a, b):
    """The images of two digits, flat, with a 1 for the bias; label 1 for the second."""
    rows = (y == a) | (y == b)
    flat = x[rows].reshape(rows.sum(), -1)
    return np.hstack([flat, np.ones((len(flat), 1), np.float32)]), (y[rows] == b).astype(np.float32)


for a, b in ((0, 1), (3, 8)):
    x, y = pair(data.x_train, data.y_train, a, b)
    x_test, y_test = pair(data.x_test, data.y_test, a, b)
    w = np.zeros(x.shape[1], np.float32)
    epochs, mistakes = 0, 1
    while mistakes and epochs < 20:
        epochs, mistakes = epochs + 1, 0
        for image, label in zip(x, y, strict=True):
            error = label - step(image @ w)
            w += error * image  # learn from mistakes only
            mistakes += int(error != 0)
    right = (step(x_test @ w) == y_test).mean()
    print(f"{a} or {b}: {mistakes} mistakes in epoch {epochs}, test accuracy {right:.1%}")

# What a line cannot part: exclusive or. The rule never comes to rest.
x = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)
y = np.array([0, 1, 1, 0], np.float32)
w = np.zeros(3, np.float32)
for _ in range(100):
    for image, label in zip(x, y, strict=True):
        w += (label - step(image @ w)) * image
print("xor after 100 epochs of the perceptron:", step(x @ w), "wanted", y)

# A hidden layer can, if its activation has a slope to learn by.
net = fc.Sequential(fc.Linear(2, 8), fc.Tanh(), fc.Linear(8, 2), seed=0)
net.fit(x[:, :2], y.astype(int), epochs=200, optimizer=fc.Adam(0.05), seed=0)
print("xor after 200 epochs of a net with one hidden layer:", net.predict(x[:, :2]))

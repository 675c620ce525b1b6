"""3. Convolution: a window slides over an image; each output is a sum of products."""

import numpy as np
from sklearn.datasets import load_sample_image

import fastconv as fc
from fastconv import plots

x = np.arange(25.0).reshape(5, 5)
w = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])


def slide(x, w, stride=1):
    size = (len(x) - len(w)) // stride + 1
    y = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            top, left = i * stride, j * stride
            y[i, j] = (x[top : top + len(w), left : left + len(w)] * w).sum()
    return y


for stride in (1, 2):
    y = fc.conv2d(x[None, None], w[None, None], stride=stride)[0, 0]  # (N, C, H, W), (K, C, R, S)
    print(f"stride {stride}: 5x5 -> {y.shape}, equal to the loops: {(y == slide(x, w, stride)).all()}")

# O = floor((I + p1 + p2 - d (F - 1) - 1) / s) + 1
image, filters = np.zeros((1, 1, 28, 28)), np.zeros((1, 1, 5, 5))
for options in (
    {"padding": "valid"},
    {"padding": "same"},
    {"padding": 1},
    {"padding": 2, "stride": 2},
    {"dilation": 2},
):
    print(f"28x28, filter 5x5, {options}: {fc.conv2d(image, filters, **options).shape[2:]}")

# Edges: Sobel's filter and its transpose on a photograph, made grey.
grey = load_sample_image("china.jpg").astype(np.float32) / 255 @ np.array([0.299, 0.587, 0.114], np.float32)
sobel = np.array([[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], np.float32)
both = np.stack([sobel, sobel.transpose(0, 2, 1)])  # (2, 1, 3, 3): two filters
across, down = fc.conv2d(grey[None, None], both, padding="same", padding_mode="replicate")[0]
strength = np.hypot(across, down)
print(f"edges of {grey.shape}: strongest {strength.max():.2f}, mean {strength.mean():.2f}")
plots.gallery([grey, across, down, strength], ["grey", "Sobel x", "Sobel y", "strength"]).savefig("edges.png")

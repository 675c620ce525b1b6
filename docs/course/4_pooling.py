"""4. Pooling: each window becomes one number."""

import numpy as np

import fastconv as fc

x = np.array([[1.0, 3, 2, 0], [4, 2, 1, 1], [0, 1, 5, 6], [2, 1, 7, 2]])[None, None]
largest, argmax = fc.max_pool2d(x, 2, return_argmax=True)
print("maximum of 2x2:", largest.tolist(), "found at", argmax.tolist())
print("mean of 2x2:", fc.avg_pool2d(x, 2).tolist())
print("of the whole image:", fc.global_max_pool(x).item(), fc.global_avg_pool(x).item())
print("overlapping, 3x3 with stride 1:", fc.max_pool2d(x, 3, stride=1).tolist())

# Backward: the maximum passes the gradient to the winner, the mean shares it out.
dy = np.array([[1.0, 2], [3, 4]])[None, None]
print(fc.max_pool2d_grad(dy, argmax, x.shape)[0, 0])
print(fc.avg_pool2d_grad(dy, x.shape, 2)[0, 0])

# A dot that moves inside its window changes nothing.
dot = np.zeros((1, 1, 4, 4))
dot[..., 1, 0] = 1
moved = np.roll(dot, 1, axis=3)
print(
    "images equal:",
    (dot == moved).all(),
    " after pooling:",
    (fc.max_pool2d(dot, 2) == fc.max_pool2d(moved, 2)).all(),
)

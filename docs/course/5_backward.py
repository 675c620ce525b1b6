"""5. Backward: 3x3 pixels, a 2x2 filter, every gradient by hand and by fastconv."""

import numpy as np

import fastconv as fc

x = np.array([[1.0, 2, 0], [3, 1, 4], [2, 5, 1]])
f = np.array([[2.0, -1], [1, 3]])
g = np.array([[1.0, -2], [3, 1]])  # dL/dO, from the layers above

# O11 = X11 F11 + X12 F12 + X21 F21 + X22 F22, and so on
o = np.array(
    [
        [x[0, 0] * f[0, 0] + x[0, 1] * f[0, 1] + x[1, 0] * f[1, 0] + x[1, 1] * f[1, 1],
         x[0, 1] * f[0, 0] + x[0, 2] * f[0, 1] + x[1, 1] * f[1, 0] + x[1, 2] * f[1, 1]],
        [x[1, 0] * f[0, 0] + x[1, 1] * f[0, 1] + x[2, 0] * f[1, 0] + x[2, 1] * f[1, 1],
         x[1, 1] * f[0, 0] + x[1, 2] * f[0, 1] + x[2, 1] * f[1, 0] + x[2, 2] * f[1, 1]],
    ]
)  # fmt: skip
print("O by hand", o.tolist(), "fastconv", fc.conv2d(x[None, None], f[None, None])[0, 0].tolist())

# dL/dF11 = X11 G11 + X12 G12 + X21 G21 + X22 G22: X convolved with G
df = np.array(
    [
        [x[0, 0] * g[0, 0] + x[0, 1] * g[0, 1] + x[1, 0] * g[1, 0] + x[1, 1] * g[1, 1],
         x[0, 1] * g[0, 0] + x[0, 2] * g[0, 1] + x[1, 1] * g[1, 0] + x[1, 2] * g[1, 1]],
        [x[1, 0] * g[0, 0] + x[1, 1] * g[0, 1] + x[2, 0] * g[1, 0] + x[2, 1] * g[1, 1],
         x[1, 1] * g[0, 0] + x[1, 2] * g[0, 1] + x[2, 1] * g[1, 0] + x[2, 2] * g[1, 1]],
    ]
)  # fmt: skip
filter_grad = fc.conv2d_filter_grad(x[None, None], g[None, None], (1, 1, 2, 2))[0, 0]
print("dL/dF by hand", df.tolist(), "fastconv", filter_grad.tolist())

# dL/dX11 = F11 G11, ..., dL/dX22 = F11 G22 + F12 G21 + F21 G12 + F22 G11: G, padded, with the turned filter
dx = np.array(
    [
        [f[0, 0] * g[0, 0], f[0, 0] * g[0, 1] + f[0, 1] * g[0, 0], f[0, 1] * g[0, 1]],
        [f[0, 0] * g[1, 0] + f[1, 0] * g[0, 0],
         f[0, 0] * g[1, 1] + f[0, 1] * g[1, 0] + f[1, 0] * g[0, 1] + f[1, 1] * g[0, 0],
         f[0, 1] * g[1, 1] + f[1, 1] * g[0, 1]],
        [f[1, 0] * g[1, 0], f[1, 0] * g[1, 1] + f[1, 1] * g[1, 0], f[1, 1] * g[1, 1]],
    ]
)  # fmt: skip
input_grad = fc.conv2d_input_grad(g[None, None], f[None, None], (1, 1, 3, 3))[0, 0]
turned = fc.conv2d(g[None, None], f[None, None, ::-1, ::-1].copy(), padding=1)[0, 0]
print("dL/dX by hand", dx.tolist())
print("     fastconv", input_grad.tolist(), "as a convolution", turned.tolist())
assert (filter_grad == df).all()
assert (input_grad == dx).all()
assert (turned == dx).all()

"""The book's two classes in plain NumPy, in float64 as there, for who has not got its code."""

import numpy as np
import windows


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        self.x = x
        y, self.columns = windows.conv(x.astype(np.float64), self.W, self.b, self.stride, self.pad)
        return y

    def backward(self, dout):
        dx, self.dW, self.db = windows.conv_grads(
            dout, self.columns, self.x.shape, self.W, self.stride, self.pad
        )
        return dx


class Pooling:
    def __init__(self, pool_h, pool_w, stride=1, pad=0):
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad

    def forward(self, x):
        self.x = x
        y, self.arg_max = windows.max_pool(x.astype(np.float64), (self.pool_h, self.pool_w), self.stride)
        return y

    def backward(self, dout):
        return windows.max_pool_grad(
            dout, self.arg_max, self.x.shape, (self.pool_h, self.pool_w), self.stride
        )

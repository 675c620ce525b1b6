"""The same without `fit`: forward, loss, backward, update, in sight."""

import numpy as np

import fastconv as fc
from fastconv.tools.datasets import digits

data, rng = digits(seed=0), np.random.default_rng(0)
net = fc.Sequential(
    *(fc.Conv2d(1, 16, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2)),
    *(fc.Flatten(), fc.Linear(256, 10)),
    seed=0,
)
optimizer = fc.SGD(0.1, momentum=0.9)
for epoch in range(10):
    order = rng.permutation(len(data.x_train))
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        logits = net(data.x_train[rows])
        loss, dlogits = fc.softmax_cross_entropy(logits, data.y_train[rows])
        net.backward(dlogits)  # fills net.grads
        optimizer.step(net.params, net.grads)
    print(f"epoch {epoch + 1}: {net.evaluate(data.x_test, data.y_test)['accuracy']:.2%}")

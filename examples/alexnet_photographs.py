"""Training steps of AlexNet on the photographs of scikit-learn: needs fastconv[digits] and Pillow."""

import time

import numpy as np
from sklearn.datasets import load_sample_images

import fastconv as fc
from fastconv.models import AlexNet, alexnet_augment

photographs = np.stack([image[:256, :256] for image in load_sample_images().images])
x = np.ascontiguousarray(photographs.transpose(0, 3, 1, 2), np.float32) / 255 - 0.5
labels = np.arange(2).repeat(4)
augment, rng = alexnet_augment(x), np.random.default_rng(0)
net, optimizer = AlexNet(2, seed=0), fc.SGD(0.01, momentum=0.9, weight_decay=5e-4)
for step in range(8):
    started = time.perf_counter()
    logits = net(augment(x.repeat(4, 0), rng))
    loss, dlogits = fc.softmax_cross_entropy(logits, labels)
    net.backward(dlogits)
    optimizer.step(net.params, net.grads)
    print(f"step {step + 1}: loss {loss:.3f}, {time.perf_counter() - started:.2f} s")

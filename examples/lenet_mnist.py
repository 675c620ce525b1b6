"""LeNet-5 on MNIST in three epochs: `python lenet_mnist.py mnist.npz`.

The file holds x_train, y_train, x_test and y_test, as MNIST is often kept.
"""

import sys
import time

import fastconv as fc
from fastconv.models import LeNet5
from fastconv.nn import one_cycle
from fastconv.tools.datasets import npz

data = npz(sys.argv[1])
net = LeNet5(seed=0)
started = time.perf_counter()
net.fit(
    data.x_train,
    data.y_train,
    epochs=3,
    batch_size=64,
    optimizer=fc.Adam(7e-3),
    schedule=one_cycle(),
    seed=0,
    progress=True,
)
print(f"trained in {time.perf_counter() - started:.1f} s")
print(f"test accuracy {net.evaluate(data.x_test, data.y_test)['accuracy']:.2%}")

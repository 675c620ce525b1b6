"""6. Fully connected against convolutional: count the weights, then let both learn."""

import numpy as np

import fastconv as fc
from fastconv.nn import one_cycle
from fastconv.tools.datasets import digits

# An input of 6x6x3: two filters of 4x4 have 2 * 4 * 4 * 3 = 96 weights; a fully connected layer has 1944.
print(fc.Sequential(fc.Conv2d(3, 2, 4, bias=False)).summary((3, 6, 6)), end="\n\n")
print(fc.Sequential(fc.Flatten(), fc.Linear(108, 18, bias=False)).summary((3, 6, 6)), end="\n\n")


def shallow(seed):
    return fc.Sequential(
        fc.Flatten(), fc.Linear(64, 128, init="he"), fc.ReLU(), fc.Linear(128, 10, init="he"), seed=seed
    )


def convolutional(seed):
    return fc.Sequential(
        *(fc.Conv2d(1, 16, 3, padding=1, init="he"), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten()),
        *(fc.Linear(256, 32, init="he"), fc.ReLU(), fc.Linear(32, 32, init="he"), fc.ReLU()),
        fc.Linear(32, 10, init="he"),
        seed=seed,
    )


data = digits()
for make in (shallow, convolutional):
    accuracies = []
    for seed in range(3):
        net = make(seed)
        net.fit(
            data.x_train, data.y_train, epochs=20, optimizer=fc.Adam(4e-3), schedule=one_cycle(), seed=seed
        )
        accuracies.append(net.evaluate(data.x_test, data.y_test)["accuracy"])
    total = net.summary((1, 8, 8)).total
    spread = f"{np.mean(accuracies):.2%} ± {np.std(accuracies):.2%}"
    print(f"{make.__name__}: {total:,} parameters, accuracy {spread}")

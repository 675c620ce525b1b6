"""What the neocognitron is for: digits it knows, moved. Learned without labels, read out by class means."""

import numpy as np

from fastconv.models import Neocognitron
from fastconv.nn import random_shift
from fastconv.tools.datasets import digits

data = digits(seed=0)
x, x_test = (images.repeat(2, 2).repeat(2, 3) for images in (data.x_train, data.x_test))
moved = random_shift(2)(x_test, np.random.default_rng(0))

net = Neocognitron(seed=0).fit(x[:500], progress=True).learn_prototypes(x, data.y_train)
means = np.stack([x[data.y_train == k].mean(0).ravel() for k in range(10)])


def by_pixels(images):
    return ((images.reshape(len(images), 1, -1) - means) ** 2).sum(2).argmin(1)


for name, images in (("in place", x_test), ("moved by up to two pixels", moved)):
    pixels = (by_pixels(images) == data.y_test).mean()
    print(
        f"{name}: nearest mean of pixels {pixels:.1%}, neocognitron {net.evaluate(images, data.y_test):.1%}"
    )

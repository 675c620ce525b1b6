"""A convolutional net trained on scikit-learn's digits: needs fastconv[digits]."""

import fastconv as fc
from fastconv.nn import one_cycle, random_shift
from fastconv.tools.datasets import digits

data = digits(seed=0)
net = fc.Sequential(
    *(fc.Conv2d(1, 16, 3, padding=1), fc.ReLU()),
    *(fc.Conv2d(16, 32, 3, padding=1), fc.ReLU(), fc.MaxPool2d(2)),
    *(fc.Flatten(), fc.Dropout(0.3), fc.Linear(512, 10)),
    seed=0,
)
print(net.summary((1, 8, 8)))
net.fit(
    data.x_train,
    data.y_train,
    epochs=20,
    optimizer=fc.Adam(4e-3),
    schedule=one_cycle(),
    augment=random_shift(1),
    validation_data=(data.x_test, data.y_test),
    seed=0,
    progress=True,
)
print(f"test accuracy {net.evaluate(data.x_test, data.y_test)['accuracy']:.2%}")

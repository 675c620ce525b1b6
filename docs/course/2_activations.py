"""2. Activations: their slopes, and what happens to gradients that pass many of them."""

import numpy as np

import fastconv as fc
from fastconv import plots
from fastconv.models import MLP
from fastconv.tools.datasets import digits

x = np.array([-2.0, -0.5, 0.5, 2.0])
for layer in (fc.Sigmoid(), fc.Tanh(), fc.ReLU(), fc.LeakyReLU(0.01)):
    y = layer(x)
    slope = layer.backward(np.ones_like(x))
    print(f"{type(layer).__name__:<10} f(x) = {y.round(3)}  f'(x) = {slope.round(3)}")
    plots.activation(layer).savefig(f"{type(layer).__name__.lower()}.png")

step = fc.Step()
print("Step       f(x) =", step(x))
try:
    step.backward(np.ones_like(x))
except ValueError as error:
    print("Step has no slope:", error)

print("Softmax   ", fc.Softmax()(np.array([1.0, 2.0, 3.0])).round(3), "sums to 1")

# The same eight hidden layers, the same weights; only the activation differs. One step back:
data = digits()
print("\ngradient norm of the weights, layer 1 to layer 9:")
for activation in (fc.Sigmoid, fc.Tanh, fc.ReLU, fc.LeakyReLU):
    net = MLP(64, *[64] * 8, 10, activation=activation, init="glorot", seed=0)
    loss, dlogits = fc.softmax_cross_entropy(net(data.x_train[:64]), data.y_train[:64])
    net.backward(dlogits)
    norms = [np.linalg.norm(g) for name, g in net.grads.items() if name.endswith(".w")]
    history = net.fit(
        data.x_train, data.y_train, epochs=20, optimizer=fc.SGD(0.01, momentum=0.9), seed=0,
        validation_data=(data.x_test, data.y_test),
    )  # fmt: skip
    print(f"{activation.__name__:<10}", " ".join(f"{n:.0e}" for n in norms), end="  ")
    print(f"accuracy after 20 epochs {history['val_accuracy'][-1]:.1%}")

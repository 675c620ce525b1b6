"""What Sequential does across layers changes no result: fused gradients, arrays that are used again."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import Layer
from fastconv.models import LeNet5
from fastconv.nn.activations import Activation, LeakyReLU, ReLU, Sigmoid, Tanh
from fastconv.nn.lenet import ScaledTanh


def one_by_one(net, x, dy):
    """The gradients of all parameters and of x by the layers' own forward and backward."""
    for layer in net.layers:
        x = layer.forward(x)
    for layer in net.layers[::-1]:
        dy = layer.backward(dy)
    return {name: g.copy() for name, g in net.grads.items()}, dy


ACTIVATIONS = {
    "relu": ReLU,
    "leaky": LeakyReLU,
    "leaky-steep": lambda: LeakyReLU(0.3),
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "scaled": ScaledTanh,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pool", [(2, None, 0), (3, 2, 1), (3, 1, 0)], ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_backward_through_pooling_is_that_of_the_layers(activation, pool, layout):
    make = ACTIVATIONS[activation]
    shape = (2, 3, 12, 12) if layout == "NCHW" else (2, 12, 12, 3)
    net = fc.Sequential(
        *(fc.Conv2d(3, 5, 3, padding=1, layout=layout), make(), fc.MaxPool2d(*pool, layout=layout)),
        *(fc.Conv2d(5, 4, 3, layout=layout), make(), fc.Flatten()),
        seed=3,
    ).astype("float64")
    x = np.random.default_rng(0).normal(size=shape)
    y = net.forward(x)
    dy = np.random.default_rng(1).normal(size=y.shape)
    want, want_dx = one_by_one(net, x, dy)
    given = dy.copy()
    net.forward(x)
    dx = net.backward(dy, input_grad=True)
    np.testing.assert_array_equal(dy, given)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-12, atol=1e-14)
    for name, g in net.grads.items():
        np.testing.assert_allclose(g, want[name], rtol=1e-12, atol=1e-13)


def test_pooling_right_at_the_first_activation_and_at_the_end():
    net = fc.Sequential(fc.ReLU(), fc.MaxPool2d(2))
    x = np.array([[[[-1.0, 2.0], [0.5, -3.0]]], [[[-1.0, -2.0], [-0.5, -3.0]]]])
    net.forward(x)
    dx = net.backward(np.full((2, 1, 1, 1), 5.0), input_grad=True)
    np.testing.assert_array_equal(dx, [[[[0, 5], [0, 0]]], [[[0, 0], [0, 0]]]])


def test_a_derivative_of_ones_own_is_respected():
    class Square(Activation):
        def function(self, x):
            return x * x

        def backward(self, dy, input_grad=True):
            return np.full_like(dy, 3.0)

    net = fc.Sequential(Square(), fc.MaxPool2d(1))
    net.forward(np.ones((1, 1, 2, 2)))
    np.testing.assert_array_equal(
        net.backward(np.ones((1, 1, 2, 2)), input_grad=True), np.full((1, 1, 2, 2), 3)
    )


class Keeps(Layer):
    """The identity, which keeps all it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append((x, x.copy()))
        return x

    def backward(self, dy, input_grad=True):
        self.seen.append((dy, dy.copy()))
        return dy


def test_no_array_that_somebody_holds_is_overwritten():
    def net():
        keeps = [Keeps() for _ in range(5)]
        return keeps, fc.Sequential(
            *(keeps[0], fc.Conv2d(3, 16, 3, padding=1), keeps[1], fc.Tanh(), keeps[2], fc.MaxPool2d(2)),
            *(keeps[3], fc.ReLU(), fc.Flatten(), keeps[4], fc.Linear(16 * 16 * 16, 300)),
            seed=0,
        )

    keeps, model = net()
    rng, held, optimizer = np.random.default_rng(0), [], fc.SGD(0.01)
    for _ in range(4):
        x = rng.standard_normal((8, 3, 32, 32), np.float32)
        y = model.forward(x)
        dy = rng.standard_normal(y.shape, np.float32)
        dx = model.backward(dy, input_grad=True)
        optimizer.step(model.params, model.grads)
        held += [(a, a.copy()) for a in (x, y, dy, dx, *model.grads.values())]
    for a, as_it_was in held + [pair for keep in keeps for pair in keep.seen]:
        np.testing.assert_array_equal(a, as_it_was)


def test_training_gives_the_same_bits_in_used_memory():
    """Results are written whole: what an earlier net left in their memory does not matter."""

    def trained():
        net = LeNet5(seed=1)
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((70, 1, 28, 28), np.float32), rng.integers(0, 10, 70)
        net.fit(x, y, epochs=2, batch_size=32, seed=2)
        return net, net.predict_logits(x)

    want_net, want = trained()
    net, logits = trained()
    np.testing.assert_array_equal(logits, want)
    for name, p in net.params.items():
        np.testing.assert_array_equal(p, want_net.params[name])


def test_nets_copy_and_pickle():
    net = LeNet5(seed=0)
    x = np.ones((64, 1, 28, 28), np.float32)
    y = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other(x), y)

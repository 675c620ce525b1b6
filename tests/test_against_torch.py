"""AlexNet and a residual net, layer by layer, against the same layers in PyTorch where that is installed."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.layers import GlobalAvgPool2d, LocalResponseNorm, Residual
from fastconv.models import AlexNet
from fastconv.nn import one_cycle
from fastconv.nn.deep import basic_block, bottleneck

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


def in_torch(layer, x):
    """The layer's output computed by PyTorch from the same parameters, differentiable in x."""
    p = {name: torch.tensor(a, requires_grad=True) for name, a in layer.params.items()}
    layer.in_torch = p
    match layer:
        case fc.Conv2d():
            o = layer.options
            pads = [end for ends in reversed(o["padding"]) for end in ends]
            strides = {name: o[name] for name in ("stride", "dilation", "groups")}
            return F.conv2d(F.pad(x, pads), p["w"], p.get("b"), **strides)
        case fc.Linear():
            return F.linear(x, p["w"], p["b"])
        case fc.ReLU():
            return F.relu(x)
        case fc.MaxPool2d():
            o = layer.options
            return F.max_pool2d(x, layer.window, o["stride"], [before for before, _ in o["padding"]])
        case LocalResponseNorm():
            return F.local_response_norm(x, layer.size, layer.alpha, layer.beta, layer.k)
        case fc.BatchNorm2d():
            return F.batch_norm(x, None, None, p["gamma"], p["beta"], training=True, eps=layer.eps)
        case fc.Flatten():
            return x.flatten(1)
        case fc.Dropout():
            return x
        case GlobalAvgPool2d():
            return x.mean((2, 3))
        case fc.Sequential():
            for inner in layer.layers:
                x = in_torch(inner, x)
            return x
        case Residual():
            return in_torch(layer.body, x) + (x if layer.shortcut is None else in_torch(layer.shortcut, x))
    raise NotImplementedError(layer)


def assert_same(layer, x):
    """Compare a layer's output and all its gradients; returns the output."""
    dtype = x.dtype
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-8, "atol": 1e-10}
    t = torch.tensor(x, requires_grad=True)
    wanted = in_torch(layer, t)
    y = layer(x)
    name = repr(layer)[:60]
    np.testing.assert_allclose(y, wanted.detach().numpy(), **tolerance, err_msg=name)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    wanted.backward(torch.tensor(dy))

    # Gradients are sums of many terms: their error is relative to the largest of them.
    def close(mine, theirs):
        theirs = theirs.numpy()
        np.testing.assert_allclose(
            mine, theirs, rtol=0, atol=tolerance["rtol"] * np.abs(theirs).max(), err_msg=name
        )

    close(layer.backward(dy, input_grad=True), t.grad)
    for inner in layer.walk():
        if not inner.children():
            for parameter, g in inner.grads.items():
                close(g, inner.in_torch[parameter].grad)
    return y


def photographs():
    """A square of 224 pixels from each of scikit-learn's photographs, (2, 3, 224, 224)."""
    pytest.importorskip("PIL", reason="Pillow, which reads the photographs, is not installed")
    sample = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn is not installed"
    ).load_sample_images
    cut = np.stack([image[100:324, 200:424] for image in sample().images])
    return np.ascontiguousarray(cut.transpose(0, 3, 1, 2), np.float32) / 255


def test_alexnet_layer_by_layer():
    net, x = AlexNet(10, seed=0).eval(), photographs()[:1]
    for layer in net.layers:
        x = assert_same(layer, x)
        layer.forget()
    assert x.shape == (1, 10)


def test_a_training_step_of_alexnet():
    # In float64: no pixel is so near to a ReLU's kink that rounding moves it across.
    net, x = AlexNet(10, seed=0).eval().astype("float64"), photographs().astype(np.float64)
    labels = np.array([3, 8])
    wanted = in_torch(net, torch.tensor(x))
    in_torch_loss = F.cross_entropy(wanted, torch.tensor(labels))
    in_torch_loss.backward()
    theirs = {f"{i}.{name}": t for i, layer in enumerate(net.layers) for name, t in layer.in_torch.items()}
    torch.optim.SGD(theirs.values(), 0.01, 0.9, weight_decay=5e-4).step()

    before = {name: p.copy() for name, p in net.params.items()}
    loss, dlogits = fc.softmax_cross_entropy(net(x), labels)
    net.backward(dlogits)
    fc.SGD(0.01, 0.9, weight_decay=5e-4).step(net.params, net.grads)
    assert loss == pytest.approx(in_torch_loss.item(), rel=1e-10)
    assert theirs.keys() == net.params.keys()
    for name, p in net.params.items():
        change, wanted_change = p - before[name], theirs[name].detach().numpy() - before[name]
        largest = np.abs(wanted_change).max()
        np.testing.assert_allclose(change, wanted_change, rtol=0, atol=1e-8 * largest, err_msg=name)


@pytest.mark.parametrize("block", [basic_block, bottleneck])
@pytest.mark.parametrize(("c_in", "stride"), [(8, 2), (16, 1), (64, 1)])
def test_residual_blocks(block, c_in, stride):
    layer = block(c_in, 16, stride)
    layer.reset(np.random.default_rng(0))
    assert_same(layer.astype("float64"), np.random.default_rng(0).normal(size=(3, c_in, 9, 9)))


def test_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels, weights = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), rng.random(6)
    t = torch.tensor(logits, requires_grad=True)
    losses = F.cross_entropy(t, torch.tensor(labels), reduction="none")
    wanted = (losses * torch.tensor(weights)).sum() / weights.sum()
    wanted.backward()
    loss, grad = fc.softmax_cross_entropy(logits, labels, weights)
    assert loss == pytest.approx(wanted.item())
    np.testing.assert_allclose(grad, t.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimizers_take_pytorchs_steps(name):
    rng = np.random.default_rng(0)
    p = {"w": rng.normal(size=5)}
    t = torch.tensor(p["w"].copy(), requires_grad=True)
    mine, theirs = {
        "sgd": (fc.SGD(0.1, 0.9, weight_decay=0.01), torch.optim.SGD([t], 0.1, 0.9, weight_decay=0.01)),
        "adam": (fc.Adam(0.1, weight_decay=0.01), torch.optim.Adam([t], 0.1, weight_decay=0.01)),
    }[name]
    for _ in range(5):
        g = rng.normal(size=5)
        mine.step(p, {"w": g})
        t.grad = torch.tensor(g)
        theirs.step()
        np.testing.assert_allclose(p["w"], t.detach().numpy(), rtol=1e-10)


def test_one_cycle_is_pytorchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=101, cycle_momentum=False)
    # PyTorch's warm-up ends at step 0.3 * 101 - 1 of 0 to 100.
    factor = one_cycle(0.293)
    for i in range(101):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(factor(i / 100))
        if i < 100:
            optimizer.step()
            schedule.step()

"""The problems of benchmarks/adapters.py as each host's users call them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STAND_INS = Path(__file__).parent / "stand_ins"  # hosts without a package, behind the user's own copy
sys.path.append(str(STAND_INS))

Run = Callable[[], Any]
BOTH = "forward and backward"


class Conv(NamedTuple):
    name: str
    x: tuple[int, int, int, int]  # (N, C, H, W)
    w: tuple[int, int, int, int]  # (K, C, R, S)
    pad: int


class Task(NamedTuple):
    """`make()` prepares what is not measured, as the adapter is installed or not, and returns what is."""

    problem: str
    passes: str
    make: Callable[[], Run]


CONVS = (
    Conv("conv 32x16x32x32, 32 filters 3x3", (32, 16, 32, 32), (32, 16, 3, 3), 1),
    Conv("conv 64x1x28x28, 6 filters 5x5", (64, 1, 28, 28), (6, 1, 5, 5), 2),
)
POOL, POOLED = "2x2 max-pool 32x32x32x32", (32, 32, 32, 32)


def array(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def images(shape: tuple[int, ...]) -> np.ndarray:
    """(N, C, H, W) drawn, with the channels last."""
    return np.ascontiguousarray(np.moveaxis(array(shape), 1, -1))


def onnx() -> Iterator[Task]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    def make(op: str, feeds: dict[str, np.ndarray], **attributes: Any) -> Run:
        evaluator = ReferenceEvaluator(helper.make_node(op, list(feeds), ["y"], **attributes))
        return partial(evaluator.run, None, feeds)

    for name, x, w, pad in CONVS:
        feeds = {"x": array(x), "w": array(w)}
        yield Task(name, "forward", partial(make, "Conv", feeds, pads=[pad] * 4))
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    yield Task(POOL, "forward", partial(make, "MaxPool", {"x": array(POOLED)}, **pool))
    yield Task("2x2 average pool", "forward", partial(make, "AveragePool", {"x": array(POOLED)}, **pool))


def mygrad() -> Iterator[Task]:
    import mygrad as mg
    from mygrad.nnet import conv_nd, max_pool

    def make(function: Callable[..., Any], arrays: list[np.ndarray], backward: bool) -> Run:
        def run() -> None:
            with mg.mem_guard_off if backward else mg.no_autodiff:
                y = function(*map(mg.tensor, arrays))
            if backward:
                y.backward(ones)

        ones = np.ones_like(function(*map(mg.tensor, arrays)).data)
        return run

    operations = [
        (name, partial(conv_nd, stride=1, padding=pad), [array(x), array(w)]) for name, x, w, pad in CONVS
    ]
    operations.append((POOL, partial(max_pool, pool=(2, 2), stride=2), [array(POOLED)]))
    for name, function, arrays in operations:
        yield Task(name, "forward", partial(make, function, arrays, False))
        yield Task(name, BOTH, partial(make, function, arrays, True))


def cs231n() -> Iterator[Task]:
    from cs231n import fast_layers

    def make(kind: str, arguments: list[Any], backward: bool) -> Run:
        forward, back = (getattr(fast_layers, f"{kind}_{way}_fast") for way in ("forward", "backward"))
        if not backward:
            return partial(forward, *arguments)
        dout = np.ones_like(forward(*arguments)[0])
        return lambda: back(dout, forward(*arguments)[1])

    operations: list[tuple[str, str, list[Any]]] = [
        (name, "conv", [array(x), array(w), array(w[:1]), {"stride": 1, "pad": pad}])
        for name, x, w, pad in CONVS
    ]
    operations.append((POOL, "max_pool", [array(POOLED), {"pool_height": 2, "pool_width": 2, "stride": 2}]))
    for name, kind, arguments in operations:
        yield Task(name, "forward", partial(make, kind, arguments, False))
        yield Task(name, BOTH, partial(make, kind, arguments, True))


def autograd() -> Iterator[Task]:
    import autograd.numpy as anp
    import autograd.scipy.signal as signal
    from autograd import grad

    axes = {"axes": ([2, 3], [2, 3]), "dot_axes": ([1], [0]), "mode": "valid"}

    def forward(x: np.ndarray, w: np.ndarray) -> Any:
        return signal.convolve(x, w, **axes)

    for name, x, w, pad in CONVS:
        padded = np.pad(array(x), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        filters = array((w[1], w[0], *w[2:]))  # (C, K, R, S)
        both = grad(lambda arrays: anp.sum(forward(*arrays)))
        yield Task(name, "forward", lambda x=padded, w=filters: partial(forward, x, w))
        yield Task(name, BOTH, lambda x=padded, w=filters, both=both: partial(both, (x, w)))


def pygad() -> Iterator[Task]:
    from pygad import cnn

    def make(layer: Any, method: str, batch: np.ndarray, *arguments: Any) -> Run:
        run = getattr(layer, method)
        return lambda: [run(image, *arguments) for image in batch]

    for name, x, w, _ in CONVS:
        layer = cnn.Conv2D(w[0], w[2], activation_function=None, previous_layer=cnn.Input2D((*x[2:], x[1])))
        task = partial(make, layer, "conv_", images(x), np.moveaxis(array(w), 1, -1))
        yield Task(f"{name}, no padding", "forward", task)
    first = cnn.Input2D((*POOLED[2:], POOLED[1]))
    for kind, method in ((cnn.MaxPooling2D, "max_pooling"), (cnn.AveragePooling2D, "average_pooling")):
        name = POOL if method == "max_pooling" else "2x2 average pool"
        yield Task(name, "forward", partial(make, kind(2, first, 2), method, images(POOLED)))


def nengo() -> Iterator[Task]:
    from nengo.builder import transforms

    def make(x: np.ndarray, w: np.ndarray, backward: bool) -> Run:
        y = transforms.conv2d(x, w)
        swapped = w.swapaxes(2, 3)
        if backward:
            return lambda: transforms.conv2d_gradx(swapped, y, x.shape[1:3])
        return lambda: transforms.conv2d(x, w)

    for name, x, w, _ in CONVS:
        arrays = images(x), np.ascontiguousarray(array(w).transpose(2, 3, 1, 0))
        yield Task(name, "forward", partial(make, *arrays, False))
        yield Task(name, "input gradient", partial(make, *arrays, True))


def scipy() -> Iterator[Task]:
    from scipy import ndimage, signal

    def make(module: Any, name: str, batch: np.ndarray, w: np.ndarray, **options: Any) -> Run:
        def run() -> None:  # looks the function up as it stands
            function = getattr(module, name)
            for image in batch:
                function(image, w, **options)

        return run

    for count, size, taps in ((512, 32, 3), (512, 28, 5), (8, 256, 5)):
        batch, w = array((count, size, size)), array((taps, taps))
        name = f"{count} images {size}x{size}, {taps}x{taps}, one by one"
        for module, function, options in (
            (signal, "correlate2d", {"mode": "same"}),
            (signal, "convolve2d", {"mode": "same"}),
            (ndimage, "convolve", {}),
        ):
            run = partial(make, module, function, batch, w, **options)
            yield Task(f"{function}: {name}", "forward", run)


def dlfs() -> Iterator[Task]:
    from common import layers

    def make(layer: Any, x: np.ndarray, backward: bool) -> Run:
        if not backward:
            return lambda: layer.forward(x)
        dout = np.ones_like(layer.forward(x))
        return lambda: (layer.forward(x), layer.backward(dout))

    cases = [
        (name, layers.Convolution(array(w), array(w[:1]), 1, pad), array(x)) for name, x, w, pad in CONVS
    ]
    cases.append((POOL, layers.Pooling(2, 2, 2), array(POOLED)))
    for name, layer, x in cases:
        yield Task(name, "forward", partial(make, layer, x, False))
        yield Task(name, BOTH, partial(make, layer, x, True))


def keras() -> Iterator[Task]:
    """`keras.ops` on NumPy arrays, which call jax where fastconv is not installed."""
    importlib.import_module("fastconv.adapters.keras")  # before keras, where jax is missing
    from keras import ops

    def make(name: str, *arguments: Any, **options: Any) -> Run:
        return partial(getattr(ops, name), *arguments, **options)

    for name, x, w, _ in CONVS:
        filters = np.ascontiguousarray(array(w).transpose(2, 3, 1, 0))
        yield Task(name, "forward", partial(make, "conv", images(x), filters, padding="same"))
    yield Task(POOL, "forward", partial(make, "max_pool", images(POOLED), 2, 2))
    yield Task("2x2 average pool", "forward", partial(make, "average_pool", images(POOLED), 2, 2))


TASKS = {task.__name__: task for task in (onnx, mygrad, cs231n, autograd, pygad, nengo, scipy, dlfs, keras)}


def stands_in(module: str) -> bool:
    """Whether the host found is the one of this folder."""
    spec = importlib.util.find_spec(module)
    return bool(spec and spec.origin and Path(spec.origin).is_relative_to(STAND_INS))

"""The assignment's fast layers, against its naive definitions and numerical gradients.

The course's code is not on PyPI: a package of the same layout, with the definitions below, stands in for it.
"""

import importlib
import sys

import numpy as np
import pytest
from numerical import numerical_grad

from fastconv.adapters import cs231n
from fastconv.adapters.base import MissingHost, count_calls

RNG = np.random.default_rng(0)
NAMES = [name for name in cs231n.__all__ if name.endswith("_fast")]


def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    (r, s), (h, width) = w.shape[2:], padded.shape[2:]
    out = np.empty((len(x), len(w), 1 + (h - r) // stride, 1 + (width - s) // stride))
    for n, k, i, j in np.ndindex(out.shape):
        window = padded[n, :, i * stride : i * stride + r, j * stride : j * stride + s]
        out[n, k, i, j] = (window * w[k]).sum() + b[k]
    return out


def max_pool_forward_naive(x, pool_param):
    r, s, stride = (pool_param[name] for name in ("pool_height", "pool_width", "stride"))
    out = np.empty((*x.shape[:2], 1 + (x.shape[2] - r) // stride, 1 + (x.shape[3] - s) // stride))
    for n, c, i, j in np.ndindex(out.shape):
        out[n, c, i, j] = x[n, c, i * stride : i * stride + r, j * stride : j * stride + s].max()
    return out


@pytest.mark.parametrize("stride, pad", [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_conv(stride, pad):
    x, w, b = (RNG.standard_normal(shape) for shape in ((2, 3, 5, 6), (4, 3, 3, 3), (4,)))
    param = {"stride": stride, "pad": pad}
    with count_calls() as calls:
        out, cache = cs231n.conv_forward_fast(x, w, b, param)
        dout = RNG.standard_normal(out.shape)
        grads = cs231n.conv_backward_fast(dout, cache)
    assert calls == {"conv2d": 1, "conv2d_input_grad": 1, "conv2d_filter_grad": 1}
    np.testing.assert_allclose(out, conv_forward_naive(x, w, b, param), rtol=0, atol=1e-12)
    for grad, value in zip(grads, (x, w, b), strict=True):
        # a convolution is linear in each argument: a long step has no truncation error
        want = numerical_grad(lambda: (conv_forward_naive(x, w, b, param) * dout).sum(), value, h=1.0)
        np.testing.assert_allclose(grad, want, rtol=0, atol=1e-8)


@pytest.mark.parametrize("window, stride", [((2, 2), 2), ((3, 2), 2), ((2, 2), 1)])
def test_max_pool(window, stride):
    x = RNG.permutation(2.0 * 3 * 6 * 7 * np.linspace(0, 1, 2 * 3 * 6 * 7)).reshape(2, 3, 6, 7)
    param = {"pool_height": window[0], "pool_width": window[1], "stride": stride}
    with count_calls() as calls:
        out, cache = cs231n.max_pool_forward_fast(x, param)
        dout = RNG.standard_normal(out.shape)
        dx = cs231n.max_pool_backward_fast(dout, cache)
    assert calls == {"max_pool2d": 1, "max_pool2d_grad": 1}
    np.testing.assert_array_equal(out, max_pool_forward_naive(x, param))
    want = numerical_grad(lambda: (max_pool_forward_naive(x, param) * dout).sum(), x)
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-6)


def test_float32_stays_and_other_dtypes_are_promoted():
    x, w, b = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.ones(1)
    param = {"stride": 1, "pad": 0}
    for dtypes, want in [("fff", "f"), ("fdf", "d"), ("iff", "d"), ("iii", "d")]:
        arrays = [array.astype(dtype) for array, dtype in zip((x, w, b), dtypes, strict=True)]
        out, cache = cs231n.conv_forward_fast(*arrays, param)
        assert out.dtype == want
        assert [grad.dtype for grad in cs231n.conv_backward_fast(out, cache)] == [want] * 3


@pytest.fixture
def course(tmp_path, monkeypatch):
    """`cs231n`, its functions recognizable, imported by name as the course does."""
    functions = "".join(f"def {name}(*args): return {name!r}\n" for name in (*NAMES, "conv_forward_im2col"))
    files = {
        "__init__": "",
        "fast_layers": functions,
        "layer_utils": "from .fast_layers import *\ndef conv(*args): return conv_forward_fast(*args)\n",
        "classifiers/__init__": "",
        "classifiers/cnn": "from ..fast_layers import *\nfrom ..layer_utils import *\n",
    }
    for name, text in files.items():
        path = tmp_path / "cs231n" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("cs231n.classifiers.cnn")
    for name in [name for name in sys.modules if name.split(".")[0] == "cs231n"]:
        del sys.modules[name]


def test_the_course_runs_on_fastconv(course):
    x, w, b = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), np.ones(1)
    with cs231n.installed(), count_calls() as calls:
        out, _ = course.conv(x, w, b, {"stride": 1, "pad": 0})
        assert course.conv_forward_im2col is cs231n.conv_forward_fast
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), 5.0))
    assert calls == {"conv2d": 1}
    for module in map(importlib.import_module, cs231n.MODULES):
        assert not hasattr(module, "max_pool_forward_im2col")
        for name in NAMES:
            assert getattr(module, name)() == name


def test_without_the_course_there_is_one_sentence():
    with pytest.raises(MissingHost, match="CS231n, which is not installed: put cs231n on the import path"):
        cs231n.install()

"""Every error of the public functions: the call, the exception, and what its message says."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.ops.errors import shown

X = np.ones((2, 8, 9, 10), np.float32)
W = np.ones((6, 4, 3, 3), np.float32)  # for 2 groups
BIAS = np.ones(6, np.float32)
DY = np.ones((2, 6, 7, 8), np.float32)
POOLED, ARGMAX = fc.max_pool2d(X, 2, return_argmax=True)
NESTED: Any = reduce(lambda inner, _: (inner,), range(5000), 1)


class HostileRepr:
    def __repr__(self) -> str:
        return "x" * 10_000


def conv(x: Any = X, w: Any = W, bias: Any = None, **keywords: Any) -> Any:
    return fc.conv2d(x, w, bias, **{"groups": 2, **keywords})


def read_only() -> Any:
    out = np.empty((2, 6, 7, 8), np.float32)
    out.flags.writeable = False
    return out


def overlapping_out() -> Any:
    """A convolution whose `out` begins inside its input."""
    memory = np.ones(X.size + DY.size, np.float32)
    return conv(x=memory[: X.size].reshape(X.shape), out=memory[X.size - 1 :][: DY.size].reshape(DY.shape))


CASES: dict[str, tuple[Any, type[Exception], str]] = {
    # arrays: kind, dtype, shape
    "list": (lambda: conv(x=X.tolist()), TypeError, "conv2d: x is 'list': it must be a NumPy array"),
    "None": (lambda: conv(w=None), TypeError, "conv2d: w is 'NoneType': it must be a NumPy array"),
    "scalar": (lambda: conv(bias=1.0), TypeError, "conv2d: bias is 'float': it must be a NumPy array"),
    "masked": (lambda: conv(x=np.ma.masked_less(X, 0)), TypeError, "conv2d: x is a masked array: fill it first"),
    "int": (lambda: conv(x=X.astype(int)), TypeError, "conv2d: x has dtype int64: it must be native float32 or float64"),
    "bool": (lambda: conv(x=X > 0), TypeError, "x has dtype bool"),
    "float16": (lambda: conv(x=X.astype("e")), TypeError, "x has dtype float16: it must be native float32 or float64: x.astype(np.float32)"),
    "longdouble": (lambda: conv(x=X.astype("g")), TypeError, "x.astype(np.float64)"),
    "complex": (lambda: conv(w=W.astype("F")), TypeError, "conv2d: w has dtype complex64"),
    "object": (lambda: conv(w=W.astype(object)), TypeError, "conv2d: w has dtype object"),
    "string": (lambda: conv(w=W.astype("U4")), TypeError, "conv2d: w has dtype <U4"),
    "other byte order": (lambda: conv(x=X.astype(">f4")), TypeError, "x has dtype >f4: it must be native float32 or float64"),
    "two dtypes": (lambda: conv(w=W.astype("d")), TypeError, "conv2d: w is float64, the other arrays float32: cast it: w.astype(np.float32)"),
    "bias dtype": (lambda: conv(bias=BIAS.astype("d")), TypeError, "conv2d: bias is float64, the other arrays float32"),
    "3 axes": (lambda: conv(x=X[0]), ValueError, "conv2d: x has 3 dimensions (8, 9, 10): it must have 4 (NCHW)"),
    "5 axes": (lambda: conv(x=X[None]), ValueError, "conv2d: x has 5 dimensions"),
    "0 axes": (lambda: conv(x=np.ones((), "f")), ValueError, "conv2d: x has 0 dimensions (): it must have 4 (NCHW)"),
    "w 3 axes": (lambda: conv(w=W[0]), ValueError, "conv2d: w has 3 dimensions (4, 3, 3): it must have 4 (KCRS)"),
    "w 3 axes, NHWC": (lambda: conv(w=W[0], layout="NHWC"), ValueError, "it must have 4 (RSCK)"),
    "channels": (lambda: conv(w=np.ones((6, 3, 3, 3), "f")), ValueError, "conv2d: w has 3 input channels per group, x has 8 channels in 2 groups: w.shape[1] must be 4"),
    "channels, NHWC": (lambda: conv(w=np.ones((3, 3, 4, 6), "f"), layout="NHWC"), ValueError, "conv2d: w has 4 input channels per group, x has 10 channels in 2 groups: w.shape[2] must be 5"),
    "bias shape": (lambda: conv(bias=np.ones(5, "f")), ValueError, "conv2d: bias has shape (5,): it must be (6,)"),
    "bias column": (lambda: conv(bias=np.ones((6, 1), "f")), ValueError, "conv2d: bias has shape (6, 1): it must be (6,)"),
    "no pixels": (lambda: conv(x=X[:, :, :0]), ValueError, "conv2d: x has spatial size (0, 10): every spatial axis must be at least 1"),
    "no taps": (lambda: conv(w=W[:, :, :, :0]), ValueError, "conv2d: w has spatial size (3, 0): every spatial axis must be at least 1"),
    "w too big": (lambda: conv(x=X[:, :, :2]), ValueError, "conv2d: axis 0: a window of extent 3 on an input of 2 padded to 2: the output would be empty"),
    # groups
    "groups 0": (lambda: conv(groups=0), ValueError, "conv2d: groups is 0: it must be at least 1"),
    "groups -1": (lambda: conv(groups=-1), ValueError, "conv2d: groups is -1: it must be at least 1"),
    "groups of x": (lambda: conv(groups=3), ValueError, "conv2d: x has 8 channels in 3 groups: groups must divide the channels"),
    "groups of w": (lambda: conv(groups=4, w=W[:, :2]), ValueError, "conv2d: w has 6 filters in 4 groups: groups must divide the filters"),
    "groups 2.0": (lambda: conv(groups=2.0), TypeError, "conv2d: groups is 2.0: it must be an integer"),
    "groups pair": (lambda: conv(groups=(1, 2)), TypeError, "conv2d: groups is (1, 2): it must be an integer"),
    # stride and dilation
    "stride 0": (lambda: conv(stride=0), ValueError, "conv2d: stride is 0: it must be at least 1"),
    "stride -1": (lambda: conv(stride=(1, -1)), ValueError, "conv2d: stride[1] is -1: it must be at least 1"),
    "stride nan": (lambda: conv(stride=float("nan")), TypeError, "conv2d: stride is nan: it must be an integer"),
    "stride 1.0": (lambda: conv(stride=1.0), TypeError, "conv2d: stride is 1.0: it must be an integer"),
    "stride inf": (lambda: conv(stride=(1, np.inf)), TypeError, "conv2d: stride[1] is inf: it must be an integer"),
    "stride True": (lambda: conv(stride=True), TypeError, "conv2d: stride is True: it must be an integer"),
    "stride np.True_": (lambda: conv(stride=np.bool_(True)), TypeError, "it must be an integer"),
    "stride None": (lambda: conv(stride=None), TypeError, "conv2d: stride is None: it must be an integer"),
    "stride text": (lambda: conv(stride="1"), TypeError, "conv2d: stride is '1': it must be an integer"),
    "stride of 3": (lambda: conv(stride=(1, 1, 1)), ValueError, "conv2d: stride has 3 elements (1, 1, 1): it must be an integer or 2 of them"),
    "stride of 0": (lambda: conv(stride=()), ValueError, "conv2d: stride has 0 elements (): it must be an integer or 2 of them"),
    "stride array": (lambda: conv(stride=np.array([1.0, 2.0])), TypeError, "conv2d: stride[0] is 1.0: it must be an integer"),
    "stride dict": (lambda: conv(stride={1: 2}), TypeError, "conv2d: stride is {1: 2}: it must be an integer"),
    "stride 2**62": (lambda: conv(stride=2**62), ValueError, "must be below 2**62"),
    "stride 2**200": (lambda: conv(stride=2**200), ValueError, "must be below 2**62"),
    "stride range": (lambda: conv(stride=range(10**30)), ValueError, "conv2d: stride is range(0, 1000000000000000000000000000000), more than 64 elements: it must be an integer or 2 of them"),
    "stride 10**6000": (lambda: conv(stride=10**6000), ValueError, "conv2d: stride is an int too long to show: it must be below 2**62"),
    "hostile repr": (lambda: conv(stride=HostileRepr()), TypeError, "xxx...: it must be an integer"),
    "dilation 0": (lambda: conv(dilation=0), ValueError, "conv2d: dilation is 0: it must be at least 1"),
    "dilation 2**61": (lambda: conv(dilation=2**61), ValueError, "conv2d: axis 0: "),
    "dilation 2**63": (lambda: conv(dilation=2**63), ValueError, "must be below 2**62"),
    "dilation of 1": (lambda: conv(dilation=[1]), ValueError, "conv2d: dilation has 1 elements [1]: it must be an integer or 2 of them"),
    # padding
    "padding -1": (lambda: conv(padding=-1), ValueError, "conv2d: padding is -1: it must be at least 0"),
    "padding after -1": (lambda: conv(padding=((0, -1), (0, 0))), ValueError, "conv2d: padding[0][1] is -1: it must be at least 0"),
    "padding text": (lambda: conv(padding="SAME"), ValueError, "conv2d: padding is 'SAME': it must be 'valid', 'same', 'same_lower', an integer, 2 integers or (before, after) pairs"),
    "padding 0.5": (lambda: conv(padding=0.5), TypeError, "conv2d: padding is 0.5: it must be an integer"),
    "padding None": (lambda: conv(padding=None), TypeError, "conv2d: padding is None: it must be an integer"),
    "padding of 4": (lambda: conv(padding=(1, 1, 1, 1)), ValueError, "conv2d: padding has 4 elements (1, 1, 1, 1)"),
    "padding triple": (lambda: conv(padding=((1, 1, 1), 1)), ValueError, "conv2d: padding[0] is (1, 1, 1): it must be an integer or a (before, after) pair"),
    "padding False": (lambda: conv(padding=(False, 1)), TypeError, "conv2d: padding[0] is False: it must be an integer"),
    "padding bytes": (lambda: conv(padding=b"same"), TypeError, "conv2d: padding is b'same'"),
    "padding 2**40": (lambda: conv(padding=2**40), ValueError, "conv2d: an array of shape"),
    "padding 2**61": (lambda: conv(padding=2**61), ValueError, "conv2d: axis 0: "),
    "padding 2**63": (lambda: conv(padding=2**63), ValueError, "conv2d: padding is 9223372036854775808: it must be below 2**62"),
    "padding 2**31": (lambda: conv(padding=2**31, stride=2**30), ValueError, "conv2d: padding ((2147483648, 2147483648), (2147483648, 2147483648)) makes 18446744155313930330 pixels of a plane of (9, 10) for (5, 5) outputs: there must be at most 16777216"),
    "dilation 2**31": (lambda: conv(padding=2**31, dilation=2**31), ValueError, "pixels of a plane of (9, 10) for (9, 10) outputs"),
    "padding of 2**40": (lambda: conv(padding=np.broadcast_to(np.int8(1), (2**20, 2**20))), TypeError, "conv2d: padding is array([[1, 1, 1, ..., 1, 1, 1],"),
    "padding list of 10**7": (lambda: conv(padding=[1] * 10**7), ValueError, "more than 64 elements"),
    "padding nested": (lambda: conv(padding=NESTED), ValueError, "conv2d: padding has 1 elements (((((...),),),),)"),
    "mode": (lambda: conv(padding_mode="wrap"), ValueError, "conv2d: padding_mode is 'wrap': it must be one of zeros, reflect, replicate, circular"),
    "mode None": (lambda: conv(padding_mode=None), TypeError, "conv2d: padding_mode is None: it must be one of zeros, reflect"),
    "reflect": (lambda: conv(padding=(9, 0), padding_mode="reflect"), ValueError, "conv2d: padding[0] is (9, 9) on an axis of 9: padding_mode 'reflect' takes at most 8"),
    "circular": (lambda: conv(padding=(0, 11), padding_mode="circular"), ValueError, "conv2d: padding[1] is (11, 11) on an axis of 10: padding_mode 'circular' takes at most 10"),
    # the other keywords
    "activation": (lambda: conv(activation="gelu"), ValueError, "conv2d: activation is 'gelu': it must be None or one of relu, leaky_relu, sigmoid, tanh"),
    "gradient of no activation": (lambda: fc.activation_grad(X, X, "gelu"), ValueError, "activation_grad: activation is 'gelu': it must be None or one of relu, leaky_relu, sigmoid, tanh, relu6, softmax"),
    "gradient of the step": (lambda: fc.activation_grad(X, X, "step"), ValueError, "activation_grad: the step has no derivative at 0 and derivative 0 elsewhere"),
    "softmax of a scalar": (lambda: fc.activation_grad(X[0, 0, 0, 0, ...], X[0, 0, 0, 0, ...], "softmax"), ValueError, "activation_grad: dy has shape (): softmax needs a last axis"),
    "softmax is not fused": (lambda: conv(activation="softmax"), ValueError, "conv2d: activation is 'softmax': it must be None or one of relu"),
    "activation kind": (lambda: conv(activation=np.tanh), TypeError, "conv2d: activation is <ufunc 'tanh'>"),
    "layout": (lambda: conv(layout="CHWN"), ValueError, "conv2d: layout is 'CHWN': it must be 'NCHW' or 'NHWC'"),
    "layout of 1d": (lambda: conv(layout="NCW"), ValueError, "conv2d: layout is 'NCW': it must be 'NCHW' or 'NHWC'"),
    "layout kind": (lambda: conv(layout=2), TypeError, "conv2d: layout is 2: it must be 'NCHW' or 'NHWC'"),
    "kernel": (lambda: conv(kernel="cuda.direct"), ValueError, "conv2d: kernel is 'cuda.direct': it must be one of "),
    "kernel kind": (lambda: conv(kernel=3), TypeError, "conv2d: kernel is 3: it must be None or a kernel's name"),
    "unknown keyword": (lambda: conv(pad=1), TypeError, "pad"),
    # out
    "out shape": (lambda: conv(out=np.empty((2, 6, 7, 7), "f")), ValueError, "conv2d: out has shape (2, 6, 7, 7): it must be (2, 6, 7, 8)"),
    "out dtype": (lambda: conv(out=np.empty((2, 6, 7, 8))), TypeError, "conv2d: out has dtype float64: it must be float32"),
    "out kind": (lambda: conv(out=[]), TypeError, "conv2d: out is 'list': it must be a NumPy array or None"),
    "out read-only": (lambda: conv(out=read_only()), ValueError, "conv2d: out is read-only: it must be writeable"),
    "out over x": (overlapping_out, ValueError, "conv2d: out shares memory with an input or with itself: it must be an array of its own"),
    "out over itself": (lambda: conv(out=np.lib.stride_tricks.as_strided(np.empty(999, "f"), (2, 6, 7, 8), (4, 4, 4, 4))), ValueError, "out shares memory with an input or with itself"),
    # the gradients of conv2d
    "input_shape": (lambda: fc.conv2d_input_grad(DY, W, (2, 8, 9), groups=2), ValueError, "conv2d_input_grad: input has 3 dimensions (2, 8, 9): it must have 4 (NCHW)"),
    "input_shape kind": (lambda: fc.conv2d_input_grad(DY, W, 5, groups=2), TypeError, "conv2d_input_grad: input shape is 5: it must be 4 integers (NCHW)"),
    "input_shape None": (lambda: fc.conv2d_input_grad(DY, W, None, groups=2), TypeError, "conv2d_input_grad: input shape is None"),
    "input_shape -1": (lambda: fc.conv2d_input_grad(DY, W, (2, 8, -9, 10), groups=2), ValueError, "conv2d_input_grad: input.shape[2] is -9: it must be at least 0"),
    "input_shape 9.0": (lambda: fc.conv2d_input_grad(DY, W, (2, 8, 9.0, 10), groups=2), TypeError, "conv2d_input_grad: input.shape[2] is 9.0: it must be an integer"),
    "input_shape of others": (lambda: fc.conv2d_input_grad(DY, W, (2, 8, 10, 10), groups=2), ValueError, "conv2d_input_grad: dy has shape (2, 6, 7, 8): it must be (2, 6, 8, 8)"),
    "input channels": (lambda: fc.conv2d_input_grad(DY, W, (2, 6, 9, 10), groups=2), ValueError, "conv2d_input_grad: w has 4 input channels per group, input has 6 channels in 2 groups: w.shape[1] must be 3"),
    "input out": (lambda: fc.conv2d_input_grad(DY, W, X.shape, groups=2, out=DY), ValueError, "conv2d_input_grad: out has shape (2, 6, 7, 8): it must be (2, 8, 9, 10)"),
    "dy dtype": (lambda: fc.conv2d_input_grad(DY.astype("i"), W, X.shape, groups=2), TypeError, "conv2d_input_grad: dy has dtype int32"),
    "filter_shape": (lambda: fc.conv2d_filter_grad(X, DY, (6, 3, 3), groups=2), ValueError, "conv2d_filter_grad: filter has 3 dimensions (6, 3, 3): it must have 4 (KCRS)"),
    "filter channels": (lambda: fc.conv2d_filter_grad(X, DY, (6, 8, 3, 3), groups=2), ValueError, "conv2d_filter_grad: filter has 8 input channels per group, x has 8 channels in 2 groups: filter.shape[1] must be 4"),
    "filter dy": (lambda: fc.conv2d_filter_grad(X, DY[..., :-1], W.shape, groups=2), ValueError, "conv2d_filter_grad: dy has shape (2, 6, 7, 7): it must be (2, 6, 7, 8)"),
    "bias_grad": (lambda: fc.conv2d_filter_grad(X, DY, W.shape, groups=2, bias_grad=1), TypeError, "conv2d_filter_grad: bias_grad is 1: it must be True or False"),
    "filter out": (lambda: fc.conv2d_filter_grad(X, DY, W.shape, groups=2, out=np.empty(3, "f")), ValueError, "conv2d_filter_grad: out has shape (3,): it must be (6, 4, 3, 3)"),
    "huge input_shape": (lambda: fc.conv2d_input_grad(DY, W, (2**31, 8, 2**31, 10), groups=2), ValueError, "conv2d_input_grad: an array of shape (2147483648, 8, 2147483648, 10) is needed: it must have at most"),
    "huge filter_shape": (lambda: fc.conv2d_filter_grad(X, DY, (2**61, 4, 1, 1), groups=2), ValueError, "conv2d_filter_grad: an array of shape"),
    # pooling
    "window 0": (lambda: fc.max_pool2d(X, 0), ValueError, "max_pool2d: window is 0: it must be at least 1"),
    "window of 3": (lambda: fc.max_pool2d(X, (2, 2, 2)), ValueError, "max_pool2d: window has 3 elements (2, 2, 2): it must be an integer or 2 of them"),
    "window None": (lambda: fc.max_pool2d(X, None), TypeError, "max_pool2d: window is None: it must be an integer"),
    "window too big": (lambda: fc.max_pool2d(X, 20), ValueError, "max_pool2d: axis 0: a window of extent 20 on an input of 9 padded to 9"),
    "window 2**62": (lambda: fc.avg_pool2d(X, 2**62), ValueError, "avg_pool2d: window is 4611686018427387904: it must be below 2**62"),
    "window 2**31": (lambda: fc.avg_pool2d(X, 2**31, padding=2**30), ValueError, "avg_pool2d: padding ((1073741824, 1073741824), (1073741824, 1073741824)) makes 4611686059229577306 pixels of a plane of (9, 10)"),
    "window in padding": (lambda: fc.max_pool2d(X, 2, padding=2), ValueError, "max_pool2d: axis 0: a window (size 2, dilation 1, stride 2, padding 2) holds no element of the 9 inputs: every window must hold at least one"),
    "taps around": (lambda: fc.max_pool2d(X[:, :, :1], (2, 1), padding=(2, 0), dilation=(4, 1)), ValueError, "holds no element of the 1 inputs"),
    "pool stride 0": (lambda: fc.max_pool2d(X, 2, stride=0), ValueError, "max_pool2d: stride is 0: it must be at least 1"),
    "pool padding": (lambda: fc.max_pool2d(X, 2, padding=-1), ValueError, "max_pool2d: padding is -1: it must be at least 0"),
    "pool dtype": (lambda: fc.max_pool2d(X.astype("e"), 2), TypeError, "max_pool2d: x has dtype float16"),
    "pool rank": (lambda: fc.max_pool2d(X[0], 2), ValueError, "max_pool2d: x has 3 dimensions (8, 9, 10): it must have 4 (NCHW)"),
    "ceil_mode": (lambda: fc.max_pool2d(X, 2, ceil_mode=1), TypeError, "max_pool2d: ceil_mode is 1: it must be True or False"),
    "return_argmax": (lambda: fc.max_pool2d(X, 2, return_argmax="yes"), TypeError, "max_pool2d: return_argmax is 'yes': it must be True or False"),
    "pool layout": (lambda: fc.max_pool2d(X, 2, layout="NWC"), ValueError, "max_pool2d: layout is 'NWC': it must be 'NCHW' or 'NHWC'"),
    "pool out": (lambda: fc.max_pool2d(X, 1, out=X), ValueError, "max_pool2d: out shares memory with an input"),
    "pool kernel": (lambda: fc.max_pool2d(X, 2, kernel="none"), ValueError, "max_pool2d: kernel is 'none': it must be one of"),
    "count_include_pad": (lambda: fc.avg_pool2d(X, 2, count_include_pad=None), TypeError, "avg_pool2d: count_include_pad is None: it must be True or False"),
    "divisor 0": (lambda: fc.avg_pool2d(X, 2, divisor_override=0), ValueError, "avg_pool2d: divisor_override is 0: it must be another integer"),
    "divisor 2.0": (lambda: fc.avg_pool2d(X, 2, divisor_override=2.0), TypeError, "avg_pool2d: divisor_override is 2.0: it must be an integer"),
    "avg dy": (lambda: fc.avg_pool2d_grad(POOLED, X.shape, 3), ValueError, "avg_pool2d_grad: dy has shape (2, 8, 4, 5): it must be (2, 8, 3, 3)"),
    "avg input_shape": (lambda: fc.avg_pool2d_grad(POOLED, (2, 8), 2), ValueError, "avg_pool2d_grad: input has 2 dimensions (2, 8): it must have 4 (NCHW)"),
    # the routing gradient: an index outside the plane would write outside the array
    "argmax masked": (lambda: fc.max_pool2d_grad(POOLED, np.ma.array(ARGMAX), X.shape), TypeError, "max_pool2d_grad: argmax is a masked array: fill it first: argmax.filled(0)"),
    "argmax kind": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX.tolist(), X.shape), TypeError, "max_pool2d_grad: argmax is 'list': it must be a NumPy array of integers"),
    "argmax dtype": (lambda: fc.max_pool2d_grad(POOLED, POOLED, X.shape), TypeError, "max_pool2d_grad: argmax has dtype float32: it must be integers"),
    "argmax shape": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX[:1], X.shape), ValueError, "max_pool2d_grad: argmax has shape (1, 8, 4, 5): it must be (2, 8, 4, 5)"),
    "argmax -1": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX - 1, X.shape), ValueError, "max_pool2d_grad: argmax ranges from -1 to"),
    "argmax 90": (lambda: fc.max_pool2d_grad(POOLED, np.full_like(ARGMAX, 90), X.shape), ValueError, "max_pool2d_grad: argmax ranges from 90 to 90: it must be inside the plane of (9, 10), 0 to 89"),
    "argmax 2**32": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX.astype("i8") + 2**32, X.shape), ValueError, "max_pool2d_grad: argmax ranges from 429496"),
    "argmax 2**63": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX.astype("u8") + 2**63, X.shape), ValueError, "max_pool2d_grad: argmax ranges from 9223372036854"),
    "routing batch": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX, (3, 8, 9, 10)), ValueError, "max_pool2d_grad: dy has 2 images of 8 channels: it must have the input's 3 of 8"),
    "routing shape": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX, None), TypeError, "max_pool2d_grad: input shape is None"),
    "routing out": (lambda: fc.max_pool2d_grad(POOLED, ARGMAX, X.shape, out=np.empty(X.shape)), TypeError, "max_pool2d_grad: out has dtype float64: it must be float32"),
    # use
    "use kernel": (lambda: fc.use(kernel="fast").__enter__(), ValueError, "use: kernel is 'fast': it must be one of"),
    "use threads": (lambda: fc.use(threads=0).__enter__(), ValueError, "use: threads is 0: it must be from 1 to 1024"),
    "use threads 2.0": (lambda: fc.use(threads=2.0).__enter__(), TypeError, "use: threads is 2.0: it must be an integer"),
    "use precision": (lambda: fc.use(precision="low").__enter__(), ValueError, "use: precision is 'low': it must be one of high, highest"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_error(case: str) -> None:
    call, kind, message = CASES[case]
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nothing_is_written_when_an_argument_is_wrong() -> None:
    out = np.full((2, 6, 7, 8), 7, np.float32)
    for wrong in ({"activation": "gelu"}, {"bias": np.ones(3, "f")}, {"kernel": "none"}, {"stride": 0}):
        with pytest.raises(ValueError):
            conv(out=out, **wrong)
    assert (out == 7).all()


@pytest.mark.parametrize("value", [1.0, np.float64(1), np.True_, True])
def test_a_wrong_kind_of_an_equal_number_is_not_served_from_a_cache(value: Any) -> None:
    """1.0 == True == 1: a cached launch for the right argument must not let the wrong one pass."""
    conv(stride=1)
    fc.max_pool2d(X, 2, stride=1)
    with pytest.raises(TypeError, match="stride"):
        conv(stride=value)
    with pytest.raises(TypeError, match="stride"):
        fc.max_pool2d(X, 2, stride=value)
    conv(stride=np.int64(1))
    conv(stride=np.array([1, 1]))


def test_messages_stay_short() -> None:
    assert len(shown(HostileRepr())) == 80

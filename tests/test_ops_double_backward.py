"""Double backward: the gradient of each gradient, by the public functions named in docs/semantics.md.

Each gradient is linear in what it is differentiated by, so its derivative along a direction is a difference
of two calls, exact but for rounding; the products with a cotangent must agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv as fc

RNG = np.random.default_rng(11)
CONV: dict[str, Any] = {"stride": 2, "padding": [(1, 0), (1, 2)], "dilation": (1, 2), "groups": 2}


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def same(left: Any, right: Any) -> None:
    assert left == pytest.approx(right, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_convolution(mode: str) -> None:
    keywords = CONV | {"padding_mode": mode}
    x, w = draw(2, 4, 7, 8), draw(6, 2, 3, 2)
    dy = draw(*fc.conv2d(x, w, **keywords).shape)
    # dx = input_grad(dy, w); ddx is the gradient of a loss with respect to dx
    ddx, change_dy, change_w = draw(*x.shape), draw(*dy.shape), draw(*w.shape)
    same(
        np.vdot(ddx, fc.conv2d_input_grad(change_dy, w, x.shape, **keywords)),
        np.vdot(fc.conv2d(ddx, w, **keywords), change_dy),
    )
    same(
        np.vdot(ddx, fc.conv2d_input_grad(dy, change_w, x.shape, **keywords)),
        np.vdot(fc.conv2d_filter_grad(ddx, dy, w.shape, **keywords), change_w),
    )
    # (dw, db) = filter_grad(x, dy)
    ddw, ddb, change_x = draw(*w.shape), draw(6), draw(*x.shape)
    dw, db = fc.conv2d_filter_grad(x, change_dy, w.shape, bias_grad=True, **keywords)
    same(np.vdot(ddw, dw) + np.vdot(ddb, db), np.vdot(fc.conv2d(x, ddw, ddb, **keywords), change_dy))
    same(
        np.vdot(ddw, fc.conv2d_filter_grad(change_x, dy, w.shape, **keywords)),
        np.vdot(fc.conv2d_input_grad(dy, ddw, x.shape, **keywords), change_x),
    )


def test_transposed_convolution() -> None:
    keywords = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    x, w = draw(2, 4, 5, 4), draw(4, 3, 3, 3)
    dy = draw(*fc.conv_transpose2d(x, w, **keywords).shape)
    ddx, ddw, ddb = draw(*x.shape), draw(*w.shape), draw(6)
    change_x, change_w, change_dy = draw(*x.shape), draw(*w.shape), draw(*dy.shape)
    same(
        np.vdot(ddx, fc.conv_transpose2d_input_grad(change_dy, w, x.shape, **keywords)),
        np.vdot(fc.conv_transpose2d(ddx, w, **keywords), change_dy),
    )
    same(
        np.vdot(ddx, fc.conv_transpose2d_input_grad(dy, change_w, x.shape, **keywords)),
        np.vdot(fc.conv_transpose2d_filter_grad(ddx, dy, w.shape, **keywords), change_w),
    )
    dw, db = fc.conv_transpose2d_filter_grad(x, change_dy, w.shape, bias_grad=True, **keywords)
    expected = np.vdot(fc.conv_transpose2d(x, ddw, ddb, **keywords), change_dy)
    same(np.vdot(ddw, dw) + np.vdot(ddb, db), expected)
    same(
        np.vdot(ddw, fc.conv_transpose2d_filter_grad(change_x, dy, w.shape, **keywords)),
        np.vdot(fc.conv_transpose2d_input_grad(dy, ddw, x.shape, **keywords), change_x),
    )


def test_max_pooling_and_unpooling() -> None:
    x = draw(2, 3, 7, 6)
    y, argmax = fc.max_pool2d(x, 3, stride=2, padding=1, return_argmax=True)
    ddx, change = draw(*x.shape), draw(*y.shape)
    same(
        np.vdot(ddx, fc.max_pool2d_grad(change, argmax, x.shape)),
        np.vdot(fc.max_unpool2d_grad(ddx, argmax), change),
    )
    ddy, change_dx = draw(*y.shape), draw(*x.shape)
    same(
        np.vdot(ddy, fc.max_unpool2d_grad(change_dx, argmax)),
        np.vdot(fc.max_pool2d_grad(ddy, argmax, x.shape), change_dx),
    )


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (
            lambda x: fc.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
            lambda dy, shape: fc.avg_pool2d_grad(dy, shape, 3, stride=2, padding=1, count_include_pad=False),
        ),
        (lambda x: fc.adaptive_avg_pool2d(x, (3, 4)), fc.adaptive_avg_pool2d_grad),
        (fc.global_avg_pool, fc.global_avg_pool_grad),
    ],
)
def test_averages(forward: Any, backward: Any) -> None:
    ddx = draw(2, 3, 7, 6)
    change = draw(*forward(ddx).shape)
    same(np.vdot(ddx, backward(change, ddx.shape)), np.vdot(forward(ddx), change))


def test_lp_pooling() -> None:
    p, keywords = 3, {"stride": 1, "padding": 1}
    x = np.abs(draw(1, 2, 5, 4)) + 0.1
    y = fc.lp_pool2d(x, 2, p, **keywords)
    ddx, change = draw(*x.shape), draw(*y.shape)
    sums = 4 * fc.avg_pool2d(ddx * x ** (p - 1), 2, **keywords)
    same(
        np.vdot(ddx, fc.lp_pool2d_grad(change, x, y, 2, p, **keywords)), np.vdot(sums * y ** (1 - p), change)
    )


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "tanh", "relu6"])
def test_activations(activation: str) -> None:
    y = fc.conv2d(draw(1, 1, 4, 4), np.ones((1, 1, 1, 1)), activation=activation)
    ddx, change, dy = draw(*y.shape), draw(*y.shape), draw(*y.shape)
    same(
        np.vdot(ddx, fc.activation_grad(change, y, activation)),
        np.vdot(fc.activation_grad(ddx, y, activation), change),
    )
    # with respect to y: dy * ddx * (1 - 2y) for sigmoid, -2y for tanh, none for the others
    slope = {"sigmoid": 1 - 2 * y, "tanh": -2 * y}.get(activation, np.zeros_like(y))
    step, change = 1e-6, change * (y != 0)  # relu's derivative jumps at zero
    ahead, behind = (fc.activation_grad(dy, y + s * change, activation) for s in (step, -step))
    assert np.vdot(ddx, ahead - behind) / (2 * step) == pytest.approx(
        np.vdot(dy * ddx * slope, change), rel=1e-6, abs=1e-6
    )

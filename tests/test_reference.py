"""The reference kernel against the formulas themselves."""

import naive
import numpy as np
from harness import avg_pool, avg_pool_grad, filter_grad, forward, input_grad, max_pool, max_pool_grad
from hypothesis import given
from strategies import SEEDS, conv_specs, integers, pool_specs, work

from fastconv.kernels.reference import KERNEL, channels_first
from fastconv.ops.spec import ConvSpec, PoolSpec

SMALL_CONVS = conv_specs().filter(lambda spec: work(spec) < 50_000)
SMALL_POOLS = pool_specs().filter(lambda spec: np.prod(spec.y_shape) < 2_000)
SMALL_MEANS = pool_specs(needs_input=False).filter(lambda spec: np.prod(spec.y_shape) < 2_000)


@given(spec=SMALL_CONVS, seed=SEEDS)
def test_convolution_is_the_formula(spec: ConvSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = integers(rng, spec.x_shape, spec.dtype), integers(rng, spec.w_shape, spec.dtype)
    bias = integers(rng, (spec.k,), spec.dtype)
    y = channels_first(spec, forward(KERNEL, spec, x, w, bias))
    np.testing.assert_array_equal(y, naive.conv(spec, x, w) + bias.reshape(-1, *[1] * spec.ndim))


@given(spec=SMALL_CONVS, seed=SEEDS)
def test_gradients_are_the_formulas_adjoints(spec: ConvSpec, seed: int) -> None:
    """<conv(x, w), dy> = <x, input_grad> = <w, filter_grad> with the naive conv, for a random x, w and dy."""
    rng = np.random.default_rng(seed)
    x, w, dy = (integers(rng, shape, spec.dtype) for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    product = np.vdot(naive.conv(spec, x, w), channels_first(spec, dy))
    dx = input_grad(KERNEL, spec, dy, w)
    dw, db = filter_grad(KERNEL, spec, x, dy)
    assert np.vdot(x.astype(np.float64), dx) == product
    assert np.vdot(w.astype(np.float64), dw) == product
    np.testing.assert_array_equal(db, channels_first(spec, dy).sum((0, *range(2, spec.ndim + 2))))


@given(spec=SMALL_POOLS, seed=SEEDS)
def test_max_pool_is_the_definition(spec: PoolSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([0, 1, 2, np.nan, -np.inf, np.inf], spec.x_shape, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.1])
    x = x.astype(spec.dtype)
    y, argmax = (channels_first(spec, a) for a in max_pool(KERNEL, spec, x))
    expected, at = naive.max_pool(spec, x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(argmax, at)


@given(spec=SMALL_POOLS, seed=SEEDS)
def test_max_pool_grad_adds_at_argmax(spec: PoolSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dy = integers(rng, spec.y_shape, spec.dtype)
    _, argmax = max_pool(KERNEL, spec, integers(rng, spec.x_shape, spec.dtype))
    dx = channels_first(spec, max_pool_grad(KERNEL, spec, dy, argmax))
    flat_dy, flat_at = (channels_first(spec, a).reshape(spec.n, spec.c, -1) for a in (dy, argmax))
    for n, c in np.ndindex(spec.n, spec.c):
        plane = np.bincount(flat_at[n, c], flat_dy[n, c], np.prod(spec.size))
        np.testing.assert_array_equal(dx[n, c].ravel(), plane)


@given(spec=SMALL_MEANS, seed=SEEDS)
def test_avg_pool_is_the_definition_and_its_gradient_the_adjoint(spec: PoolSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, spec.x_shape, np.float64), integers(rng, spec.y_shape, np.float64)
    y = channels_first(spec, avg_pool(KERNEL, spec, x))
    np.testing.assert_allclose(y, naive.avg_pool(spec, x), rtol=1e-14, atol=1e-14)
    dx = avg_pool_grad(KERNEL, spec, dy)
    np.testing.assert_allclose(np.vdot(x, dx), np.vdot(y, channels_first(spec, dy)), rtol=1e-12, atol=1e-10)

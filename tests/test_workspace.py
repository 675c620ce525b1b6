"""What kernels say they allocate is what they allocate, and little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import KERNELS
from hypothesis import given
from hypothesis import strategies as st
from strategies import conv_specs, pool_specs

import fastconv as fc
from fastconv.dispatch import settings
from fastconv.dispatch.problem import random_arguments, seen_by_kernel
from fastconv.dispatch.select import refusal, select
from fastconv.kernels import cython
from fastconv.kernels.kernel import CONV_PASSES, POOL_PASSES, Kernel
from fastconv.ops.spec import ConvSpec, PoolSpec, conv_spec
from fastconv.tools.problems import PROBLEMS, Problem

COMPILED = {name: kernel for name, kernel in KERNELS.items() if name.startswith("cython.")}
MOST_PER_THREAD = 4 << 20


def allocated(kernel: Kernel, pass_name: str, spec: Any, threads: int) -> int:
    """The bytes of a run."""
    arguments = (spec, *random_arguments(pass_name, spec), threads)
    most: int = cython.engine(kernel.isa).allocated(kernel.passes[pass_name], arguments, dry=False)
    return most


@given(conv_specs() | pool_specs() | pool_specs(needs_input=False), st.sampled_from([1, 2]))
def test_workspace_is_what_a_run_allocates(spec: ConvSpec | PoolSpec, threads: int) -> None:
    for name, kernel in COMPILED.items():
        for pass_name in CONV_PASSES if isinstance(spec, ConvSpec) else POOL_PASSES:
            if not spec.empty and refusal(kernel, pass_name, spec, "high") is None:
                told = kernel.workspace(pass_name, spec, threads)
                assert told == allocated(kernel, pass_name, spec, threads), (name, pass_name)


def spec_of(problem: Problem, layout: str) -> ConvSpec:
    x, w = (problem.n, problem.c, *problem.size), (problem.k, problem.c // problem.groups, *problem.window)
    if layout == "NHWC":
        x, w = (x[0], *x[2:], x[1]), (*w[2:], w[1], w[0])
    return conv_spec("conv", x, w, np.dtype(np.float32), layout=layout, **problem.options)


NAMES = [name for name, problem in PROBLEMS.items() if problem.op == "conv2d"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", NAMES)
def test_the_workspace_beyond_packed_filters_is_small(name: str, layout: str) -> None:
    """No copy of the input: 4 MB a thread and the filters, packed or transformed.

    Winograd makes 36 elements of 9, at stride 2 four times as many.
    """
    spec, now = spec_of(PROBLEMS[name], layout), settings.Settings(None, 2, "high")
    for pass_name in CONV_PASSES:
        kernel = select("conv", pass_name, spec, now, None)
        classes = 4 if kernel.name == "cython.winograd" and max(spec.stride) == 2 else 1
        filters = 4 * classes * int(np.prod(spec.w_shape)) * spec.dtype.itemsize
        assert kernel.workspace(pass_name, spec, 2) <= 2 * MOST_PER_THREAD + filters, (pass_name, kernel.name)


JUST_IN_TIME = [name for name in KERNELS if name.startswith("numba.")]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pass_name", CONV_PASSES)
@pytest.mark.parametrize("name", JUST_IN_TIME)
def test_numba_kernels_tell_what_a_run_allocates(name: str, pass_name: str, layout: str) -> None:
    from fastconv.kernels.numba import jit

    kernel = KERNELS[name]
    for problem in (PROBLEMS["digits_c2"], PROBLEMS["mbv2_dw14"]):
        spec = spec_of(problem, layout)
        if refusal(kernel, pass_name, spec, "high") is None:
            arguments = (spec, *random_arguments(pass_name, spec), 2)
            assert kernel.workspace(pass_name, spec, 2) == jit.allocated(
                kernel.passes[pass_name], arguments, dry=False
            )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", [n for n in JUST_IN_TIME if n in ("numba.depthwise", "numba.winograd")])
def test_numba_workspace_beyond_packed_filters_is_small(name: str, layout: str) -> None:
    kernel, told = KERNELS[name], 0
    for problem in NAMES:
        spec = spec_of(PROBLEMS[problem], layout)
        filters = 5 * int(np.prod(spec.w_shape)) * spec.dtype.itemsize  # packed, and transformed from there
        for pass_name in CONV_PASSES:
            if refusal(kernel, pass_name, spec, "high") is None:
                told = kernel.workspace(pass_name, spec, 2)
                assert told <= 2 * MOST_PER_THREAD + filters, (problem, pass_name)
    assert told > 0


def test_it_is_told_before_and_after_a_run_and_costs_no_computation() -> None:
    x, w = (2, 32, 30, 30), (64, 32, 3, 3)
    told = fc.explain("forward", x, w, kernel="cython.im2col", measure=False)
    kernel = KERNELS[next(name for name in KERNELS if name.startswith("cython.im2col"))]
    assert told.workspace > 0
    large = conv_spec("conv", (4, 64, 1024, 1024), (64, 64, 3, 3), np.dtype(np.float32))
    assert 0 < kernel.workspace("forward", large, 2) < 2 * MOST_PER_THREAD
    # and the next call computes again
    y = fc.conv2d(np.ones(x), np.ones(w), kernel="cython.im2col")
    assert (y == 32 * 9).all()


def test_an_error_of_the_kernel_is_not_swallowed() -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("broken")

    for kernel in COMPILED.values():
        with pytest.raises(RuntimeError, match="broken"):
            cython.engine(kernel.isa).allocated(fails, ())


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_workspace_does_not_grow_with_the_planes_of_a_volume(c: int, stride: int) -> None:
    x, w = (1, c, 8, 1500, 1500), (8, c, 3, 3, 3)
    spec = conv_spec("conv", x, w, np.dtype(np.float32), stride=stride, padding=1, layout="NCDHW")
    now = settings.Settings(None, 2, "high")
    for pass_name in CONV_PASSES:
        kernel = select("conv", pass_name, spec, now, None)
        assert kernel.workspace(pass_name, spec, 2) <= 2 * MOST_PER_THREAD, pass_name


@pytest.mark.parametrize("layout", ["NCW", "NWC"])
@pytest.mark.parametrize(("c", "k", "window", "stride"), [(1, 32, 10, 5), (1, 8, 3, 1), (40, 40, 3, 2)])
def test_the_workspace_does_not_grow_with_a_signal(
    c: int, k: int, window: int, stride: int, layout: str
) -> None:
    x, w = (1, c, 1 << 21), (k, c, window)
    if layout == "NWC":
        x, w = (x[0], x[2], x[1]), (window, c, k)
    spec = seen_by_kernel(conv_spec("conv", x, w, np.dtype(np.float32), stride=stride, layout=layout))
    now = settings.Settings(None, 2, "high")
    for pass_name in CONV_PASSES:
        kernel = select("conv", pass_name, spec, now, None)
        assert kernel.workspace(pass_name, spec, 2) <= 2 * MOST_PER_THREAD, pass_name

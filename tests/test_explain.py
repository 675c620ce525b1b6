"""explain: the kernel a call runs, the reasons, the figures of the roofline."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import roofline
from fastconv.dispatch.registry import find_kernel, kernels_in_order

# Sizes that no other test uses: launches are cached, and each must be made while the kernels are recorded.
PROBLEMS = [
    ((3, 32, 21, 21), (32, 32, 3, 3), {"padding": 1}),
    ((3, 32, 21, 21), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ((3, 1, 13, 8), (1, 1, 3, 3), {}),
    ((3, 16, 9, 13), (24, 16, 1, 1), {"stride": 2}),
]


@pytest.mark.parametrize("x_shape, w_shape, options", PROBLEMS)
@pytest.mark.parametrize("pass_name", ["forward", "input_grad", "filter_grad"])
def test_names_the_kernel_that_a_call_runs(monkeypatch, x_shape, w_shape, options, pass_name):
    told = fc.explain(pass_name, x_shape, w_shape, measure=False, **options)
    ran = []
    for kernel in kernels_in_order():
        if pass_name in kernel.passes:
            record = recorder(ran, kernel.name, kernel.passes[pass_name])
            monkeypatch.setitem(kernel.passes, pass_name, record)
    x, w, dy = (np.zeros(shape, np.float32) for shape in (x_shape, w_shape, told.spec.y_shape))
    if pass_name == "forward":
        fc.conv2d(x, w, **options)
    elif pass_name == "input_grad":
        fc.conv2d_input_grad(dy, w, x_shape, **options)
    else:
        fc.conv2d_filter_grad(x, dy, w_shape, **options)
    assert ran == [told.kernel]


def recorder(ran, name, run):
    def record(*arguments):
        ran.append(name)
        run(*arguments)

    return record


def test_walks_the_list_in_order_with_a_reason_for_everything_passed_over():
    told = fc.explain("forward", (2, 4, 9, 9), (4, 1, 3, 3), groups=4, measure=False)
    names = [kernel.name for kernel in kernels_in_order()]
    assert [name for name, _ in told.passed_over] == names[: names.index(told.kernel)]
    assert all(reason for _, reason in told.passed_over)


def test_says_who_asked_for_a_kernel():
    shapes = ((2, 4, 9, 9), (4, 4, 3, 3))
    told = fc.explain("forward", *shapes, kernel="reference", measure=False)
    assert (told.kernel, told.passed_over) == ("reference", ())
    assert "kernel argument" in told.why
    with fc.use(kernel="reference"):
        told = fc.explain("forward", *shapes, measure=False)
    assert told.kernel == "reference"
    assert "use()" in told.why


def test_precision_is_obeyed():
    problem = ("forward", (2, 64, 32, 32), (64, 64, 3, 3))
    with fc.use(precision="highest"):
        told = fc.explain(*problem, padding=1, measure=False)
    assert find_kernel("test", told.kernel).sums_products


def test_counts_of_a_convolution():
    # 2 * N K OH OW C R S = 2 * 2*8*6*6 * 4*3*3; (2*4*8*8 + 8*4*3*3 + 2*8*6*6) * 8 bytes
    told = fc.explain("forward", (2, 4, 8, 8), (8, 4, 3, 3), dtype="float64", measure=False)
    assert told.flops == 41472
    assert told.least_bytes == (512 + 288 + 576) * 8


def test_counts_of_max_pooling():
    # x 2*3*8*8 and y 2*3*4*4 of 4 bytes, as many argmax of 4 bytes; 4 comparisons an output
    told = fc.explain("max_pool", (2, 3, 8, 8), 2, measure=False)
    assert told.least_bytes == 384 * 4 + 96 * (4 + 4)
    assert told.flops == 96 * 4


def test_roofline_is_the_larger_of_compute_and_traffic(monkeypatch):
    monkeypatch.setattr(
        roofline, "fma_peak", lambda itemsize, threads, isa=None: roofline.Peak(100.0, "test")
    )
    monkeypatch.setattr(roofline, "bandwidth", lambda nbytes, threads: 1e10)
    assert roofline.roofline(10**9, 10**6, 4, 1) == (0.01, "compute")
    assert roofline.roofline(10**6, 10**9, 4, 1) == (0.1, "bandwidth")


def test_measured_limits_are_plausible():
    # From a slow virtual machine to a large server: orders of magnitude only, never a time.
    assert 0.1 < roofline.fma_peak(4, 1).gflops < 1e5
    assert 1e8 < roofline.bandwidth(1 << 20, 1) < 1e13


@pytest.mark.parametrize("pass_name", ["max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad"])
@pytest.mark.parametrize("layout, shape", [("NCHW", (1, 3, 9, 9)), ("NHWC", (1, 9, 9, 3))])
def test_pooling_passes_run_when_measured(pass_name, layout, shape):
    told = fc.explain(pass_name, shape, 3, stride=2, layout=layout)
    assert told.seconds > 0
    assert "measured" in repr(told)


@pytest.mark.parametrize("pass_name", ["forward", "input_grad", "filter_grad"])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_convolution_passes_run_when_measured(pass_name, mode):
    told = fc.explain(pass_name, (2, 3, 9, 9), (4, 3, 3, 3), padding=1, padding_mode=mode)
    assert told.seconds > 0
    assert told.workspace >= 0


def test_every_rank_has_its_own_layouts():
    assert fc.explain("forward", (1, 2, 9), (3, 2, 3), measure=False).spec.y_shape == (1, 3, 7)
    told = fc.explain("forward", (1, 5, 6, 7, 2), (3, 3, 3, 2, 4), layout="NDHWC", measure=False)
    assert told.spec.y_shape == (1, 3, 4, 5, 4)


def test_an_empty_batch_is_nothing_to_do():
    told = fc.explain("forward", (0, 2, 9, 9), (3, 2, 3, 3), measure=False)
    assert "nothing is summed" in told.why
    assert told.flops == 0


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("backward", (1, 1, 8, 8), (1, 1, 3, 3)), {}, "pass_name is 'backward'"),
        (("forward", (1, 1, 8, 8), (1, 1, 3, 3)), {"dtype": "int32"}, "dtype is int32"),
        (("forward", (1, 1, 8, 8), (1, 2, 3, 3)), {}, "w has 2 input channels per group"),
        (("forward", (1, 1, 8, 8), (1, 1, 3, 3)), {"kernel": "cython.fast"}, "it must be one of"),
        (("max_pool", (1, 1, 8, 8), 0), {}, "window is 0"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        fc.explain(*arguments, **options)

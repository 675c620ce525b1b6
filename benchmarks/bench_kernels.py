"""Every kernel on every problem and pass, under pytest-benchmark.

    pytest benchmarks/bench_kernels.py -k "r50_3x3a and forward" --benchmark-columns=min,median

`fastconv bench` times the same calls without pytest, against the machine's peak.
"""

import pytest
from problems import CONV2D, PASSES

from fastconv import UnsupportedProblem
from fastconv.dispatch.registry import kernels_in_order
from fastconv.tools.workload import Workload, to_first

KERNELS = [kernel.name for kernel in kernels_in_order() if kernel.missing is None]
# Kernels that sum one tap at a time in Python are timed on problems of up to this many operations only.
SLOW = {"reference": 1e9}


@pytest.fixture(scope="module", params=CONV2D, ids=lambda problem: problem.name)
def work(request):
    return Workload(request.param)


@pytest.fixture(scope="module", params=PASSES)
def expected(request, work):
    """The pass with its right values and the scale of their rounding errors."""
    return (
        request.param,
        work.call(request.param, "NCHW", "reference")(),
        work.magnitude(request.param, "NCHW"),
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel(benchmark, work, expected, kernel, layout):
    pass_name, want, magnitude = expected
    if work.problem.flops > SLOW.get(kernel, float("inf")):
        pytest.skip(f"{kernel} takes seconds on {work.problem.flops / 1e6:.0f} MFLOP")
    call = work.call(pass_name, layout, kernel)
    try:
        got = call()
    except UnsupportedProblem as refusal:
        pytest.skip(str(refusal))
    assert work.error(to_first(pass_name, layout, work.problem, got), want, magnitude) <= 1
    benchmark.extra_info["mflop"] = work.problem.flops / 1e6
    benchmark(call)

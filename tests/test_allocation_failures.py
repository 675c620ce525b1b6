"""Every allocation of a compiled kernel fails in turn: a MemoryError each time, and the next call is right.

A library loaded before the C++ runtime counts and refuses `new` and `aligned_alloc`. An exception that leaves
an OpenMP region would end the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import run_python

import fastconv as fc

COMPILED = [
    row["kernel"] for row in fc.kernels() if row["kernel"].startswith("cython") and row["available"] == "yes"
]
REFUSING = r"""
#include <atomic>
#include <cstdlib>
#include <new>
static std::atomic<long> left{-1}, count{0};
extern "C" void refuse_after(long n) { left = n; }  // the next n are granted, all others not; -1: all are
extern "C" long allocations() { return count.exchange(0); }
static bool refused() {
    count++;
    if (left < 0) return false;
    long n = left;
    while (n > 0 && !left.compare_exchange_weak(n, n - 1)) {}
    return n == 0;
}
extern "C" void* aligned_alloc(size_t alignment, size_t size) {
    void* p = nullptr;
    return refused() || posix_memalign(&p, alignment, size) ? nullptr : p;
}
void* operator new(size_t size) {
    void* p = refused() ? nullptr : malloc(size ? size : 1);
    if (!p) throw std::bad_alloc();
    return p;
}
void operator delete(void* p) noexcept { free(p); }
void operator delete(void* p, size_t) noexcept { free(p); }
"""
SCRIPT = """
import ctypes, os
import numpy as np
import threadpoolctl
import fastconv as fc

memory = ctypes.CDLL(os.environ["LD_PRELOAD"])
threadpoolctl.threadpool_limits(2, user_api="openmp")
rng = np.random.default_rng(0)
kernel, layout = {kernel!r}, {layout!r}

def array(*shape):
    return rng.integers(-3, 4, shape).astype(np.float32)

def calls(c, k, hw, window, stride, groups):
    x = array(2, hw, hw, c) if layout == "NHWC" else array(2, c, hw, hw)
    w = array(window, window, c // groups, k) if layout == "NHWC" else array(k, c // groups, window, window)
    options = dict(padding=window // 2, stride=stride, groups=groups, layout=layout, kernel=kernel)
    y = fc.conv2d(x, w, **options | dict(kernel=None))
    pooled, argmax = fc.max_pool2d(x, 2, return_argmax=True, layout=layout)
    yield lambda: fc.conv2d(x, w, **options)
    yield lambda: fc.conv2d_input_grad(y, w, x.shape, **options)
    yield lambda: fc.conv2d_filter_grad(x, y, w.shape, **options)
    yield lambda: fc.max_pool2d(x, 2, layout=layout, kernel=kernel)
    yield lambda: fc.max_pool2d_grad(pooled, argmax, x.shape, layout=layout, kernel=kernel)
    yield lambda: fc.avg_pool2d(x, 3, layout=layout, kernel=kernel)
    yield lambda: fc.avg_pool2d_grad(x, x.shape, 1, layout=layout, kernel=kernel)

refusals = 0
problems = [
    (32, 32, 20, 3, 1, 1),
    (32, 32, 28, 3, 1, 32),
    (3, 32, 40, 5, 2, 1),
    (32, 32, 28, 7, 1, 32),
    (32, 48, 20, 1, 1, 1),
]
for call in (call for problem in problems for call in calls(*problem)):
    try:
        right = call()
    except fc.UnsupportedProblem:
        continue
    memory.allocations()
    call()
    total = memory.allocations()
    for granted in {{*range(min(total, 6)), *range(6, total, max(1, total // 5))}}:
        memory.refuse_after(granted)
        try:
            result = call()
        except MemoryError:
            refusals += 1
            continue
        finally:
            memory.refuse_after(-1)
        assert (result == right).all()  # memory of earlier results, or fewer allocations this time
    assert (call() == right).all()
assert refusals > 5, refusals
print("done")
"""


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C++ compiler")
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "refusing.cpp").write_text(REFUSING)
    library = folder / "refusing.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, folder / "refusing.cpp"], check=True)
    return library


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kernel", COMPILED)
def test_every_refused_allocation_is_a_memory_error(
    kernel: str, layout: str, refusing: Path, tmp_path: Path
) -> None:
    code = SCRIPT.format(kernel=kernel, layout=layout)
    environment = {"LD_PRELOAD": str(refusing), "FASTCONV_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = run_python(code, tmp_path, **environment)
    assert done.returncode == 0 and done.stdout.split() == ["done"], done.stdout + done.stderr

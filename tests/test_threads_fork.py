"""Many Python threads at once, forked children, multiprocessing, and Ctrl-C.

Each test is a script in a process of its own with a time limit: a deadlock is a failure, not a hang.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
from harness import run_python

import fastconv as fc

NAMES = [row["kernel"] for row in fc.kernels() if row["available"] == "yes"]
# Whole numbers: every kernel and every thread count gives the same bits. Work for more than one thread.
SETUP = """
import os, sys, threading
import numpy as np
import fastconv as fc

rng = np.random.default_rng(0)
x = rng.integers(-4, 5, (2, 32, 24, 24)).astype(np.float32)
w = rng.integers(-4, 5, (32, 32, 3, 3)).astype(np.float32)
depthwise = rng.integers(-4, 5, (32, 1, 3, 3)).astype(np.float32)
dy = rng.integers(-4, 5, (2, 32, 24, 24)).astype(np.float32)

def compute(kernel=None):
    "Every pass; kernels that lack one, or do no grouped filters, leave it to others."
    with fc.use(precision="highest"), fc.use(kernel=kernel):
        y = fc.conv2d(x, w, padding=1)
        dx = fc.conv2d_input_grad(dy, w, x.shape, padding=1)
        dw, db = fc.conv2d_filter_grad(x, dy, w.shape, padding=1, bias_grad=True)
        if kernel is None:
            y = y + fc.conv2d(x, depthwise, padding=1, groups=32)
        pooled, argmax = fc.max_pool2d(x, 2, return_argmax=True)
        back = fc.max_pool2d_grad(pooled, argmax, x.shape)
        mean = fc.avg_pool2d_grad(fc.avg_pool2d(x, 2), x.shape, 2)
        return [a.tobytes() for a in (y, dx, dw, db, pooled, argmax, back, mean)]

def in_child(function):
    "Exit code of a forked child that runs the function."
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if function() else 3)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
SUMS_PRODUCTS = [name for name in NAMES if "winograd" not in name and "depthwise" not in name]
each_kernel = pytest.mark.parametrize("kernel", [None, *SUMS_PRODUCTS])
TWO_THREADS = {"FASTCONV_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}


def check(code: str, folder: Path, **environment: str) -> None:
    """Run a script that must end well and print "done"."""
    done = run_python(SETUP + code, folder, **TWO_THREADS | environment)
    assert done.returncode == 0 and done.stdout.split()[-1:] == ["done"], done.stdout + done.stderr


@each_kernel
def test_many_python_threads_at_once(kernel: str | None, tmp_path: Path) -> None:
    """Also the very first calls, when caches fill and Numba compiles."""
    code = f"""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    results = list(pool.map(lambda _: compute({kernel!r}), range(24)))
assert all(r == results[0] for r in results)
assert results[0] == compute({kernel!r})
print("done")
"""
    check(code, tmp_path)


def test_what_threads_share_is_safe(tmp_path: Path) -> None:
    """A plan, the tables of launches and winners, the memory of results, all at once."""
    code = """
import random
from fastconv.ops import launch

with fc.use(precision="highest"):
    plan = fc.plan_conv2d(x.shape, w.shape, padding=1)
    plan.set_filters(w)
    expected = fc.conv2d(x, w, padding=1)
kept, start = [], threading.Barrier(8)

def planned(t):
    assert (plan.forward(x) == expected).all()
    plan.set_filters(w)

def chosen_anew(t):
    launch.forget()
    with fc.use(precision="highest", threads=1 + t % 2):
        assert (fc.conv2d(x, w, padding=1) == expected).all()

def tuned(t):
    fc.tune((1, 2, 5 + t, 5), (2, 2, 3, 3), passes=["forward"], kernels=["reference"], seconds=0)

def result_of_ones_own(t):
    y = fc.avg_pool2d(np.full((1, 8, 64, 64), 3, np.float32), 1)  # large enough to be kept for later results
    kept.append(y)
    y[...] = t
    while len(kept) > 12:
        try:
            kept.pop(0)
        except IndexError:
            pass
    assert (y == t).all()

errors = []
def work(t):
    start.wait()
    try:
        for i in range(60):
            random.choice([planned, chosen_anew, tuned, result_of_ones_own])(t)
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=work, args=[t]) for t in range(8)]
for t in threads: t.start()
for t in threads: t.join()
assert not errors, errors
print("done")
"""
    check(code, tmp_path)


@each_kernel
def test_a_forked_child_computes_after_its_parent_did(kernel: str | None, tmp_path: Path) -> None:
    code = f"""
expected = compute({kernel!r})
assert in_child(lambda: compute({kernel!r}) == expected) == 0
assert in_child(lambda: in_child(lambda: compute({kernel!r}) == expected) == 0) == 0  # a child's child
assert compute({kernel!r}) == expected
print("done")
"""
    check(code, tmp_path)


@pytest.mark.parametrize("kernel", [None, *(name for name in SUMS_PRODUCTS if name != "reference")])
def test_fork_while_other_threads_compute(kernel: str | None, tmp_path: Path) -> None:
    """Not the reference: NumPy's OpenBLAS itself may hang in a child forked while it multiplies."""
    code = f"""
expected, stop = compute({kernel!r}), threading.Event()
def work():
    while not stop.is_set():
        compute({kernel!r})
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
codes = [in_child(lambda: compute({kernel!r}) == expected) for _ in range(5)]
stop.set()
for t in threads: t.join()
assert codes == [0] * 5, codes
print("done")
"""
    check(code, tmp_path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kernel", [None, *(name for name in NAMES if name.endswith(".im2col"))])
def test_multiprocessing(method: str, kernel: str | None, tmp_path: Path) -> None:
    main = f"""
import multiprocessing
if __name__ == "__main__":
    expected = compute({kernel!r})
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        assert all(r == expected for r in pool.map(compute, [{kernel!r}] * 6))
    print("done")
"""
    (tmp_path / "main.py").write_text(SETUP + main)
    done = run_python(tmp_path / "main.py", tmp_path, **TWO_THREADS)
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("threads", [1, 2, 5, 64])
def test_any_number_of_threads_gives_the_same(threads: int, tmp_path: Path) -> None:
    """More threads than cores, and than there is work for."""
    code = f"""
with fc.use(threads=1):
    expected = [compute(k) for k in {SUMS_PRODUCTS}]
with fc.use(threads={threads}):
    assert [compute(k) for k in {SUMS_PRODUCTS}] == expected
print("done")
"""
    check(code, tmp_path, OMP_NUM_THREADS="8")


def test_use_belongs_to_the_thread_that_called_it(tmp_path: Path) -> None:
    code = """
from fastconv.dispatch import settings
seen = []
with fc.use(threads=1, kernel="reference"):
    thread = threading.Thread(target=lambda: seen.append(settings.current()))
    thread.start()
    thread.join()
assert seen[0].threads == 2 and seen[0].kernel is None, seen
print("done")
"""
    check(code, tmp_path)


def test_threadpoolctl_limits_are_respected(tmp_path: Path) -> None:
    """A caller that limits OpenMP to one thread gets one: the process starts no further ones."""
    code = """
import threadpoolctl
with threadpoolctl.threadpool_limits(1):
    compute()
    threads = len(os.listdir("/proc/self/task"))
assert threads == before, (before, threads)
print("done")
"""
    imported = "before = len(os.listdir('/proc/self/task'))\n"
    check(imported + code, tmp_path, OPENBLAS_NUM_THREADS="1")


def test_interrupted_calls_leave_the_process_usable(tmp_path: Path) -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
expected = compute()
for _ in range(5):
    threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
    try:
        while True:
            compute()
    except KeyboardInterrupt:
        pass
    assert compute() == expected
print("done")
"""
    check(code, tmp_path)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter has a GIL")
def test_free_threaded_python_stays_free(tmp_path: Path) -> None:
    """The compiled modules declare that they need no GIL: importing them does not bring it back."""
    code = """
from concurrent.futures import ThreadPoolExecutor
expected = compute()
with ThreadPoolExecutor(8) as pool:
    assert all(r == expected for r in pool.map(lambda _: compute(), range(24)))
assert not sys._is_gil_enabled()
print("done")
"""
    check(code, tmp_path)

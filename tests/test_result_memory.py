"""Results lie in aligned memory that dropped results leave behind; otherwise they are plain arrays."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from harness import run_python

import fastconv as fc
from fastconv.ops.memory import LEAST, empty

FLOAT32 = np.dtype(np.float32)
LARGE = (3, LEAST)


@pytest.mark.parametrize("shape", [(LEAST // 4,), LARGE, (1, 1, 1500, 1500)])
def test_large_results_are_aligned_and_their_own(shape: tuple[int, ...]) -> None:
    arrays = [empty(shape, FLOAT32) for _ in range(3)]
    for i, a in enumerate(arrays):
        assert a.ctypes.data % 64 == 0
        assert a.flags.c_contiguous and a.flags.writeable and a.flags.owndata
        a[...] = i
    assert [float(a.min()) for a in arrays] == [float(a.max()) for a in arrays] == [0, 1, 2]


def test_a_dropped_result_is_used_again_a_held_one_never() -> None:
    large = (3, 4_000_000)  # larger than what other tests leave
    a = empty(large, FLOAT32)
    place, view = a.ctypes.data, a[1:2]
    view[...] = 7
    del a
    b = empty(large, FLOAT32)
    b[...] = 1
    assert b.ctypes.data != place
    assert (view == 7).all()
    del view
    assert empty(large, FLOAT32).ctypes.data == place


def test_results_can_be_resized_and_pickled() -> None:
    a = empty((LEAST,), FLOAT32)
    a[...] = np.arange(LEAST)
    copy = pickle.loads(pickle.dumps(a))
    a.resize((4 * LEAST,), refcheck=False)
    assert (a[:LEAST] == copy).all() and not a[LEAST:].any()


def test_other_arrays_keep_their_own_memory() -> None:
    empty(LARGE, FLOAT32)
    from numpy._core.multiarray import get_handler_name

    assert get_handler_name(np.empty(LARGE)) == "default_allocator"


def test_threads_never_share_a_result() -> None:
    x, w = np.ones((2, 8, 64, 64), np.float32), np.ones((8, 8, 3, 3), np.float32)

    def work(value: int) -> bool:
        results = [fc.conv2d(x * value, w, padding=1) for _ in range(20)]
        return all((y[:, :, 1:-1, 1:-1] == 72 * value).all() for y in results)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(1, 17)))


def test_a_forked_child_computes_on(tmp_path: Path) -> None:
    code = """
import os, threading
import numpy as np
from fastconv.ops.memory import empty
stop = threading.Event()
def churn():
    while not stop.is_set():
        empty((300_000,), np.dtype(np.float32))
threads = [threading.Thread(target=churn) for _ in range(3)]
for t in threads: t.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        for _ in range(50):
            empty((300_000,), np.dtype(np.float32))[...] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for t in threads: t.join()
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr

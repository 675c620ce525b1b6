"""Memory that is used again: never while somebody can still see the array in it."""

import copy
import gc
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastconv.ops.memory import ALIGNMENT, LEAST, Memory, empty

FLOAT = np.dtype(np.float32)
SHAPE = (LEAST // 4, 2)


def address(a):
    return a.__array_interface__["data"][0]


def test_an_array_that_nobody_holds_makes_room_for_the_next():
    memory = Memory()
    with memory.used():
        a = empty(SHAPE, FLOAT)
        at = address(a)
        assert a.shape == SHAPE and a.dtype == FLOAT and a.flags.c_contiguous and a.flags.writeable
        assert at % ALIGNMENT == 0
        del a
        b = empty(SHAPE[::-1], FLOAT)
        assert address(b) == at
        c = empty(SHAPE, FLOAT)
        assert not np.shares_memory(b, c)


def test_views_and_exported_buffers_hold_it():
    memory = Memory()
    with memory.used():
        holders = [
            empty(SHAPE, FLOAT)[3:5],
            empty(SHAPE, FLOAT).T.reshape(-1)[::2],
            memoryview(empty(SHAPE, FLOAT)),
            np.asarray(memoryview(empty(SHAPE, FLOAT))),
        ]
        for i, held in enumerate(holders):
            np.asarray(held)[...] = i
        fresh = [empty(SHAPE, FLOAT) for _ in range(8)]
        for a in fresh:
            a[...] = -1
        for i, held in enumerate(holders):
            assert (np.asarray(held) == i).all()


def test_arrays_outlive_the_memory():
    memory = Memory()
    with memory.used():
        a = empty(SHAPE, FLOAT)
    a[...] = 7
    memory.clear()
    del memory
    gc.collect()
    assert (a == 7).all()


def test_a_block_far_too_large_is_not_taken():
    memory = Memory()
    with memory.used():
        empty((8 * LEAST,), FLOAT)
        small = empty((LEAST,), FLOAT)
    assert small.base.nbytes < 8 * LEAST


def test_small_arrays_and_calls_outside_are_numpys():
    memory = Memory()
    with memory.used():
        assert empty((3,), FLOAT).flags.owndata
    assert empty(SHAPE, FLOAT).flags.owndata
    assert not memory.blocks


def test_the_outer_memory_has_the_say():
    outer, inner = Memory(), Memory()
    with outer.used():
        with inner.used():
            empty(SHAPE, FLOAT)
        empty(SHAPE, FLOAT)
    assert len(outer.blocks) == 1 and not inner.blocks


def test_blocks_out_of_use_are_let_go():
    memory = Memory()
    with memory.used():
        empty(SHAPE, FLOAT)
    for _ in range(2):
        memory.next_round()
        assert len(memory.blocks) == 1
    memory.next_round()
    assert not memory.blocks


def test_copies_and_pickles_start_empty():
    memory = Memory()
    with memory.used():
        empty(SHAPE, FLOAT)
    for other in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert not other.blocks


def test_threads_never_share_a_block(monkeypatch):
    """Even where a thread is interrupted between finding a block and making an array in it."""
    find = Memory.smallest_free

    def found_slowly(memory, nbytes):
        block = find(memory, nbytes)
        time.sleep(1e-4)
        return block

    monkeypatch.setattr(Memory, "smallest_free", found_slowly)
    memory, shared = Memory(), []
    held = [[] for _ in range(4)]

    def work(mine):
        with memory.used():
            for _ in range(20):
                mine[:] = [empty(SHAPE, FLOAT), empty(SHAPE, FLOAT)]
                others = [a for arrays in held if arrays is not mine for a in list(arrays)]
                shared.extend(a for a in mine for b in others if np.shares_memory(a, b))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, held))
    assert not shared

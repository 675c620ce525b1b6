"""Memory for results: aligned, and that of earlier results which nobody holds any more.

Large results come from the compiled package's store (`result_memory.hpp`), which keeps up to 128 MB of them;
inside `Memory.used` from a net's own, which keeps as much as a step needs.

A training step makes the same arrays again and again. Returned to the system and asked for anew, their pages
are zeroed each time, 5 to 10% of a CIFAR step (docs/performance.md).
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.kernels import cython

# Smaller arrays come from malloc's own lists, at once and without new pages.
LEAST = 1 << 16
ALIGNMENT = 64  # a cache line, and the widest vector


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to be written whole."""
    if math.prod(shape) * dtype.itemsize < LEAST:
        return np.empty(shape, dtype)
    memory = _active.get()
    return cython.empty(shape, dtype) if memory is None else memory.empty(shape, dtype)


class Block:
    """Bytes that one array at a time lies in; an array, and every view of it, holds a reference to them."""

    __slots__ = ("bytes", "first", "last_used")

    def __init__(self, nbytes: int) -> None:
        self.bytes = np.empty(nbytes + ALIGNMENT, np.uint8)
        self.first = -self.bytes.ctypes.data % ALIGNMENT
        self.last_used = 0

    def holders(self) -> int:
        return sys.getrefcount(self.bytes)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.ndarray(shape, dtype, self.bytes, self.first)


NOBODY = Block(0).holders()


class Memory:
    """The blocks of a net; copies and pickles of it start without any."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.round = 0
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()

    @contextmanager
    def used(self) -> Iterator[None]:
        """The results of all operations inside come from here, unless an outer `used` has the say."""
        if _active.get() is not None:
            yield
            return
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        nbytes = math.prod(shape) * dtype.itemsize
        with self.lock:
            block = self.smallest_free(nbytes)
            block.last_used = self.round
            return block.array(shape, dtype)

    def smallest_free(self, nbytes: int) -> Block:
        """A block that nobody holds, at most twice as large as needed; a new one where there is none."""
        room = range(nbytes + ALIGNMENT, 2 * nbytes + ALIGNMENT + 1)
        free = [b for b in self.blocks if b.bytes.nbytes in room and b.holders() == NOBODY]
        if free:
            return min(free, key=lambda block: block.bytes.nbytes)
        self.blocks.append(Block(nbytes))
        return self.blocks[-1]

    def next_round(self) -> None:
        """Let go of blocks that the last two rounds did not need."""
        with self.lock:
            self.round += 1
            self.blocks = [b for b in self.blocks if b.last_used >= self.round - 2]

    def clear(self) -> None:
        """Let go of all blocks; arrays in them live on."""
        with self.lock:
            self.blocks = []


_active: ContextVar[Memory | None] = ContextVar("fastconv_memory", default=None)

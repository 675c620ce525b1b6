"""A product with one panel of columns: the register tile down all rows, depth in one piece."""

from __future__ import annotations

from fastconv.kernels.numba.jit import inline
from fastconv.kernels.numba.tile import MR, tile

# Integers of scratch a thread: rows of a and of c, one segment.
INDEX = 6 * MR


@inline
def index_of(thread, index, a_row, c_row):
    """Evenly spaced rows for `tile`; returns where the thread's numbers start."""
    start = thread * INDEX
    for i in range(MR):
        index[start + i] = i * a_row
        index[start + MR + i] = i * c_row
    return start


@inline
def gemm_panel(m, depth, a, a_at, a_row, a_step, b, b_at, b_step, c, c_at, c_row, columns, add, index, start):
    """c[i, j] (+)= sum of a[i, k] * b[k, j] for one panel of columns; index as index_of(a_row, c_row) left
    it.
    """
    segment = start + 3 * MR
    for i in range(0, m, MR):
        index[segment], index[segment + 1], index[segment + 2] = depth, a_at + i * a_row, 0
        tile(
            min(MR, m - i), a, index, start, a_step, index, segment // 3, segment // 3 + 1,
            b, b_at, b_step, c, index, start + MR, c_at + i * c_row, columns, add,
        )  # fmt: skip

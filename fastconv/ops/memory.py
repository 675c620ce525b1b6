"""Memory for results: `empty(shape, dtype)` makes an array that is to be written whole.

From LEAST bytes on it comes from the compiled package's store (`result_memory.hpp`): aligned to cache lines,
in memory of earlier results that nobody holds any more. A training step makes the same arrays again and
again; returned to the system and asked for anew, their pages would be zeroed each time, 5 to 10% of a CIFAR
step (docs/performance.md).
"""

from __future__ import annotations

from fastconv.kernels.cython import empty as empty

LEAST = 1 << 16

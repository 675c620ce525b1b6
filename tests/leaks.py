"""Do many calls leave memory behind? `make leaks`, or `python tests/leaks.py --calls N`.

Every kernel's passes are called over and over, errors included; after a warm-up the process may not grow by
more than a megabyte, where one lost argument array alone would be a hundred.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import KERNELS

import fastconv as fc

# Growth that an allocator's own bookkeeping explains.
ALLOWED = 1 << 20


def resident_bytes() -> int:
    """What the process holds in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def calls(kernel: str) -> list[Callable[[], object]]:
    """One call of every pass, with arrays of 10 to 40 kB, and one that fails."""
    x = np.ones((2, 8, 24, 24), np.float32)
    groups, f = (8, 5) if "depthwise" in kernel else (1, 3)
    w, padding = np.ones((8, 8 // groups, f, f), np.float32), f // 2
    y, argmax = np.ones((2, 8, 12, 12), np.float32), np.zeros((2, 8, 12, 12), np.int32)
    with fc.use(kernel=kernel):
        return [
            lambda: fc.conv2d(x, w, padding=padding, groups=groups, activation="relu"),
            lambda: fc.conv2d(x[:, :, ::-1], w, padding=padding, groups=groups, padding_mode="reflect"),
            lambda: fc.conv2d_input_grad(x, w, x.shape, padding=padding, groups=groups),
            lambda: fc.conv2d_filter_grad(x, x, w.shape, padding=padding, groups=groups, bias_grad=True),
            lambda: fc.max_pool2d(x, 2, return_argmax=True),
            lambda: fc.max_pool2d_grad(y, argmax, x.shape),
            lambda: fc.avg_pool2d(x, 2),
            lambda: fc.avg_pool2d_grad(y, x.shape, 2),
            lambda: expect_error(lambda: fc.conv2d(x, w, stride=0)),
            lambda: expect_error(lambda: fc.conv2d(x, w, out=y)),
        ]


def expect_error(call: Callable[[], object]) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError("the call should have failed")


def growth(kernel: str, number: int) -> tuple[int, int]:
    """Bytes by which the process and Python's own objects grew over `number` calls.

    A quarter as many go before: until then free lists, the allocator's arenas and tracemalloc's tables grow.
    """
    every = calls(kernel)
    tracemalloc.start()
    with fc.use(kernel=kernel):
        for i in range(max(20 * len(every), number // 4)):
            every[i % len(every)]()
        gc.collect()
        resident, traced = resident_bytes(), tracemalloc.get_traced_memory()[0]
        for i in range(number):
            every[i % len(every)]()
        gc.collect()
        grown = resident_bytes() - resident, tracemalloc.get_traced_memory()[0] - traced
    tracemalloc.stop()
    return grown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000, help="of each kernel")
    options = parser.parse_args()
    leaking = []
    for kernel in KERNELS:
        resident, traced = growth(kernel, options.calls)
        leak = resident > ALLOWED + options.calls * 8 or traced > ALLOWED // 4
        leaking += [kernel] if leak else []
        verdict = "LEAKS" if leak else "ok"
        print(f"{kernel:26s} process {resident:+10d}  Python {traced:+8d}  {verdict}", flush=True)
    return 1 if leaking else 0


if __name__ == "__main__":
    sys.exit(main())

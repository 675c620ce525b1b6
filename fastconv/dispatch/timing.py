"""How long a call takes: the minimum over repetitions, which is what the machine can do undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

# The clock itself costs about 0.1 us, a large part of a much shorter sample: quick calls are timed in blocks.
SHORTEST_SAMPLE = 50e-6


def best_seconds(call: Callable[[], Any], budget: float, least: int = 3) -> float:
    """Seconds of the quickest of at least `least` calls, repeated until `budget` seconds are spent.

    The caller has called once before, so that nothing is compiled or cached for the first time here.
    """
    block = 1
    best = _block_seconds(call, block)
    while best * block < SHORTEST_SAMPLE and block < 1024:
        block *= 2
        best = min(best, _block_seconds(call, block))
    end = perf_counter() + budget - best * block
    samples = 1
    while samples < least or perf_counter() < end:
        best = min(best, _block_seconds(call, block))
        samples += 1
    return best


def _block_seconds(call: Callable[[], Any], block: int) -> float:
    start = perf_counter()
    for _ in range(block):
        call()
    return (perf_counter() - start) / block

"""How long a call takes: the minimum over repetitions, which is what the machine can do undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

# The clock itself costs about 0.1 us, a large part of a much shorter sample: quick calls are timed in blocks.
SHORTEST_SAMPLE = 50e-6

Clock = Callable[[], float]


def best_seconds(
    call: Callable[[], Any], budget: float, least: int = 3, clock: Clock = perf_counter
) -> float:
    """Seconds of the quickest of at least `least` calls, repeated until `budget` seconds are spent.

    The caller has called once before, so that nothing is compiled or cached for the first time here. On a
    busy machine time.thread_time is the fairer clock, where all the work is in the calling thread.
    """
    block = 1
    best = _block_seconds(call, block, clock)
    while best * block < SHORTEST_SAMPLE and block < 1024:
        block *= 2
        best = min(best, _block_seconds(call, block, clock))
    end = perf_counter() + budget - best * block
    samples = 1
    while samples < least or perf_counter() < end:
        best = min(best, _block_seconds(call, block, clock))
        samples += 1
    return best


def _block_seconds(call: Callable[[], Any], block: int, clock: Clock) -> float:
    start = clock()
    for _ in range(block):
        call()
    return (clock() - start) / block

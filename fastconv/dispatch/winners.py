"""The kernels that tuning found fastest, by problem: what `select` consults before its ordered list.

One dict, whose single operations are safe from any number of threads; a winner is only ever replaced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.dispatch import runtime
from fastconv.dispatch.settings import Settings


class Race(NamedTuple):
    """What is raced: one pass of a problem (geometry and dtype), on some threads, at a precision."""

    pass_name: str
    spec: Any
    threads: int
    precision: str


class Winner(NamedTuple):
    """The fastest kernel of a race, and its seconds as measured."""

    kernel: str
    seconds: float


_winners: dict[Race, Winner] = {}


def race(pass_name: str, spec: Any, settings: Settings) -> Race:
    """The race that decides a call; `spec` as kernels see it."""
    return Race(pass_name, spec, runtime.threads_allowed(settings.threads), settings.precision)


def winner(pass_name: str, spec: Any, settings: Settings) -> Winner | None:
    """The winner, where this problem has been tuned."""
    return _winners.get(race(pass_name, spec, settings)) if _winners else None


def record(found: dict[Race, Winner]) -> None:
    """Remember winners. What was chosen before stays chosen until `fastconv.ops.launch.forget`."""
    _winners.update(found)


def recorded() -> dict[Race, Winner]:
    """A copy of all that is remembered."""
    return _winners.copy()


def clear() -> None:
    """Back to the ordered list."""
    _winners.clear()

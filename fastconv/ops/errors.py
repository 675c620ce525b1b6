"""The wording of every error: which function, what came, what was needed."""

from __future__ import annotations

from typing import NoReturn


class UnsupportedProblem(ValueError):
    """A forced kernel cannot do the problem; the message names the property it lacks."""


def bad_value(op: str, came: str, needed: str) -> NoReturn:
    """Raise ``ValueError("op: what came: what was needed")``."""
    raise ValueError(f"{op}: {came}: {needed}")


def bad_type(op: str, came: str, needed: str) -> NoReturn:
    """Raise ``TypeError("op: what came: what was needed")``."""
    raise TypeError(f"{op}: {came}: {needed}")


def shown(value: object, limit: int = 80) -> str:
    """``repr(value)``, shortened so that a hostile argument cannot flood the message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."

"""The wording of every error: which function, what came, what was needed."""

from __future__ import annotations

import reprlib
from typing import NoReturn

# Bounds the work too: a hostile argument may be a list of millions, or nested a thousand deep.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = _SHORT.maxset = 12
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 1000


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
    try:
        text = _SHORT.repr(value).replace("\n", " ")
    except ValueError:  # Python refuses to write out integers of thousands of digits
        text = f"an {type(value).__name__} too long to show"
    return text if len(text) <= limit else text[: limit - 3] + "..."

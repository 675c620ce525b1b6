"""The lecture: every experiment of a first course on convolutional nets, run, on one HTML page.

One chapter a module, each with `chapter(material) -> Chapter`; `page` puts them together, `material` has the
data. The command is `fastconv lecture`. Needs matplotlib and scikit-learn (``pip install
'fastconv[digits]'``).
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastconv.dispatch.settings import use
from fastconv.lecture.material import Material, material
from fastconv.lecture.page import STYLE, Chapter, page
from fastconv.ops.errors import bad_value
from fastconv.tools import machine
from fastconv.tools.extras import require

CHAPTERS = (
    *("activations", "vanishing", "convolution", "edges", "pooling"),
    *("byhand", "connections", "inside", "networks"),
)
# Chapters with nets that threads make faster.
LARGE = ("networks",)
LEAD = (
    "From the perceptron's step to AlexNet: each experiment of a first course, computed on this machine when "
    "this page was written. Every picture and every number below comes out of the code that is shown with it."
)

__all__ = ["CHAPTERS", "lecture", "material", "write"]


def write(
    path: str | Path,
    given: Material,
    names: Sequence[str] = CHAPTERS,
    on_chapter: Callable[[str, float], None] | None = None,
) -> None:
    """Run the chapters and write the page.

    Parameters
    ----------
    path : str or Path
        The HTML file.
    given : Material
        What `material()` returns.
    names : sequence of str, default CHAPTERS
        The chapters to run, in their order.
    on_chapter : callable (name, seconds), optional
        Called after each.

    Raises
    ------
    ValueError
        Where there is no such chapter.
    ImportError
        Where matplotlib or scikit-learn is missing; the message says what to install.
    """
    Path(path).write_text(lecture(given, names, on_chapter), "utf-8")


def lecture(
    given: Material,
    names: Sequence[str] = CHAPTERS,
    on_chapter: Callable[[str, float], None] | None = None,
) -> str:
    """The page itself; see `write`."""
    for name in names:
        if name not in CHAPTERS:
            bad_value("lecture", f"chapter {name!r}", f"it must be one of {', '.join(CHAPTERS)}")
    style = require("matplotlib", "the lecture").rc_context
    chapters: list[Chapter] = []
    started = time.perf_counter()
    for name in names:
        module, begun = importlib.import_module(f"fastconv.lecture.{name}"), time.perf_counter()
        with style(STYLE), threads_for(name):
            chapters.append(module.chapter(given))
        if on_chapter is not None:
            on_chapter(name, time.perf_counter() - begun)
    return page(chapters, about(given, time.perf_counter() - started), LEAD)


@contextmanager
def threads_for(name: str) -> Iterator[None]:
    """One thread, of BLAS too, for chapters whose nets are so small that waking a second costs more."""
    if name in LARGE:
        yield
        return
    limits = require("threadpoolctl", "the lecture").threadpool_limits
    with use(threads=1), limits(1, user_api="blas"):
        yield


def about(given: Material, seconds: float) -> str:
    """What ran where, for the foot of the page."""
    told = machine.describe()
    threads = f"{told['threads']} thread{'s' * (told['threads'] > 1)}"
    return (
        f"fastconv {told['fastconv']} on {told['cpu']} ({told['isa']}, {threads}), NumPy {told['numpy']}, "
        f"Python {told['python']}. Data: {given.source}{', quick run' * given.quick}. "
        f"All experiments took {seconds:.0f} s."
    )

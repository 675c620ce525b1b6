"""The settings of the current context: forced kernel, threads, precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from fastconv.dispatch import runtime
from fastconv.ops.errors import bad_type, bad_value, shown

PRECISIONS = ("high", "highest")


class Settings(NamedTuple):
    """What `use` sets; hashable, so that choices can be cached per setting."""

    kernel: str | None
    threads: int
    precision: str


def checked_threads(op: str, threads: Any) -> int:
    """A number of threads, from 1 to 1024."""
    if isinstance(threads, bool) or not isinstance(threads, int):
        bad_type(op, f"threads is {shown(threads)}", "it must be an integer")
    if not 1 <= threads <= 1024:
        bad_value(op, f"threads is {threads}", "it must be from 1 to 1024")
    return threads


_current: ContextVar[Settings] = ContextVar(
    "fastconv_settings",
    default=Settings(  # noqa: B039  (a NamedTuple of immutables)
        os.environ.get("FASTCONV_KERNEL") or None, runtime.default_threads(), "high"
    ),
)
current = _current.get


@contextmanager
def use(
    *, kernel: str | None = None, threads: int | None = None, precision: str | None = None
) -> Iterator[Settings]:
    """Set the kernel, the number of threads or the precision for the calls inside a ``with`` block.

    The setting belongs to the context (thread or task) that made it.

    Parameters
    ----------
    kernel : str, optional
        "backend.algorithm" to use for every pass that it implements; other passes choose as always.
        "auto" undoes an outer setting.
    threads : int, optional
        Most threads a call may use, at least 1.
    precision : {"high", "highest"}, optional
        "high" may use Winograd; "highest" sums products only.

    Raises
    ------
    ValueError, TypeError
        For an unknown kernel, a thread count below 1 or an unknown precision.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    >>> with fc.use(kernel="reference", threads=1, precision="highest"):
    ...     fc.conv2d(x, w)[0, 0, 0]
    array([4., 4.], dtype=float32)
    """
    from fastconv.dispatch.registry import find_kernel  # the registry's kernels import the settings' users

    changed = current()
    if kernel is not None:
        if kernel != "auto":
            find_kernel("use", kernel)
        changed = changed._replace(kernel=None if kernel == "auto" else kernel)
    if threads is not None:
        changed = changed._replace(threads=checked_threads("use", threads))
    if precision is not None:
        if precision not in PRECISIONS:
            bad_value("use", f"precision is {shown(precision)}", f"it must be one of {', '.join(PRECISIONS)}")
        changed = changed._replace(precision=precision)
    token = _current.set(changed)
    try:
        yield changed
    finally:
        _current.reset(token)

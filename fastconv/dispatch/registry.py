"""Every kernel, in the order in which dispatch tries them: fastest first, the reference last."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv.dispatch import runtime
from fastconv.kernels import reference
from fastconv.kernels.kernel import Kernel
from fastconv.ops.errors import bad_type, bad_value, shown

# One order serves every pass: a kernel that lacks the pass, refuses the problem or finds it not worth its
# while is passed over. Compiled code first, since it needs no warm-up.
ORDER = (
    "cython.winograd_depthwise",
    "cython.depthwise",
    "cython.winograd",
    "cython.blocked",
    "cython.im2col",
    "cython.direct",
    "numba.depthwise",
    "numba.winograd",
    "numba.blocked",
    "numba.im2col",
    "numba.direct",
    "reference",
)


@cache
def kernels_in_order() -> tuple[Kernel, ...]:
    """The kernels of `ORDER` that this version has, whether or not they are available here."""
    from fastconv.kernels import cython, numba

    found = {k.name: k for k in (*cython.kernels(runtime.chosen_isa()), *numba.kernels(), reference.KERNEL)}
    return tuple(found[name] for name in ORDER if name in found)


@cache
def kernels_by_name() -> dict[str, Kernel]:
    """Kernels by name, and as "cython.algorithm@isa" on every instruction set this machine can run."""
    from fastconv.kernels import cython

    named = {k.name: k for k in kernels_in_order()}
    for isa in runtime.supported_isas():
        named |= {f"{k.name}@{isa}": k for k in cython.kernels(isa)}
    return named


def find_kernel(op: str, name: Any) -> Kernel:
    """The available kernel of that name, or an error that lists the names."""
    if not isinstance(name, str):
        bad_type(op, f"kernel is {shown(name)}", "it must be None or a kernel's name")
    named = kernels_by_name()
    if name not in named:
        names = ", ".join(k.name for k in kernels_in_order())
        bad_value(op, f"kernel is {shown(name)}", f"it must be one of {names}")
    if named[name].missing is not None:
        bad_value(op, f"kernel is {shown(name)}", f"it is not available here: {named[name].missing}")
    return named[name]


class KernelTable(list[dict[str, Any]]):
    """The rows of `kernels()`, printed as a table."""

    def __repr__(self) -> str:
        columns = list(self[0])
        text = [[" ".join(v) if isinstance(v, tuple) else str(v) for v in row.values()] for row in self]
        widths = [max(len(c), *(len(line[i]) for line in text)) for i, c in enumerate(columns)]
        lines = [columns, *text]
        padded = ("  ".join(v.ljust(n) for v, n in zip(line, widths, strict=True)).rstrip() for line in lines)
        return "\n".join(padded)


def kernels() -> KernelTable:
    """Table of all kernels: name, passes, dtypes, layouts, instruction set, and availability.

    Returns
    -------
    list of dict
        One row a kernel, fastest first, with keys "kernel", "passes", "dtypes", "layouts", "isa" and
        "available" ("yes", or why not). It prints as a table.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.kernels()[-1]["kernel"]
    'reference'
    """
    return KernelTable(
        {
            "kernel": k.name,
            "passes": tuple(k.passes) or ("-",),
            "dtypes": ("float32", "float64"),
            "layouts": ("channels-first", "channels-last"),
            "isa": k.isa,
            "available": "yes" if k.missing is None else k.missing,
        }
        for k in kernels_in_order()
    )

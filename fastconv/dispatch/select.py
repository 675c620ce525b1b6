"""The choice of a kernel: forced, or tuned, or by a walk down the ordered list.

The walk has a reason for everything it passes over.
"""

from __future__ import annotations

from typing import Any

from fastconv.dispatch import winners
from fastconv.dispatch.registry import find_kernel, kernels_by_name, kernels_in_order
from fastconv.dispatch.settings import Settings
from fastconv.kernels import reference
from fastconv.kernels.kernel import Kernel
from fastconv.ops.errors import UnsupportedProblem


def select(op: str, pass_name: str, spec: Any, settings: Settings, forced: str | None) -> Kernel:
    """The kernel for one pass of a problem.

    `forced` is the call's own `kernel` argument and binds; the setting of `use` or FASTCONV_KERNEL applies
    to the passes that its kernel implements.
    """
    if forced is None:
        forced = preferred(pass_name, settings)
    if forced is not None:
        kernel = find_kernel(op, forced)
        reason = None if spec.empty else refusal(kernel, pass_name, spec, settings.precision)
        if reason is not None:
            raise UnsupportedProblem(f"{op}: kernel {forced} cannot do this problem: {reason}")
    if spec.empty:
        return reference.KERNEL
    if forced is not None:
        return kernel
    return tuned(pass_name, spec, settings) or walk(pass_name, spec, settings)[0]


def preferred(pass_name: str, settings: Settings) -> str | None:
    """The setting's kernel where it implements the pass."""
    if settings.kernel is None:
        return None
    # `use` has checked its own argument: a wrong name here came from the environment
    return settings.kernel if pass_name in find_kernel("FASTCONV_KERNEL", settings.kernel).passes else None


def tuned(pass_name: str, spec: Any, settings: Settings) -> Kernel | None:
    """The kernel that tuning found fastest, where it can still do the problem."""
    found = winners.winner(pass_name, spec, settings)
    kernel = None if found is None else kernels_by_name().get(found.kernel)
    able = kernel is not None and refusal(kernel, pass_name, spec, settings.precision) is None
    return kernel if able else None


def walk(pass_name: str, spec: Any, settings: Settings) -> tuple[Kernel, list[tuple[str, str]]]:
    """The first kernel that takes the problem, and (name, reason) of those before it."""
    passed_over: list[tuple[str, str]] = []
    for kernel in kernels_in_order():
        reason = refusal(kernel, pass_name, spec, settings.precision)
        if reason is None:
            reason = kernel.avoid(pass_name, spec, settings.threads)
        if reason is None:
            return kernel, passed_over
        passed_over.append((kernel.name, reason))
    raise AssertionError("the reference kernel takes every problem")


def refusal(kernel: Kernel, pass_name: str, spec: Any, precision: str) -> str | None:
    """Why a kernel cannot do a pass of a problem, or None."""
    if kernel.missing is not None:
        return kernel.missing
    if pass_name not in kernel.passes:
        return f"it has no {pass_name} pass"
    if precision == "highest" and not kernel.sums_products:
        return 'precision "highest" asks for plain sums of products'
    return kernel.unsupported(pass_name, spec)

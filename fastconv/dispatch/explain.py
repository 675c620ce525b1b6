"""Which kernel a call would use, why, and how near it comes to what the hardware allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastconv.dispatch import runtime, settings, winners
from fastconv.dispatch.problem import parse_dtype, random_arguments, seen_by_kernel
from fastconv.dispatch.registry import find_kernel
from fastconv.dispatch.roofline import Roofline, bandwidth, fma_peak, least_bytes, roofline
from fastconv.dispatch.select import select, tuned, walk
from fastconv.dispatch.timing import best_seconds
from fastconv.kernels.kernel import CONV_PASSES, PASSES, Kernel
from fastconv.ops.errors import bad_value, shown
from fastconv.ops.spec import LAYOUTS, ConvSpec, PoolSpec, conv_spec, pool_spec

# Seconds spent on measuring the kernel's own time, beyond its first two calls.
MEASURING_BUDGET = 0.05
# A problem with more data than this is not measured: it would need as much memory again.
MEASURING_LIMIT = 1 << 30


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; it prints as a short report.

    Attributes
    ----------
    pass_name, kernel, isa : str
        The pass, the kernel that a call would run, and its instruction set.
    why : str
        Why this kernel.
    passed_over : tuple of (kernel, reason)
        The kernels before it in the list, and why each was passed over.
    spec : ConvSpec or PoolSpec
        The problem's geometry.
    threads : int
        Threads a call may use.
    flops : int
        2 per multiply-add of the direct sum; for pooling one per element of a window.
    least_bytes : int
        Each argument and the result, moved once.
    workspace : int
        Bytes the kernel allocates during a call.
    peak_gflops, bandwidth : float
        The machine's, as measured: 1e9 operations and bytes per second.
    roofline_seconds : float
        The least time at that peak and bandwidth.
    limit : {"compute", "bandwidth"}
        Which of the two sets it.
    seconds : float or None
        The kernel's own time, as measured; None where it was not.
    """

    pass_name: str
    kernel: str
    isa: str
    why: str
    passed_over: tuple[tuple[str, str], ...]
    spec: ConvSpec | PoolSpec
    threads: int
    flops: int
    least_bytes: int
    workspace: int
    peak_gflops: float
    peak_source: str
    bandwidth: float
    roofline_seconds: float
    limit: str
    seconds: float | None

    def __repr__(self) -> str:
        s = self.spec
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        lines = [
            f"{self.pass_name}: x {s.x_shape}, window {s.window}, y {s.y_shape}, {s.dtype}",
            f"  kernel     {self.kernel} on {self.isa}, {threads}: {self.why}",
            *(f"             not {name}: {reason}" for name, reason in self.passed_over),
            f"  work       {self.flops / 1e6:.4g} MFLOP, at least {_bytes(self.least_bytes)} of data, "
            f"workspace {_bytes(self.workspace)}",
            f"  machine    {self.peak_gflops:.0f} GFLOP/s ({self.peak_source}), {self.bandwidth:.0f} GB/s",
            f"  roofline   {_seconds(self.roofline_seconds)} (limit: {self.limit})",
        ]
        if self.seconds is not None:
            rate = self.flops / self.seconds / 1e9
            share = self.roofline_seconds / self.seconds
            fast = " by fewer products" if share > 1 and self.limit == "compute" else ""
            lines.append(
                f"  measured   {_seconds(self.seconds)}, {rate:.3g} GFLOP/s, {share:.0%} of roofline{fast}"
            )
        return "\n".join(lines)


def explain(
    pass_name: str,
    x_shape: Sequence[int],
    w_shape: Any,
    *,
    dtype: Any = "float32",
    kernel: str | None = None,
    measure: bool = True,
    **options: Any,
) -> Explanation:
    """Explain how a call would be computed: kernel, refusals, work, roofline, measured time.

    Parameters
    ----------
    pass_name : str
        "forward", "input_grad", "filter_grad", "max_pool", "max_pool_grad", "avg_pool" or "avg_pool_grad".
    x_shape : sequence of int
        The input's shape.
    w_shape : sequence of int
        The filters' shape; for a pooling pass its window.
    dtype : {"float32", "float64"}, default "float32"
    kernel : str, optional
        Explain this kernel instead of the chosen one.
    measure : bool, default True
        Run the kernel a few times on random data for its own time (not on problems beyond a GB of data).
    **options
        The function's own keywords: stride, padding, dilation, groups, layout, ...

    Returns
    -------
    Explanation
        Attributes hold every figure; printing it gives a report.

    Raises
    ------
    ValueError, TypeError
        As the function itself would.

    References
    ----------
    Williams, Waterman, Patterson: Roofline: an insightful visual performance model (2009).

    Examples
    --------
    >>> import fastconv as fc
    >>> e = fc.explain("forward", (1, 16, 32, 32), (32, 16, 3, 3), padding=1, kernel="reference")
    >>> e.kernel, e.flops, e.least_bytes
    ('reference', 9437184, 215040)
    """
    if pass_name not in PASSES:
        bad_value("explain", f"pass_name is {shown(pass_name)}", f"it must be one of {', '.join(PASSES)}")
    dtype = parse_dtype("explain", dtype)
    spec = _spec(pass_name, x_shape, w_shape, dtype, options)
    inner = seen_by_kernel(spec)
    current = settings.current()
    threads = runtime.threads_allowed(current.threads)
    chosen = select("explain", pass_name, inner, current, kernel)
    why, passed_over = _reasons(chosen, pass_name, inner, kernel)
    flops = spec.flops if isinstance(spec, ConvSpec) else _pool_operations(pass_name, spec)
    nbytes = least_bytes(pass_name, spec)
    isa = None if chosen.isa == "any" else chosen.isa
    peak = fma_peak(dtype.itemsize, threads, isa)
    bound: Roofline = roofline(flops, nbytes, dtype.itemsize, threads, isa)
    return Explanation(
        pass_name=pass_name,
        kernel=chosen.name,
        isa=chosen.isa,
        why=why,
        passed_over=tuple(passed_over),
        spec=spec,
        threads=threads,
        flops=flops,
        least_bytes=nbytes,
        workspace=chosen.workspace(pass_name, inner, threads),
        peak_gflops=peak.gflops,
        peak_source=peak.source,
        bandwidth=bandwidth(nbytes, threads) / 1e9,
        roofline_seconds=bound.seconds,
        limit=bound.limit,
        seconds=_measure(chosen, pass_name, inner, threads)
        if measure and nbytes <= MEASURING_LIMIT
        else None,
    )


def _spec(
    pass_name: str, x_shape: Sequence[int], w_shape: Any, dtype: np.dtype[Any], options: dict[str, Any]
) -> ConvSpec | PoolSpec:
    options = {"layout": LAYOUTS.get(len(x_shape) - 2, ("NCHW",))[0]} | options
    if pass_name in CONV_PASSES:
        return conv_spec("explain", x_shape, w_shape, dtype, **options)
    return pool_spec("explain", x_shape, w_shape, dtype, needs_input=pass_name.startswith("max"), **options)


def _reasons(
    chosen: Kernel, pass_name: str, spec: ConvSpec | PoolSpec, kernel: str | None
) -> tuple[str, list[tuple[str, str]]]:
    current = settings.current()
    if spec.empty:
        return "nothing is summed: an empty batch or no channels", []
    if kernel is not None:
        return "asked for by the kernel argument", []
    if current.kernel is not None and pass_name in find_kernel("explain", current.kernel).passes:
        return "asked for by use() or FASTCONV_KERNEL", []
    found = winners.winner(pass_name, spec, current)
    if found is not None and tuned(pass_name, spec, current) is chosen:
        return f"tuned: the fastest measured here, {_seconds(found.seconds)}", []
    first, passed_over = walk(pass_name, spec, current)
    return "the first in the list that takes the problem", passed_over if first is chosen else []


def _pool_operations(pass_name: str, spec: PoolSpec) -> int:
    """One comparison or addition per element of each window; the routing gradient adds one per output."""
    outputs = int(np.prod(spec.y_shape, dtype=object))
    return outputs if pass_name == "max_pool_grad" else outputs * int(np.prod(spec.window, dtype=object))


def _measure(kernel: Kernel, pass_name: str, spec: ConvSpec | PoolSpec, threads: int) -> float:
    run = partial(kernel.passes[pass_name], spec, *random_arguments(pass_name, spec), threads)
    run()
    return best_seconds(run, MEASURING_BUDGET, least=1)


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"

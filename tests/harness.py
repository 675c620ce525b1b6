"""Running one pass of one kernel in guarded memory, and running Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.dispatch.registry import kernels_by_name
from fastconv.kernels import reference
from fastconv.kernels.kernel import Kernel
from fastconv.ops.spec import ConvSpec, PoolSpec

Array = NDArray[Any]

# Every kernel that can run here: compiled ones once per instruction set ("cython.im2col@avx2").
KERNELS: dict[str, Kernel] = {
    name: kernel
    for name, kernel in kernels_by_name().items()
    if kernel.missing is None and (kernel.isa == "any" or "@" in name or not name.startswith("cython."))
}
# What a sum of products may be off, in units of eps * (|x| conv |w|).
ERROR_FACTOR = 16


def kernels_with(pass_name: str, *, exact: bool = False) -> list[str]:
    """Names of the kernels that have a pass; `exact` leaves out those that are no plain sum of products."""
    return [
        name
        for name, kernel in KERNELS.items()
        if pass_name in kernel.passes and (kernel.sums_products or not exact)
    ]


class Guarded:
    """Arrays in the middle of poisoned memory: a stray read brings NaN, a stray write is found.

    All bytes start as 0xFF, which is NaN as a float and -1 as an index, so that what a kernel did not write
    shows too. `shift` moves the arrays by that many elements, to any alignment that its dtype allows.
    """

    GUARD = int(os.environ.get("FASTCONV_TEST_GUARD", "1024"))

    def __init__(self, shift: int = 0) -> None:
        self.shift = shift
        self.blocks: list[tuple[Array, int, int]] = []
        self.inputs: list[tuple[Array, Array]] = []

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An output, still poisoned."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        begin = self.GUARD + self.shift * dtype.itemsize
        block = np.full(begin + nbytes + self.GUARD, 0xFF, np.uint8)
        self.blocks.append((block, begin, begin + nbytes))
        return block[begin : begin + nbytes].view(dtype).reshape(shape)

    def put(self, a: Array) -> Array:
        """A read-only copy of an input."""
        copy = self.empty(a.shape, a.dtype)
        copy[...] = a
        copy.flags.writeable = False
        self.inputs.append((copy, a))
        return copy

    def check(self) -> None:
        for block, begin, end in self.blocks:
            assert (block[:begin] == 0xFF).all(), "written before an array"
            assert (block[end:] == 0xFF).all(), "written behind an array"
        for copy, original in self.inputs:
            np.testing.assert_array_equal(copy, original, "an input was written")


def run_pass(
    kernel: Kernel,
    pass_name: str,
    spec: ConvSpec | PoolSpec,
    inputs: tuple[Array | None, ...],
    outputs: tuple[tuple[tuple[int, ...], Any] | None, ...],
    *options: Any,
    threads: int = 1,
    shift: int = 0,
) -> tuple[Array, ...]:
    """Call `kernel.passes[pass_name]` on guarded copies; outputs are given as (shape, dtype) or None."""
    memory = Guarded(shift)
    arrays = [None if a is None else memory.put(a) for a in inputs]
    results = [None if o is None else memory.empty(*o) for o in outputs]
    kernel.passes[pass_name](spec, *arrays, *results, *options, threads)
    memory.check()
    return tuple(r for r in results if r is not None)


def forward(
    kernel: Kernel,
    spec: ConvSpec,
    x: Array,
    w: Array,
    bias: Array | None = None,
    activation: str | None = None,
    **options: int,
) -> Array:
    return run_pass(kernel, "forward", spec, (x, w, bias), ((spec.y_shape, x.dtype),), activation, **options)[
        0
    ]


def input_grad(kernel: Kernel, spec: ConvSpec, dy: Array, w: Array, **options: int) -> Array:
    return run_pass(kernel, "input_grad", spec, (dy, w), ((spec.x_shape, dy.dtype),), **options)[0]


def filter_grad(kernel: Kernel, spec: ConvSpec, x: Array, dy: Array, **options: int) -> tuple[Array, ...]:
    """(dw, db)"""
    outputs = ((spec.w_shape, x.dtype), ((spec.k,), x.dtype))
    return run_pass(kernel, "filter_grad", spec, (x, dy), outputs, **options)


def max_pool(kernel: Kernel, spec: PoolSpec, x: Array, **options: int) -> tuple[Array, ...]:
    """(y, argmax)"""
    outputs = ((spec.y_shape, x.dtype), (spec.y_shape, spec.argmax_dtype))
    return run_pass(kernel, "max_pool", spec, (x,), outputs, **options)


def max_pool_grad(kernel: Kernel, spec: PoolSpec, dy: Array, argmax: Array, **options: int) -> Array:
    return run_pass(kernel, "max_pool_grad", spec, (dy, argmax), ((spec.x_shape, dy.dtype),), **options)[0]


def avg_pool(kernel: Kernel, spec: PoolSpec, x: Array, **options: int) -> Array:
    return run_pass(kernel, "avg_pool", spec, (x,), ((spec.y_shape, x.dtype),), **options)[0]


def avg_pool_grad(kernel: Kernel, spec: PoolSpec, dy: Array, **options: int) -> Array:
    return run_pass(kernel, "avg_pool_grad", spec, (dy,), ((spec.x_shape, dy.dtype),), **options)[0]


def assert_within_bound(kernel: Kernel, got: Array, exact: Array, magnitude: Array, extra: float = 0) -> None:
    """|got - exact| <= factor * eps * magnitude, elementwise; `exact` and `magnitude` are float64."""
    factor = getattr(kernel, "error_factor", ERROR_FACTOR)
    bound = np.broadcast_to(factor * np.finfo(got.dtype).eps * np.abs(magnitude) + extra, got.shape)
    error = np.abs(got - exact)
    worst = np.unravel_index(np.argmax(error - bound), error.shape) if error.size else ()
    assert np.all(error <= bound), (
        f"{kernel.name}: at {worst} got {got[worst]}, exact {exact[worst]}, "
        f"error {error[worst]}, bound {bound[worst]}"
    )


def magnitudes(kernel: Kernel, pass_name: str, spec: ConvSpec, a: Array, b: Array) -> tuple[Array, ...]:
    """What the rounding error of each output is measured by: |x| conv |w| for sums of products.

    Winograd mixes the pixels of a tile and the taps of a filter. There it is the sum over channels of the
    largest |x| of the plane times the sum of |w| over the taps; for the filter gradient, over images of the
    largest |x| times the sum of |dy|.
    """
    if kernel.sums_products:
        size = oracle(pass_name, spec, np.abs(a), np.abs(b))
        return size if isinstance(size, tuple) else (size,)
    g, c, k = spec.groups, spec.c // spec.groups, spec.k // spec.groups
    one = (1,) * spec.ndim

    def planes(t: Array) -> Array:
        t = np.moveaxis(t, -1, 1) if spec.channels_last else t
        return np.abs(t.astype(np.float64)).reshape(spec.n, g, t.shape[1] // g, -1)

    if pass_name == "filter_grad":
        dy = planes(b).sum(-1)
        dw = np.einsum("ngc,ngk->gkc", planes(a).max(-1), dy).reshape(spec.k, c, *one)
        return np.moveaxis(dw, (0, 1), (-1, -2)) if spec.channels_last else dw, dy.sum(0).reshape(-1)
    w = np.moveaxis(b, (-1, -2), (0, 1)) if spec.channels_last else b
    taps = np.abs(w.astype(np.float64)).reshape(g, k, c, -1).sum(-1)
    indices = "ngc,gkc->ngk" if pass_name == "forward" else "ngk,gkc->ngc"
    out = np.einsum(indices, planes(a).max(-1), taps).reshape(spec.n, -1, *one)
    return (np.moveaxis(out, 1, -1) if spec.channels_last else out,)


def oracle(pass_name: str, *args: Any) -> tuple[Array, ...] | Array:
    """The reference's result in float64 (the reference itself is tested in test_reference.py)."""
    run: dict[str, Any] = {"forward": forward, "input_grad": input_grad, "filter_grad": filter_grad}
    run |= {"avg_pool": avg_pool, "avg_pool_grad": avg_pool_grad}
    spec, *arrays = args
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arrays]
    return run[pass_name](reference.KERNEL, spec, *wide)  # type: ignore[no-any-return]


def run_python(
    script: str | Path, cwd: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Python code or a file in a process of its own, killed after `timeout` seconds: a hang is a failure."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FASTCONV_")}
    arguments = [str(script)] if isinstance(script, Path) else ["-c", script]
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env | environment,
        timeout=timeout,
        capture_output=True,
        text=True,
    )

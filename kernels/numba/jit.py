"""How a Numba kernel is compiled, cached on disk and run on several threads.

A kernel's work is cut into jobs. A job function works on flat arrays,

    def job(begin, end, thread, arguments):        does jobs [begin, end); `thread` numbers its scratch memory
        g, x, y = unpack(arguments)

and `run` calls it through a C function pointer from the threads of the compiled kernels (OpenMP), or from a
thread pool where those are missing. Numba's own `prange` is not used: its threads do not survive a fork and
abort on concurrent callers.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import types
from numba.core import cgutils, config
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.ccallback import CFunc
from numba.core.imputils import impl_ret_borrowed
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numpy.typing import NDArray

from fastconv.dispatch import runtime
from fastconv.kernels.cython import empty

Array = NDArray[Any]

JIT = not config.DISABLE_JIT

# Contraction is all that a kernel may do to the rules of IEEE: NaN and infinity keep their meaning.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
INNER = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def jit(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called from a job."""
    return numba.njit(**INNER)(function)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function into each of its callers."""
    return numba.njit(**INNER, forceinline=True)(function)


def in_python(function: Any) -> Any:
    """The Python function under a compiled one, for a call or two outside of the jobs."""
    return getattr(function, "py_func", function)


def up(a: int, b: int) -> int:
    """a / b, rounded up"""
    return -(-a // b)


@cache
def vector_bytes() -> int:
    """The width of a vector register in the chosen instruction set."""
    isa = runtime.chosen_isa()
    if isa is None and platform.machine().lower() in ("x86_64", "amd64"):
        has = binding.get_host_cpu_features()
        isa = (
            "avx512"
            if has.get("avx512f") and has.get("avx512vl")
            else "avx2"
            if has.get("avx2")
            else "baseline"
        )
    return {"avx512": 64, "avx2": 32}.get(isa or "baseline", 16)


@cache
def sources_hash() -> str:
    """A digest of this package: a function's code depends on the functions that it calls."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class JobCache(FunctionCache):
    """Numba's cache on disk, with files of its own for each signature, CPU, vector width and state of the
    sources.

    Numba keeps an index of numbered files for a function: two processes that compile it for two types at once
    may both take a number, and one then runs the other's code.
    """

    def __init__(self, job: Callable[..., None], signature: Any) -> None:
        super().__init__(job)
        target = cpu_target.target_context.codegen().magic_tuple()
        key = repr((job.__module__, job.__qualname__, str(signature), target, vector_bytes(), sources_hash()))
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=f"{job.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:24]}",
            source_stamp=sources_hash(),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Machine code needs the runtime, but no type inference: setting that up imports SciPy, 0.4 s."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


@intrinsic
def unpack_arrays(typingctx: Any, arguments: Any) -> Any:
    """(address, length) pairs in memory -> the tuple of flat arrays that the pointer's type tells."""
    if isinstance(arguments, types.BaseTuple):  # called from compiled code, which has the arrays

        def borrow(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return impl_ret_borrowed(context, builder, arguments, values[0])

        return arguments(arguments), borrow
    array_types = arguments.dtype

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = context.get_value_type(types.intp)
        table = builder.bitcast(values[0], word.as_pointer())
        arrays = []
        for i, array_type in enumerate(array_types):
            address = builder.load(cgutils.gep_inbounds(builder, table, 2 * i))
            length = builder.load(cgutils.gep_inbounds(builder, table, 2 * i + 1))
            array = make_array(array_type)(context, builder)
            itemsize = context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
            data = builder.inttoptr(address, context.get_data_type(array_type.dtype).as_pointer())
            populate_array(array, data, (length,), (itemsize,), itemsize, meminfo=None)
            arrays.append(array._getvalue())
        return context.make_tuple(builder, array_types, arrays)

    return array_types(arguments), codegen


unpack = unpack_arrays if JIT else tuple


@cache
def native(job: Callable[..., None], kinds: str) -> Any:
    """The job as a C function `void (begin, end, thread, arguments)` for arrays of these dtype letters."""
    arrays = types.Tuple([types.Array(numba.from_dtype(np.dtype(kind)), 1, "C") for kind in kinds])
    signature = types.void(types.intp, types.intp, types.intp, types.CPointer(arrays))
    function = CFunc(job, (signature.args, signature.return_type), {}, OPTIONS)
    function._cache = disk_cache(job, signature)  # type: ignore[attr-defined]
    function.compile()
    return function


def disk_cache(job: Callable[..., None], signature: Any) -> Any:
    try:
        return JobCache(job, signature)
    except RuntimeError:  # no folder that may be written
        return NullCache()


# Below this much work per thread starting threads costs more than it gains (see microkernels/parallel.hpp).
MIN_FLOPS_PER_THREAD = 2e5


def useful_threads(threads: int, jobs: int, flops: float) -> int:
    """Threads worth starting for some independent jobs of `flops` in all."""
    return max(1, min(threads, jobs, int(flops / MIN_FLOPS_PER_THREAD)))


def run(job: Any, jobs: int, threads: int, *arrays: Array) -> None:
    """Do jobs 0 to jobs - 1 of a job function over contiguous arrays, at most `threads` at a time."""
    if accounting.dry:
        return
    if not JIT:
        job(0, jobs, 0, [array.reshape(-1) for array in arrays])
        return
    function = native(job, "".join([array.dtype.char for array in arrays]))
    run_jobs_on()(function.address, arrays, jobs, threads)


@cache
def run_jobs_on() -> Callable[[int, tuple[Array, ...], int, int], None]:
    """The compiled package's threads, or a pool of Python threads without it."""
    try:
        from fastconv.kernels.cython import _cpu
    except ImportError:
        return pool_for
    return _cpu.run_jobs_on


@cache
def pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process; a forked child has another number and so makes its own."""
    return ThreadPoolExecutor(runtime.default_threads(), thread_name_prefix="fastconv")


def pool_for(function: int, arrays: tuple[Array, ...], jobs: int, threads: int) -> None:
    """`run_jobs_on` with Python threads, an even share of the jobs each."""
    word = ctypes.c_ssize_t
    call = ctypes.CFUNCTYPE(None, word, word, word, ctypes.c_void_p)(function)
    table = np.array([(array.ctypes.data, array.size) for array in arrays], np.int64)
    if threads == 1:
        call(0, jobs, 0, table.ctypes.data)
        return
    cuts = [jobs * t // threads for t in range(threads + 1)]
    shares = [
        pool(os.getpid()).submit(call, cuts[t], cuts[t + 1], t, table.ctypes.data) for t in range(threads)
    ]
    for share in shares:
        share.result()


class Accounting(threading.local):
    """What a thread's calls take from `workspace`; in a dry run no job runs."""

    dry = False
    bytes = 0


accounting = Accounting()


def workspace(size: int, dtype: Any) -> Array:
    """Memory of a call, aligned to cache lines; a part for each thread."""
    array = empty((size,), np.dtype(dtype))
    accounting.bytes += array.nbytes
    return array


def allocated(run: Callable[..., None], arguments: tuple[Any, ...], *, dry: bool = True) -> int:
    """The bytes that run(*arguments) takes from `workspace`; in a dry run nothing is computed."""
    accounting.bytes, accounting.dry = 0, dry
    try:
        run(*arguments)
    finally:
        accounting.dry = False
    return accounting.bytes

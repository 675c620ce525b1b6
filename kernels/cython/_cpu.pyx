"""What the CPU and the operating system support; compiled for the baseline, so that it loads everywhere."""

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uintptr_t

cnp.import_array()

cdef extern from "cpu.hpp" nogil:
    int cpu_supports_avx2()
    int cpu_supports_avx512()
    int omp_threads()

cdef extern from "callback.hpp" namespace "fastconv" nogil:
    void run_jobs(uintptr_t function, uintptr_t arguments, int64_t jobs, int threads)

cdef extern from *:
    """
    #include "result_memory.hpp"
    static PyDataMem_Handler result_handler = {
        "fastconv_results", 1,
        {NULL, fastconv::handler_malloc, fastconv::handler_calloc, fastconv::handler_realloc, fastconv::handler_free}};
    """
    ctypedef struct PyDataMem_Handler:
        pass
    PyDataMem_Handler result_handler
    cnp.npy_intp LEAST_KEPT "(npy_intp)fastconv::LEAST_KEPT"
    object PyDataMem_SetHandler(object)

RESULT_HANDLER = PyCapsule_New(&result_handler, "mem_handler", NULL)


def empty(tuple shape, cnp.dtype dtype):
    """An array to be written whole; a large one in memory of `result_memory.hpp`."""
    cdef cnp.npy_intp dims[64]  # NumPy's most
    cdef cnp.npy_intp nbytes = cnp.PyDataType_ELSIZE(dtype)
    cdef int rank = 0
    for length in shape:
        dims[rank] = length
        nbytes *= dims[rank]
        rank += 1
    if nbytes < LEAST_KEPT:
        return cnp.PyArray_EMPTY(rank, dims, dtype.num, 0)
    previous = PyDataMem_SetHandler(RESULT_HANDLER)
    try:
        return cnp.PyArray_EMPTY(rank, dims, dtype.num, 0)
    finally:
        PyDataMem_SetHandler(previous)


def supports(isa: str) -> bool:
    """True where code built for "avx512", "avx2" or "baseline" runs here."""
    if isa == "avx512":
        return cpu_supports_avx512() != 0
    if isa == "avx2":
        return cpu_supports_avx2() != 0
    return isa == "baseline"


def openmp_threads() -> int:
    """Threads OpenMP would use now (threadpoolctl may have lowered them); 0 without OpenMP."""
    return omp_threads()


DEF MOST_ARRAYS = 24


def run_jobs_on(function: int, arrays: tuple, jobs: int, threads: int) -> None:
    """Call the C function at an address, void (begin, end, thread, table), for every job in [0, jobs).

    The table is (address, elements) of each of the contiguous arrays. Serial for one thread. The GIL is released;
    the function must not need it.
    """
    cdef int64_t table[2 * MOST_ARRAYS]
    cdef uintptr_t function_address = function
    cdef int64_t job_count = jobs
    cdef int thread_count = threads, i = 0
    cdef cnp.ndarray array
    if len(arrays) > MOST_ARRAYS:
        raise ValueError(f"{len(arrays)} arrays: at most {MOST_ARRAYS}")
    for array in arrays:
        table[2 * i] = <int64_t>cnp.PyArray_DATA(array)
        table[2 * i + 1] = cnp.PyArray_SIZE(array)
        i += 1
    with nogil:
        run_jobs(function_address, <uintptr_t>&table[0], job_count, thread_count)

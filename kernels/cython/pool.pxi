# The pooling passes; the direct and the im2col kernel share them.

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_max_pool "fastconv::max_pool"[T, I](const Geometry&, const T*, T*, I*, int) except +

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_max_pool_grad "fastconv::max_pool_grad"[T, I](const Geometry&, const T*, const I*, T*, int) except +
    bint c_within "fastconv::within"[I](const I*, cnp.npy_int64, cnp.npy_int64, int) except +

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    cdef struct Counts:
        const cnp.int64_t* axis[3]
        cnp.int64_t fixed
    void c_avg_pool "fastconv::avg_pool"[T](const Geometry&, const Counts&, const T*, T*, int) except +
    void c_avg_pool_grad "fastconv::avg_pool_grad"[T](const Geometry&, const Counts&, const T*, T*, int) except +


cdef cnp.int64_t ONE = 1


cdef Counts counts_of(spec) except *:
    """Pointers into the spec's own arrays, which live as long as it does; axes it lacks count one element."""
    cdef Counts counts
    cdef int a
    counts.axis[0] = counts.axis[1] = counts.axis[2] = &ONE
    counts.fixed = 0 if spec.divisor_override is None else spec.divisor_override
    divisors = spec.divisors
    for a in range(len(divisors)):
        counts.axis[3 - len(divisors) + a] = <const cnp.int64_t*>cnp.PyArray_DATA(<cnp.ndarray>divisors[a])
    return counts


def max_pool(spec, cnp.ndarray x, cnp.ndarray y, cnp.ndarray argmax, int threads):
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef void* px = data_of(x)
    cdef void* py = data_of(y)
    cdef void* pa = data_of(argmax)
    cdef bint single = is_float32(x)
    cdef bint short_index = argmax is None or cnp.PyArray_ITEMSIZE(argmax) == 4
    with nogil:
        if single and short_index:
            c_max_pool[float, cnp.int32_t](g[0], <float*>px, <float*>py, <cnp.int32_t*>pa, threads)
        elif single:
            c_max_pool[float, cnp.int64_t](g[0], <float*>px, <float*>py, <cnp.int64_t*>pa, threads)
        elif short_index:
            c_max_pool[double, cnp.int32_t](g[0], <double*>px, <double*>py, <cnp.int32_t*>pa, threads)
        else:
            c_max_pool[double, cnp.int64_t](g[0], <double*>px, <double*>py, <cnp.int64_t*>pa, threads)


def max_pool_grad(spec, cnp.ndarray dy, cnp.ndarray argmax, cnp.ndarray dx, int threads):
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef void* pdy = data_of(dy)
    cdef void* pa = data_of(argmax)
    cdef void* pdx = data_of(dx)
    cdef bint single = is_float32(dy)
    cdef bint short_index = cnp.PyArray_ITEMSIZE(argmax) == 4
    with nogil:
        if single and short_index:
            c_max_pool_grad[float, cnp.int32_t](g[0], <float*>pdy, <cnp.int32_t*>pa, <float*>pdx, threads)
        elif single:
            c_max_pool_grad[float, cnp.int64_t](g[0], <float*>pdy, <cnp.int64_t*>pa, <float*>pdx, threads)
        elif short_index:
            c_max_pool_grad[double, cnp.int32_t](g[0], <double*>pdy, <cnp.int32_t*>pa, <double*>pdx, threads)
        else:
            c_max_pool_grad[double, cnp.int64_t](g[0], <double*>pdy, <cnp.int64_t*>pa, <double*>pdx, threads)


def within(cnp.ndarray argmax, cnp.npy_int64 limit, int threads) -> bool:
    """Are all indices of a contiguous int32 or int64 array from 0 to limit - 1?"""
    cdef void* pa = data_of(argmax)
    cdef cnp.npy_int64 n = cnp.PyArray_SIZE(argmax)
    cdef bint short_index = cnp.PyArray_ITEMSIZE(argmax) == 4, good
    with nogil:
        if short_index:
            good = c_within[cnp.int32_t](<cnp.int32_t*>pa, n, limit, threads)
        else:
            good = c_within[cnp.int64_t](<cnp.int64_t*>pa, n, limit, threads)
    return good


def avg_pool(spec, cnp.ndarray x, cnp.ndarray y, int threads):
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef Counts counts = counts_of(spec)
    cdef void* px = data_of(x)
    cdef void* py = data_of(y)
    cdef bint single = is_float32(x)
    with nogil:
        if single:
            c_avg_pool[float](g[0], counts, <float*>px, <float*>py, threads)
        else:
            c_avg_pool[double](g[0], counts, <double*>px, <double*>py, threads)


def avg_pool_grad(spec, cnp.ndarray dy, cnp.ndarray dx, int threads):
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef Counts counts = counts_of(spec)
    cdef void* pdy = data_of(dy)
    cdef void* pdx = data_of(dx)
    cdef bint single = is_float32(dy)
    with nogil:
        if single:
            c_avg_pool_grad[float](g[0], counts, <float*>pdy, <float*>pdx, threads)
        else:
            c_avg_pool_grad[double](g[0], counts, <double*>pdy, <double*>pdx, threads)


direct_max_pool = im2col_max_pool = max_pool
direct_max_pool_grad = im2col_max_pool_grad = max_pool_grad
direct_avg_pool = im2col_avg_pool = avg_pool
direct_avg_pool_grad = im2col_avg_pool_grad = avg_pool_grad

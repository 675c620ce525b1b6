# What follows a convolution in a backward pass.

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_activation_grad "fastconv::activation_grad"[T](const T*, const T*, T*, cnp.npy_intp, Activation, int) except +


def activation_grad(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx, activation, int threads):
    """dx = dy times the activation's derivative, from its output y; contiguous arrays of one shape, dx may be dy."""
    cdef Activation f = ACTIVATIONS[activation]
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(dy)
    cdef void* pdy = data_of(dy)
    cdef void* py = data_of(y)
    cdef void* pdx = data_of(dx)
    cdef bint single = is_float32(dy)
    with nogil:
        if single:
            c_activation_grad[float](<float*>pdy, <float*>py, <float*>pdx, n, f, threads)
        else:
            c_activation_grad[double](<double*>pdy, <double*>py, <double*>pdx, n, f, threads)

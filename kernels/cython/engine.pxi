# The Python entry points of the compiled kernels, included once per instruction set.
cimport numpy as cnp

cnp.import_array()

cdef extern from "geometry.hpp" namespace "fastconv" nogil:
    cdef struct Geometry:
        pass
    cdef enum Activation:
        LINEAR, RELU, LEAKY_RELU, SIGMOID, TANH, RELU6

ACTIVATIONS = {None: LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "sigmoid": SIGMOID, "tanh": TANH,
               "relu6": RELU6}

include "conv.pxi"
include "winograd.pxi"
include "winograd_depthwise.pxi"
include "direct.pxi"
include "im2col.pxi"
include "pool.pxi"
include "activation.pxi"
include "accounting.pxi"


cdef extern from "entries.hpp" namespace "fastconv" nogil:
    double c_fma_gflops "fastconv::fma_gflops"[T]()


def fma_gflops(int itemsize) -> float:
    """Multiply-add peak of one thread in GFLOP/s, for elements of 4 or 8 bytes, measured now."""
    cdef double rate
    with nogil:
        rate = c_fma_gflops[float]() if itemsize == 4 else c_fma_gflops[double]()
    return rate

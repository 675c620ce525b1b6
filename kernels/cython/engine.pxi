# The Python entry points of the compiled kernels, included once per instruction set.
cimport numpy as cnp

cnp.import_array()

cdef extern from "geometry.hpp" namespace "fastconv" nogil:
    cdef struct Geometry:
        pass
    cdef enum Activation:
        LINEAR, RELU, LEAKY_RELU, SIGMOID, TANH

ACTIVATIONS = {None: LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "sigmoid": SIGMOID, "tanh": TANH}

include "conv.pxi"
include "direct.pxi"
include "pool.pxi"

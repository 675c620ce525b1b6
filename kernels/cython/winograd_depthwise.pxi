# Nested Winograd for large depthwise filters.

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_winograd_depthwise_forward "fastconv::winograd_depthwise_forward"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_winograd_depthwise_input_grad "fastconv::winograd_depthwise_input_grad"[T](const Geometry&, const T*, const T*, T*, int) except +


def winograd_depthwise_forward(spec, x, w, bias, y, activation, threads):
    run_forward(c_winograd_depthwise_forward[float], c_winograd_depthwise_forward[double], spec, x, w, bias, y, activation, threads)


def winograd_depthwise_input_grad(spec, dy, w, dx, threads):
    run_input_grad(c_winograd_depthwise_input_grad[float], c_winograd_depthwise_input_grad[double], spec, dy, w, dx, threads)

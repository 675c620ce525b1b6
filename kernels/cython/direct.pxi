# The direct kernel's passes (conv.pxi has the calling conventions).

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_direct_forward "fastconv::direct_forward"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_direct_input_grad "fastconv::direct_input_grad"[T](const Geometry&, const T*, const T*, T*, int) except +
    void c_direct_filter_grad "fastconv::direct_filter_grad"[T](const Geometry&, const T*, const T*, T*, T*, int) except +


def direct_forward(spec, x, w, bias, y, activation, threads):
    run_forward(c_direct_forward[float], c_direct_forward[double], spec, x, w, bias, y, activation, threads)


def direct_input_grad(spec, dy, w, dx, threads):
    run_input_grad(c_direct_input_grad[float], c_direct_input_grad[double], spec, dy, w, dx, threads)


def direct_filter_grad(spec, x, dy, dw, db, threads):
    run_filter_grad(c_direct_filter_grad[float], c_direct_filter_grad[double], spec, x, dy, dw, db, threads)

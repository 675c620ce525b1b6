# Winograd: its passes, and filters transformed in advance for a plan.

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_winograd_forward "fastconv::winograd_forward"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_winograd_input_grad "fastconv::winograd_input_grad"[T](const Geometry&, const T*, const T*, T*, int) except +
    void c_winograd_filter_grad "fastconv::winograd_filter_grad"[T](const Geometry&, const T*, const T*, T*, T*, int) except +
    void c_winograd_forward_prepared "fastconv::winograd_forward_prepared"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_winograd_input_grad_prepared "fastconv::winograd_input_grad_prepared"[T](const Geometry&, const T*, const T*, T*, int) except +
    cnp.npy_int64 c_winograd_prepared_elements "fastconv::winograd_prepared_elements"[T](const Geometry&, bint)
    void c_winograd_prepare "fastconv::winograd_prepare"[T](const Geometry&, cppbool, const T*, T*, int) except +


def winograd_forward(spec, x, w, bias, y, activation, threads):
    run_forward(c_winograd_forward[float], c_winograd_forward[double], spec, x, w, bias, y, activation, threads)


def winograd_input_grad(spec, dy, w, dx, threads):
    run_input_grad(c_winograd_input_grad[float], c_winograd_input_grad[double], spec, dy, w, dx, threads)


def winograd_filter_grad(spec, x, dy, dw, db, threads):
    run_filter_grad(c_winograd_filter_grad[float], c_winograd_filter_grad[double], spec, x, dy, dw, db, threads)


def winograd_prepare(pass_name, spec, w):
    """The transformed filters; w itself where it is cheaper to transform them in each call."""
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef bint input_grad = pass_name == "input_grad"
    elements = c_winograd_prepared_elements[float](g[0], input_grad) if is_float32(w) else c_winograd_prepared_elements[double](g[0], input_grad)
    return prepared_filters(c_winograd_prepare[float], c_winograd_prepare[double], elements, pass_name, spec, w)


def winograd_forward_prepared(spec, x, u, bias, y, activation, threads):
    if u.ndim > 1:
        return winograd_forward(spec, x, u, bias, y, activation, threads)
    run_forward(c_winograd_forward_prepared[float], c_winograd_forward_prepared[double], spec, x, u, bias, y, activation, threads)


def winograd_input_grad_prepared(spec, dy, u, dx, threads):
    if u.ndim > 1:
        return winograd_input_grad(spec, dy, u, dx, threads)
    run_input_grad(c_winograd_input_grad_prepared[float], c_winograd_input_grad_prepared[double], spec, dy, u, dx, threads)

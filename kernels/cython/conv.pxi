# The convolution passes: one pair of functions (float32, float64) for each algorithm and pass.

from libcpp cimport bool as cppbool

ctypedef void (*forward32)(const Geometry&, const float*, const float*, const float*, Activation, float*, int) except + nogil
ctypedef void (*forward64)(const Geometry&, const double*, const double*, const double*, Activation, double*, int) except + nogil
ctypedef void (*input_grad32)(const Geometry&, const float*, const float*, float*, int) except + nogil
ctypedef void (*input_grad64)(const Geometry&, const double*, const double*, double*, int) except + nogil
ctypedef void (*filter_grad32)(const Geometry&, const float*, const float*, float*, float*, int) except + nogil
ctypedef void (*filter_grad64)(const Geometry&, const double*, const double*, double*, double*, int) except + nogil
ctypedef void (*prepare32)(const Geometry&, cppbool, const float*, float*, int) except + nogil
ctypedef void (*prepare64)(const Geometry&, cppbool, const double*, double*, int) except + nogil


cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_blocked_forward "fastconv::blocked_forward"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_blocked_input_grad "fastconv::blocked_input_grad"[T](const Geometry&, const T*, const T*, T*, int) except +
    void c_blocked_filter_grad "fastconv::blocked_filter_grad"[T](const Geometry&, const T*, const T*, T*, T*, int) except +
    void c_blocked_forward_prepared "fastconv::blocked_forward_prepared"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_blocked_input_grad_prepared "fastconv::blocked_input_grad_prepared"[T](const Geometry&, const T*, const T*, T*, int) except +
    cnp.npy_intp c_blocked_prepared_elements "fastconv::blocked_prepared_elements"[T](const Geometry&, bint) except +
    double c_blocked_nanoseconds "fastconv::blocked_nanoseconds"[T](const Geometry&, bint) except +
    void c_blocked_prepare "fastconv::blocked_prepare"[T](const Geometry&, cppbool, const T*, T*, int) except +

cdef extern from "entries.hpp" namespace "fastconv" nogil:
    void c_depthwise_forward "fastconv::depthwise_forward"[T](const Geometry&, const T*, const T*, const T*, Activation, T*, int) except +
    void c_depthwise_input_grad "fastconv::depthwise_input_grad"[T](const Geometry&, const T*, const T*, T*, int) except +
    void c_depthwise_filter_grad "fastconv::depthwise_filter_grad"[T](const Geometry&, const T*, const T*, T*, T*, int) except +


cdef inline void* data_of(cnp.ndarray a) noexcept:
    return NULL if a is None else cnp.PyArray_DATA(a)


cdef inline bint is_float32(cnp.ndarray a) noexcept:
    return cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32


cdef void run_forward(forward32 f32, forward64 f64, spec, cnp.ndarray x, cnp.ndarray w, cnp.ndarray bias, cnp.ndarray y,
                      activation, int threads) except *:
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef Activation f = ACTIVATIONS[activation]
    cdef void* px = data_of(x)
    cdef void* pw = data_of(w)
    cdef void* pb = data_of(bias)
    cdef void* py = data_of(y)
    cdef bint single = is_float32(x)
    with nogil:
        if single:
            f32(g[0], <float*>px, <float*>pw, <float*>pb, f, <float*>py, threads)
        else:
            f64(g[0], <double*>px, <double*>pw, <double*>pb, f, <double*>py, threads)


cdef void run_input_grad(input_grad32 f32, input_grad64 f64, spec, cnp.ndarray dy, cnp.ndarray w, cnp.ndarray dx,
                         int threads) except *:
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef void* pdy = data_of(dy)
    cdef void* pw = data_of(w)
    cdef void* pdx = data_of(dx)
    cdef bint single = is_float32(dy)
    with nogil:
        if single:
            f32(g[0], <float*>pdy, <float*>pw, <float*>pdx, threads)
        else:
            f64(g[0], <double*>pdy, <double*>pw, <double*>pdx, threads)


cdef void run_filter_grad(filter_grad32 f32, filter_grad64 f64, spec, cnp.ndarray x, cnp.ndarray dy, cnp.ndarray dw,
                          cnp.ndarray db, int threads) except *:
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef void* px = data_of(x)
    cdef void* pdy = data_of(dy)
    cdef void* pdw = data_of(dw)
    cdef void* pdb = data_of(db)
    cdef bint single = is_float32(x)
    with nogil:
        if single:
            f32(g[0], <float*>px, <float*>pdy, <float*>pdw, <float*>pdb, threads)
        else:
            f64(g[0], <double*>px, <double*>pdy, <double*>pdw, <double*>pdb, threads)


cdef prepared_filters(prepare32 f32, prepare64 f64, cnp.npy_intp elements, pass_name, spec, cnp.ndarray w):
    """Filters packed or transformed for a pass, as a vector of so many elements; w itself where there are none."""
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef bint input_grad = pass_name == "input_grad", single = is_float32(w)
    cdef cnp.npy_intp length = elements + 64 // w.itemsize
    cdef void* pw = data_of(w)
    cdef void* pu
    cdef cnp.ndarray u
    if elements == 0:
        return w
    u = cnp.PyArray_EMPTY(1, &length, cnp.PyArray_TYPE(w), 0)
    first = (64 - <size_t>data_of(u) % 64) % 64 // w.itemsize  # panels start at a cache line
    u = u[first:first + elements]
    pu = data_of(u)
    with nogil:
        if single:
            f32(g[0], input_grad, <float*>pw, <float*>pu, 1)
        else:
            f64(g[0], input_grad, <double*>pw, <double*>pu, 1)
    return u


def blocked_forward(spec, x, w, bias, y, activation, threads):
    run_forward(c_blocked_forward[float], c_blocked_forward[double], spec, x, w, bias, y, activation, threads)


def blocked_input_grad(spec, dy, w, dx, threads):
    run_input_grad(c_blocked_input_grad[float], c_blocked_input_grad[double], spec, dy, w, dx, threads)


def blocked_filter_grad(spec, x, dy, dw, db, threads):
    run_filter_grad(c_blocked_filter_grad[float], c_blocked_filter_grad[double], spec, x, dy, dw, db, threads)


def blocked_nanoseconds(pass_name, spec) -> float:
    """What a forward pass or an input gradient is expected to take on one thread."""
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef bint input_grad = pass_name == "input_grad"
    return c_blocked_nanoseconds[float](g[0], input_grad) if spec.dtype.itemsize == 4 else c_blocked_nanoseconds[double](g[0], input_grad)


def blocked_prepare(pass_name, spec, w):
    """The packed filters; w itself where the pass reads them in place or packs few."""
    cdef const Geometry* g = <const Geometry*>cnp.PyArray_DATA(<cnp.ndarray>spec.geometry)
    cdef bint input_grad = pass_name == "input_grad"
    elements = c_blocked_prepared_elements[float](g[0], input_grad) if is_float32(w) else c_blocked_prepared_elements[double](g[0], input_grad)
    return prepared_filters(c_blocked_prepare[float], c_blocked_prepare[double], elements, pass_name, spec, w)


def blocked_forward_prepared(spec, x, packed, bias, y, activation, threads):
    if packed.ndim > 1:
        return blocked_forward(spec, x, packed, bias, y, activation, threads)
    run_forward(c_blocked_forward_prepared[float], c_blocked_forward_prepared[double], spec, x, packed, bias, y, activation, threads)


def blocked_input_grad_prepared(spec, dy, packed, dx, threads):
    if packed.ndim > 1:
        return blocked_input_grad(spec, dy, packed, dx, threads)
    run_input_grad(c_blocked_input_grad_prepared[float], c_blocked_input_grad_prepared[double], spec, dy, packed, dx, threads)


def depthwise_forward(spec, x, w, bias, y, activation, threads):
    run_forward(c_depthwise_forward[float], c_depthwise_forward[double], spec, x, w, bias, y, activation, threads)


def depthwise_input_grad(spec, dy, w, dx, threads):
    run_input_grad(c_depthwise_input_grad[float], c_depthwise_input_grad[double], spec, dy, w, dx, threads)


def depthwise_filter_grad(spec, x, dy, dw, db, threads):
    run_filter_grad(c_depthwise_filter_grad[float], c_depthwise_filter_grad[double], spec, x, dy, dw, db, threads)

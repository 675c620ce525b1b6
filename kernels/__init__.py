"""How a call reaches a kernel.

    fc.conv2d(x, w)                      fastconv/ops/conv.py      checks the arguments, allocates y
      -> conv_spec(...)                  fastconv/ops/spec.py      geometry, or the error
      -> select("forward", spec)         fastconv/dispatch         the first kernel that can do it
      -> kernel.passes["forward"](spec, x, w, bias, y, activation, threads)    this package

A kernel knows its arithmetic and nothing else. It gets C-contiguous arrays in the spec's layout and dtype,
an output to overwrite whole, and zero padding only (other padding modes arrive already padded, some lines at
a time). The passes and their arguments:

    forward(spec, x, w, bias, y, activation, threads)       bias and activation may be None
    input_grad(spec, dy, w, dx, threads)
    filter_grad(spec, x, dy, dw, db, threads)               db may be None
    max_pool(spec, x, y, argmax, threads)                   argmax may be None
    max_pool_grad(spec, dy, argmax, dx, threads)
    avg_pool(spec, x, y, threads)
    avg_pool_grad(spec, dy, dx, threads)

`reference.py` defines what is right; `cython/` and `numba/` hold the same algorithms for the two backends,
`cython/` over the register tiles of `microkernels/`.
"""

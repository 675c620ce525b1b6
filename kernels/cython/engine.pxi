# The Python entry points of the compiled kernels, included once per instruction set.
cimport numpy as cnp

cnp.import_array()

// The plain kernels, compiled: direct loops, and im2col with GEMM.
#include "direct_filter_grad.hpp"
#include "entries.hpp"
#include "im2col_grad.hpp"

namespace fastconv {

FASTCONV_PASSES(template, direct, float)
FASTCONV_PASSES(template, direct, double)
FASTCONV_PASSES(template, im2col, float)
FASTCONV_PASSES(template, im2col, double)

}  // namespace fastconv

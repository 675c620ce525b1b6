// The depthwise kernel, compiled.
#include "depthwise_kernel.hpp"
#include "entries.hpp"

namespace fastconv {

FASTCONV_PASSES(template, depthwise, float)
FASTCONV_PASSES(template, depthwise, double)

}  // namespace fastconv

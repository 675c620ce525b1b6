// The Winograd kernels, compiled.
#include "entries.hpp"
#include "winograd.hpp"
#include "winograd_depthwise.hpp"

namespace fastconv {

FASTCONV_PASSES(template, winograd, float)
FASTCONV_PASSES(template, winograd, double)
FASTCONV_PREPARED(template, winograd, float)
FASTCONV_PREPARED(template, winograd, double)
template idx winograd_prepared_elements<float>(const Geometry&, bool);
template idx winograd_prepared_elements<double>(const Geometry&, bool);

FASTCONV_FORWARD(template, winograd_depthwise_forward, float)
FASTCONV_FORWARD(template, winograd_depthwise_forward, double)
FASTCONV_INPUT_GRAD(template, winograd_depthwise_input_grad, float)
FASTCONV_INPUT_GRAD(template, winograd_depthwise_input_grad, double)

}  // namespace fastconv

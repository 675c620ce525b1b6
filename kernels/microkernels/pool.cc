// Pooling, compiled, with what follows a convolution in a backward pass.
#include "activation_grad.hpp"
#include "entries.hpp"
#include "peak.hpp"
#include "pool_avg.hpp"
#include "pool_max.hpp"
#include "pool_max_grad.hpp"

namespace fastconv {

#define FASTCONV_MAX_POOL(T, I)                                           \
    template void max_pool(const Geometry&, const T*, T*, I*, int);       \
    template void max_pool_grad(const Geometry&, const T*, const I*, T*, int);
FASTCONV_MAX_POOL(float, int32_t)
FASTCONV_MAX_POOL(float, int64_t)
FASTCONV_MAX_POOL(double, int32_t)
FASTCONV_MAX_POOL(double, int64_t)
template bool within(const int32_t*, idx, idx, int);
template bool within(const int64_t*, idx, idx, int);

template void avg_pool(const Geometry&, const Counts&, const float*, float*, int);
template void avg_pool(const Geometry&, const Counts&, const double*, double*, int);
template void avg_pool_grad(const Geometry&, const Counts&, const float*, float*, int);
template void avg_pool_grad(const Geometry&, const Counts&, const double*, double*, int);

template void activation_grad(const float*, const float*, float*, idx, Activation, int);
template void activation_grad(const double*, const double*, double*, idx, Activation, int);

template double fma_gflops<float>();
template double fma_gflops<double>();

}  // namespace fastconv

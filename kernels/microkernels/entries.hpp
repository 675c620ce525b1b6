// What Python calls, of T = float and double. Declared only: each kernel is compiled in a unit of its own (blocked.cc and
// the like), so that a build keeps several cores busy.
#pragma once
#include "geometry.hpp"

namespace fastconv {

// TEMPLATE is `template <class T>` to declare a kernel's passes, and `template` to compile those of one T.
#define FASTCONV_FORWARD(TEMPLATE, NAME, T) \
    TEMPLATE void NAME(const Geometry&, const T*, const T*, const T*, Activation, T*, int);
#define FASTCONV_INPUT_GRAD(TEMPLATE, NAME, T) TEMPLATE void NAME(const Geometry&, const T*, const T*, T*, int);
#define FASTCONV_FILTER_GRAD(TEMPLATE, NAME, T) TEMPLATE void NAME(const Geometry&, const T*, const T*, T*, T*, int);
#define FASTCONV_PASSES(TEMPLATE, NAME, T)              \
    FASTCONV_FORWARD(TEMPLATE, NAME##_forward, T)       \
    FASTCONV_INPUT_GRAD(TEMPLATE, NAME##_input_grad, T) \
    FASTCONV_FILTER_GRAD(TEMPLATE, NAME##_filter_grad, T)
// With filters that were packed or transformed in advance.
#define FASTCONV_PREPARED(TEMPLATE, NAME, T)                     \
    FASTCONV_FORWARD(TEMPLATE, NAME##_forward_prepared, T)       \
    FASTCONV_INPUT_GRAD(TEMPLATE, NAME##_input_grad_prepared, T) \
    TEMPLATE void NAME##_prepare(const Geometry&, bool, const T*, T*, int);

FASTCONV_PASSES(template <class T>, blocked, T)
FASTCONV_PREPARED(template <class T>, blocked, T)
template <class T> idx blocked_prepared_elements(const Geometry&, bool);
template <class T> double blocked_nanoseconds(const Geometry&, bool);

FASTCONV_PASSES(template <class T>, winograd, T)
FASTCONV_PREPARED(template <class T>, winograd, T)
template <class T> idx winograd_prepared_elements(const Geometry&, bool);
FASTCONV_FORWARD(template <class T>, winograd_depthwise_forward, T)
FASTCONV_INPUT_GRAD(template <class T>, winograd_depthwise_input_grad, T)

FASTCONV_PASSES(template <class T>, depthwise, T)
FASTCONV_PASSES(template <class T>, direct, T)
FASTCONV_PASSES(template <class T>, im2col, T)

// Elements that windows count along each axis, by output position; `fixed` replaces their product if not 0.
struct Counts {
    const idx* axis[3];
    idx fixed;
};
template <class T, class I> void max_pool(const Geometry&, const T*, T*, I*, int);
template <class T, class I> void max_pool_grad(const Geometry&, const T*, const I*, T*, int);
template <class I> bool within(const I*, idx, idx, int);
template <class T> void avg_pool(const Geometry&, const Counts&, const T*, T*, int);
template <class T> void avg_pool_grad(const Geometry&, const Counts&, const T*, T*, int);
template <class T> void activation_grad(const T*, const T*, T*, idx, Activation, int);

template <class T> double fma_gflops();

}  // namespace fastconv

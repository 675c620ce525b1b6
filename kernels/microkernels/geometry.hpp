// A problem's sizes as ConvSpec.geometry and PoolSpec.geometry pack them: (D, H, W) axes, absent ones of size 1.
#pragma once
#include <cstdint>

namespace fastconv {

typedef int64_t idx;

struct Geometry {
    idx n, c, k, groups, channels_last;
    idx size[3], window[3], out[3];
    idx stride[3], dilation[3], before[3];

    idx c_group() const { return c / groups; }
    idx k_group() const { return k / groups; }
    idx taps() const { return window[0] * window[1] * window[2]; }
    idx pixels() const { return size[0] * size[1] * size[2]; }
    idx out_pixels() const { return out[0] * out[1] * out[2]; }
};

// Of the plain sum: twice the products.
inline double flops_of(const Geometry& g) { return 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels(); }

enum Activation { LINEAR, RELU, LEAKY_RELU, SIGMOID, TANH, RELU6 };

template <class I> inline I ceil_div(I a, I b) { return (a + b - 1) / b; }

// Output positions [lo, hi) whose tap at offset `tap` (dilated, minus padding) meets an input of `size`.
inline void valid_range(idx tap, idx stride, idx size, idx out, idx* lo, idx* hi) {
    idx first = tap >= 0 ? 0 : ceil_div(-tap, stride);
    idx last = tap >= size ? 0 : (size - 1 - tap) / stride + 1;
    *hi = last < out ? last : out;
    *lo = first < *hi ? first : *hi;
}

}  // namespace fastconv

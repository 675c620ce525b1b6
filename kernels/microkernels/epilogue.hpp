// Bias and activation, applied to a tile right after it is complete, while it is in the level 1 cache.
#pragma once
#include <cmath>

#include "geometry.hpp"

namespace fastconv {

template <class T> inline T activated(T v, Activation f) {
    switch (f) {
        case RELU: return v > 0 ? v : (v != v ? v : T(0));
        case LEAKY_RELU: return v < 0 ? v * T(0.01) : v;
        case SIGMOID: return v < 0 ? std::exp(v) / (1 + std::exp(v)) : 1 / (1 + std::exp(-v));
        case TANH: return std::tanh(v);
        case RELU6: return v < 0 ? T(0) : (v > 6 ? T(6) : v);
        default: return v;
    }
}

// n elements that share one bias (channels-first: a row of pixels).
template <class T> inline void finish_row(T* y, idx n, T bias, Activation f) {
    switch (f) {
        case LINEAR:
            for (idx j = 0; j < n; j++) y[j] += bias;
            return;
        case RELU:
            for (idx j = 0; j < n; j++) {
                T v = y[j] + bias;
                y[j] = v < 0 ? T(0) : v;
            }
            return;
        case RELU6:
            for (idx j = 0; j < n; j++) {
                T v = y[j] + bias;
                v = v < 0 ? T(0) : v;
                y[j] = v > 6 ? T(6) : v;
            }
            return;
        case LEAKY_RELU:
            for (idx j = 0; j < n; j++) {
                T v = y[j] + bias;
                y[j] = v < 0 ? v * T(0.01) : v;
            }
            return;
        default:
            for (idx j = 0; j < n; j++) y[j] = activated(y[j] + bias, f);
    }
}

// n elements with a bias each (channels-last: the channels of a pixel).
template <class T> inline void finish_pixel(T* y, idx n, const T* bias, Activation f) {
    if (bias)
        for (idx j = 0; j < n; j++) y[j] += bias[j];
    if (f != LINEAR) finish_row(y, n, T(0), f);
}

}  // namespace fastconv

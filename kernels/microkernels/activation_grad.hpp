// Gradients of the activations from their outputs: dx = dy f'(y), where f' is a function of y. dx may be dy itself.
#pragma once
#include "geometry.hpp"
#include "parallel.hpp"

namespace fastconv {

template <class T, class Slope> inline void multiply_slopes(const T* dy, const T* y, T* dx, idx n, Slope slope) {
#pragma GCC ivdep
    for (idx i = 0; i < n; i++) dx[i] = slope(dy[i], y[i]);
}

// A NaN in y lets relu's and relu6's gradients pass, as in PyTorch.
template <class T> inline void activation_grad_run(const T* dy, const T* y, T* dx, idx n, Activation f) {
    switch (f) {
        case RELU: return multiply_slopes(dy, y, dx, n, [](T d, T v) { return v <= 0 ? T(0) : d; });
        case LEAKY_RELU: return multiply_slopes(dy, y, dx, n, [](T d, T v) { return d * (v > 0 ? T(1) : T(0.01)); });
        case SIGMOID: return multiply_slopes(dy, y, dx, n, [](T d, T v) { return d * (v * (1 - v)); });
        case RELU6: return multiply_slopes(dy, y, dx, n, [](T d, T v) { return (v <= 0) | (v >= 6) ? T(0) : d; });
        case TANH: return multiply_slopes(dy, y, dx, n, [](T d, T v) { return d * (1 - v * v); });
        default: return multiply_slopes(dy, y, dx, n, [](T d, T) { return d; });
    }
}

template <class T> void activation_grad(const T* dy, const T* y, T* dx, idx n, Activation f, int threads) {
    const idx run = 4096;  // elements a job: three arrays of 16 KB
    const idx jobs = ceil_div(n, run);
    threads = useful_threads(threads, jobs, 4.0 * n);
    parallel_for(jobs, threads, [&](idx job, int) {
        const idx first = job * run;
        activation_grad_run(dy + first, y + first, dx + first, n - first < run ? n - first : run, f);
    });
}

}  // namespace fastconv

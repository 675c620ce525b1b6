// Gradient of the bias: dy summed over batch and pixels, in blocks so that float32 keeps its accuracy.
#pragma once
#include <algorithm>
#include <vector>

#include "parallel.hpp"
#include "vec.hpp"

namespace fastconv {

constexpr idx BIAS_BLOCK = 512;

template <class T> T sum_of(const T* p, idx n) {
    constexpr int L = LANES<T>;
    T total = 0;
    for (idx first = 0; first < n; first += BIAS_BLOCK) {
        const idx end = std::min(n, first + BIAS_BLOCK);
        Vec<T> sum = {};
        idx i = first;
        for (; i + L <= end; i += L) sum += load(p + i);
        if (i < end) sum += load_part(p + i, end - i);
        T block = 0;
        for (int l = 0; l < L; l++) block += sum[l];
        total += block;
    }
    return total;
}

template <class T> void bias_grad(const Geometry& g, const T* dy, T* db, int threads) {
    constexpr int L = LANES<T>;
    const idx pixels = g.out_pixels();
    threads = useful_threads(threads, g.k, 4.0 * g.n * g.k * pixels);
    if (!g.channels_last) {
        parallel_for(g.k, threads, [&](idx k, int) {
            db[k] = 0;
            for (idx n = 0; n < g.n; n++) db[k] += sum_of(dy + (n * g.k + k) * pixels, pixels);
        });
        return;
    }
    parallel_for(ceil_div<idx>(g.k, L), threads, [&](idx part, int) {
        const idx k = part * L, lanes = std::min<idx>(L, g.k - k);
        Vec<T> total = {};
        for (idx first = 0; first < g.n * pixels; first += BIAS_BLOCK) {
            Vec<T> sum = {};
            for (idx q = first; q < std::min(g.n * pixels, first + BIAS_BLOCK); q++)
                sum += lanes == L ? load(dy + q * g.k + k) : load_part(dy + q * g.k + k, lanes);
            total += sum;
        }
        store_part(db + k, total, lanes);
    });
}

}  // namespace fastconv

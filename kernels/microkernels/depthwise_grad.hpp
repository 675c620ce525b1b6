// Depthwise filter gradient: R x S sums of a vector of channels over all pixels, from slabs of x and dy.
#pragma once
#include "depthwise.hpp"

namespace fastconv {

// sums[t] += over a row of n pixels dy[i] * x[i * step + t], even and odd pixels apart to keep enough sums in flight.
template <class T, int TAPS> inline void add_products_row(const T* x, const T* dy, idx n, idx step, idx dilation, Vec<T>* sums) {
    constexpr int L = LANES<T>;
    Vec<T> even[TAPS], odd[TAPS] = {};
    for (int t = 0; t < TAPS; t++) even[t] = sums[t];
    idx i = 0;
    for (; i + 2 <= n; i += 2) {
        Vec<T> d0 = load(dy + i * L), d1 = load(dy + (i + 1) * L);
        for (int t = 0; t < TAPS; t++) {
            even[t] += d0 * load(x + (i * step + t * dilation) * L);
            odd[t] += d1 * load(x + ((i + 1) * step + t * dilation) * L);
        }
    }
    if (i < n)
        for (int t = 0; t < TAPS; t++) even[t] += load(dy + i * L) * load(x + (i * step + t * dilation) * L);
    for (int t = 0; t < TAPS; t++) sums[t] = even[t] + odd[t];
}

template <class T, int TAPS = DEPTHWISE_TAPS>
inline void add_products_of(idx taps, const T* x, const T* dy, idx n, idx step, idx dilation, Vec<T>* sums) {
    if constexpr (TAPS > 1)
        if (taps < TAPS) return add_products_of<T, TAPS - 1>(taps, x, dy, n, step, dilation, sums);
    add_products_row<T, TAPS>(x, dy, n, step, dilation, sums);
}

template <class T> struct DepthwiseGrad {
    const Geometry* g;
    Image<const T> x, dy;
    idx rows;  // of dy in a band
    idx columns;  // of the slab of x
};

// Adds a band of one image to sums[vector][tap][lane].
template <class T>
void add_band(const DepthwiseGrad<T>& p, idx image, idx first, idx channel, idx lanes, T* x_slab, T* dy_slab, T* sums) {
    constexpr int L = LANES<T>;
    const Geometry& g = *p.g;
    const idx rows = std::min(p.rows, g.out[1] - first), width = g.out[2], R = g.window[1], S = g.window[2];
    const Window window{image, first * g.stride[1] - g.before[1], -g.before[2], 1, 1,
                        (rows - 1) * g.stride[1] + (R - 1) * g.dilation[1] + 1, p.columns, channel, lanes};
    load_slab(p.x, window, x_slab);
    load_slab(p.dy, {image, first, 0, 1, 1, rows, width, channel, lanes}, dy_slab);
    for (idx v = 0; v < window.vectors(L); v++, x_slab += window.rows * p.columns * L, dy_slab += rows * width * L)
        for (idx r = 0; r < R; r++)
            for (idx s = 0; s < S; s += DEPTHWISE_TAPS) {
                const idx count = std::min<idx>(DEPTHWISE_TAPS, S - s);
                Vec<T> acc[DEPTHWISE_TAPS] = {};
                for (idx h = 0; h < rows; h++)
                    add_products_of<T>(count,
                                       x_slab + ((h * g.stride[1] + r * g.dilation[1]) * p.columns + s * g.dilation[2]) * L,
                                       dy_slab + h * width * L, width, g.stride[2], g.dilation[2], acc);
                for (idx t = 0; t < count; t++) {
                    T* to = sums + ((v * R + r) * S + s + t) * L;
                    store(to, load(to) + acc[t]);
                }
            }
}

template <class T>
void depthwise_filter_grad_slab(const Geometry& g, const T* x, const T* dy, T* dw, int threads) {
    constexpr int L = LANES<T>;
    const idx columns = (g.out[2] - 1) * g.stride[2] + (g.window[2] - 1) * g.dilation[2] + 1, taps = g.taps();
    const idx reach = (g.window[1] - 1) * g.dilation[1] + 1, vectors = depthwise_vectors(g, L);
    const idx rows = band_rows<T>(g.out[1], g.stride[1], reach, columns, vectors);
    const DepthwiseGrad<T> p{&g, plane_of(g, false, x), plane_of(g, true, dy), rows, columns};
    // Few channels: several jobs share them, each summing some of the images.
    const idx blocks = ceil_div<idx>(g.c, vectors * L), shares = std::min(g.n, ceil_div<idx>(4 * threads, blocks));
    const idx x_size = ((rows - 1) * g.stride[1] + reach) * columns * vectors * L, dy_size = rows * g.out[2] * vectors * L;
    const idx size = vectors * taps * L;
    threads = useful_threads(threads, blocks * shares, 2.0 * g.n * g.c * g.out_pixels() * (taps + 4));
    Workspace workspace(padded_bytes<T>(x_size) + padded_bytes<T>(dy_size), threads);
    Workspace sums(blocks * shares * size * sizeof(T), 1);
    T* all = (T*)sums.of(0);
    std::fill(all, all + blocks * shares * size, T(0));
    parallel_for(blocks * shares, threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T *x_slab = arena.take<T>(x_size), *dy_slab = arena.take<T>(dy_size);
        const idx channel = job / shares * vectors * L, share = job % shares;
        const idx lanes = std::min<idx>(vectors * L, g.c - channel);
        for (idx image = g.n * share / shares; image < g.n * (share + 1) / shares; image++)
            for (idx h = 0; h < g.out[1]; h += rows)
                add_band(p, image, h, channel, lanes, x_slab, dy_slab, all + job * size);
    });
    const Filters<T> f = depthwise_filters(g, dw);
    for (idx c = 0; c < g.c; c++)
        for (idx tap = 0; tap < taps; tap++) {
            const idx block = c / (vectors * L), at = (c / L % vectors * taps + tap) * L + c % L;
            T sum = 0;
            for (idx share = 0; share < shares; share++) sum += all[(block * shares + share) * size + at];
            dw[tap * f.tap_stride + c * f.group_stride] = sum;
        }
}

}  // namespace fastconv

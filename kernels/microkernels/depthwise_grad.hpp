// Filter gradient of depthwise, channel multipliers and small groups: R x S x D sums of a vector of outputs over all
// pixels, from slabs of x and dy.
#pragma once
#include "depthwise.hpp"

namespace fastconv {

constexpr int SLAB_TAPS = 7;  // whose sums stay in registers over a row

// sums[t] += over a row of n pixels dy[i] * x[i * step + t * gap] (in vectors), even and odd pixels apart to keep enough
// sums in flight.
template <class T, int TAPS> inline void add_products_row(const T* x, const T* dy, idx n, idx step, idx gap, T* sums) {
    constexpr int L = LANES<T>;
    Vec<T> even[TAPS] = {}, odd[TAPS] = {};
    idx i = 0;
    for (; i + 2 <= n; i += 2) {
        const Vec<T> d0 = load(dy + i * L), d1 = load(dy + (i + 1) * L);
        for (int t = 0; t < TAPS; t++) {
            even[t] += d0 * load(x + (i * step + t * gap) * L);
            odd[t] += d1 * load(x + ((i + 1) * step + t * gap) * L);
        }
    }
    if (i < n)
        for (int t = 0; t < TAPS; t++) even[t] += load(dy + i * L) * load(x + (i * step + t * gap) * L);
    for (int t = 0; t < TAPS; t++) store(sums + t * L, load(sums + t * L) + (even[t] + odd[t]));
}

template <class T, int TAPS = SLAB_TAPS>
inline void add_products_of(idx taps, const T* x, const T* dy, idx n, idx step, idx gap, T* sums) {
    if constexpr (TAPS > 1)
        if (taps < TAPS) return add_products_of<T, TAPS - 1>(taps, x, dy, n, step, gap, sums);
    add_products_row<T, TAPS>(x, dy, n, step, gap, sums);
}

template <class T> struct DepthwiseGrad {
    const Geometry* g;
    Image<const T> x, dy;
    Groups groups;
    idx rows, columns;  // of dy at a time
};

// Adds what a slab of x and one of dy give to sums [r][s][d][lane].
template <class T>
void add_slabs(const DepthwiseGrad<T>& p, idx rows, idx columns, idx x_columns, const T* x_slab, const T* dy_slab, T* sums) {
    constexpr int L = LANES<T>;
    const Geometry& g = *p.g;
    const idx R = g.window[1], S = g.window[2], depth = p.groups.depth;
    // without dilation the taps of a row and their depths follow each other
    const bool dense = g.dilation[2] == 1;
    const idx runs = dense ? 1 : depth, taps = dense ? S * depth : S, gap = dense ? 1 : g.dilation[2] * depth;
    for (idx h = 0; h < rows; h++)
        for (idx r = 0; r < R; r++)
            for (idx d = 0; d < runs; d++) {
                const T* row = x_slab + ((h * g.stride[1] + r * g.dilation[1]) * x_columns * depth + d) * L;
                for (idx t = 0; t < taps; t += SLAB_TAPS)
                    add_products_of<T>(std::min<idx>(SLAB_TAPS, taps - t), row + t * gap * L, dy_slab + h * columns * L,
                                       columns, g.stride[2] * depth, gap, sums + ((r * runs + d) * taps + t) * L);
            }
}

// Adds a part of plane `d` of one image to sums [plane][r][s][d][lane].
template <class T>
void add_part(const DepthwiseGrad<T>& p, idx image, idx d, idx first, idx w, idx channel, idx lanes, T* natural, T* x_slab,
              T* dy_slab, T* sums) {
    const Geometry& g = *p.g;
    const idx rows = std::min(p.rows, g.out[1] - first), columns = std::min(p.columns, g.out[2] - w);
    Window window{0, first * g.stride[1] - g.before[1], w * g.stride[2] - g.before[2], 1, 1,
                  (rows - 1) * g.stride[1] + (g.window[1] - 1) * g.dilation[1] + 1,
                  (columns - 1) * g.stride[2] + (g.window[2] - 1) * g.dilation[2] + 1, channel, lanes};
    load_slab(p.dy, {image * p.dy.depth + d, first, w, 1, 1, rows, columns, channel, lanes}, dy_slab);
    const idx plane = g.window[1] * g.window[2] * p.groups.depth * LANES<T>;
    for (idx t = 0; t < g.window[0]; t++, sums += plane) {
        const idx at = d * g.stride[0] - g.before[0] + t * g.dilation[0];
        if (at < 0 || at >= p.x.depth) continue;
        window.image = image * p.x.depth + at;
        load_group_slab(p.x, p.groups, window, natural, x_slab);
        add_slabs(p, rows, columns, window.columns, x_slab, dy_slab, sums);
    }
}

// How the work of a filter gradient is cut, and the elements it needs.
template <class T> struct SlabGradPlan {
    Groups groups;
    idx taps, part, rows, blocks, shares;  // part, rows: of dy at a time
    idx slab, natural, dy_slab, size;      // size: of a job's sums
    int threads;

    SlabGradPlan(const Geometry& g, int most_threads) : groups{g.c_group(), g.k_group()}, taps(g.taps() * groups.depth) {
        constexpr int L = LANES<T>;
        part = std::min(g.out[2], SLAB_POSITIONS);
        const idx columns = (part - 1) * g.stride[2] + (g.window[2] - 1) * g.dilation[2] + 1;
        const idx reach = (g.window[1] - 1) * g.dilation[1] + 1;
        rows = band_rows(g.out[1], g.stride[1], reach, columns * groups.depth * L * sizeof(T));
        // Few channels: several jobs share them, each summing some of the images.
        blocks = ceil_div<idx>(g.k, L), shares = std::min(g.n, ceil_div<idx>(4 * most_threads, blocks));
        const idx pixels = ((rows - 1) * g.stride[1] + reach) * columns;
        slab = pixels * groups.depth * L, natural = groups.plain() ? 0 : pixels * groups.vectors(L) * L;
        dy_slab = rows * part * L, size = taps * L;
        threads = useful_threads(most_threads, blocks * shares, 2.0 * g.n * g.k * g.out_pixels() * (taps + 4));
    }
    idx bytes() const { return padded_bytes<T>(slab) + padded_bytes<T>(natural) + padded_bytes<T>(dy_slab); }
    idx sums_bytes() const { return padded_bytes<T>(blocks * shares * size); }
};

template <class T>
void depthwise_filter_grad_slab(const Geometry& g, const T* x, const T* dy, T* dw, int threads) {
    constexpr int L = LANES<T>;
    const SlabGradPlan<T> plan(g, threads);
    const DepthwiseGrad<T> p{&g, plane_of(g, false, x), plane_of(g, true, dy), plan.groups, plan.rows, plan.part};
    Workspace workspace(plan.bytes(), plan.threads), sums(plan.sums_bytes(), 1);
    T* all = (T*)sums.of(0);
    std::fill(all, all + plan.blocks * plan.shares * plan.size, T(0));
    parallel_for(plan.blocks * plan.shares, plan.threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T *slab = arena.take<T>(plan.slab), *dy_slab = arena.take<T>(plan.dy_slab), *natural = arena.take<T>(plan.natural);
        const idx channel = job / plan.shares * L, share = job % plan.shares, lanes = std::min<idx>(L, g.k - channel);
        for (idx image = g.n * share / plan.shares; image < g.n * (share + 1) / plan.shares; image++)
            for (idx row = 0; row < g.out[0] * g.out[1]; row += std::min(plan.rows, g.out[1] - row % g.out[1]))
                for (idx w = 0; w < g.out[2]; w += plan.part)
                    add_part(p, image, row / g.out[1], row % g.out[1], w, channel, lanes, natural, slab, dy_slab,
                             all + job * plan.size);
    });
    const Filters<T> f = forward_filters(g, dw);
    const idx S = g.window[2], depth = plan.groups.depth;
    for (idx k = 0; k < g.k; k++)
        for (idx tap = 0; tap < g.taps(); tap++)
            for (idx d = 0; d < depth; d++) {
                const idx t = g.dilation[2] == 1 ? tap * depth + d : (tap / S * depth + d) * S + tap % S;
                T sum = 0;
                for (idx share = 0; share < plan.shares; share++)
                    sum += all[(k / L * plan.shares + share) * plan.size + t * L + k % L];
                *group_weight(f, plan.groups, tap, d, k) = sum;
            }
}

}  // namespace fastconv

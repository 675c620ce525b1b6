// Direct convolution of channels that do not mix (groups = channels = filters): products of two vectors, no broadcast.
#pragma once
#include "direct_strip.hpp"
#include "epilogue.hpp"
#include "lanes.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

inline bool is_depthwise(const Geometry& g) { return g.c_group() == 1 && g.k_group() == 1; }

// Channels-last: M pixels of a strip with their filters (taps, channels). Several pixels hide an addition's latency.
template <class T, int M>
inline void direct_depthwise_pixels(const Strip<T>& strip, const T* w, const T* const* pixels, T* const* dest) {
    const idx channels = strip.channels, taps = (idx)strip.tap.size();
    const idx *tap = strip.tap.data(), *displacement = strip.displacement.data();
    cover<T>(0, channels, [=](auto lanes, idx c) {
        typedef Run<T, lanes> V;
        V sum[M] = {};
        for (idx t = 0; t < taps; t++) {
            const V filter = *(const V*)(w + tap[t] * channels + c);
            for (int i = 0; i < M; i++) sum[i] += *(const V*)(pixels[i] + displacement[t] + c) * filter;
        }
        for (int i = 0; i < M; i++) *(V*)(dest[i] + c) = sum[i];
    });
}

// dot(a, b): whole vectors, then narrower ones.
template <class T, int L = LANES<T>> inline T dot(const T* a, const T* b, idx n) {
    T sum = 0;
    if constexpr (L == 1) {
        for (idx i = 0; i < n; i++) sum += a[i] * b[i];
    } else {
        Run<T, L> sums = {};
        idx i = 0;
        for (; i + L <= n; i += L) sums += *(const Run<T, L>*)(a + i) * *(const Run<T, L>*)(b + i);
        if (i > 0)
            for (int lane = 0; lane < L; lane++) sum += sums[lane];
        if (i < n) sum += dot<T, L / 2>(a + i, b + i, n - i);
    }
    return sum;
}

// Channels-first filter gradient, a channel a job: a tap's gradient is the dot product of dy and its displaced strip.
template <class T>
void direct_depthwise_filter_grad_first(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const Strip<T> strip(forward_view(g), g.n, 1, g.c, false, g.window);
    const idx taps = (idx)strip.tap.size();
    threads = useful_threads(threads, g.c, 2.0 * g.n * g.c * g.out_pixels() * taps);
    Workspace workspace(padded_bytes<T>(strip.elements()), threads);
    parallel_for(g.c, threads, [&](idx c, int thread) {
        T* pixels = (T*)workspace.of(thread);
        T* filter = dw + c * g.taps();
        std::fill_n(filter, g.taps(), T(0));
        if (db) db[c] = 0;
        for (idx i = 0; i < strip.blocks(); i++) {
            const Block b = strip.block(i);
            strip.pack(pixels, x, c, b);
            for (idx row = 0; row < b.images * b.rows; row++) {
                const idx image = row / b.rows, h = row % b.rows;
                const T* gradient = dy + ((b.image + image) * g.c + c) * g.out_pixels() +
                                    (b.depth * g.out[1] + b.row + h) * g.out[2] + b.column;
                const T* from = pixels + strip.position(image, h, 0);
                for (idx t = 0; t < taps; t++)
                    filter[strip.tap[t]] += dot(from + strip.displacement[t], gradient, b.columns);
                if (db)
                    for (idx j = 0; j < b.columns; j++) db[c] += gradient[j];
            }
        }
    });
}

// Adds to dw (L channels) the products of `n` pixels `x_step` and `step` elements apart.
template <class T, int L> inline void add_products(const T* x, idx x_step, const T* dy, idx step, idx n, T* dw) {
    typedef Run<T, L> V;
    V even = {}, odd = {};
    idx i = 0;
    for (; i + 2 <= n; i += 2) {
        even += *(const V*)(x + i * x_step) * *(const V*)(dy + i * step);
        odd += *(const V*)(x + (i + 1) * x_step) * *(const V*)(dy + (i + 1) * step);
    }
    if (i < n) even += *(const V*)(x + i * x_step) * *(const V*)(dy + i * step);
    *(V*)dw += even + odd;
}

// Channels-last filter gradient of L channels, straight from x and dy: taps sum the columns at which they are inside.
template <class T, int L>
void direct_depthwise_filter_grad_last(const Geometry& g, const T* x, const T* dy, T* dw, T* db) {
    typedef Run<T, L> V;
    const idx step = g.c;
    for (idx t = 0; t < g.taps(); t++) *(V*)(dw + t * step) = V{};
    if (db) *(V*)db = V{};
    for (idx row = 0; row < g.n * g.out[0] * g.out[1]; row++, dy += g.out[2] * step) {
        const idx h = row % g.out[1], d = row / g.out[1] % g.out[0], image = row / g.out[1] / g.out[0];
        T* filter = dw;
        for (idx td = 0; td < g.window[0]; td++)
            for (idx th = 0; th < g.window[1]; th++, filter += g.window[2] * step) {
                const idx z = d * g.stride[0] - g.before[0] + td * g.dilation[0];
                const idx y = h * g.stride[1] - g.before[1] + th * g.dilation[1];
                if (z < 0 || z >= g.size[0] || y < 0 || y >= g.size[1]) continue;
                const T* from = x + ((image * g.size[0] + z) * g.size[1] + y) * g.size[2] * step;
                for (idx tw = 0; tw < g.window[2]; tw++) {
                    const idx at = tw * g.dilation[2] - g.before[2];
                    idx lo, hi;
                    valid_range(at, g.stride[2], g.size[2], g.out[2], &lo, &hi);
                    add_products<T, L>(from + (at + lo * g.stride[2]) * step, g.stride[2] * step, dy + lo * step, step,
                                       hi - lo, filter + tw * step);
                }
            }
        if (!db) continue;
        V sum = {};
        for (idx j = 0; j < g.out[2]; j++) sum += *(const V*)(dy + j * step);
        *(V*)db += sum;
    }
}

template <class T>
void direct_depthwise_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    if (!g.channels_last) return direct_depthwise_filter_grad_first(g, x, dy, dw, db, threads);
    const idx jobs = ceil_div<idx>(g.c, LANES<T>);
    threads = useful_threads(threads, jobs, 2.0 * g.n * g.c * g.out_pixels() * g.taps());
    parallel_for(jobs, threads, [&](idx job, int) {
        const idx end = std::min<idx>((job + 1) * LANES<T>, g.c);
        for (idx c = job * LANES<T>; c < end;)
            with_lanes<T>(end - c, [&](auto lanes) {
                direct_depthwise_filter_grad_last<T, lanes>(g, x + c, dy + c, dw + c, db ? db + c : nullptr);
                c += lanes;
            });
    });
}

}  // namespace fastconv

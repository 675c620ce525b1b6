// Average-pooling and its gradient.
//
// Vectors run over output columns in channels-first, over channels in channels-last. Rows of a window are summed
// on their own first, which halves the digits that long float32 sums lose.
#pragma once
#include "pool_window.hpp"
#include "workspace.hpp"

#include <vector>

namespace fastconv {

// Elements that windows count along each axis, by output position; `fixed` overrides their product if not 0.
struct Counts {
    const idx* axis[3];
    idx fixed;
};

// An output's divisor: by its row (depth and height) times by its column.
template <class T> class Divisors {
public:
    Divisors(const Geometry& g, const Counts& counts) : counts(counts), columns(g.out[2], T(counts.fixed)) {
        if (!counts.fixed)
            for (idx j = 0; j < g.out[2]; j++) columns[j] = (T)counts.axis[2][j];
    }
    T row(idx d, idx h) const { return counts.fixed ? T(1) : (T)(counts.axis[0][d] * counts.axis[1][h]); }
    const T* column() const { return columns.data(); }

private:
    Counts counts;
    std::vector<T> columns;
};

// Sums of L windows; tap(d, h, at) is a vector of taps, `at` pixels into row (d, h).
template <class T, int L, class Tap>
inline typename VecOf<T, L>::type sum_windows(const Geometry& g, Reach d, Reach h, Reach w, Tap tap) {
    typename VecOf<T, L>::type total = {};
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const idx z = d.start + td * g.dilation[0], y = h.start + th * g.dilation[1];
            const idx row = (z * g.size[1] + y) * g.size[2] + w.start;
            typename VecOf<T, L>::type sum = {};
            for (idx t = w.lo; t < w.hi; t++) sum += tap(row + t * g.dilation[2]);
            total += sum;
        }
    return total;
}

template <class T, int STEP>
void avg_row(const Geometry& g, const T* plane, Reach d, Reach h, T row_divisor, const T* divisors, T* y) {
    idx lo, hi;
    inner_columns(g, &lo, &hi);
    const auto columns = [&](auto lanes, idx j, Reach w) {
        typedef typename VecOf<T, lanes>::type V;
        const V sum = sum_windows<T, lanes>(
            g, d, h, w, [&](idx at) { return load_strided<T, lanes, STEP>(plane + at, g.stride[2]); });
        *(V*)(y + j) = sum / (row_divisor * *(const V*)(divisors + j));
    };
    const std::integral_constant<int, 1> one;
    for (idx j = 0; j < lo; j++) columns(one, j, reach(g, 2, j));
    cover<T>(lo, hi, [&](auto lanes, idx j) { columns(lanes, j, reach(g, 2, j)); });
    for (idx j = hi; j < g.out[2]; j++) columns(one, j, reach(g, 2, j));
}

template <class T>
void avg_pool_first(const Geometry& g, const Divisors<T>& divisors, const T* x, T* y, idx begin, idx end) {
    const auto row_of = g.stride[2] == 1 ? &avg_row<T, 1> : g.stride[2] == 2 ? &avg_row<T, 2> : &avg_row<T, 0>;
    for (idx i = begin; i < end; i++) {
        const idx d = i / g.out[1] % g.out[0], h = i % g.out[1], plane = i / g.out[1] / g.out[0];
        row_of(g, x + plane * g.pixels(), reach(g, 0, d), reach(g, 1, h), divisors.row(d, h), divisors.column(),
               y + i * g.out[2]);
    }
}

template <class T>
void avg_pool_last(const Geometry& g, const Divisors<T>& divisors, const T* x, T* y, idx begin, idx end) {
    for (idx i = begin; i < end; i++) {
        const idx d = i / g.out[1] % g.out[0], h = i % g.out[1];
        const T* image = x + i / g.out[1] / g.out[0] * g.pixels() * g.c;
        for (idx j = 0; j < g.out[2]; j++) {
            const T divisor = divisors.row(d, h) * divisors.column()[j];
            T* to = y + (i * g.out[2] + j) * g.c;
            cover<T>(0, g.c, [&](auto lanes, idx c) {
                typedef typename VecOf<T, lanes>::type V;
                const V sum = sum_windows<T, lanes>(g, reach(g, 0, d), reach(g, 1, h), reach(g, 2, j),
                                                    [&](idx at) { return *(const V*)(image + at * g.c + c); });
                *(V*)(to + c) = sum / divisor;
            });
        }
    }
}

template <class T> void avg_pool(const Geometry& g, const Counts& counts, const T* x, T* y, int threads) {
    const Divisors<T> divisors(g, counts);
    const idx rows = g.n * (g.channels_last ? 1 : g.c) * g.out[0] * g.out[1];
    const double flops = 2.0 * g.n * g.c * g.out_pixels() * g.taps();
    parallel_rows(rows, threads, flops, [&](idx begin, idx end, int) {
        if (g.channels_last)
            avg_pool_last(g, divisors, x, y, begin, end);
        else
            avg_pool_first(g, divisors, x, y, begin, end);
    });
}

template <class T> inline void add_run(T* __restrict to, const T* __restrict from, idx n) {
    for (idx i = 0; i < n; i++) to[i] += from[i];
}

// A row of dy -> what each row of dx under its windows receives, (W).
template <class T>
void spread_row(const Geometry& g, const T* __restrict dy, T row_divisor, const T* __restrict divisors, T* __restrict share,
                T* __restrict spread) {
    for (idx j = 0; j < g.out[2]; j++) share[j] = dy[j] / (row_divisor * divisors[j]);
    std::fill_n(spread, g.size[2], T(0));
    for (idx t = 0; t < g.window[2]; t++) {
        idx lo, hi;
        const idx at = t * g.dilation[2] - g.before[2], step = g.stride[2];
        valid_range(at, step, g.size[2], g.out[2], &lo, &hi);
        if (step == 1)
            add_run(spread + at + lo, share + lo, hi - lo);
        else
            for (idx j = lo; j < hi; j++) spread[at + j * step] += share[j];
    }
}

template <class T>
void avg_pool_grad_first(const Geometry& g, const Divisors<T>& divisors, const T* dy, T* dx, T* memory) {
    T *share = memory, *spread = memory + g.out[2];
    std::fill_n(dx, g.pixels(), T(0));
    for (idx d = 0; d < g.out[0]; d++)
        for (idx h = 0; h < g.out[1]; h++, dy += g.out[2]) {
            const Reach rd = reach(g, 0, d), rh = reach(g, 1, h);
            spread_row(g, dy, divisors.row(d, h), divisors.column(), share, spread);
            for (idx td = rd.lo; td < rd.hi; td++)
                for (idx th = rh.lo; th < rh.hi; th++) {
                    const idx z = rd.start + td * g.dilation[0], y = rh.start + th * g.dilation[1];
                    add_run(dx + (z * g.size[1] + y) * g.size[2], spread, g.size[2]);
                }
        }
}

// `count` channels of an image.
template <class T>
void avg_pool_grad_last(const Geometry& g, const Divisors<T>& divisors, const T* dy, T* dx, idx count, T* share) {
    for (idx p = 0; p < g.pixels(); p++) std::fill_n(dx + p * g.c, count, T(0));
    for (idx d = 0; d < g.out[0]; d++)
        for (idx h = 0; h < g.out[1]; h++)
            for (idx w = 0; w < g.out[2]; w++, dy += g.c) {
                const T divisor = divisors.row(d, h) * divisors.column()[w];
                for (idx c = 0; c < count; c++) share[c] = dy[c] / divisor;
                const Reach rd = reach(g, 0, d), rh = reach(g, 1, h), rw = reach(g, 2, w);
                for (idx td = rd.lo; td < rd.hi; td++)
                    for (idx th = rh.lo; th < rh.hi; th++) {
                        const idx z = rd.start + td * g.dilation[0], y = rh.start + th * g.dilation[1];
                        T* row = dx + ((z * g.size[1] + y) * g.size[2] + rw.start) * g.c;
                        for (idx tw = rw.lo; tw < rw.hi; tw++) add_run(row + tw * g.dilation[2] * g.c, share, count);
                    }
            }
}

template <class T> void avg_pool_grad(const Geometry& g, const Counts& counts, const T* dy, T* dx, int threads) {
    const Divisors<T> divisors(g, counts);
    const double flops = 2.0 * g.n * g.c * (g.out_pixels() * g.taps() + g.pixels());
    const ChannelBlocks blocks(g, threads);
    const idx jobs = g.n * blocks.count;
    threads = useful_threads(threads, jobs, flops);
    const idx memory = g.channels_last ? blocks.channels : g.out[2] + g.size[2];
    Workspace workspace(memory * sizeof(T), threads);
    parallel_for(jobs, threads, [&](idx job, int thread) {
        T* scratch = (T*)workspace.of(thread);
        const idx image = job / blocks.count, c = job % blocks.count * blocks.channels;
        const idx count = std::min(blocks.channels, g.c - c);
        if (g.channels_last) {
            avg_pool_grad_last(g, divisors, dy + image * g.out_pixels() * g.c + c, dx + image * g.pixels() * g.c + c,
                               count, scratch);
            return;
        }
        for (idx plane = image * g.c + c; plane < image * g.c + c + count; plane++)
            avg_pool_grad_first(g, divisors, dy + plane * g.out_pixels(), dx + plane * g.pixels(), scratch);
    });
}

}  // namespace fastconv

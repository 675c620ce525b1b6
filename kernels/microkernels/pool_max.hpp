// Max-pooling: the first maximum of a window wins, a NaN wins over numbers and the last NaN over others.
//
// Vectors run over output columns in channels-first, over channels in channels-last.
#pragma once
#include "pool_window.hpp"

namespace fastconv {

// The maximum so far of L windows, and where it was.
template <class T, class I, int L> struct Maximum {
    typedef typename VecOf<T, L>::type V;
    typedef typename VecOf<I, L>::type Index;
    V value;
    Index at;

    Maximum(V v, I i) : value(v), at(i - Index{}) {}
    void meet(V v, I i) {
        const auto wins = (v > value) | (v != v);
        value = wins ? v : value;
        at = __builtin_convertvector(wins, Index) ? i - Index{} : at;
    }
};

// L outputs of a row from `column` on, by the window's rows in (d, h) and taps [lo, hi) along the width.
template <class T, class I, int L, int STEP>
inline void max_columns(const Geometry& g, const T* plane, Reach d, Reach h, idx lo, idx hi, idx column, T* y, I* argmax) {
    const idx step = STEP ? STEP : g.stride[2], start = column * step - g.before[2];
    const T* x = plane + start;
    const auto row_at = [&](idx td, idx th) {
        return ((d.start + td * g.dilation[0]) * g.size[1] + h.start + th * g.dilation[1]) * g.size[2];
    };
    const idx first = row_at(d.lo, h.lo) + lo * g.dilation[2];
    Maximum<T, I, L> best(load_strided<T, L, STEP>(x + first, step), (I)first);
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const idx row = row_at(td, th);
            for (idx at = row + lo * g.dilation[2]; at < row + hi * g.dilation[2]; at += g.dilation[2])
                best.meet(load_strided<T, L, STEP>(x + at, step), (I)at);
        }
    *(typename VecOf<T, L>::type*)(y + column) = best.value;
    if (argmax)
        for (int i = 0; i < L; i++) argmax[column + i] = best.at[i] + (I)(start + i * step);
}

template <class T, class I, int STEP>
void max_row(const Geometry& g, const T* plane, Reach d, Reach h, T* y, I* argmax) {
    idx lo, hi;
    inner_columns(g, &lo, &hi);
    const auto border = [&](idx column) {
        const Reach w = reach(g, 2, column);
        max_columns<T, I, 1, 0>(g, plane, d, h, w.lo, w.hi, column, y, argmax);
    };
    for (idx j = 0; j < lo; j++) border(j);
    cover<T>(lo, hi, [&](auto lanes, idx j) {
        max_columns<T, I, lanes, STEP>(g, plane, d, h, 0, g.window[2], j, y, argmax);
    });
    for (idx j = hi; j < g.out[2]; j++) border(j);
}

template <class T, class I> void max_pool_first(const Geometry& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    const auto row_of = g.stride[2] == 1 ? &max_row<T, I, 1> : g.stride[2] == 2 ? &max_row<T, I, 2> : &max_row<T, I, 0>;
    for (idx i = begin; i < end; i++) {
        const Reach d = reach(g, 0, i / g.out[1] % g.out[0]), h = reach(g, 1, i % g.out[1]);
        row_of(g, x + i / g.out[1] / g.out[0] * g.pixels(), d, h, y + i * g.out[2], argmax ? argmax + i * g.out[2] : nullptr);
    }
}

// L channels of an output pixel.
template <class T, class I, int L>
inline void max_channels(const Geometry& g, const T* image, Reach d, Reach h, Reach w, T* y, I* argmax) {
    typedef typename VecOf<T, L>::type V;
    const auto at_of = [&](idx td, idx th) {
        return ((d.start + td * g.dilation[0]) * g.size[1] + h.start + th * g.dilation[1]) * g.size[2] + w.start;
    };
    const idx first = at_of(d.lo, h.lo) + w.lo * g.dilation[2];
    Maximum<T, I, L> best(*(const V*)(image + first * g.c), (I)first);
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const idx row = at_of(td, th);
            for (idx at = row + w.lo * g.dilation[2]; at < row + w.hi * g.dilation[2]; at += g.dilation[2])
                best.meet(*(const V*)(image + at * g.c), (I)at);
        }
    *(V*)y = best.value;
    if (argmax) *(typename VecOf<I, L>::type*)argmax = best.at;
}

template <class T, class I> void max_pool_last(const Geometry& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    for (idx i = begin; i < end; i++) {
        const Reach d = reach(g, 0, i / g.out[1] % g.out[0]), h = reach(g, 1, i % g.out[1]);
        const T* image = x + i / g.out[1] / g.out[0] * g.pixels() * g.c;
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach w = reach(g, 2, j);
            const idx to = (i * g.out[2] + j) * g.c;
            cover<T>(0, g.c, [&](auto lanes, idx c) {
                max_channels<T, I, lanes>(g, image + c, d, h, w, y + to + c, argmax ? argmax + to + c : nullptr);
            });
        }
    }
}

// 4 operations a tap: two comparisons, two selections.
template <class T, class I> void max_pool(const Geometry& g, const T* x, T* y, I* argmax, int threads) {
    const idx rows = g.n * (g.channels_last ? 1 : g.c) * g.out[0] * g.out[1];
    const double flops = 4.0 * g.n * g.c * g.out_pixels() * g.taps();
    parallel_rows(rows, threads, flops, [&](idx begin, idx end, int) {
        if (g.channels_last)
            max_pool_last(g, x, y, argmax, begin, end);
        else
            max_pool_first(g, x, y, argmax, begin, end);
    });
}

template <class T, class I> void max_pool_grad(const Geometry& g, const T* dy, const I* argmax, T* dx, int threads) {
    const idx outs = g.out_pixels(), pixels = g.pixels();
    const ChannelBlocks blocks(g, threads);
    const idx jobs = g.n * blocks.count;
    threads = useful_threads(threads, jobs, 4.0 * g.n * g.c * (outs + pixels));
    parallel_for(jobs, threads, [&](idx job, int) {
        const idx image = job / blocks.count, first = job % blocks.count * blocks.channels;
        const idx last = std::min(first + blocks.channels, g.c);
        T* to = dx + image * pixels * g.c;
        const idx from = image * outs * g.c;
        if (g.channels_last) {
            for (idx p = 0; p < pixels; p++) std::fill(to + p * g.c + first, to + p * g.c + last, T(0));
            for (idx o = from; o < from + outs * g.c; o += g.c)
                for (idx c = first; c < last; c++) to[argmax[o + c] * g.c + c] += dy[o + c];
        } else {
            for (idx c = first; c < last; c++) {
                T* plane = to + c * pixels;
                std::fill_n(plane, pixels, T(0));
                for (idx o = from + c * outs; o < from + (c + 1) * outs; o++) plane[argmax[o]] += dy[o];
            }
        }
    });
}

}  // namespace fastconv

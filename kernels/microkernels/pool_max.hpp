// Max-pooling: the first maximum of a window wins, a NaN wins over numbers and the last NaN over others.
//
// Vectors run over output columns in channels-first (over the taps where windows are long and outputs few), over
// channels in channels-last.
#pragma once
#include "pool_window.hpp"

namespace fastconv {

// The maximum so far of L windows, and where it was.
template <class T, class I, int L> struct Maximum {
    typedef typename VecOf<T, L>::type V;
    typedef typename VecOf<I, L>::type Index;
    V value;
    Index at;

    void meet(V v, Index i) {
        const auto wins = (v > value) | (v != v);
        value = wins ? v : value;
        at = __builtin_convertvector(wins, Index) ? i : at;
    }
};

// L windows with rows in (d, h) and taps [lo, hi) along the width (hi - lo is WIDTH where that is not 0);
// tap(i) loads the elements i from the windows' first columns.
template <class T, class I, int L, int WIDTH, class Tap>
inline Maximum<T, I, L> max_windows(const Windows& g, const Reach& d, const Reach& h, idx lo, idx hi, Tap tap) {
    typedef typename VecOf<I, L>::type Index;
    const idx dilation = g.dilation[2], count = WIDTH ? WIDTH : hi - lo;
    const idx first = g.row(d, h, d.lo, h.lo) + lo * dilation;
    Maximum<T, I, L> best{tap(first), (I)first - Index{}};
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const idx row = g.row(d, h, td, th) + lo * dilation;
            Index at = (I)row - Index{};
            for (idx t = 0; t < count; t++, at += (I)dilation) best.meet(tap(row + t * dilation), at);
        }
    return best;
}

// One window with rows of at least a vector.
template <class T, class I>
inline Maximum<T, I, 1> max_long_window(const Windows& g, const T* x, const Reach& d, const Reach& h, idx lo, idx hi) {
    constexpr int L = LANES<T>;
    typename Maximum<T, I, L>::Index lane;
    for (int i = 0; i < L; i++) lane[i] = i;
    const idx first = g.row(d, h, d.lo, h.lo) + lo;
    Maximum<T, I, L> best{load(x + first), (I)first + lane};
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const idx row = g.row(d, h, td, th);
            for (idx t = lo; t < hi; t += L) {
                const idx at = row + std::min(t, hi - L);
                best.meet(load(x + at), (I)at + lane);
            }
        }
    T value = best.value[0];
    I at = best.at[0];
    for (int i = 1; i < L; i++) {
        const T v = best.value[i];
        const bool nan = v != v, later = best.at[i] > at;
        if (nan ? value == value || later : v > value || (v == value && !later)) value = v, at = best.at[i];
    }
    return {value - typename Maximum<T, I, 1>::V{}, at - typename Maximum<T, I, 1>::Index{}};
}

template <class T, class I, int STEP, int WIDTH>
inline void max_row(const Windows& g, const T* plane, const Reach& d, const Reach& h, T* y, I* argmax) {
    const idx step = STEP ? STEP : g.stride[2];
    const auto columns = [&](auto lanes, auto width, idx j, idx lo, idx hi) {
        constexpr int L = lanes;
        const idx start = j * step - g.before[2];
        const auto best = max_windows<T, I, L, width>(
            g, d, h, lo, hi, [&](idx at) { return load_strided<T, L, STEP>(plane + start + at, step); });
        *(typename VecOf<T, L>::type*)(y + j) = best.value;
        if (argmax)
            for (int i = 0; i < L; i++) argmax[j + i] = best.at[i] + (I)(start + i * step);
    };
    if (g.few_long(LANES<T>)) {
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach& w = g.reach[2][j];
            if (w.hi - w.lo < LANES<T>) {
                columns(Constant<1>{}, Constant<0>{}, j, w.lo, w.hi);
                continue;
            }
            const auto best = max_long_window<T, I>(g, plane + w.start, d, h, w.lo, w.hi);
            y[j] = best.value[0];
            if (argmax) argmax[j] = best.at[0] + (I)w.start;
        }
        return;
    }
    const auto border = [&](idx j) { columns(Constant<1>{}, Constant<0>{}, j, g.reach[2][j].lo, g.reach[2][j].hi); };
    for (idx j = 0; j < g.inner_lo; j++) border(j);
    cover<T>(g.inner_lo, g.inner_hi, [&](auto lanes, idx j) { columns(lanes, Constant<WIDTH>{}, j, 0, g.window[2]); });
    for (idx j = g.inner_hi; j < g.out[2]; j++) border(j);
}

template <class T, class I, int STEP, int WIDTH>
void max_pool_first(const Windows& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    RowCursor at(g, begin);
    for (idx row = begin; row < end; row++, at.next())
        max_row<T, I, STEP, WIDTH>(g, x + at.plane * g.pixels(), g.reach[0][at.d], g.reach[1][at.h],
                                   y + row * g.out[2], argmax ? argmax + row * g.out[2] : nullptr);
}

template <class T, class I, int WIDTH>
void max_pool_last(const Windows& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    RowCursor row(g, begin);
    for (idx to = begin * g.out[2] * g.c; to < end * g.out[2] * g.c; row.next())
        for (idx j = 0; j < g.out[2]; j++, to += g.c) {
            const Reach &d = g.reach[0][row.d], &h = g.reach[1][row.h], &w = g.reach[2][j];
            const T* image = x + (row.plane * g.pixels() + w.start) * g.c;
            const auto channels = [&](auto lanes, auto width, idx c) {
                typedef typename VecOf<T, lanes>::type V;
                auto best = max_windows<T, I, lanes, width>(
                    g, d, h, w.lo, w.hi, [&](idx at) { return *(const V*)(image + at * g.c + c); });
                *(V*)(y + to + c) = best.value;
                if (argmax) *(typename VecOf<I, lanes>::type*)(argmax + to + c) = best.at + (I)w.start;
            };
            if (j >= g.inner_lo && j < g.inner_hi)
                cover<T>(0, g.c, [&](auto lanes, idx c) { channels(lanes, Constant<WIDTH>{}, c); });
            else
                cover<T>(0, g.c, [&](auto lanes, idx c) { channels(lanes, Constant<0>{}, c); });
        }
}

// 4 operations a tap: two comparisons, two selections.
template <class T, class I> void max_pool(const Geometry& geometry, const T* x, T* y, I* argmax, int threads) {
    const Windows g(geometry);
    parallel_rows(g.rows(), threads, 4.0 * g.planes() * g.out_pixels() * g.taps(), [&](idx begin, idx end) {
        with_constant(g.window[2], [&](auto width) {
            if (g.channels_last) return max_pool_last<T, I, width>(g, x, y, argmax, begin, end);
            with_constant(g.stride[2],
                          [&](auto step) { max_pool_first<T, I, step, width>(g, x, y, argmax, begin, end); });
        });
    });
}

// dx[argmax] += dy; every element of a plane is one thread's, in the order of dy.
template <class T, class I> void max_pool_grad(const Geometry& g, const T* dy, const I* argmax, T* dx, int threads) {
    const idx outs = g.out_pixels(), pixels = g.pixels();
    const ChannelBlocks blocks(g, threads);
    const idx jobs = g.n * blocks.count;
    threads = useful_threads(threads, jobs, 4.0 * g.n * g.c * (outs + pixels));
    parallel_for(jobs, threads, [&](idx job, int) {
        const idx image = job / blocks.count, first = job % blocks.count * blocks.channels;
        const idx last = std::min(first + blocks.channels, g.c), from = image * outs * g.c;
        T* to = dx + image * pixels * g.c;
        if (g.channels_last) {
            clear_channels(to + first, pixels, g.c, last - first);
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

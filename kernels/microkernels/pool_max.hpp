// Max-pooling: the first maximum of a window wins, a NaN wins over numbers and the last NaN over others.
//
// Vectors run over output columns in channels-first (over the taps where windows are long and outputs few), over
// channels in channels-last.
#pragma once
#include "pool_window.hpp"

namespace fastconv {

// The maximum so far of L windows, and where it was.
template <class T, class I, int L> struct Maximum {
    typedef Run<T, L> V;
    typedef Run<I, L> Index;
    V value;
    Index at;

    void meet(V v, Index i) {
        const auto wins = (v > value) | (v != v);
        value = wins ? v : value;
        if constexpr (L == 1)
            at = wins ? i : at;
        else
            at = __builtin_convertvector(wins, Index) ? i : at;
    }
};

// L windows whose rows have `count` taps (WIDTH where that is not 0) a dilation apart; tap(i) loads the elements i
// from the windows' first taps.
template <class T, class I, int L, int WIDTH, class Tap>
inline Maximum<T, I, L> max_windows(const WindowRows& rows, idx count, idx dilation, Tap tap) {
    typedef Run<I, L> Index;
    const Index step = (I)dilation - Index{};
    if (WIDTH) count = WIDTH;
    Maximum<T, I, L> best{tap(rows.first), (I)rows.first - Index{}};
    rows.each([&](idx row) {
        Index at = (I)row - Index{};
        for (idx t = 0; t < count; t++, at += step) best.meet(tap(row + t * dilation), at);
    });
    return best;
}

// One window whose rows have at least a vector of taps.
template <class T, class I>
inline void max_long_window(const WindowRows& rows, const T* x, idx count, T* y, I* argmax, idx start) {
    constexpr int L = LANES<T>;
    const Run<I, L> lane = multiples<I, L>(1);
    Maximum<T, I, L> best{load(x + rows.first), (I)rows.first + lane};
    rows.each([&](idx row) {
        for (idx t = 0; t < count; t += L) {
            const idx at = row + std::min(t, count - L);
            best.meet(load(x + at), (I)at + lane);
        }
    });
    T value = best.value[0];
    I at = best.at[0];
    for (int i = 1; i < L; i++) {
        const T v = best.value[i];
        const bool nan = v != v, later = best.at[i] > at;
        if (nan ? value == value || later : v > value || (v == value && !later)) value = v, at = best.at[i];
    }
    *y = value;
    if (argmax) *argmax = at + (I)start;
}

template <class T, class I, int STEP>
inline void max_row(const Windows& g, const T* plane, const WindowRows& rows, T* y, I* argmax) {
    const idx step = STEP ? STEP : g.stride[2], dilation = g.dilation[2], before = g.before[2];
    // `count` taps from tap `lo` on
    const auto columns = [=](auto lanes, idx j, idx lo, idx count) {
        constexpr int L = lanes;
        const idx start = j * step - before + lo * dilation;
        const T* x = plane + start;
        const auto best = max_windows<T, I, L, 0>(
            rows, count, dilation, [=](idx at) { return load_strided<T, L, STEP>(x + at, step); });
        *(Run<T, L>*)(y + j) = best.value;
        if (argmax) *(Run<I, L>*)(argmax + j) = best.at + ((I)start + multiples<I, L>((I)step));
    };
    const auto column = [&](idx j) {
        const Reach& w = g.reach[2][j];
        if (g.long_rows && w.hi - w.lo >= LANES<T>)
            max_long_window(rows, plane + w.start + w.lo, w.hi - w.lo, y + j, argmax ? argmax + j : nullptr,
                            w.start + w.lo);
        else
            columns(Constant<1>{}, j, w.lo, w.hi - w.lo);
    };
    for (idx j = 0; j < g.inner_lo; j++) column(j);
    cover<T>(g.inner_lo, g.inner_hi, [&](auto lanes, idx j) { columns(lanes, j, 0, g.window[2]); });
    for (idx j = g.inner_hi; j < g.out[2]; j++) column(j);
}

template <class T, class I, int STEP>
void max_pool_first(const Windows& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    RowCursor at(g, begin);
    for (idx row = begin; row < end; row++, at.next())
        max_row<T, I, STEP>(g, x + at.plane * g.pixels(), g.rows_of(at.d, at.h), y + row * g.out[2],
                                   argmax ? argmax + row * g.out[2] : nullptr);
}

template <class T, class I, int WIDTH>
inline void max_pixel(const WindowRows& rows, const T* x, idx channels, idx count, idx dilation, I start, T* y,
                      I* argmax) {
    cover<T>(0, channels, [=](auto lanes, idx c) {
        typedef Run<T, lanes> V;
        auto best = max_windows<T, I, lanes, WIDTH>(rows, count, dilation,
                                                    [=](idx at) { return *(const V*)(x + at * channels + c); });
        *(V*)(y + c) = best.value;
        if (argmax) *(Run<I, lanes>*)(argmax + c) = best.at + start;
    });
}

template <class T, class I, int WIDTH>
void max_pool_last(const Windows& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    RowCursor at(g, begin);
    const idx channels = g.c, dilation = g.dilation[2];
    for (idx row = begin; row < end; row++, at.next()) {
        const WindowRows rows = g.rows_of(at.d, at.h);
        const T* image = x + at.plane * g.pixels() * channels;
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach w = g.reach[2][j];
            const idx to = (row * g.out[2] + j) * channels, start = w.start + w.lo * dilation, count = w.hi - w.lo;
            const auto pixel = [&](auto width) {
                max_pixel<T, I, width>(rows, image + start * channels, channels, count, dilation, (I)start, y + to,
                                       argmax ? argmax + to : nullptr);
            };
            if (count == WIDTH)
                pixel(Constant<WIDTH>{});
            else
                pixel(Constant<0>{});
        }
    }
}

template <class T, class I> void max_pool(const Geometry& geometry, const T* x, T* y, I* argmax, int threads) {
    const Windows g(geometry, LANES<T>);
    const double flops = 4.0 * g.planes() * g.out_pixels() * g.taps();  // a tap: two comparisons, two selections
    parallel_rows(g.rows(), threads, flops, [&](idx begin, idx end) {
        if (g.channels_last)
            with_constant<2>(g.window[2], [&](auto width) { max_pool_last<T, I, width>(g, x, y, argmax, begin, end); });
        else
            with_constant<1>(g.stride[2], [&](auto step) { max_pool_first<T, I, step>(g, x, y, argmax, begin, end); });
    });
}

}  // namespace fastconv

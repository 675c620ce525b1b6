// Average-pooling and its gradient.
//
// Vectors run over output columns in channels-first (over the taps where windows are long and outputs few), over
// channels in channels-last. Rows of a window are summed on their own first: rounding grows with its sides, not its
// area.
#pragma once
#include "entries.hpp"
#include "pool_window.hpp"
#include "workspace.hpp"

namespace fastconv {

// The divisor of output (d, h, w) is the product of along[0][d], along[1][h] and along[2][w].
template <class T> struct Divisors {
    std::vector<T> along[3];

    Divisors(const Windows& g, const Counts& counts) {
        for (int a = 0; a < 3; a++) {
            const int axis = a - g.joined;
            const bool one = counts.fixed || axis < 0;
            for (idx o = 0; o < g.out[a]; o++) along[a].push_back(one ? T(1) : T(counts.axis[axis][o]));
        }
        T rest = T(counts.fixed ? counts.fixed : 1);
        for (int axis = 3 - g.joined; axis < 3 && !counts.fixed; axis++) rest *= T(counts.axis[axis][0]);
        for (T& divisor : along[2]) divisor *= rest;
    }
    T row(idx d, idx h) const { return along[0][d] * along[1][h]; }
    const T* column() const { return along[2].data(); }
};

// Sums of L windows; rows, taps and `tap` as in max_windows.
template <class T, int L, int WIDTH, class Tap>
inline Run<T, L> sum_windows(const WindowRows& rows, idx count, idx dilation, Tap tap) {
    Run<T, L> total = {};
    if (WIDTH) count = WIDTH;
    rows.each([&](idx row) {
        Run<T, L> sum = {};
        for (idx t = 0; t < count; t++) sum += tap(row + t * dilation);
        total += sum;
    });
    return total;
}

template <class T> inline T sum_long_window(const WindowRows& rows, const T* x, idx count) {
    Vec<T> total = {};
    T sum = 0;
    rows.each([&](idx row) {
        idx t = 0;
        for (; t + LANES<T> <= count; t += LANES<T>) total += load(x + row + t);
        for (; t < count; t++) sum += x[row + t];
    });
    for (int i = 0; i < LANES<T>; i++) sum += total[i];
    return sum;
}

template <class T, int STEP>
inline void avg_row(const Windows& g, const T* plane, const WindowRows& rows, T row_divisor, const T* divisors,
                    T* y) {
    const idx step = STEP ? STEP : g.stride[2], dilation = g.dilation[2], before = g.before[2];
    const auto columns = [=](auto lanes, idx j, idx lo, idx count) {
        typedef Run<T, lanes> V;
        const T* x = plane + j * step - before + lo * dilation;
        const V sum = sum_windows<T, lanes, 0>(
            rows, count, dilation, [=](idx at) { return load_strided<T, lanes, STEP>(x + at, step); });
        *(V*)(y + j) = sum / (row_divisor * *(const V*)(divisors + j));
    };
    const auto column = [&](idx j) {
        const Reach& w = g.reach[2][j];
        if (g.long_rows)
            y[j] = sum_long_window(rows, plane + w.start + w.lo, w.hi - w.lo) / (row_divisor * divisors[j]);
        else
            columns(Constant<1>{}, j, w.lo, w.hi - w.lo);
    };
    for (idx j = 0; j < g.inner_lo; j++) column(j);
    cover<T>(g.inner_lo, g.inner_hi, [&](auto lanes, idx j) { columns(lanes, j, 0, g.window[2]); });
    for (idx j = g.inner_hi; j < g.out[2]; j++) column(j);
}

template <class T, int STEP>
void avg_pool_first(const Windows& g, const Divisors<T>& divisors, const T* x, T* y, idx begin, idx end) {
    RowCursor at(g, begin);
    for (idx row = begin; row < end; row++, at.next())
        avg_row<T, STEP>(g, x + at.plane * g.pixels(), g.rows_of(at.d, at.h), divisors.row(at.d, at.h),
                                divisors.column(), y + row * g.out[2]);
}

// Blocks of several vectors read whole cache lines side by side, which matters where a window's pixels are far apart.
template <class T, int WIDTH>
inline void avg_pixel(const WindowRows& rows, const T* x, idx channels, idx count, idx dilation, T divisor, T* y) {
    constexpr int L = LANES<T>, BLOCK = 4;
    idx c = 0;
    if (WIDTH) count = WIDTH;
    for (; c + BLOCK * L <= channels; c += BLOCK * L) {
        Vec<T> total[BLOCK] = {};
        rows.each([&](idx row) {
            Vec<T> sum[BLOCK] = {};
            for (idx t = 0; t < count; t++)
                for (int v = 0; v < BLOCK; v++) sum[v] += load(x + (row + t * dilation) * channels + c + v * L);
            for (int v = 0; v < BLOCK; v++) total[v] += sum[v];
        });
        for (int v = 0; v < BLOCK; v++) store(y + c + v * L, total[v] / divisor);
    }
    cover<T>(c, channels, [=](auto lanes, idx c) {
        typedef Run<T, lanes> V;
        const V sum = sum_windows<T, lanes, WIDTH>(rows, count, dilation,
                                                   [=](idx at) { return *(const V*)(x + at * channels + c); });
        *(V*)(y + c) = sum / divisor;
    });
}

template <class T, int WIDTH>
void avg_pool_last(const Windows& g, const Divisors<T>& divisors, const T* x, T* y, idx begin, idx end) {
    RowCursor at(g, begin);
    const idx channels = g.c, dilation = g.dilation[2];
    for (idx row = begin; row < end; row++, at.next()) {
        const WindowRows rows = g.rows_of(at.d, at.h);
        const T* image = x + at.plane * g.pixels() * channels;
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach w = g.reach[2][j];
            const idx count = w.hi - w.lo;
            const auto pixel = [&](auto width) {
                avg_pixel<T, width>(rows, image + (w.start + w.lo * dilation) * channels, channels, count, dilation,
                                    divisors.row(at.d, at.h) * divisors.column()[j],
                                    y + (row * g.out[2] + j) * channels);
            };
            if (count == WIDTH)
                pixel(Constant<WIDTH>{});
            else
                pixel(Constant<0>{});
        }
    }
}

template <class T> void avg_pool(const Geometry& geometry, const Counts& counts, const T* x, T* y, int threads) {
    const Windows g(geometry, LANES<T>);
    const Divisors<T> divisors(g, counts);
    parallel_rows(g.rows(), threads, 2.0 * g.planes() * g.out_pixels() * g.taps(), [&](idx begin, idx end) {
        if (g.channels_last)
            with_constant<2>(g.window[2], [&](auto width) { avg_pool_last<T, width>(g, divisors, x, y, begin, end); });
        else
            with_constant<1>(g.stride[2], [&](auto step) { avg_pool_first<T, step>(g, divisors, x, y, begin, end); });
    });
}

template <class T> inline void add_run(T* __restrict to, const T* __restrict from, idx n) {
    for (idx i = 0; i < n; i++) to[i] += from[i];
}

// The output columns [lo, hi) at which a tap is inside, and the input column of output column 0.
struct TapColumns {
    idx at, lo, hi;
};

inline std::vector<TapColumns> tap_columns(const Windows& g) {
    std::vector<TapColumns> taps;
    for (idx t = 0; t < g.window[2]; t++) {
        TapColumns tap{t * g.dilation[2] - g.before[2], 0, 0};
        valid_range(tap.at, g.stride[2], g.size[2], g.out[2], &tap.lo, &tap.hi);
        if (tap.lo < tap.hi) taps.push_back(tap);
    }
    return taps;
}

// A row of shares -> what every row of dx under its windows receives, (W).
template <class T>
void spread_row(const Windows& g, const std::vector<TapColumns>& taps, const T* __restrict share,
                T* __restrict spread) {
    const idx step = g.stride[2];
    std::fill_n(spread, g.size[2], T(0));
    if (g.dilation[2] == 1 && g.window[2] > g.out[2]) {
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach& w = g.reach[2][j];
            for (idx i = w.start + w.lo; i < w.start + w.hi; i++) spread[i] += share[j];
        }
        return;
    }
    for (const TapColumns& tap : taps) {
        if (step == 1)
            add_run(spread + tap.at + tap.lo, share + tap.lo, tap.hi - tap.lo);
        else
            for (idx j = tap.lo; j < tap.hi; j++) spread[tap.at + j * step] += share[j];
    }
}

template <class T>
void avg_pool_grad_first(const Windows& g, const std::vector<TapColumns>& taps, const Divisors<T>& divisors,
                         const T* dy, T* dx, T* memory) {
    T *share = memory, *spread = memory + g.out[2];
    std::fill_n(dx, g.pixels(), T(0));
    for (idx d = 0; d < g.out[0]; d++)
        for (idx h = 0; h < g.out[1]; h++, dy += g.out[2]) {
            const T row_divisor = divisors.row(d, h), *column = divisors.column();
            for (idx j = 0; j < g.out[2]; j++) share[j] = dy[j] / (row_divisor * column[j]);
            spread_row(g, taps, share, spread);
            g.rows_of(d, h).each([&](idx row) { add_run(dx + row, spread, g.size[2]); });
        }
}

// `count` channels of an image.
template <class T>
void avg_pool_grad_last(const Windows& g, const Divisors<T>& divisors, const T* dy, T* dx, idx count, T* share) {
    clear_channels(dx, g.pixels(), g.c, count);
    for (idx d = 0; d < g.out[0]; d++)
        for (idx h = 0; h < g.out[1]; h++) {
            const WindowRows rows = g.rows_of(d, h);
            for (idx j = 0; j < g.out[2]; j++, dy += g.c) {
                const Reach w = g.reach[2][j];
                const T divisor = divisors.row(d, h) * divisors.column()[j];
                for (idx c = 0; c < count; c++) share[c] = dy[c] / divisor;
                rows.each([&](idx row) {
                    for (idx t = w.lo; t < w.hi; t++)
                        add_run(dx + (row + w.start + t * g.dilation[2]) * g.c, share, count);
                });
            }
        }
}

template <class T> void avg_pool_grad(const Geometry& geometry, const Counts& counts, const T* dy, T* dx, int threads) {
    const Windows g(geometry, LANES<T>);
    const Divisors<T> divisors(g, counts);
    const std::vector<TapColumns> taps = tap_columns(g);
    const ChannelBlocks blocks(g, threads);
    const idx jobs = g.n * blocks.count, memory = g.channels_last ? blocks.channels : g.out[2] + g.size[2];
    threads = useful_threads(threads, jobs, 2.0 * g.planes() * (g.out_pixels() * g.taps() + g.pixels()));
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
            avg_pool_grad_first(g, taps, divisors, dy + plane * g.out_pixels(), dx + plane * g.pixels(), scratch);
    });
}

}  // namespace fastconv

// Max-pooling: the first maximum of a window wins, a NaN wins over numbers and the last NaN over others.
//
// Vectors run over output columns in channels-first (over the taps where windows are long and outputs few), over
// channels in channels-last; over several columns of outputs where these are few.
#pragma once
#include "pool_max_packed.hpp"

namespace fastconv {

// One window whose rows have at least a vector of taps.
template <class T, class I>
[[gnu::noinline]] void max_long_window(const WindowRows& rows, const T* x, idx count, T* y, I* argmax, idx start) {
    constexpr int L = LANES<T>;
    const Run<I, L> lane = multiples<I, L>(1);
    Maximum<T, I, L, true> best{load(x + rows.first), (I)rows.first + lane, {}};
    rows.each([&](idx row) {
        for (idx t = 0; t < count; t += L) {
            const idx at = row + std::min(t, count - L);
            best.meet_nan(load(x + at), (I)at + lane);
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

template <class T, class I, bool WHERE, int STEP, int SIDE>
inline void max_row(const Windows& g, const T* plane, const WindowRows& rows, T* y, I* argmax) {
    const idx step = STEP ? STEP : g.stride[2], dilation = g.dilation[2], before = g.before[2];
    // `count` taps from tap `lo` on
    const auto columns = [=](auto lanes, auto side, idx j, idx lo, idx count) {
        constexpr int L = lanes;
        const idx first = rows.first + j * step - before + lo * dilation;
        store_max<T, I, L, WHERE, side>(
            rows, count, dilation, StridedTap<T, L, STEP>{plane + first, step},
            (I)first + multiples<I, L>((I)step), y + j, argmax + j);
    };
    const auto column = [&](idx j) {
        const Reach& w = g.reach[2][j];
        if (g.long_rows && w.hi - w.lo >= LANES<T>)
            max_long_window(rows, plane + w.start + w.lo, w.hi - w.lo, y + j, WHERE ? argmax + j : nullptr,
                            w.start + w.lo);
        else
            columns(Constant<1>{}, Constant<0>{}, j, w.lo, w.hi - w.lo);
    };
    for (idx j = 0; j < g.inner_lo; j++) column(j);
    const bool whole = rows.heights == SIDE;
    cover<T>(g.inner_lo, g.inner_hi, [&](auto lanes, idx j) {
        if (whole)
            columns(lanes, Constant<SIDE>{}, j, 0, SIDE);
        else
            columns(lanes, Constant<0>{}, j, 0, g.window[2]);
    });
    for (idx j = g.inner_hi; j < g.out[2]; j++) column(j);
}

template <class T, class I, bool WHERE, int STEP, int SIDE>
void max_pool_first(const Windows& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    RowCursor at(g, begin);
    for (idx row = begin; row < end; row++, at.next())
        max_row<T, I, WHERE, STEP, SIDE>(g, x + at.plane * g.pixels(), g.rows_of(at.d, at.h), y + row * g.out[2],
                                         WHERE ? argmax + row * g.out[2] : nullptr);
}

template <class T, class I, bool WHERE, int SIDE, bool STREAM>
void max_pool_last(const Windows& g, const T* x, T* y, I* argmax, idx begin, idx end) {
    RowCursor at(g, begin);
    const idx channels = g.c, dilation = g.dilation[2];
    for (idx row = begin; row < end; row++, at.next()) {
        const WindowRows rows = g.rows_of(at.d, at.h);
        const T* image = x + at.plane * g.pixels() * channels;
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach w = g.reach[2][j];
            const idx to = (row * g.out[2] + j) * channels, first = rows.first + w.start + w.lo * dilation;
            const auto pixel = [&](auto side) {
                max_pixel<T, I, WHERE, side, STREAM>(rows, image, channels, w.hi - w.lo, dilation, first, y + to,
                                             WHERE ? argmax + to : nullptr);
            };
            if (w.hi - w.lo == SIDE && rows.heights == SIDE)
                pixel(Constant<SIDE>{});
            else
                pixel(Constant<0>{});
        }
    }
    if constexpr (STREAM) streamed();
}

// Beyond it, results of channels-last pooling are not kept in the caches: about an L3.
constexpr size_t POOL_STREAM_BYTES = 32 << 20;

// Windows of 2x2 and 3x3, and strides of 1 and 2, have code of their own; planes beyond 2^31 elements have not.
template <class T, class I, bool WHERE>
void max_pool_where(const Geometry& geometry, const T* x, T* y, I* argmax, int threads) {
    const Windows g(geometry, LANES<T>);
    const double flops = 4.0 * g.planes() * g.out_pixels() * g.taps();  // a tap: comparison, selections, check
    // lines written past the caches are not read first
    const size_t moved = (g.pixels() * sizeof(T) + g.out_pixels() * (sizeof(T) + sizeof(I) * WHERE)) * g.planes();
    const bool aligned = g.c % LANES<T> == 0 && ((uintptr_t)y | (uintptr_t)argmax) % VECTOR_BYTES == 0;
    const bool past_caches = g.channels_last && aligned && moved > POOL_STREAM_BYTES;
    const bool square = g.window[0] == 1 && g.window[1] == g.window[2];
    constexpr bool OWN_CODE = sizeof(I) == 4;
    with_constant<2, OWN_CODE>(square ? g.window[2] : 0, [&](auto side) {
        if constexpr (PERMUTES && side) {
            const PackedWindows<T, side> packed(g);
            if (packed.pay()) return max_pool_packed<I, WHERE>(g, packed, x, y, argmax, threads, flops);
        }
        parallel_rows(g.rows(), threads, flops, [&](idx begin, idx end) {
            if constexpr (side > 0)
                if (past_caches) return max_pool_last<T, I, WHERE, side, true>(g, x, y, argmax, begin, end);
            if (g.channels_last) return max_pool_last<T, I, WHERE, side, false>(g, x, y, argmax, begin, end);
            with_constant<1, OWN_CODE>(g.stride[2], [&](auto step) {
                max_pool_first<T, I, WHERE, step, side>(g, x, y, argmax, begin, end);
            });
        });
    });
}

// argmax may be null.
template <class T, class I> void max_pool(const Geometry& g, const T* x, T* y, I* argmax, int threads) {
    if (argmax)
        max_pool_where<T, I, true>(g, x, y, argmax, threads);
    else
        max_pool_where<T, int32_t, false>(g, x, y, nullptr, threads);
}

}  // namespace fastconv

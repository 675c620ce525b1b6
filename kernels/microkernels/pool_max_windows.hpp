// Maxima of windows side by side, and where they were: what the max-pooling kernels share.
#pragma once
#include "pool_window.hpp"

namespace fastconv {

// The maximum so far of L windows and, if WHERE, the tap it was at.
template <class T, class I, int L, bool WHERE> struct Maximum {
    typedef Run<T, L> V;
    typedef Run<I, L> Index;
    V value;
    Index at;
    V sum;  // NaN if one was met

    // Right as long as there is no NaN: value waits for value alone, the other operations run beside it.
    void meet(V v, Index i) {
        move(v > value, i);
        value = larger<T, L>(v, value);
        sum += v;
    }
    void meet_nan(V v, Index i) {
        const auto wins = (v > value) | (v != v);
        value = wins ? v : value;
        move(wins, i);
    }

private:
    template <class Mask> void move(Mask wins, Index to) {
        if constexpr (WHERE && L == 1)
            at = wins ? to : at;
        else if constexpr (WHERE)
            at = __builtin_convertvector(wins, Index) ? to : at;
    }
};

// L windows: SIDE x SIDE taps, or where that is 0 `rows` of `count` taps; `tap(i)` loads elements i of the planes,
// counted from the windows' first ones, which are at `first`.
template <class T, class I, int L, bool WHERE, bool NANS, int SIDE, class Tap>
inline Maximum<T, I, L, WHERE> max_windows(const WindowRows& rows, idx count, idx dilation, Tap tap) {
    const idx depths = SIDE ? 1 : rows.depths, heights = SIDE ? SIDE : rows.heights;
    if (SIDE) count = SIDE;
    Maximum<T, I, L, WHERE> best{tap(0), {}, {}};
    idx depth = 0;
    for (idx d = 0; d < depths; d++, depth += rows.depth_step) {
        idx row = depth;
        for (idx h = 0; h < heights; h++, row += rows.height_step) {
            idx i = row;
            for (idx t = 0; t < count; t++, i += dilation) {
                const Run<I, L> at = (I)i - Run<I, L>{};
                if constexpr (NANS)
                    best.meet_nan(tap(i), at);
                else
                    best.meet(tap(i), at);
            }
        }
    }
    return best;
}

// Tap i of L outputs side by side in a row, and of L channels. Named, where lambdas would differ by where they stand,
// and with them what is compiled for NaNs.
template <class T, int L, int STEP> struct StridedTap {
    const T* first;
    idx step;
    Run<T, L> operator()(idx i) const { return load_strided<T, L, STEP>(first + i, step); }
};
template <class T, int L> struct PixelTap {
    const T* first;
    idx channels;
    Run<T, L> operator()(idx i) const { return *(const Run<T, L>*)(first + i * channels); }
};

template <class T, class I, int L, bool WHERE, class Tap>
[[gnu::noinline]] void store_max_nan(WindowRows rows, idx count, idx dilation, Tap tap, Run<I, L> first, T* y,
                                     I* argmax) {
    const auto best = max_windows<T, I, L, WHERE, true, 0>(rows, count, dilation, tap);
    *(Run<T, L>*)y = best.value;
    if constexpr (WHERE) *(Run<I, L>*)argmax = best.at + first;
}

template <class T, class I, int L, bool WHERE, int SIDE, bool STREAM = false, class Tap>
inline void store_max(const WindowRows& rows, idx count, idx dilation, Tap tap, Run<I, L> first, T* y, I* argmax) {
    const auto best = max_windows<T, I, L, WHERE, false, SIDE>(rows, count, dilation, tap);
    if (__builtin_expect(has_nan<T, L>(best.sum), 0))
        return store_max_nan<T, I, L, WHERE>(rows, count, dilation, tap, first, y, argmax);
    if constexpr (STREAM) {
        stream(y, best.value);
        if constexpr (WHERE) stream(argmax, Run<I, L>(best.at + first));
        return;
    }
    *(Run<T, L>*)y = best.value;
    if constexpr (WHERE) *(Run<I, L>*)argmax = best.at + first;
}

// The channels of one output pixel, of `count` taps a row, the first at pixel `first`.
template <class T, class I, bool WHERE, int SIDE, bool STREAM = false>
inline void max_pixel(const WindowRows& rows, const T* x, idx channels, idx count, idx dilation, idx first, T* y,
                      I* argmax) {
    x += first * channels;
    cover<T>(0, channels, [=](auto lanes, idx c) {
        store_max<T, I, lanes, WHERE, SIDE, STREAM>(
            rows, count, dilation, PixelTap<T, lanes>{x + c, channels},
            (I)first - Run<I, lanes>{}, y + c, argmax + c);
    });
}

}  // namespace fastconv

// Max-pooling of short runs: several columns of outputs, and rows where these are shorter still, share a vector. Their taps
// in one row of the windows are permutations of the two vectors that hold all of them.
#pragma once
#include <limits>

#include "pool_max_windows.hpp"

namespace fastconv {

// What the lanes of a vector are, for windows SIDE wide that lie inside. Channels-first, planes are images of a channel.
template <class T, int SIDE> struct PackedWindows {
    static constexpr int L = LANES<T>;
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Lane;
    typedef T Full __attribute__((vector_size(VECTOR_BYTES)));
    typedef Lane Index __attribute__((vector_size(VECTOR_BYTES)));
    idx channels, columns, rows = 1;  // of outputs in a vector
    idx stride, dilation, row_stride, reach;
    Index taps[SIDE];        // of each lane, in the two vectors
    Run<int32_t, L> pixels;  // from the first lane's window to each lane's

    explicit PackedWindows(const Windows& g)
        : channels(g.channels_last ? g.c : 1), stride(g.stride[2]), dilation(g.dilation[2]),
          row_stride(g.stride[1] * g.size[2]), reach((SIDE - 1) * g.dilation[2] + 1) {
        const idx room = 2 * L / channels - reach;
        columns = room < 0 ? 0 : std::min({L / channels, room / stride + 1, g.inner_hi - g.inner_lo});
        const Reach& last = g.reach[1].back();
        const bool inside = columns == g.out[2] && g.before[1] == 0 && last.hi == g.window[1];
        while (inside && rows < g.out[1] && (rows + 1) * columns * channels <= L && span(rows + 1) <= 2 * L) rows++;
        for (int i = 0; i < L; i++) {
            const idx lane = i < lanes(rows) ? i : 0, column = lane / channels;
            pixels[i] = columns ? column / columns * row_stride + column % columns * stride : 0;
            for (int t = 0; t < SIDE; t++) taps[t][i] = (pixels[i] + t * dilation) * channels + lane % channels;
        }
    }

    // Lanes of n rows, and elements of the input from their first to their last in one row of the windows.
    idx lanes(idx n) const { return n * columns * channels; }
    idx span(idx n) const { return ((n - 1) * row_stride + (columns - 1) * stride + reach) * channels; }

    // Whole vectors at stride 1 need no permutation, whole pixels no company.
    bool pay() const { return columns > 0 && channels < L && (channels > 1 || stride > 1 || columns < L); }

    // `heights` rows of the windows, a step apart.
    template <class I, bool WHERE, bool NANS>
    Maximum<T, I, L, WHERE> meet(const T* x, idx n, idx heights, idx step) const {
        const idx whole = std::min<idx>(span(n), L), rest = span(n) - whole;
        Maximum<T, I, L, WHERE> best{broadcast(-std::numeric_limits<T>::infinity()), {}, {}};
        for (idx h = 0, row = 0; h < heights; h++, row += step) {
            const T* from = x + row * channels;
            const Full a = (Full)load_part(from, whole), b = (Full)load_part(from + whole, rest);
            for (int t = 0; t < SIDE; t++) {
                const Run<T, L> v = (Run<T, L>)__builtin_shuffle(a, b, taps[t]);
                const Run<I, L> at = (I)(row + t * dilation) - Run<I, L>{};
                if constexpr (NANS)
                    best.meet_nan(v, at);
                else
                    best.meet(v, at);
            }
        }
        return best;
    }

    template <class I, bool WHERE>
    [[gnu::noinline]] void store_nan(const T* x, idx n, idx heights, idx step, I first, T* y, I* argmax) const {
        const auto best = meet<I, WHERE, true>(x, n, heights, step);
        store_part(y, best.value, lanes(n));
        if constexpr (WHERE) store_part(argmax, best.at + (first + pixels), lanes(n));
    }

    // `count` columns of outputs in n rows; their windows start at pixel `first` of a plane, and are HEIGHTS high where
    // that is known.
    template <class I, bool WHERE, int HEIGHTS>
    void store_rows(const T* plane, idx first, idx n, idx count, idx heights, idx step, T* y, I* argmax) const {
        if (HEIGHTS) heights = HEIGHTS;
        for (idx i = 0; i < count; i += columns) {
            const idx j = std::min(i, count - columns), at = first + j * stride, to = j * channels;
            const T* x = plane + at * channels;
            const auto best = meet<I, WHERE, false>(x, n, heights, step);
            if (__builtin_expect(has_nan<T, L>(best.sum), 0)) {
                store_nan<I, WHERE>(x, n, heights, step, (I)at, y + to, argmax + to);
                continue;
            }
            store_part(y + to, best.value, lanes(n));
            if constexpr (WHERE) store_part(argmax + to, best.at + ((I)at + pixels), lanes(n));
        }
    }
};

template <class I, bool WHERE, class T, int SIDE>
void max_packed_rows(const Windows& g, const PackedWindows<T, SIDE> packed, const WindowRows* rows_of, const T* x, T* y,
                     I* argmax, idx begin, idx end) {
    const idx channels = packed.channels, lo = g.inner_lo, count = g.inner_hi - lo, columns = g.out[2], width = columns * channels;
    const idx image = g.pixels() * channels, per_plane = g.out[0] * g.out[1], left = lo * packed.stride - g.before[2];
    const T* plane = x + begin / per_plane * image;
    for (idx row = begin, h = begin % per_plane; row < end;) {
        const idx n = std::min({packed.rows, per_plane - h, end - row});
        const WindowRows& rows = rows_of[h];
        T* to = y + row * width;
        I* where = argmax + row * width;
        const auto borders = [&](idx j, idx until) {
            for (; j < until; j++) {
                const Reach& w = g.reach[2][j];
                max_pixel<T, I, WHERE, 0>(rows, plane, channels, w.hi - w.lo, packed.dilation,
                                          rows.first + w.start + w.lo * packed.dilation, to + j * channels, where + j * channels);
            }
        };
        borders(0, lo);
        const auto inner = [&](auto heights) {
            packed.template store_rows<I, WHERE, heights>(plane, rows.first + left, n, count, rows.heights, rows.height_step,
                                                          to + lo * channels, where + lo * channels);
        };
        if (rows.heights == SIDE)
            inner(Constant<SIDE>{});
        else
            inner(Constant<0>{});
        borders(lo + count, columns);
        row += n, h += n;
        if (h == per_plane) h = 0, plane += image;
    }
}

template <class I, bool WHERE, class T, int SIDE>
void max_pool_packed(const Windows& g, const PackedWindows<T, SIDE>& packed, const T* x, T* y, I* argmax, int threads,
                     double flops) {
    std::vector<WindowRows> rows_of;  // of each row of outputs: working them out takes as long as a short row's maxima
    for (idx h = 0; h < g.out[0] * g.out[1]; h++) rows_of.push_back(g.rows_of(h / g.out[1], h % g.out[1]));
    parallel_rows(g.rows(), threads, flops, [&](idx begin, idx end) {
        max_packed_rows<I, WHERE>(g, packed, rows_of.data(), x, y, argmax, begin, end);
    });
}

}  // namespace fastconv

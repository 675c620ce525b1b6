// What the pooling kernels share: the taps of a window that are inside, vectors of outputs, rows as parallel jobs.
#pragma once
#include <algorithm>
#include <vector>

#include "geometry.hpp"
#include "lanes.hpp"
#include "parallel.hpp"

namespace fastconv {

// Along an axis: where an output's window starts, and which of its taps [lo, hi) are inside the input.
struct Reach {
    idx start, lo, hi;
};

// The rows of a window that are inside, by flat index in the plane; a step apart along depth and height.
struct WindowRows {
    idx first, depths, depth_step, heights, height_step;
    template <class Body> void each(Body body) const {
        for (idx d = 0, z = first; d < depths; d++, z += depth_step)
            for (idx h = 0, row = z; h < heights; h++, row += height_step) body(row);
    }
};

// A pooling's windows, worked out once a call.
struct Windows : Geometry {
    std::vector<Reach> reach[3];  // by output position
    idx inner_lo, inner_hi;       // output columns that vectors cover: their windows are inside the width
    bool long_rows;               // vectors run over taps instead: these are many, and outputs too few to fill one
    int joined = 0;               // axes that joined others, innermost first

    Windows(const Geometry& g, idx lanes) : Geometry(g) {
        join_axes();
        for (int a = 0; a < 3; a++)
            for (idx o = 0; o < out[a]; o++) {
                Reach r{o * stride[a] - before[a], 0, 0};
                valid_range(r.start, dilation[a], size[a], window[a], &r.lo, &r.hi);
                reach[a].push_back(r);
            }
        const idx room = size[2] - (window[2] - 1) * dilation[2] + before[2];
        inner_hi = room > 0 ? std::min(out[2], ceil_div(room, stride[2])) : 0;
        inner_lo = std::min(ceil_div(before[2], stride[2]), inner_hi);
        long_rows = out[2] < lanes && window[2] >= 2 * lanes && dilation[2] == 1;
        if (long_rows) inner_lo = inner_hi = out[2];
    }

    // The window rows of output row (d, h).
    WindowRows rows_of(idx d, idx h) const {
        const Reach &rd = reach[0][d], &rh = reach[1][h];
        const idx z = rd.start + rd.lo * dilation[0], y = rh.start + rh.lo * dilation[1];
        return {(z * size[1] + y) * size[2], rd.hi - rd.lo, dilation[0] * size[1] * size[2], rh.hi - rh.lo,
                dilation[1] * size[2]};
    }
    idx planes() const { return n * c; }
    idx rows() const { return n * (channels_last ? 1 : c) * out[0] * out[1]; }

private:
    // Windows as wide as the input are runs of elements: one axis less (global pooling is a window of one row).
    void join_axes() {
        for (; joined < 2 && !channels_last; joined++) {
            if (out[2] > 1 || window[2] != size[2] || before[2] || dilation[2] > 1 || dilation[1] > 1) return;
            const idx width = size[2];
            size[2] *= size[1], window[2] *= window[1], out[2] = out[1];
            stride[2] = stride[1] * width, before[2] = before[1] * width;
            size[1] = size[0], window[1] = window[0], out[1] = out[0];
            stride[1] = stride[0], dilation[1] = dilation[0], before[1] = before[0];
            size[0] = window[0] = out[0] = stride[0] = dilation[0] = 1, before[0] = 0;
        }
    }
};

// An output row: of plane `plane` (channels-first) or image `plane` (channels-last).
struct RowCursor {
    const Windows& w;
    idx plane, d, h;
    RowCursor(const Windows& w, idx row)
        : w(w), plane(row / w.out[1] / w.out[0]), d(row / w.out[1] % w.out[0]), h(row % w.out[1]) {}
    void next() {
        if (++h < w.out[1]) return;
        h = 0;
        if (++d < w.out[0]) return;
        d = 0, plane++;
    }
};

// Calls body(Constant<V>) with V the value if it is LOW or LOW + 1, else 0: common sizes get code of their own, unless
// they are not WANTED.
template <int LOW, bool WANTED = true, class Body> inline void with_constant(idx value, Body body) {
    if constexpr (WANTED) {
        if (value == LOW) return body(Constant<LOW>{});
        if (value == LOW + 1) return body(Constant<LOW + 1>{});
    }
    body(Constant<0>{});
}

// Elements p[0], p[step], ..., p[(L - 1) * step]; STEP is the step where it is known, else 0. Reads nothing past them.
template <class T, int L, int STEP> inline Run<T, L> load_strided(const T* p, idx step) {
    typedef Run<T, L> V;
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> I;
    if constexpr (STEP == 1 || L == 1) {
        return *(const V*)p;
    } else if constexpr (STEP == 2) {
        typedef T Full __attribute__((vector_size(L * sizeof(T))));
        typedef I Index __attribute__((vector_size(L * sizeof(T))));
        Index even;
        for (int i = 0; i < L; i++) even[i] = 2 * i < L ? 2 * i : 2 * i + 1;
        return (V)__builtin_shuffle((Full) * (const V*)p, (Full) * (const V*)(p + L - 1), even);
    } else {
        V v;
        for (int i = 0; i < L; i++) v[i] = p[i * step];
        return v;
    }
}

// body(first row, last row) over pieces of all rows, of `flops` in all.
template <class Body> inline void parallel_rows(idx rows, int threads, double flops, Body body) {
    threads = useful_threads(threads, rows, flops);
    const idx piece = threads == 1 ? rows : std::max<idx>(rows / (8 * threads), 1);
    parallel_for(ceil_div(rows, piece), threads,
                 [&](idx job, int) { body(job * piece, std::min(rows, (job + 1) * piece)); });
}

// Zeroes `count` of `channels` channels.
template <class T> inline void clear_channels(T* dx, idx pixels, idx channels, idx count) {
    const idx runs = count == channels ? 1 : pixels, length = count == channels ? pixels * channels : count;
    for (idx i = 0; i < runs; i++) std::fill_n(dx + i * channels, length, T(0));
}

// Gradients scatter, so a plane belongs to one thread: jobs of an image's channels, whole cache lines apart.
struct ChannelBlocks {
    idx channels, count;  // of a block, in an image
    ChannelBlocks(const Geometry& g, int threads) {
        const idx wanted = std::max<idx>(4 * threads / g.n, 1), line = 16;
        channels = threads == 1 ? g.c : std::min(g.c, ceil_div(ceil_div(g.c, wanted), line) * line);
        count = ceil_div(g.c, channels);
    }
};

}  // namespace fastconv

// What the pooling kernels share: the taps of a window that are inside, vectors of outputs, rows as parallel jobs.
#pragma once
#include <algorithm>
#include <type_traits>

#include "geometry.hpp"
#include "parallel.hpp"
#include "vec.hpp"

namespace fastconv {

// Along an axis: where an output's window starts, and which of its taps [lo, hi) are inside the input.
struct Reach {
    idx start, lo, hi;
};

inline Reach reach(const Geometry& g, int axis, idx out) {
    Reach r{out * g.stride[axis] - g.before[axis], 0, 0};
    valid_range(r.start, g.dilation[axis], g.size[axis], g.window[axis], &r.lo, &r.hi);
    return r;
}

// Output columns [*lo, *hi) whose window is inside the input's width.
inline void inner_columns(const Geometry& g, idx* lo, idx* hi) {
    const idx room = g.size[2] - (g.window[2] - 1) * g.dilation[2] + g.before[2];
    *hi = room > 0 ? std::min(g.out[2], ceil_div(room, g.stride[2])) : 0;
    *lo = std::min(ceil_div(g.before[2], g.stride[2]), *hi);
}

// Calls body(std::integral_constant<int, L>, first) for runs of L elements that cover [begin, end): whole vectors,
// the last of which overlaps its neighbour, or narrower ones where the range is shorter than a vector.
template <class T, int L = LANES<T>, class Body> inline void cover(idx begin, idx end, Body body) {
    if constexpr (L > 1)
        if (end - begin < L) return cover<T, L / 2>(begin, end, body);
    for (idx i = begin; i < end; i += L) body(std::integral_constant<int, L>{}, std::min(i, end - L));
}

// Elements p[0], p[step], ..., p[(L - 1) * step]; STEP is the step where it is 1 or 2, else 0. Never reads past them.
template <class T, int L, int STEP> inline typename VecOf<T, L>::type load_strided(const T* p, idx step) {
    typedef typename VecOf<T, L>::type V;
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> I;
    if constexpr (STEP == 1 || L == 1) return *(const V*)p;
    if constexpr (STEP == 2) {
        typedef T Full __attribute__((vector_size(L * sizeof(T))));
        typedef I Index __attribute__((vector_size(L * sizeof(T))));
        Index even;
        for (int i = 0; i < L; i++) even[i] = 2 * i < L ? 2 * i : 2 * i + 1;
        return (V)__builtin_shuffle((Full) * (const V*)p, (Full) * (const V*)(p + L - 1), even);
    }
    V v;
    for (int i = 0; i < L; i++) v[i] = p[i * step];
    return v;
}

// body(first row, last row, thread) over pieces of all rows, of `flops` in all.
template <class Body> inline void parallel_rows(idx rows, int threads, double flops, Body body) {
    threads = useful_threads(threads, rows, flops);
    const idx piece = threads == 1 ? rows : std::max<idx>(rows / (8 * threads), 1);
    parallel_for(ceil_div(rows, piece), threads,
                 [&](idx job, int thread) { body(job * piece, std::min(rows, (job + 1) * piece), thread); });
}

// Gradients scatter, so a plane belongs to one thread: jobs of an image's channels, whole cache lines apart.
struct ChannelBlocks {
    idx channels, count;  // of a block, in an image
    ChannelBlocks(const Geometry& g, int threads) {
        const idx wanted = std::max<idx>(4 * threads / g.n, 1), line = 16;
        channels = threads == 1 ? g.c : ceil_div(ceil_div(g.c, wanted), line) * line;
        count = ceil_div(g.c, channels);
    }
};

}  // namespace fastconv

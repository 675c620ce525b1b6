// Average-pooling and its gradient.
//
// Vectors run over output columns in channels-first (over the taps where windows are long and outputs few), over
// channels in channels-last. A window's rows are summed on their own first: rounding grows with its sides, not its area.
#pragma once
#include "pool_window.hpp"
#include "workspace.hpp"

namespace fastconv {

// Elements that windows count along each axis, by output position; `fixed` replaces their product if not 0.
struct Counts {
    const idx* axis[3];
    idx fixed;
};

// The divisor of output (d, h, w) is the product of along[0][d], along[1][h] and along[2][w].
template <class T> struct Divisors {
    std::vector<T> along[3];

    Divisors(const Windows& g, const Counts& counts) {
        for (int a = 0; a < 3; a++) {
            const int axis = a - g.joined;
            for (idx o = 0; o < g.out[a]; o++) along[a].push_back(counts.fixed || axis < 0 ? T(1) : T(counts.axis[axis][o]));
        }
        T rest = T(counts.fixed ? counts.fixed : 1);
        for (int axis = 3 - g.joined; axis < 3 && !counts.fixed; axis++) rest *= T(counts.axis[axis][0]);
        for (T& divisor : along[2]) divisor *= rest;
    }
    T row(idx d, idx h) const { return along[0][d] * along[1][h]; }
    const T* column() const { return along[2].data(); }
};

// Sums of L windows; rows and taps as in max_windows.
template <class T, int L, int WIDTH, class Tap>
inline typename VecOf<T, L>::type sum_windows(const Windows& g, const Reach& d, const Reach& h, idx lo, idx hi, Tap tap) {
    const idx dilation = g.dilation[2], count = WIDTH ? WIDTH : hi - lo;
    typename VecOf<T, L>::type total = {};
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const idx row = g.row(d, h, td, th) + lo * dilation;
            typename VecOf<T, L>::type sum = {};
            for (idx t = 0; t < count; t++) sum += tap(row + t * dilation);
            total += sum;
        }
    return total;
}

template <class T> inline T sum_long_window(const Windows& g, const T* x, const Reach& d, const Reach& h, idx lo, idx hi) {
    Vec<T> total = {};
    T sum = 0;
    for (idx td = d.lo; td < d.hi; td++)
        for (idx th = h.lo; th < h.hi; th++) {
            const T* row = x + g.row(d, h, td, th);
            idx t = lo;
            for (; t + LANES<T> <= hi; t += LANES<T>) total += load(row + t);
            for (; t < hi; t++) sum += row[t];
        }
    for (int i = 0; i < LANES<T>; i++) sum += total[i];
    return sum;
}

template <class T, int STEP, int WIDTH>
inline void avg_row(const Windows& g, const T* plane, const Reach& d, const Reach& h, T row_divisor, const T* divisors, T* y) {
    const idx step = STEP ? STEP : g.stride[2];
    const auto columns = [&](auto lanes, auto width, idx j, idx lo, idx hi) {
        typedef typename VecOf<T, lanes>::type V;
        const T* x = plane + j * step - g.before[2];
        const V sum = sum_windows<T, lanes, width>(g, d, h, lo, hi,
                                                   [&](idx at) { return load_strided<T, lanes, STEP>(x + at, step); });
        *(V*)(y + j) = sum / (row_divisor * *(const V*)(divisors + j));
    };
    if (g.few_long(LANES<T>)) {
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach& w = g.reach[2][j];
            y[j] = sum_long_window(g, plane + w.start, d, h, w.lo, w.hi) / (row_divisor * divisors[j]);
        }
        return;
    }
    const auto border = [&](idx j) { columns(Constant<1>{}, Constant<0>{}, j, g.reach[2][j].lo, g.reach[2][j].hi); };
    for (idx j = 0; j < g.inner_lo; j++) border(j);
    cover<T>(g.inner_lo, g.inner_hi, [&](auto lanes, idx j) { columns(lanes, Constant<WIDTH>{}, j, 0, g.window[2]); });
    for (idx j = g.inner_hi; j < g.out[2]; j++) border(j);
}

template <class T, int STEP, int WIDTH>
void avg_pool_first(const Windows& g, const Divisors<T>& divisors, const T* x, T* y, idx begin, idx end) {
    RowCursor at(g, begin);
    for (idx row = begin; row < end; row++, at.next())
        avg_row<T, STEP, WIDTH>(g, x + at.plane * g.pixels(), g.reach[0][at.d], g.reach[1][at.h],
                                divisors.row(at.d, at.h), divisors.column(), y + row * g.out[2]);
}

template <class T, int WIDTH>
void avg_pool_last(const Windows& g, const Divisors<T>& divisors, const T* x, T* y, idx begin, idx end) {
    RowCursor row(g, begin);
    for (idx to = begin * g.out[2] * g.c; to < end * g.out[2] * g.c; row.next())
        for (idx j = 0; j < g.out[2]; j++, to += g.c) {
            const Reach &d = g.reach[0][row.d], &h = g.reach[1][row.h], &w = g.reach[2][j];
            const T divisor = divisors.row(row.d, row.h) * divisors.column()[j];
            const T* image = x + (row.plane * g.pixels() + w.start) * g.c;
            const auto channels = [&](auto lanes, auto width, idx c) {
                typedef typename VecOf<T, lanes>::type V;
                const V sum = sum_windows<T, lanes, width>(g, d, h, w.lo, w.hi,
                                                           [&](idx at) { return *(const V*)(image + at * g.c + c); });
                *(V*)(y + to + c) = sum / divisor;
            };
            if (j >= g.inner_lo && j < g.inner_hi)
                cover<T>(0, g.c, [&](auto lanes, idx c) { channels(lanes, Constant<WIDTH>{}, c); });
            else
                cover<T>(0, g.c, [&](auto lanes, idx c) { channels(lanes, Constant<0>{}, c); });
        }
}

template <class T> void avg_pool(const Geometry& geometry, const Counts& counts, const T* x, T* y, int threads) {
    const Windows g(geometry);
    const Divisors<T> divisors(g, counts);
    parallel_rows(g.rows(), threads, 2.0 * g.planes() * g.out_pixels() * g.taps(), [&](idx begin, idx end) {
        with_constant(g.window[2], [&](auto width) {
            if (g.channels_last) return avg_pool_last<T, width>(g, divisors, x, y, begin, end);
            with_constant(g.stride[2],
                          [&](auto step) { avg_pool_first<T, step, width>(g, divisors, x, y, begin, end); });
        });
    });
}

template <class T> inline void add_run(T* __restrict to, const T* __restrict from, idx n) {
    for (idx i = 0; i < n; i++) to[i] += from[i];
}

// A row of shares -> what every row of dx under its windows receives, (W).
template <class T> void spread_row(const Windows& g, const T* __restrict share, T* __restrict spread) {
    std::fill_n(spread, g.size[2], T(0));
    if (g.dilation[2] == 1 && g.window[2] > g.out[2]) {
        for (idx j = 0; j < g.out[2]; j++) {
            const Reach& w = g.reach[2][j];
            for (idx i = w.start + w.lo; i < w.start + w.hi; i++) spread[i] += share[j];
        }
        return;
    }
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
void avg_pool_grad_first(const Windows& g, const Divisors<T>& divisors, const T* dy, T* dx, T* memory) {
    T *share = memory, *spread = memory + g.out[2];
    std::fill_n(dx, g.pixels(), T(0));
    for (idx d = 0; d < g.out[0]; d++)
        for (idx h = 0; h < g.out[1]; h++, dy += g.out[2]) {
            const Reach &rd = g.reach[0][d], &rh = g.reach[1][h];
            for (idx j = 0; j < g.out[2]; j++) share[j] = dy[j] / (divisors.row(d, h) * divisors.column()[j]);
            spread_row(g, share, spread);
            for (idx td = rd.lo; td < rd.hi; td++)
                for (idx th = rh.lo; th < rh.hi; th++) add_run(dx + g.row(rd, rh, td, th), spread, g.size[2]);
        }
}

// `count` channels of an image.
template <class T>
void avg_pool_grad_last(const Windows& g, const Divisors<T>& divisors, const T* dy, T* dx, idx count, T* share) {
    clear_channels(dx, g.pixels(), g.c, count);
    for (idx d = 0; d < g.out[0]; d++)
        for (idx h = 0; h < g.out[1]; h++)
            for (idx w = 0; w < g.out[2]; w++, dy += g.c) {
                const Reach &rd = g.reach[0][d], &rh = g.reach[1][h], &rw = g.reach[2][w];
                const T divisor = divisors.row(d, h) * divisors.column()[w];
                for (idx c = 0; c < count; c++) share[c] = dy[c] / divisor;
                for (idx td = rd.lo; td < rd.hi; td++)
                    for (idx th = rh.lo; th < rh.hi; th++) {
                        T* row = dx + (g.row(rd, rh, td, th) + rw.start) * g.c;
                        for (idx t = rw.lo; t < rw.hi; t++) add_run(row + t * g.dilation[2] * g.c, share, count);
                    }
            }
}

template <class T> void avg_pool_grad(const Geometry& geometry, const Counts& counts, const T* dy, T* dx, int threads) {
    const Windows g(geometry);
    const Divisors<T> divisors(g, counts);
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
            avg_pool_grad_first(g, divisors, dy + plane * g.out_pixels(), dx + plane * g.pixels(), scratch);
    });
}

}  // namespace fastconv

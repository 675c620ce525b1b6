// The gradient of max-pooling: dx[argmax] += dy. Every plane is one thread's, its sums in the order of dy.
//
// The general case is a scatter, an element at a time. Pooling with stride = window leaves each argmax in a cell of
// its own; where sizes allow that and the indices prove it, whole vectors of dx are written instead, zeros included.
#pragma once
#include "pool_window.hpp"

namespace fastconv {

template <class I, int L> inline Run<I, L> equal(Run<I, L> a, I b) {
    if constexpr (L == 1)
        return -(I)(a == b);
    else
        return a == b;
}

// v where the mask is set, else 0.
template <class T, class I, int L> inline Run<T, L> keep(Run<I, L> mask, Run<T, L> v) {
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Lane;
    if constexpr (L == 1)
        return mask ? v : T(0);
    else
        return __builtin_convertvector(mask, Run<Lane, L>) ? v : Run<T, L>{};
}

template <class I, int L> inline bool any(Run<I, L> mask) {
    if constexpr (L == 1) {
        return mask;
    } else {
        I set = 0;
        for (int i = 0; i < L; i++) set |= mask[i];
        return set;
    }
}

// The input as cells, one for each output.
struct Cells {
    idx size[3];
    bool fit = true;
    WindowRows rows;                // of a cell, from its first element
    idx depth_step, height_step;    // between cells
    explicit Cells(const Geometry& g) {
        for (int a = 0; a < 3; a++) {
            size[a] = g.size[a] / g.out[a];
            fit = fit && size[a] * g.out[a] == g.size[a];
        }
        rows = {0, size[0], g.size[1] * g.size[2], size[1], g.size[2]};
        depth_step = size[0] * rows.depth_step, height_step = size[1] * rows.height_step;
        // larger cells write more zeros than a scatter does; columns wider apart have no interleaved store
        fit = fit && size[0] * size[1] * size[2] <= 9 && (g.channels_last || size[2] <= 2);
    }
};

// `count` channels of a channels-last image, of which dx is left unfinished where an argmax is outside its cell: false.
template <class T, class I, int L>
bool grad_cells_last(const Geometry& g, const Cells& cells, const T* dy, const I* argmax, T* dx, idx count) {
    const idx channels = g.c, columns = g.out[2], width = cells.size[2];
    const WindowRows rows = cells.rows;
    for (idx row = 0; row < g.out[0] * g.out[1]; row++) {
        Run<I, L> strays = {};
        idx cell = row / g.out[1] * cells.depth_step + row % g.out[1] * cells.height_step;
        for (idx j = 0; j < columns; j++, cell += width, dy += channels, argmax += channels)
            for (idx i = 0; i < count; i += L) {
                const idx c = std::min(i, count - L);
                const Run<T, L> gradient = *(const Run<T, L>*)(dy + c);
                const Run<I, L> at = *(const Run<I, L>*)(argmax + c) - (I)cell;
                Run<I, L> found = {};
                T* to = dx + cell * channels + c;
                rows.each([&](idx offset) {
                    for (idx x = offset; x < offset + width; x++) {
                        const Run<I, L> here = equal<I, L>(at, (I)x);
                        found |= here;
                        *(Run<T, L>*)(to + x * channels) = keep<T, I, L>(here, gradient);
                    }
                });
                strays |= ~found;
            }
        if (any<I, L>(strays)) return false;
    }
    return true;
}

// a[0], b[0], a[1], b[1], ... to `to`.
template <class T, int L> inline void store_interleaved(T* to, Run<T, L> a, Run<T, L> b) {
    if constexpr (L == 1) {
        to[0] = a, to[1] = b;
    } else {
        typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Lane;
        typedef T Full __attribute__((vector_size(L * sizeof(T))));
        typedef Lane Index __attribute__((vector_size(L * sizeof(T))));
        Index low, high;
        for (int i = 0; i < L; i++) low[i] = i / 2 + i % 2 * L, high[i] = low[i] + L / 2;
        *(Run<T, L>*)to = (Run<T, L>)__builtin_shuffle((Full)a, (Full)b, low);
        *(Run<T, L>*)(to + L) = (Run<T, L>)__builtin_shuffle((Full)a, (Full)b, high);
    }
}

// A channels-first plane with cells WIDTH (1 or 2) elements wide; false as above.
template <class T, class I, int L, int WIDTH>
bool grad_cells_first(const Geometry& g, const Cells& cells, const T* dy, const I* argmax, T* dx) {
    const idx columns = g.out[2];
    const WindowRows rows = cells.rows;
    for (idx row = 0; row < g.out[0] * g.out[1]; row++, dy += columns, argmax += columns) {
        Run<I, L> strays = {};
        const idx first = row / g.out[1] * cells.depth_step + row % g.out[1] * cells.height_step;
        for (idx i = 0; i < columns; i += L) {
            const idx j = std::min(i, columns - L), cell = first + j * WIDTH;
            const Run<T, L> gradient = *(const Run<T, L>*)(dy + j);
            const Run<I, L> at = *(const Run<I, L>*)(argmax + j) - ((I)cell + multiples<I, L>(WIDTH));
            Run<I, L> found = {};
            rows.each([&](idx offset) {
                T* to = dx + cell + offset;
                const Run<I, L> left = equal<I, L>(at, (I)offset);
                found |= left;
                if constexpr (WIDTH == 1) {
                    *(Run<T, L>*)to = keep<T, I, L>(left, gradient);
                } else {
                    const Run<I, L> right = equal<I, L>(at, (I)offset + 1);
                    found |= right;
                    store_interleaved<T, L>(to, keep<T, I, L>(left, gradient), keep<T, I, L>(right, gradient));
                }
            });
            strays |= ~found;
        }
        if (any<I, L>(strays)) return false;
    }
    return true;
}

// Planes and pixels whose rows of outputs are short: dx as whole vectors, whose lanes look up their own output. Which one
// that is repeats from plane to plane (or image, in channels-last).
template <class T> struct CellPattern {
    static constexpr int L = LANES<T>;
    struct Block {
        idx base;  // of L outputs, among which are those of its lanes
        Run<int32_t, L> output, pixel;
    };
    std::vector<Block> blocks;  // of dx
    idx elements, outputs;
    bool fit;

    CellPattern(const Geometry& g, const Cells& cells) {
        const idx channels = g.channels_last ? g.c : 1;
        elements = g.pixels() * channels, outputs = g.out_pixels() * channels;
        fit = PERMUTES && cells.fit && (g.channels_last ? g.c : g.out[2]) < L && outputs >= L;
        // the table should stay in L1, and takes about as long as sixteen times as many elements of dx
        fit = fit && elements <= 64 * L && 16 * channels <= g.n * g.c;
        if (!fit) return;
        std::vector<int32_t> output, pixel;
        for (idx row = 0, at = 0; row < g.size[0] * g.size[1]; row++) {
            const idx d = row / g.size[1] / cells.size[0], h = row % g.size[1] / cells.size[1];
            const idx first = (d * g.out[1] + h) * g.out[2];
            for (idx j = 0; j < g.out[2]; j++)
                for (idx x = 0; x < cells.size[2]; x++, at++)
                    for (idx c = 0; c < channels; c++) output.push_back((first + j) * channels + c), pixel.push_back(at);
        }
        output.resize(ceil_div<idx>(elements, L) * L, output.back()), pixel.resize(output.size(), -1);
        for (size_t e = 0; e < output.size() && fit; e += L) {
            const auto range = std::minmax_element(&output[e], &output[e] + L);
            Block block{std::min<idx>(*range.first, outputs - L), {}, {}};
            fit = *range.second - block.base < L;
            for (int i = 0; i < L; i++) block.output[i] = output[e + i] - block.base, block.pixel[i] = pixel[e + i];
            blocks.push_back(block);
        }
    }

    // False where an argmax is outside its cell.
    template <class I> bool store(const T* dy, const I* argmax, T* dx) const {
        typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Lane;
        typedef T Full __attribute__((vector_size(L * sizeof(T))));
        typedef Lane Index __attribute__((vector_size(L * sizeof(T))));
        typedef I Where __attribute__((vector_size(L * sizeof(I))));
        Run<int32_t, L> found = {};
        idx left = elements;
        for (const Block& block : blocks) {
            const Index lanes = __builtin_convertvector(block.output, Index);
            const Run<T, L> gradient = (Run<T, L>)__builtin_shuffle((Full)load(dy + block.base), lanes);
            const Where at = __builtin_shuffle((Where) * (const Run<int32_t, L>*)(argmax + block.base), (Where)block.output);
            const Run<int32_t, L> here = (Run<int32_t, L>)at == block.pixel;
            found -= here;
            store_part(dx, keep<T, int32_t, L>(here, gradient), std::min<idx>(left, L));
            dx += L, left -= L;
        }
        idx count = 0;
        for (int i = 0; i < L; i++) count += found[i];
        return count == outputs;
    }
};

template <class T, class I>
void grad_plane(const Geometry& g, const Cells& cells, const T* dy, const I* argmax, T* dx) {
    // in shorter rows an element at a time is as fast
    if (cells.fit && g.out[2] >= 8) {
        const bool done = with_lanes<T>(g.out[2], [&](auto lanes) {
            return cells.size[2] == 1 ? grad_cells_first<T, I, lanes, 1>(g, cells, dy, argmax, dx)
                                      : grad_cells_first<T, I, lanes, 2>(g, cells, dy, argmax, dx);
        });
        if (done) return;
    }
    std::fill_n(dx, g.pixels(), T(0));
    for (idx o = 0; o < g.out_pixels(); o++) dx[argmax[o]] += dy[o];
}

template <class T, class I>
void grad_channels(const Geometry& g, const Cells& cells, const T* dy, const I* argmax, T* dx, idx count) {
    if (cells.fit && count >= 8) {
        const bool done = with_lanes<T>(
            count, [&](auto lanes) { return grad_cells_last<T, I, lanes>(g, cells, dy, argmax, dx, count); });
        if (done) return;
    }
    clear_channels(dx, g.pixels(), g.c, count);
    for (idx o = 0; o < g.out_pixels(); o++, dy += g.c, argmax += g.c)
        for (idx c = 0; c < count; c++) dx[argmax[c] * g.c + c] += dy[c];
}

// Are all n indices in [0, limit)?
template <class I> bool within(const I* argmax, idx n, idx limit, int threads) {
    typedef std::make_unsigned_t<I> Unsigned;
    const idx run = 8192, jobs = ceil_div(n, run);
    threads = useful_threads(threads, jobs, 2.0 * n);
    std::atomic<bool> good{true};
    parallel_for(jobs, threads, [&](idx job, int) {
        Unsigned largest = 0;  // a negative index is a large unsigned one
        for (idx i = job * run, end = std::min(n, i + run); i < end; i++) largest = std::max(largest, (Unsigned)argmax[i]);
        if (largest >= (Unsigned)limit) good = false;
    });
    return good;
}

template <class T, class I> void max_pool_grad(const Geometry& g, const T* dy, const I* argmax, T* dx, int threads) {
    const idx outs = g.out_pixels(), pixels = g.pixels();
    const Cells cells(g);
    const CellPattern<T> pattern(g, cells);
    const ChannelBlocks blocks(g, threads);
    const idx jobs = g.n * blocks.count;
    threads = useful_threads(threads, jobs, 4.0 * g.n * g.c * (outs + pixels));
    parallel_for(jobs, threads, [&](idx job, int) {
        const idx image = job / blocks.count * g.c, first = job % blocks.count * blocks.channels;
        const idx count = std::min(blocks.channels, g.c - first);
        const auto short_cells = [&](idx at) {
            if constexpr (PERMUTES && sizeof(I) == 4)
                return pattern.fit && pattern.store(dy + at * outs, argmax + at * outs, dx + at * pixels);
            return false;
        };
        if (g.channels_last && count == g.c && short_cells(image)) return;
        if (g.channels_last)
            return grad_channels(g, cells, dy + image * outs + first, argmax + image * outs + first,
                                 dx + image * pixels + first, count);
        for (idx plane = image + first; plane < image + first + count; plane++)
            if (!short_cells(plane)) grad_plane(g, cells, dy + plane * outs, argmax + plane * outs, dx + plane * pixels);
    });
}

}  // namespace fastconv

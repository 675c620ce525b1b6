// Depthwise convolution with large filters by nested Winograd: filters cut into blocks of four taps an axis.
//
// Neighbouring tiles of outputs are as far apart as neighbouring blocks, so one grid of transformed tiles serves all
// blocks. What remains for each point is a plain depthwise convolution of that grid by the blocks:
//
//   sums[point][tile] = sum over blocks of tiles[point][tile + block] * filters[point][block]
//
// Both axes are cut (F(4x4, 4x4)) where the filter is large, the rows alone (F(4, 4)) elsewhere.
#pragma once
#include "parallel.hpp"
#include "winograd_depthwise_rows.hpp"
#include "winograd_depthwise_square.hpp"

namespace fastconv {

constexpr idx SQUARE_PART_BYTES = 1400 << 10;  // more than a L2 of 1 MB, but not all at once
constexpr idx ROWS_RING_BYTES = 32 << 10;      // of L1

// Whether both axes are to be cut: multiply-adds for four by four outputs, of the products and the transforms.
inline bool square_pays(const idx* window) {
    const idx columns = ceil_div(window[1], idx(BLOCK)), rows = ceil_div(window[0], idx(BLOCK));
    return SPAN * SPAN * rows * columns + 800 < BLOCK * SPAN * window[0] * columns + 250;
}

template <class T> class WinogradDepthwiseRun {
public:
    WinogradDepthwiseRun(const WinogradDepthwise<T>& p, double flops, int most_threads) : p(p), square(square_pays(p.window)) {
        for (int a = 0; a < 2; a++)
            for (idx phase = 0; phase < std::min(p.dilation[a], size(p.dest, a)); phase++)
                axis[a].emplace_back(a || square ? BLOCK : 1, size(p.dest, a), p.window[a], p.before[a], p.dilation[a],
                                     size(p.source, a), phase);
        plan(most_threads);
        threads = useful_threads(most_threads, (idx)parts.size(), flops / 3);  // as much time as a third of the plain sum takes
    }

    void run() {
        Workspace workspace(sizes.bytes(), threads);
        std::vector<idx> filters_of(threads, -1);  // channel whose filters a thread has
        parallel_for((idx)parts.size(), threads, [&](idx job, int thread) {
            const TilePart& part = parts[job];
            const PartSpace<T> space(workspace.of(thread), sizes);
            if (filters_of[thread] != part.channel) {
                const auto transform = square ? transform_square_blocks<T> : transform_row_blocks<T>;
                transform(p, part.channel, part.H->blocks, part.W->blocks, space.slab, space.filters, sizes.filters);
                filters_of[thread] = part.channel;
            }
            run_part(part, space);
        });
    }

private:
    const WinogradDepthwise<T>& p;
    bool square;
    std::vector<TileAxis> axis[2];
    std::vector<TilePart> parts;
    PartSizes<T> sizes;
    int threads;

    template <class I> static idx size(const I& image, int a) { return a ? image.width : image.height; }

    PartSizes<T> sizes_of(idx rows, idx columns) const {
        const TileAxis &H = axis[0][0], &W = axis[1][0];
        const idx seen_rows = most_seen(axis[0], rows), seen_columns = most_seen(axis[1], columns);
        if (square) return {H, W, SPAN * SPAN, 2 * SPAN, seen_rows, seen_rows, rows, seen_columns, columns};
        return {H, W, SPAN, SPAN, row_ring(H.blocks), 1, 2, seen_columns, columns};
    }
    static idx most_seen(const std::vector<TileAxis>& phases, idx count) {
        idx most = 0;
        for (const TileAxis& x : phases) most = std::max(most, x.most_seen(count));
        return most;
    }
    // Columns of a part: as many tiles as keep what a pass over a row of them needs in L1.
    idx part_columns() const {
        idx columns = TILES_W;
        while (square ? columns < 3 * TILES_W
                      : SPAN * sizes_of(1, columns + TILES_W).tiles * (idx)sizeof(T) <= ROWS_RING_BYTES && columns < axis[1][0].tiles)
            columns += TILES_W;
        return columns;
    }

    // Channels outermost, so that a thread's jobs share transformed filters.
    void plan(int most_threads) {
        const idx height = axis[0][0].tiles, width = axis[1][0].tiles;
        const idx columns = ceil_div(width, ceil_div(width, part_columns()));
        idx rows = height;
        while (square && rows > 2 && sizes_of(rows, columns).bytes() > SQUARE_PART_BYTES) rows = ceil_div(rows, idx(2));
        const idx jobs = ceil_div<idx>(p.dest.channels, LANES<T>) * p.images * (idx)axis[0].size() * (idx)axis[1].size() *
                         ceil_div(width, columns) * ceil_div(height, rows);
        if (jobs < 3 * most_threads && jobs % most_threads) rows = std::max<idx>(1, ceil_div<idx>(rows * jobs, 3 * most_threads));
        sizes = sizes_of(rows, columns);
        for (idx c = 0; c < p.dest.channels; c += LANES<T>)
            for (idx image = 0; image < p.images; image++)
                for (const TileAxis& H : axis[0])
                    for (const TileAxis& W : axis[1])
                        for (idx h = 0; h < H.tiles; h += rows)
                            for (idx w = 0; w < W.tiles; w += columns) parts.emplace_back(H, W, image, c, h, rows, w, columns);
    }

    void run_part(const TilePart& part, const PartSpace<T>& space) {
        constexpr int L = LANES<T>;
        const idx lanes = std::min<idx>(L, p.dest.channels - part.channel);
        const Vec<T> bias = p.bias ? load_part(p.bias + part.channel, lanes) : Vec<T>{};
        square ? square_part(p, part, sizes, space, lanes, bias) : rows_part(p, part, sizes, space, lanes, bias);
    }
};

template <class T>
WinogradDepthwise<T> winograd_depthwise_problem(const Geometry& g, bool input_grad, const T* source, const T* w, T* dest) {
    const idx *from = input_grad ? g.out : g.size, *to = input_grad ? g.size : g.out;
    const bool last = g.channels_last != 0;
    WinogradDepthwise<T> p{{source, from[1], from[2], g.c, last}, {dest, to[1], to[2], g.c, last}, g.n, {}, {}, {},
                           forward_filters(g, w), input_grad, nullptr, LINEAR};
    for (int a = 0; a < 2; a++) {
        const idx window = g.window[a + 1], dilation = g.dilation[a + 1], before = g.before[a + 1];
        p.window[a] = window, p.dilation[a] = dilation, p.before[a] = input_grad ? dilation * (window - 1) - before : before;
    }
    return p;
}

template <class T>
void winograd_depthwise_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    WinogradDepthwise<T> p = winograd_depthwise_problem(g, false, x, w, y);
    p.bias = bias, p.activation = activation;
    WinogradDepthwiseRun<T>(p, flops_of(g), threads).run();
}

template <class T> void winograd_depthwise_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    WinogradDepthwiseRun<T>(winograd_depthwise_problem(g, true, dy, w, dx), flops_of(g), threads).run();
}

}  // namespace fastconv

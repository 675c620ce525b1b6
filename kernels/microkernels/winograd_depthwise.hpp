// Depthwise convolution with large filters by nested Winograd: filters cut into blocks of 4 x 4, F(4x4, 4x4) on each.
//
// Neighbouring tiles of 4 x 4 outputs are as far apart as neighbouring blocks, so one grid of transformed tiles serves
// all blocks. What remains for each of the 7 x 7 points is a plain depthwise convolution of that grid by the blocks,
//
//   sums[point][tile] = sum over blocks of tiles[point][tile + block] * filters[point][block],
//
// 49 products for a block and a tile instead of 256. The points go row by row (a pair +-p, or infinity), so that few
// planes of tiles and sums are alive at a time and all that a part of the map needs stays in L2.
#pragma once
#include "bias_grad.hpp"
#include "epilogue.hpp"
#include "parallel.hpp"
#include "winograd_depthwise_plan.hpp"

namespace fastconv {

constexpr int ROW_GROUPS = PAIRS + 1;  // rows of points: the pairs, and infinity
template <int G> constexpr int ROWS_OF = G < PAIRS ? 2 : 1;

// The filters of a vector of channels, transformed: u[(7 i + j) * plane + (block row * blocks + block) * L].
// `taps` is scratch for all blocks' taps.
template <class T>
void transform_blocks(const WinogradDepthwise<T>& p, idx channel, idx blocks_h, idx blocks_w, T* taps, T* u, idx plane) {
    constexpr int L = LANES<T>;
    const idx R = p.window[0], S = p.window[1], height = BLOCK * blocks_h, width = BLOCK * blocks_w;
    const idx lanes = std::min<idx>(L, p.dest.channels - channel), f = p.filters.group_stride;
    std::fill(taps, taps + height * width * L, T(0));
    // flipped, the taps lie at the end, and are read from there
    T* at = taps + (p.flipped ? (height - R) * width + width - S : 0) * L;
    for (idx r = 0; r < R; r++) {
        const T* w = p.filters.at + channel * f + r * S * p.filters.tap_stride;
        if (f == 1)
            for (idx s = 0; s < S; s++) store(at + (r * width + s) * L, load_part(w + s * p.filters.tap_stride, lanes));
        else
            transpose(w, f, lanes, S, at + r * width * L, idx(L));
    }
    const idx row = p.flipped ? -width * L : width * L, column = p.flipped ? -L : L;
    const T* begin = p.flipped ? taps + (height * width - 1) * L : taps;
    for (idx b = 0; b < blocks_h; b++)
        for (idx c = 0; c < blocks_w; c++) {
            const T* from = begin + BLOCK * (b * row + c * column);
            T* to = u + (b * blocks_w + c) * L;
            Vec<T> z[SPAN][BLOCK];
            for (int j = 0; j < BLOCK; j++) {
                Vec<T> g[BLOCK], t[SPAN];
                for (int i = 0; i < BLOCK; i++) g[i] = load(from + i * row + j * column);
                filter_points<T>(g, t);
                for (int i = 0; i < SPAN; i++) z[i][j] = t[i];
            }
            for (int i = 0; i < SPAN; i++) {
                Vec<T> t[SPAN];
                filter_points<T>(z[i], t);
                for (int j = 0; j < SPAN; j++) store(to + (i * SPAN + j) * plane, t[j]);
            }
        }
}

// One job's scratch.
template <class T> struct PartSpace {
    T *slab, *out, *tiles, *sums, *filters;
    PartSpace(char* memory, const PartSizes<T>& s) {
        Arena arena(memory);
        slab = arena.take<T>(s.slab), out = arena.take<T>(s.out);
        tiles = arena.take<T>(2 * SPAN * s.tiles), sums = arena.take<T>(2 * SPAN * s.sums);
        filters = arena.take<T>(SPAN * SPAN * s.filters);
    }
};

// A vector of one column of pixels at the points of row group G.
template <class T, int G> inline __attribute__((always_inline)) void column_points(const T* from, idx row, Vec<T>* z) {
    const auto pixel = [=](int i) { return load(from + i * row); };
    if constexpr (G < PAIRS)
        input_pair<T, G>(pixel, z[0], z[1]);
    else
        z[0] = input_infinity<T>(pixel);
}

// A row of `count` tiles of the slab: (i, j)-th product to `to` + (7 i + j) * plane + tile * L.
template <class T, int G> void transform_row(const T* from, idx row, idx count, T* to, idx plane) {
    constexpr int L = LANES<T>, KEPT = SPAN - BLOCK, ROWS = ROWS_OF<G>;
    Vec<T> z[2][SPAN];
    for (int k = 0; k < KEPT; k++, from += L) {
        Vec<T> t[2];
        column_points<T, G>(from, row, t);
        for (int i = 0; i < ROWS; i++) z[i][k] = t[i];
    }
    for (idx c = 0; c < count; c++, to += L) {
        for (int k = KEPT; k < SPAN; k++, from += L) {
            Vec<T> t[2];
            column_points<T, G>(from, row, t);
            for (int i = 0; i < ROWS; i++) z[i][k] = t[i];
        }
        for (int i = 0; i < ROWS; i++) {
            input_points<T>(z[i], to + i * SPAN * plane, plane);
            for (int k = 0; k < KEPT; k++) z[i][k] = z[i][k + BLOCK];
        }
    }
}

// A row of tiles of sums, added to four rows of outputs (the first group writes them).
template <class T, int G> void transform_back_row(const T* from, idx plane, idx count, Vec<T> bias, T* out, idx row) {
    constexpr int L = LANES<T>;
    for (idx c = 0; c < count; c++, from += L, out += BLOCK * L) {
        Vec<T> y[2][BLOCK];
        for (int i = 0; i < ROWS_OF<G>; i++) output_points<T>(from + i * SPAN * plane, plane, y[i]);
        for (int j = 0; j < BLOCK; j++) {
            T* to = out + j * L;
            if constexpr (G == PAIRS) {
                store(to + (BLOCK - 1) * row, load(to + (BLOCK - 1) * row) + y[0][j]);
                continue;
            }
            constexpr double p = POINT[G < PAIRS ? G : 0];
            const Vec<T> even = y[0][j] + y[1][j], odd = y[0][j] - y[1][j];
            const Vec<T> part[BLOCK] = {even, T(p) * odd, T(p * p) * even, T(p * p * p) * odd};
            for (int i = 0; i < BLOCK; i++) store(to + i * row, (G ? load(to + i * row) : bias) + part[i]);
        }
    }
}

template <class T> class WinogradDepthwiseRun {
public:
    WinogradDepthwiseRun(const WinogradDepthwise<T>& p, double flops, int most_threads) : p(p) {
        for (int a = 0; a < 2; a++)
            for (idx phase = 0; phase < std::min(p.dilation[a], size(p.dest, a)); phase++)
                axis[a].emplace_back(size(p.dest, a), p.window[a], p.before[a], p.dilation[a], size(p.source, a), phase);
        plan(most_threads);
        // five times fewer products, and as much again around them
        threads = useful_threads(most_threads, (idx)parts.size(), flops / 3);
    }

    void run() {
        Workspace workspace(sizes.bytes(), threads);
        std::vector<idx> filters_of(threads, -1);  // channel whose filters a thread has
        parallel_for((idx)parts.size(), threads, [&](idx job, int thread) {
            const TilePart& part = parts[job];
            const PartSpace<T> space(workspace.of(thread), sizes);
            if (filters_of[thread] != part.channel) {
                transform_blocks(p, part.channel, part.H->blocks, part.W->blocks, space.slab, space.filters, sizes.filters);
                filters_of[thread] = part.channel;
            }
            run_part(part, space);
        });
    }

private:
    const WinogradDepthwise<T>& p;
    std::vector<TileAxis> axis[2];
    std::vector<TilePart> parts;
    PartSizes<T> sizes{};
    int threads;

    template <class I> static idx size(const I& image, int a) { return a ? image.width : image.height; }

    PartSizes<T> sizes_of(idx rows, idx columns) const {
        return {axis[0][0].blocks, axis[1][0].blocks, most_seen(axis[0], rows), most_seen(axis[1], columns), rows, columns};
    }
    static idx most_seen(const std::vector<TileAxis>& phases, idx count) {
        idx most = 0;
        for (const TileAxis& x : phases) most = std::max(most, x.most_seen(count));
        return most;
    }

    // Channels outermost, so that a thread's jobs share transformed filters.
    void plan(int most_threads) {
        const idx height = axis[0][0].tiles, width = axis[1][0].tiles;
        const idx columns = ceil_div(width, ceil_div(width, PART_COLUMNS));
        idx rows = height;
        while (rows > 2 && sizes_of(rows, columns).bytes() > PART_BYTES) rows = ceil_div(rows, idx(2));
        const idx jobs = ceil_div<idx>(p.dest.channels, LANES<T>) * p.images * (idx)axis[0].size() * (idx)axis[1].size() *
                         ceil_div(width, columns) * ceil_div(height, rows);
        if (jobs < 3 * most_threads && jobs % most_threads) rows = std::max<idx>(1, ceil_div<idx>(rows * jobs, 3 * most_threads));
        sizes = sizes_of(rows, columns);
        for (idx c = 0; c < p.dest.channels; c += LANES<T>)
            for (idx image = 0; image < p.images; image++)
                for (const TileAxis& H : axis[0])
                    for (const TileAxis& W : axis[1])
                        for (idx h = 0; h < H.tiles; h += rows)
                            for (idx w = 0; w < W.tiles; w += columns)
                                parts.push_back({&H, &W, image, c, h, std::min(rows, H.tiles - h), w, std::min(columns, W.tiles - w)});
    }

    void run_part(const TilePart& part, const PartSpace<T>& space) {
        constexpr int L = LANES<T>;
        const TileAxis &H = *part.H, &W = *part.W;
        const idx lanes = std::min<idx>(L, p.dest.channels - part.channel);
        SeenTiles seen(part);
        if (seen.rows() * seen.columns() > 0) {
            const Window window{part.image, H.source + H.step * BLOCK * seen.top, W.source + W.step * BLOCK * seen.left, H.step, W.step,
                                BLOCK * seen.rows() + SPAN - BLOCK, BLOCK * seen.columns() + SPAN - BLOCK, part.channel, lanes};
            load_slab(p.source, window, space.slab);
            for (idx plane = 0; plane < 2 * SPAN; plane++)
                for (idx row = 0; row < seen.rows(); row++) {
                    T* tiles = space.tiles + plane * sizes.tiles + row * sizes.pitch;
                    std::fill(tiles, tiles + (seen.left - part.column) * L, T(0));
                    std::fill(tiles + (seen.right - part.column) * L, tiles + sizes.pitch, T(0));
                }
        }
        const Vec<T> bias = p.bias ? load_part(p.bias + part.channel, lanes) : Vec<T>{};
        run_group<0>(part, seen, space, bias);
        run_group<1>(part, seen, space, bias);
        run_group<2>(part, seen, space, bias);
        run_group<PAIRS>(part, seen, space, bias);
        const idx columns = BLOCK * part.columns;
        if (p.activation != LINEAR) finish_row(space.out, BLOCK * part.rows * columns * L, T(0), p.activation);
        store_slab(p.dest, {part.image, H.dest + H.step * BLOCK * part.row, W.dest + W.step * BLOCK * part.column, H.step, W.step,
                            BLOCK * part.rows, columns, part.channel, lanes}, space.out);
    }

    struct SeenTiles {
        idx top, bottom, left, right;
        explicit SeenTiles(const TilePart& part) {
            part.H->seen(part.row, part.rows, &top, &bottom);
            part.W->seen(part.column, part.columns, &left, &right);
        }
        idx rows() const { return bottom - top; }
        idx columns() const { return right - left; }
    };

    template <int G> void run_group(const TilePart& part, const SeenTiles& seen, const PartSpace<T>& space, Vec<T> bias) {
        constexpr int L = LANES<T>;
        const idx slab_row = (BLOCK * seen.columns() + SPAN - BLOCK) * L, out_row = BLOCK * part.columns * L;
        for (idx row = 0; row < seen.rows(); row++)
            transform_row<T, G>(space.slab + BLOCK * row * slab_row, slab_row, seen.columns(),
                                space.tiles + row * sizes.pitch + (seen.left - part.column) * L, sizes.tiles);
        for (int point = 0; point < ROWS_OF<G> * SPAN; point++)
            point_products<T>({space.tiles + point * sizes.tiles, seen.columns() ? seen.rows() : 0, sizes.pitch,
                               space.filters + (2 * G * SPAN + point) * sizes.filters, part.H->blocks, part.W->blocks,
                               space.sums + point * sizes.sums, sizes.sums_pitch},
                              part.row - seen.top, part.rows, part.columns);
        for (idx row = 0; row < part.rows; row++)
            transform_back_row<T, G>(space.sums + row * sizes.sums_pitch, sizes.sums, part.columns, bias,
                                     space.out + BLOCK * row * out_row, out_row);
    }
};

template <class T>
WinogradDepthwise<T> winograd_depthwise_problem(const Geometry& g, bool input_grad, const T* source, const T* w, T* dest) {
    WinogradDepthwise<T> p{};
    p.source = {source, 0, 0, g.c, g.channels_last != 0}, p.dest = {dest, 0, 0, g.c, g.channels_last != 0};
    const idx *from = input_grad ? g.out : g.size, *to = input_grad ? g.size : g.out;
    p.source.height = from[1], p.source.width = from[2], p.dest.height = to[1], p.dest.width = to[2];
    p.images = g.n, p.filters = forward_filters(g, w), p.flipped = input_grad;
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

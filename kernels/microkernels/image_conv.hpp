// Forward and input gradient of small maps and few channels, over vectors of images.
//
//   for every position:  (K, taps inside x C) @ (taps inside x C, images) -> (K, images)
#pragma once
#include "epilogue.hpp"
#include "filters.hpp"
#include "image_lanes.hpp"
#include "padded_conv.hpp"
#include "workspace.hpp"

namespace fastconv {

// Taps of a position whose source rows follow each other: `depth` rows from `row` on meet those of the filters.
struct ImageRun {
    idx filter, row, depth;
};

// M channels x V vectors of images at one position; filters are (depth, M).
template <class T, int M, int V>
void image_tile(const ImageRun* runs, idx count, const T* filters, const T* rows, const T* bias, T* to) {
    constexpr int L = LANES<T>;
    Vec<T> acc[M][V];
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) acc[i][j] = broadcast(bias[i]);
    for (idx r = 0; r < count; r++) {
        const T *a = filters + runs[r].filter * M, *b = rows + runs[r].row * V * L;
        for (const T* end = b + runs[r].depth * V * L; b < end; a += M, b += V * L) {
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = load(b + j * L);
            for (int i = 0; i < M; i++) {
                const Vec<T> av = broadcast(a[i]);
                for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
            }
        }
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) store(to + (i * V + j) * L, acc[i][j]);
}

template <class T> using ImageTile = void (*)(const ImageRun*, idx, const T*, const T*, const T*, T*);

template <class T, int V, int M = PIXEL_ROWS[V]> ImageTile<T> image_tile_of_height(idx m) {
    if constexpr (M > 1)
        if (m < M) return image_tile_of_height<T, V, M - 1>(m);
    return &image_tile<T, M, V>;
}
template <class T, int V = PIXEL_VECTORS> ImageTile<T> image_tile_of(idx m, idx v) {
    if constexpr (V > 1)
        if (v < V) return image_tile_of<T, V - 1>(m, v);
    return image_tile_of_height<T, V>(m);
}

// Channels written, cut into tiles; each tile's filters are (taps of the view, depth, its channels).
template <class T> struct ImageFilters {
    idx columns, tiles;
    std::vector<T> at, bias;
    ImageFilters(const Geometry& g, const View& v, const Filters<T>& f, idx depth, idx columns, idx most, const T* b)
        : columns(columns), tiles(ceil_div(columns, most)), at(v.taps() * depth * columns), bias(columns, T(0)) {
        if (b) std::copy(b, b + columns, bias.begin());
        T* to = at.data();
        for (idx t = 0; t < tiles; t++)
            for (idx d : v.axis[0].tap)
                for (idx h : v.axis[1].tap)
                    for (idx w : v.axis[2].tap)
                        for (idx c = 0; c < depth; c++)
                            for (idx k = first(t); k < first(t + 1); k++)
                                *to++ = f.at[((d * g.window[1] + h) * g.window[2] + w) * f.tap_stride + c * f.depth_stride +
                                             k * f.column_stride];
    }
    idx first(idx tile) const { return columns * tile / tiles; }
};

// Taps [lo, hi) that are inside the source, for every position of an axis.
inline std::vector<std::pair<idx, idx>> taps_inside(const Axis& x) {
    std::vector<std::pair<idx, idx>> ranges;
    for (idx o = 0; o < x.out; o++) {
        idx lo = 0, hi = x.taps();
        while (lo < hi && o * x.step + x.offset[lo] < 0) lo++;
        while (lo < hi && o * x.step + x.offset[hi - 1] >= x.size) hi--;
        ranges.push_back({lo, hi});
    }
    return ranges;
}

// The runs of each position of a view.
struct ImagePositions {
    const View* view;
    std::vector<std::pair<idx, idx>> inside[3];
    idx depth;
    bool joined;  // neighbouring taps of a row meet neighbouring pixels
    ImagePositions(const View& v, idx depth) : view(&v), depth(depth), joined(true) {
        for (int a = 0; a < 3; a++) inside[a] = taps_inside(v.axis[a]);
        const std::vector<idx>& offset = v.axis[2].offset;
        for (size_t t = 1; t < offset.size(); t++) joined = joined && offset[t] == offset[t - 1] + 1;
    }
    void runs_of(idx position, std::vector<ImageRun>& runs) const {
        const Axis *D = view->axis, *H = D + 1, *W = D + 2;
        const idx w = position % W->out, h = position / W->out % H->out, d = position / W->out / H->out;
        const auto [w_lo, w_hi] = inside[2][w];
        const idx together = joined ? w_hi - w_lo : 1;
        runs.clear();
        for (idx i = inside[0][d].first; i < inside[0][d].second; i++)
            for (idx j = inside[1][h].first; j < inside[1][h].second; j++) {
                const idx z = d * D->step + D->offset[i], y = h * H->step + H->offset[j];
                for (idx t = w_lo; t < w_hi; t += together)
                    runs.push_back({((i * H->taps() + j) * W->taps() + t) * depth,
                                    ((z * H->size + y) * W->size + w * W->step + W->offset[t]) * depth, together * depth});
            }
    }
};

// `view` has all positions of dest: one phase.
template <class T>
void image_conv(const Geometry& g, const View& view, const Filters<T>& f, const ImageArray<const T>& source,
                const ImageArray<T>& dest, const T* bias, Activation activation, int threads) {
    constexpr int L = LANES<T>;
    threads = useful_threads(threads, ceil_div<idx>(g.n, L), flops_of(g));
    const ImageBlocks<T> blocks(g.n, source.elements() + L * dest.channels, PIXEL_VECTORS, threads);
    const idx lanes = blocks.lanes(), columns = dest.channels;
    const ImageFilters<T> filters(g, view, f, source.channels, columns, PIXEL_ROWS[blocks.vectors], bias);
    const ImagePositions positions(view, source.channels);
    Workspace workspace(padded_bytes<T>(source.elements() * lanes) + padded_bytes<T>(L * columns * lanes), threads);
    parallel_for(blocks.count, threads, [&](idx block, int thread) {
        Arena arena(workspace.of(thread));
        T *rows = arena.take<T>(source.elements() * lanes), *strip = arena.take<T>(L * columns * lanes);
        const idx first = block * lanes, images = std::min(lanes, g.n - first);
        load_images(source, first, images, rows, lanes);
        std::vector<ImageRun> runs;
        for (idx q = 0; q < dest.pixels; q += L) {
            const idx count = std::min<idx>(L, dest.pixels - q);
            for (idx p = 0; p < count; p++) {
                positions.runs_of(q + p, runs);
                for (idx t = 0; t < filters.tiles; t++) {
                    const idx k = filters.first(t);
                    image_tile_of<T>(filters.first(t + 1) - k, blocks.vectors)(
                        runs.data(), (idx)runs.size(), filters.at.data() + k * view.taps() * source.channels, rows,
                        filters.bias.data() + k, strip + (p * columns + k) * lanes);
                }
            }
            if (activation != LINEAR) finish_row(strip, count * columns * lanes, T(0), activation);
            store_images(dest, first, images, q, count, strip, lanes);
        }
    });
}

}  // namespace fastconv

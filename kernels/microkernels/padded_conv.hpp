// Forward of few input channels: first layers.
//
//   (pixels, taps x channels) @ (taps x channels, K) -> (pixels, K)
//
// Rows are pixels of a padded band, one table of offsets serves all of them; the filters are packed once a call.
#pragma once
#include "epilogue.hpp"
#include "filters.hpp"
#include "padded_band.hpp"
#include "parallel.hpp"
#include "tile.hpp"
#include "workspace.hpp"

namespace fastconv {

// Vectors of filters a tile takes, and pixels by vectors. 6 x 4 covers 64 filters in one pass over the pixels.
#if defined(__AVX512F__)
constexpr int PIXEL_VECTORS = 4, PIXEL_ROWS[PIXEL_VECTORS + 1] = {0, 8, 8, 8, 6};
#else
constexpr int PIXEL_VECTORS = 3, PIXEL_ROWS[PIXEL_VECTORS + 1] = {0, 4, 4, 4};
#endif
// The padded band, most of it read once a row of pixels, stays in L2; longer bands copy fewer rows twice.
constexpr idx BAND_BYTES = 64 << 10;
// Sums of at most 512 keep rounding small; deeper ones are cut into parts.
constexpr idx PADDED_DEPTH = 512;

template <class T> struct PixelTile {
    const idx* offset;  // of each depth, from a pixel on
    idx depth;
    const T *panel, *bias;
    T* y;
    idx ldy;
    int lanes;  // of the last vector that are stored
    bool add;   // to y, instead of the bias
    Activation activation;
};

// M pixels that follow each other in y.
template <class T, int M, int V>
inline __attribute__((always_inline)) void pixel_block(const PixelTile<T>& t, const T* const* pixel, T* y) {
    constexpr int L = LANES<T>;
    Vec<T> acc[M][V];
    for (int j = 0; j < V; j++)
        for (int i = 0; i < M; i++) {
            if (!t.add)
                acc[i][j] = load(t.bias + j * L);
            else
                acc[i][j] = load_part(y + i * t.ldy + j * L, j == V - 1 ? t.lanes : L);
        }
    const T* row[M];
    for (int i = 0; i < M; i++) row[i] = pixel[i];
    const T* b = t.panel;
    for (const idx *o = t.offset, *end = o + t.depth; o < end; o++, b += V * L) {
        Vec<T> bv[V];
        for (int j = 0; j < V; j++) bv[j] = load(b + j * L);
        for (int i = 0; i < M; i++) {
            Vec<T> av = broadcast(row[i][*o]);
            for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
        }
    }
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < V - 1; j++) store(y + i * t.ldy + j * L, acc[i][j]);
        T* last = y + i * t.ldy + (V - 1) * L;
        t.lanes == L ? store(last, acc[i][V - 1]) : store_part(last, acc[i][V - 1], t.lanes);
    }
    if (t.activation != LINEAR)
        for (int i = 0; i < M; i++) finish_row(y + i * t.ldy, (V - 1) * L + t.lanes, T(0), t.activation);
}

template <class T, int M, int V> void pixel_rest(const PixelTile<T>& t, const T* const* pixel, T* y, idx count) {
    if constexpr (M > 1)
        if (count < M) return pixel_rest<T, M - 1, V>(t, pixel, y, count);
    pixel_block<T, M, V>(t, pixel, y);
}

template <class T, int V> void pixel_run(const PixelTile<T>& t, const T* const* pixel, idx count) {
    constexpr int M = PIXEL_ROWS[V];
    idx q = 0;
    for (; q + M <= count; q += M) pixel_block<T, M, V>(t, pixel + q, t.y + q * t.ldy);
    if (q < count) pixel_rest<T, M, V>(t, pixel + q, t.y + q * t.ldy, count - q);
}

// A panel of `width` vectors by parts of the depth.
template <class T, int V> void pixel_parts(PixelTile<T> t, const T* const* pixel, idx count) {
    const idx parts = std::max<idx>(1, ceil_div(t.depth, PADDED_DEPTH)), depth = t.depth;
    const idx* offset = t.offset;
    const T* panel = t.panel;
    const Activation activation = t.activation;
    for (idx part = 0; part < parts; part++) {
        const idx first = depth * part / parts;
        t.offset = offset + first, t.panel = panel + first * V * LANES<T>, t.depth = depth * (part + 1) / parts - first;
        t.add = part > 0, t.activation = part == parts - 1 ? activation : LINEAR;
        pixel_run<T, V>(t, pixel, count);
    }
}

template <class T, int V = PIXEL_VECTORS> void pixel_run_of(int width, const PixelTile<T>& t, const T* const* pixel, idx count) {
    if constexpr (V > 1)
        if (width < V) return pixel_run_of<T, V - 1>(width, t, pixel, count);
    pixel_parts<T, V>(t, pixel, count);
}

// The filters of all groups, packed (groups, panels, depth, panel width), and the bias as wide.
template <class T> struct PixelFilters {
    idx depth, columns, vectors, panels;
    std::vector<T> at, bias;
    PixelFilters(const Geometry& g, const T* w, const T* b)
        : depth(g.taps() * g.c_group()), columns(g.k_group()), vectors(ceil_div<idx>(columns, LANES<T>)),
          panels(ceil_div<idx>(vectors, PIXEL_VECTORS)), at(g.groups * depth * vectors * LANES<T>),
          bias(g.groups * vectors * LANES<T>) {
        const Filters<T> f = forward_filters(g, w);
        for (idx group = 0; group < g.groups; group++) {
            if (b) std::copy(b + group * columns, b + (group + 1) * columns, bias.begin() + group * vectors * LANES<T>);
            for (idx p = 0; p < panels; p++) {
                const idx column = first(p) * LANES<T>, ld = width(p) * LANES<T>, filled = std::min(ld, columns - column);
                if (!g.channels_last) {
                    pack_filter_taps(f, g.taps(), group, 0, g.c_group(), column, filled, panel(group, p), ld);
                    continue;
                }
                for (idx tap = 0; tap < g.taps(); tap++)
                    pack_filter_panel(f, group, tap, 0, g.c_group(), column, filled, panel(group, p) + tap * g.c_group() * ld, ld);
            }
        }
    }
    idx first(idx p) const { return vectors * p / panels; }
    idx width(idx p) const { return first(p + 1) - first(p); }
    T* panel(idx group, idx p) { return at.data() + (group * vectors + first(p)) * depth * LANES<T>; }
};

// Pixels computed side by side before they are moved to their planes: a few squares of vectors, in L1.
template <class T> constexpr idx MOVED_PIXELS = 3 * LANES<T>;

// Columns of panel p for all pixels of a job, written where they belong or, channels-first, by way of `lines`.
template <class T>
void run_panel(const PaddedBand& band, const BandJob& job, PixelFilters<T>& filters, idx p, PixelTile<T> tile,
               const T* const* pixel, T* y, T* lines) {
    constexpr int L = LANES<T>;
    const Geometry& g = *band.g;
    const idx column = filters.first(p) * L, width = filters.width(p), filled = std::min(width * L, filters.columns - column);
    const idx count = job.rows(band) * job.columns(band), first = job.pixel(g, band);
    tile.panel = filters.panel(job.group, p);
    if (g.channels_last) {  // planes outside lie at the ends of the depth
        idx lo, hi;
        job.planes_inside(g, &lo, &hi);
        const idx plane = filters.depth / g.window[0];
        tile.offset += lo * plane, tile.panel += lo * plane * width * L, tile.depth = (hi - lo) * plane;
    }
    tile.bias = filters.bias.data() + job.group * filters.vectors * L + column;
    if (g.channels_last) {
        tile.y = y + first * g.k + job.group * filters.columns + column, tile.ldy = g.k;
        tile.lanes = (int)(filled - (width - 1) * L);
        return pixel_run_of<T>((int)width, tile, pixel, count);
    }
    const idx plane = g.out_pixels();
    T* to = y + (first / plane * g.k + job.group * filters.columns + column) * plane + first % plane;
    tile.y = lines, tile.ldy = width * L, tile.lanes = L;
    for (idx q = 0; q < count; q += MOVED_PIXELS<T>) {
        const idx pixels = std::min(MOVED_PIXELS<T>, count - q);
        pixel_run_of<T>((int)width, tile, pixel + q, pixels);
        transpose(lines, width * L, pixels, filled, to + q, plane);
    }
}

// The bands that padded_forward works on.
template <class T> PaddedBand forward_band(const Geometry& g, int threads) {
    const PaddedBand one(g, 1), two(g, 2);
    const idx each = std::max<idx>(1, two.size() - one.size()), all = g.out[one.axis];
    idx length = std::min(all, std::max<idx>(1, ((idx)(BAND_BYTES / sizeof(T)) - one.size()) / each + 1));
    while (length > 1 && g.n * g.groups * g.out[0] * ceil_div(all, length) < 3 * threads) length = ceil_div<idx>(length, 2);
    return PaddedBand(g, ceil_div(all, ceil_div(all, length)));
}

template <class T>
void padded_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    const PaddedBand band = forward_band<T>(g, threads);
    const std::vector<idx> offsets = band.offsets();
    PixelFilters<T> filters(g, w, bias);
    const PixelTile<T> tile{offsets.data(), filters.depth, nullptr, nullptr, nullptr, 0, 0, false, activation};
    const idx jobs = BandJob::count(g, band), lines = g.channels_last ? 0 : MOVED_PIXELS<T> * PIXEL_VECTORS * LANES<T>;
    threads = useful_threads(threads, jobs, flops_of(g));
    Workspace workspace(padded_bytes<T>(band.size()) + padded_bytes<T>(lines) + padded_bytes<T*>(band.pixels()), threads);
    std::vector<char> located(threads, 0);
    parallel_for(jobs, threads, [&](idx i, int thread) {
        Arena arena(workspace.of(thread));
        T *buffer = arena.take<T>(band.size()), *moved = arena.take<T>(lines);
        const T** pixel = arena.take<const T*>(band.pixels());
        for (idx q = 0; !located[thread] && q < band.pixels(); q++)
            pixel[q] = buffer + q / band.out[1] * band.row_step() + q % band.out[1] * band.pixel_step();
        located[thread] = 1;
        const BandJob job(g, band, i);
        fill_band(band, job, x, buffer);
        for (idx p = 0; p < filters.panels; p++) run_panel(band, job, filters, p, tile, pixel, y, moved);
    });
}

}  // namespace fastconv

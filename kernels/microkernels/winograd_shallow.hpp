// Winograd of few input channels, forward, at any stride: products never leave the level 1 cache.
//
// Space to depth: pixels of equal remainder (h mod s, w mod s) are a class, and a convolution of stride s is one of stride
// 1 over all classes as so many more channels, with ceil(R / s) taps; short classes end in a tap of zero. 7x7 of stride 2
// is F(3x3, 4x4) of depth 4 C: 48 products an output for 3 channels, instead of 147.
//
// So few channels leave most lanes of a transform empty, and 36 sums of a tile would take longer to write to level 2 and
// read than to multiply. So lanes of the input's transform are neighbouring elements of a row, whatever channel, class or
// pixel they are, and four tiles at a time are multiplied, transformed back and stored.
#pragma once
#include "parallel.hpp"
#include "winograd_filters.hpp"
#include "winograd_output.hpp"
#include "winograd_shallow_tile.hpp"

namespace fastconv {

constexpr idx SHALLOW_BLOCK = 8;  // tiles: transformed, 14 KB of 3 channels

constexpr idx SHALLOW_STREAMED = 8 << 20;  // bytes of a result from which on it is written past the caches
// Depths, of all classes; and transformed filters, which are read again for each block of tiles: from level 2.
constexpr idx SHALLOW_DEPTH = 48, SHALLOW_FILTER_BYTES = 1 << 20;
// Channels-first results are transposed in pieces too short for more channels: winograd_strided.hpp does better.
constexpr idx SHALLOW_FIRST_CHANNELS = 7;

inline idx shallow_depth(const Geometry& g) { return g.c * g.stride[1] * g.stride[2]; }
inline idx shallow_taps(const Geometry& g, int axis = 1) { return ceil_div(g.window[axis], g.stride[axis]); }

// Which problems take this path; kernels/cython/rules.py says the same, and why.
template <class T> bool shallow(const Geometry& g) {
    const bool plane = g.window[0] == 1 && g.size[0] == 1 && g.out[0] == 1, dense = g.dilation[1] == 1 && g.dilation[2] == 1;
    const bool layout = g.channels_last || (g.stride[1] * g.stride[2] > 1 && g.c <= SHALLOW_FIRST_CHANNELS);
    const idx taps = shallow_taps(g), depth = shallow_depth(g), filters = PRODUCTS * depth * g.k * (idx)sizeof(T);
    return plane && dense && layout && g.groups == 1 && taps >= 3 && taps <= 5 && taps == shallow_taps(g, 2) && depth > 1 &&
           depth <= SHALLOW_DEPTH && filters <= SHALLOW_FILTER_BYTES;
}

template <class T> struct ShallowConv {
    const Geometry* g;
    const T *x, *w, *bias;
    Activation activation;
    T* y;
};

// Where transformed elements lie. A row of x is a run of elements of all its channels (channels-last) or of one plane; a
// tile takes `span` of them a column, of each of `rows` rows (plane and class of h).
struct ShallowLayout {
    idx planes, span, rows, tile, block, pitch;  // tile, pitch: elements from tile to tile and from row to row
    bool apart;
    template <class T> static ShallowLayout of(const Geometry& g, idx out) {
        constexpr idx L = LANES<T>;
        ShallowLayout a;
        a.planes = g.channels_last ? 1 : g.c, a.span = g.stride[2] * (g.channels_last ? g.c : 1);
        a.rows = a.planes * g.stride[1];
        a.apart = ceil_div(a.span, L) * L < out * a.span;  // fewer vectors than for all elements between the tiles too
        a.tile = a.apart ? a.span : out * a.span;
        a.block = std::min(SHALLOW_BLOCK, (SHALLOW_PITCH<T> / a.rows - L) / a.tile);
        a.pitch = a.block * a.tile + L;
        return a;
    }
};

template <class T, int TAPS> class ShallowRun {
public:
    ShallowRun(const ShallowConv<T>& p, int threads)
        : p(p), g(*p.g), layout(ShallowLayout::of<T>(g, OUT)), depth(shallow_depth(g)), vectors(ceil_div<idx>(g.k, L)),
          grid(make_grid()), y{p.y, g.out[1], g.out[2], g.k, g.channels_last != 0},
          threads(useful_threads(threads, grid.tiles(), flops_of(g))),
          staged(ceil_div((OUT * (layout.block - 1) + POINTS) * layout.span, (idx)L) * L + L),
          in_place(shallow_output_of<T, OUT>(p.activation == RELU, streams())) {
        for (idx q = 0; q < layout.rows; q++)
            for (idx r = 0; r < layout.span; r++) offset.push_back(q * layout.pitch + r);
    }

    void run() {
        const idx blocks = ceil_div(grid.tiles(), layout.block), stage = layout.planes * POINTS * g.stride[1] * staged;
        const idx slab = SHALLOW_VECTORS * OUT * OUT * layout.block * L, sums = PRODUCTS * SHALLOW_VECTORS * 4 * L;
        Workspace filters(vectors * PRODUCTS * depth * L * sizeof(T), 1);
        u = (T*)filters.of(0);
        transform_filters();
        Workspace workspace(padded_bytes<T>(stage) + padded_bytes<T>(POINTS * staged) +
                                padded_bytes<T>(PRODUCTS * SHALLOW_PITCH<T>) + padded_bytes<T>(sums) + padded_bytes<T>(slab),
                            threads);
        std::vector<Scratch> scratch;
        for (int thread = 0; thread < threads; thread++) {
            Arena arena(workspace.of(thread));
            scratch.push_back({arena.take<T>(stage), arena.take<T>(POINTS * staged), arena.take<T>(PRODUCTS * SHALLOW_PITCH<T>),
                               arena.take<T>(sums), arena.take<T>(slab), {}, {}, {}});
        }
        parallel_for(blocks, threads, [&](idx job, int thread) {
            Scratch& s = scratch[thread];
            const idx first = job * layout.block, count = std::min(layout.block, grid.tiles() - first);
            tile_runs(grid, first, count, count, s.runs);
            for (const TileRun& run : s.runs) transform_input(run, s);
            place_tiles(s);
            for (idx n = 0; n < vectors; n += SHALLOW_VECTORS)
                vectors - n > 1 ? multiply<2>(n, count, s) : multiply<1>(n, count, s);
        });
        streamed();  // other threads' counting of jobs orders theirs
    }

private:
    static constexpr int OUT = 7 - TAPS, L = LANES<T>;
    struct Place {
        T *direct, *slab;  // in y, if whole (channels-last) and in the slab
        idx slab_row;
    };
    struct Scratch {
        T *stage, *z, *v, *sums, *slab;
        std::vector<TileRun> runs, stores;
        std::vector<Place> places;
    };
    const ShallowConv<T>& p;
    const Geometry& g;
    const ShallowLayout layout;
    const idx depth, vectors;
    const TileGrid grid;
    const Image<T> y;
    const int threads;
    const idx staged;  // elements of a row of x in the scratch
    const ShallowOutput<T> in_place;
    std::vector<idx> offset;  // of each depth in a transformed tile
    T* u;

    // Lines of a large result are written whole, past the caches (docs/performance.md).
    bool streams() const {
        const idx bytes = g.n * g.k * g.out_pixels() * (idx)sizeof(T);
        return STREAMS && g.k % L == 0 && (uintptr_t)p.y % VECTOR_BYTES == 0 && bytes >= SHALLOW_STREAMED;
    }

    TileGrid make_grid() const {
        const idx step[2] = {1, 1};
        return TileGrid(g.n, DepthTaps{1, 1, 1, 1, 0}, g.out[1], g.out[2], step, g.before + 1, OUT);
    }

    // Depths in the order of `offset`: (plane, class of h) and then (class of w, channel).
    idx depth_of(idx c, idx kh, idx kw) const {
        return g.channels_last ? (kh * g.stride[2] + kw) * g.c + c : (c * g.stride[1] + kh) * g.stride[2] + kw;
    }

    void transform_filters() {
        const idx high = TAPS * g.stride[1], wide = TAPS * g.stride[2], taps = g.window[1] * g.window[2];
        const int helpers = useful_threads(threads, vectors, 6e3 * depth * vectors);
        Workspace workspace(padded_bytes<T>(taps * L) + padded_bytes<T>(high * wide * L), helpers);
        parallel_for(vectors, helpers, [&](idx n, int thread) {
            Arena arena(workspace.of(thread));
            T *packed = arena.take<T>(taps * L), *window = arena.take<T>(high * wide * L);
            std::fill(window, window + high * wide * L, T(0));
            for (idx c = 0; c < g.c; c++) {
                pack_filter_taps(forward_filters(g, p.w), taps, 0, c, 1, n * L, std::min<idx>(L, g.k - n * L), packed, L);
                for (idx r = 0; r < g.window[1]; r++)
                    copy_run(window + r * wide * L, packed + r * g.window[2] * L, g.window[2] * L);
                for (idx kh = 0; kh < g.stride[1]; kh++)
                    for (idx kw = 0; kw < g.stride[2]; kw++)
                        transform_class(window + (kh * wide + kw) * L, n, depth_of(c, kh, kw));
            }
        });
    }

    void transform_class(const T* taps, idx n, idx d) {
        const idx first = n / SHALLOW_VECTORS * SHALLOW_VECTORS, wide = std::min<idx>(SHALLOW_VECTORS, vectors - first);
        T all[PRODUCTS * L];
        filter_transform_2d<T, TAPS>(taps, TAPS * g.stride[1] * g.stride[2] * L, g.stride[2] * L, all, L);
        T* to = u + first * PRODUCTS * depth * L + (n - first) * L;
        for (idx i = 0; i < PRODUCTS; i++)
            store(to + ((i / SHALLOW_J * depth + d) * SHALLOW_J + i % SHALLOW_J) * wide * L, load(all + i * L));
    }

    void transform_input(const TileRun& run, Scratch& s) {
        const idx sh = g.stride[1], n = (OUT * (run.count - 1) + POINTS) * layout.span;
        stage(run, n, s.stage);
        for (idx q = 0; q < layout.rows; q++) {
            const T* from = s.stage + (q / sh * POINTS * sh + q % sh) * staged;
            for (idx e = 0; e < n; e += L) {
                Vec<T> d[POINTS], t[POINTS];
                for (int i = 0; i < POINTS; i++) d[i] = load(from + i * sh * staged + e);
                input_transform<T>(d, t);
                for (int i = 0; i < POINTS; i++) store(s.z + i * staged + e, t[i]);
            }
            T* to = s.v + q * layout.pitch + run.at * layout.tile;
            if (layout.apart)
                for (idx t = 0; t < run.count; t++)
                    transform_columns(s.z + t * OUT * layout.span, layout.span, to + t * layout.tile);
            else
                transform_columns(s.z, layout.tile * (run.count - 1) + layout.span, to);
        }
    }

    // Columns that begin at elements [0, n) of rows z. Those beyond, up to a whole vector, are overwritten by the next.
    void transform_columns(const T* z, idx n, T* to) {
        for (int i = 0; i < POINTS; i++, z += staged, to += POINTS * SHALLOW_PITCH<T>)
            for (idx e = 0; e < n; e += L) {
                Vec<T> d[POINTS], t[POINTS];
                for (int j = 0; j < POINTS; j++) d[j] = load(z + e + j * layout.span);
                input_transform<T>(d, t);
                for (int j = 0; j < POINTS; j++) store(to + j * SHALLOW_PITCH<T> + e, t[j]);
            }
    }

    // The rows that a run of tiles reads, n elements each of every plane, zero outside x.
    void stage(const TileRun& run, idx n, T* to) const {
        const idx pixel = layout.span / g.stride[2], width = g.size[2] * pixel, rows = POINTS * g.stride[1];
        const idx h = run.h * g.stride[1] - g.before[1], w = (run.w * g.stride[2] - g.before[2]) * pixel;
        const idx top = std::min(rows, std::max<idx>(0, -h)), bottom = std::max(top, std::min(rows, g.size[1] - h));
        const idx lo = std::max<idx>(0, -w), hi = std::max(lo, std::min(n, width - w));
        for (idx plane = 0; plane < layout.planes; plane++, to += rows * staged) {
            const T* from = p.x + ((run.image * layout.planes + plane) * g.size[1] + h + top) * width + w;
            for (idx i = 0; i < top; i++) clear_run(to + i * staged, n);
            for (idx i = bottom; i < rows; i++) clear_run(to + i * staged, n);
            copy_rows_padded(to + top * staged, staged, from, width, bottom - top, n, lo, hi, OUT * run.count * layout.span);
        }
    }

    // Whole tiles of channels-last results are written in place. The others go through the slab: channels-first in runs,
    // channels-last one by one.
    void place_tiles(Scratch& s) const {
        s.places.clear(), s.stores.clear();
        for (const TileRun& run : s.runs) {
            if (!g.channels_last) s.stores.push_back(run);
            for (idx t = 0; t < run.count; t++) {
                const idx at = run.at + t, w = run.w + OUT * t;
                if (!g.channels_last) {
                    s.places.push_back({nullptr, s.slab + (OUT * OUT * run.at + OUT * t) * L, OUT * run.count * L});
                    continue;
                }
                const bool whole = run.h + OUT <= g.out[1] && w + OUT <= g.out[2] && fused();
                T* direct = whole ? y.at + y.offset(run.image, run.h, w, 0) : nullptr;
                s.places.push_back({direct, s.slab + OUT * OUT * at * L, OUT * L});
                s.stores.push_back({run.image, run.h, w, at, 1});
            }
        }
    }

    bool fused() const { return p.activation == LINEAR || p.activation == RELU; }

    template <int V> void multiply(idx first, idx count, Scratch& s) {
        constexpr int TILES = SHALLOW_TILES<V>;
        const bool whole = g.k - first * L >= V * L;
        const idx plane = OUT * OUT * layout.block * L;
        Vec<T> bias[V];
        for (int n = 0; n < V; n++)
            bias[n] = p.bias ? load_part(p.bias + (first + n) * L, std::min<idx>(L, g.k - (first + n) * L)) : Vec<T>{};
        for (idx t = 0; t < count; t += TILES) {
            const T* at[TILES];
            for (int i = 0; i < TILES; i++) at[i] = s.v + std::min(t + i, count - 1) * layout.tile;
            shallow_products<T, V>(u + first * PRODUCTS * depth * L, at, offset.data(), depth, s.sums);
            for (int i = 0; i < TILES && t + i < count; i++) {
                const Place& place = s.places[t + i];
                for (int n = 0; n < V; n++) {
                    const T* m = s.sums + (i * V + n) * L;
                    const idx ld = TILES * V * L;
                    if (whole && place.direct)
                        in_place(m, ld, place.direct + (first + n) * L, g.out[2] * g.k, g.k, bias[n]);
                    else
                        shallow_output<T, OUT, false, false>(m, ld, place.slab + n * plane, place.slab_row, L, bias[n]);
                }
            }
        }
        for (int n = 0; n < V; n++) store_rest(first + n, whole, s.slab + n * plane, s);
    }

    void store_rest(idx n, bool whole, T* slab, Scratch& s) const {
        for (const TileRun& run : s.stores) {
            if (whole && s.places[run.at].direct) continue;
            T* from = slab + OUT * OUT * run.at * L;
            if (p.activation != LINEAR) finish_row(from, OUT * OUT * run.count * L, T(0), p.activation);
            store_slab(y, output_window(grid, run, n * L, std::min<idx>(L, g.k - n * L)), from);
        }
    }
};

}  // namespace fastconv

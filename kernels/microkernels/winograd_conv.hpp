// Winograd forward and input gradient: transform tiles, 36 small GEMMs, transform back (Lavin, Gray 2015).
//
//   per product: (tiles, depth) @ (depth, columns) -> (tiles, columns)
//
// On volumes the planes that an output plane meets are summed in the transformed domain, like so many more channels.
//
// A few tiles go by winograd_few.hpp. Of more, two ways to share the work. By blocks of tiles, each of which meets all
// filters, transformed once or once a thread: a block and what it meets stay in L2. Or, where the transformed filters would
// be large or a thread would have no three blocks, by panels of filters: all threads transform as many tiles as the workspace
// takes, then each panel is transformed by the one thread that multiplies it, a chunk of the depth at a time, and
// never leaves its L2.
#pragma once
#include "parallel.hpp"
#include "winograd_few.hpp"
#include "winograd_filters.hpp"
#include "winograd_output.hpp"

namespace fastconv {

constexpr idx WINOGRAD_V_BYTES = 5 << 19;        // 2.5 MB of transformed tiles a thread at the most
constexpr idx WINOGRAD_U_BYTES = 12 << 20;       // of transformed filters, read again for every block: part of a L3
constexpr idx WINOGRAD_SUB_BLOCK = 48;           // tiles multiplied at a time: 36 x 48 x NR x 4 bytes = 332 KB of sums
constexpr idx WINOGRAD_KC = 512;                 // products summed in registers, as in the blocked kernel
constexpr idx WINOGRAD_DEPTH = 64;               // of a chunk of a panel: 36 x 64 x NR x 4 bytes = 442 KB
constexpr idx WINOGRAD_PANEL_TILES = 144;        // that meet such chunks: sums of 1 MB, loaded and stored for each

template <class T> struct WinogradConv {
    TileGrid grid;
    Image<const T> source;
    Image<T> dest;
    WinogradFilters<T> filters;
    const T* bias;
    Activation activation;
};

// The scratch of one thread: sums of `sum_tiles` tiles, transformed tiles, one chunk of filters.
template <class T> struct WinogradScratch {
    T *slab, *taps, *sums, *tiles, *chunk;
    std::vector<TileRun> runs;
    WinogradScratch(char* memory, idx tap_count, idx sum_tiles, idx tiles_elements) {
        Arena arena(memory);
        slab = arena.take<T>(slab_elements<T>(OUTPUT_RUN));
        taps = arena.take<T>(taps_elements<T>(tap_count));
        sums = arena.take<T>(sums_elements(sum_tiles));
        tiles = arena.take<T>(tiles_elements);
        chunk = arena.take<T>(0);
    }
    static idx sums_elements(idx tiles) { return PRODUCTS * odd_lines<T>(tiles * NR<T>); }
    static idx bytes(idx tap_count, idx sum_tiles, idx tiles_elements, idx chunk_elements) {
        return padded_bytes<T>(slab_elements<T>(OUTPUT_RUN)) + padded_bytes<T>(taps_elements<T>(tap_count)) +
               padded_bytes<T>(sums_elements(sum_tiles)) + padded_bytes<T>(tiles_elements) + padded_bytes<T>(chunk_elements);
    }
};

// Transformed tiles: v[product * stride + tile * row + tap of the depth * tap + channel].
struct TransformedTiles {
    idx tiles, tap, row, stride;
    template <class T> static TransformedTiles of(idx tiles, idx taps, idx depth) {
        const idx tap = ceil_div<idx>(depth, LANES<T>) * LANES<T>, row = padded_row<T>(taps * tap);
        return {tiles, tap, row, odd_lines<T>(tiles * row)};
    }
    idx elements() const { return PRODUCTS * stride; }
};

template <class T, int TAPS> class WinogradRun {
public:
    // flops: of the direct sum; ready: all filters transformed, or null.
    WinogradRun(const WinogradConv<T>& p, const T* ready, double flops, int threads)
        : p(p), f(p.filters), layout(f), ready(ready), tiles(p.grid.tiles()),
          threads(useful_threads(threads, tiles * f.columns, flops)) {}

    void run() {
        if (few_tiles(p.grid, f)) return few<FEW_TILES>();
        const Blocking b = blocking();
        if (b.by_panels)
            by_panels(b.tiles);
        else
            by_blocks(b.blocks);
    }

private:
    const WinogradConv<T>& p;
    const WinogradFilters<T>& f;
    const FilterPanels<T> layout;
    const T* ready;
    idx tiles;
    int threads;

    struct Blocking {
        bool by_panels;
        idx tiles, blocks;  // tiles that all threads transform at a time; or blocks, each a thread's
    };

    Blocking blocking() const {
        const idx tile_bytes = TransformedTiles::of<T>(1, f.depth_taps, f.depth).elements() * sizeof(T), wanted = threads == 1 ? 1 : 3 * threads;
        const idx most = std::max<idx>(MR, WINOGRAD_V_BYTES / tile_bytes / MR * MR);
        const idx block = std::min({most, WINOGRAD_SUB_BLOCK, std::max<idx>(2 * MR, ceil_div(tiles * f.groups, wanted))});
        const idx units = ceil_div<idx>(tiles, MR), blocks = ceil_div(tiles, block);
        const bool small = ready || layout.elements() * (idx)sizeof(T) <= WINOGRAD_U_BYTES;
        // as many for each thread: 9 blocks, or 5 and a short one, leave one of two threads waiting
        if (small && f.groups * blocks >= wanted) return {false, 0, std::min(units, ceil_div<idx>(blocks, threads) * threads)};
        return {true, std::min({tiles, threads * most, WINOGRAD_PANEL_TILES}), 0};
    }

    template <int M> void few() {
        if constexpr (M > 1)
            if (tiles < M) return few<M - 1>();
        WinogradFew<T, TAPS, M, WinogradConv<T>>(p, threads).run();
    }

    // About equal, in multiples of MR tiles.
    void by_blocks(idx blocks) {
        const idx units = ceil_div<idx>(tiles, MR), block = ceil_div(units, blocks) * MR;
        const auto v = TransformedTiles::of<T>(block, f.depth_taps, f.depth);
        ThreadFilters<T> filters(ready ? 0 : layout.elements(), threads);
        if (!ready && !filters.own) transform_all_filters<T, TAPS>(f, layout, filters.all(), threads);
        Workspace workspace(WinogradScratch<T>::bytes(TAPS, WINOGRAD_SUB_BLOCK, v.elements(), 0), threads);
        parallel_for(f.groups * blocks, threads, [&](idx job, int thread) {
            WinogradScratch<T> s(workspace.of(thread), TAPS, WINOGRAD_SUB_BLOCK, v.elements());
            const T* u = ready ? ready : filters.of(thread, [&](T* to) { transform_own(s.taps, to); });
            const idx group = job / blocks, n = job % blocks, first = units * n / blocks * MR;
            const idx count = std::min(tiles, units * (n + 1) / blocks * MR) - first;
            tile_runs(p.grid, first, count, INPUT_RUN, s.runs);
            for (idx tap = 0; tap < f.depth_taps; tap++)
                transform_tiles(p.grid, s.runs, p.source, tap, group * f.depth, f.depth, s.slab, s.tiles + tap * v.tap,
                                v.stride, v.row);
            for (idx panel = 0; panel < layout.panels.count; panel++)
                multiply(v, s.tiles, first, count, group, panel, u + layout.offset(group, panel), s);
        });
    }

    void transform_own(T* taps, T* u) const {
        for (idx group = 0; group < f.groups; group++)
            for (idx panel = 0; panel < layout.panels.count; panel++)
                for (idx tap = 0; tap < f.depth_taps; tap++) {
                    const int width = layout.panels.width(panel);
                    transform_filters<T, TAPS>(f, layout.panels, group, panel, tap, 0, f.depth, taps,
                                               u + layout.offset(group, panel) + tap * f.depth * width * LANES<T>,
                                               layout.product(width));
                }
    }

    idx panels_scratch(idx block) const {
        return WinogradScratch<T>::bytes(TAPS, block, 0, ready ? 0 : PRODUCTS * odd_lines<T>(WINOGRAD_DEPTH * NR<T>));
    }

    void by_panels(idx block) {
        const auto v = TransformedTiles::of<T>(block, f.depth_taps, f.depth);
        Workspace shared(v.elements() * sizeof(T), 1), workspace(panels_scratch(block), threads);
        for (idx group = 0; group < f.groups; group++)
            for (idx first = 0; first < tiles; first += block) {
                const idx count = std::min(block, tiles - first);
                transform_block(v, (T*)shared.of(0), first, count, group, workspace);
                multiply_block(v, (const T*)shared.of(0), first, count, group, workspace);
            }
    }

    void transform_block(const TransformedTiles& v, T* to, idx first, idx count, idx group, Workspace& workspace) {
        constexpr int L = LANES<T>;
        const idx vectors = ceil_div<idx>(f.depth, L), pieces = ceil_div(count, WINOGRAD_SUB_BLOCK);
        parallel_for(f.depth_taps * vectors * pieces, threads, [&](idx job, int thread) {
            WinogradScratch<T> s(workspace.of(thread), TAPS, v.tiles, 0);
            const idx c = job % vectors * L, tap = job / vectors % f.depth_taps;
            const idx tile = job / vectors / f.depth_taps * WINOGRAD_SUB_BLOCK;
            tile_runs(p.grid, first + tile, std::min(WINOGRAD_SUB_BLOCK, count - tile), INPUT_RUN, s.runs);
            transform_tiles(p.grid, s.runs, p.source, tap, group * f.depth + c, std::min<idx>(L, f.depth - c), s.slab,
                            to + tile * v.row + tap * v.tap + c, v.stride, v.row);
        });
    }

    // A job is a panel and, where the panels are too few for the threads, a part of the tiles.
    void multiply_block(const TransformedTiles& v, const T* from, idx first, idx count, idx group, Workspace& workspace) {
        const idx panels = layout.panels.count, units = ceil_div<idx>(count, MR);
        const idx parts = panels >= 2 * threads || panels % threads == 0 ? 1 : std::min(units, ceil_div<idx>(2 * threads, panels));
        parallel_for(panels * parts, threads, [&](idx job, int thread) {
            WinogradScratch<T> s(workspace.of(thread), TAPS, v.tiles, 0);
            const idx panel = job / parts, begin = units * (job % parts) / parts * MR;
            const idx end = std::min(count, units * (job % parts + 1) / parts * MR);
            const T* tiles_at = from + begin * v.row;
            if (ready)
                multiply(v, tiles_at, first + begin, end - begin, group, panel, ready + layout.offset(group, panel), s);
            else
                multiply_chunks(v, tiles_at, first + begin, end - begin, group, panel, s);
        });
    }

    // Tiles [first, first + count), transformed at `from`, by one panel at u, and transformed back.
    void multiply(const TransformedTiles& v, const T* from, idx first, idx count, idx group, idx panel, const T* u,
                  WinogradScratch<T>& s) {
        const int width = layout.panels.width(panel);
        const idx ld = width * LANES<T>, stride = layout.product(width);
        for (idx tile = 0; tile < count; tile += WINOGRAD_SUB_BLOCK) {
            const idx block = std::min(WINOGRAD_SUB_BLOCK, count - tile), sums = odd_lines<T>(block * ld);
            for (int product = 0; product < PRODUCTS; product++)
                multiply_depth(block, {from + product * v.stride + tile * v.row, v.row, 1}, v.tap, u + product * stride, width,
                               s.sums + product * sums);
            finish_tiles(first + tile, block, sums, group, panel, s);
        }
    }

    // Channels without gaps between the taps of the depth are summed in one go.
    void multiply_depth(idx rows, Factor<T> a, idx tap, const T* u, int width, T* sums) {
        const idx ld = width * LANES<T>, taps = tap == f.depth ? 1 : f.depth_taps, length = f.depth_taps * f.depth / taps;
        for (idx t = 0; t < taps; t++)
            for (idx d = 0; d < length; d += WINOGRAD_KC)
                multiply_panel<T>(rows, {a.at + t * tap + d, a.row, 1}, u + (t * length + d) * ld,
                                  std::min(WINOGRAD_KC, length - d), width, sums, ld, t + d > 0);
    }

    // The same as multiply, with filters that are transformed here.
    void multiply_chunks(const TransformedTiles& v, const T* from, idx first, idx count, idx group, idx panel,
                         WinogradScratch<T>& s) {
        const int width = layout.panels.width(panel);
        const idx ld = width * LANES<T>, sums = odd_lines<T>(count * ld), stride = odd_lines<T>(WINOGRAD_DEPTH * ld);
        for (idx tap = 0; tap < f.depth_taps; tap++)
            for (idx d = 0; d < f.depth; d += WINOGRAD_DEPTH) {
                const idx depths = std::min(WINOGRAD_DEPTH, f.depth - d);
                transform_filters<T, TAPS>(f, layout.panels, group, panel, tap, d, depths, s.taps, s.chunk, stride);
                for (int product = 0; product < PRODUCTS; product++)
                    multiply_panel<T>(count, {from + product * v.stride + tap * v.tap + d, v.row, 1},
                                      s.chunk + product * stride, depths, width, s.sums + product * sums, ld, tap + d > 0);
            }
        finish_tiles(first, count, sums, group, panel, s);
    }

    void finish_tiles(idx first, idx count, idx stride, idx group, idx panel, WinogradScratch<T>& s) {
        tile_runs(p.grid, first, count, OUTPUT_RUN, s.runs);
        const idx channel = group * f.columns + layout.panels.first(panel);
        store_tiles<T, 7 - TAPS>(p.grid, s.runs, s.sums, stride, layout.panels, panel, channel, p.bias, p.activation, p.dest,
                                 s.slab);
    }
};

}  // namespace fastconv

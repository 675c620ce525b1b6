// Winograd forward and input gradient: transform tiles, 36 small GEMMs, transform back (Lavin, Gray 2015).
//
//   per product: (tiles, depth) @ (depth, columns) -> (tiles, columns)
//
// A job is a block of tiles and some column panels. Filters are transformed as they are needed, a chunk of depth for
// a panel at a time: 36 x tiles products share each one, so that costs less than reading a transformed copy back.
#pragma once
#include "epilogue.hpp"
#include "filters.hpp"
#include "parallel.hpp"
#include "winograd_tiles.hpp"

namespace fastconv {

constexpr idx WINOGRAD_DEPTH = 64;                 // a 36 x 64 x NR chunk of filters: 432 KB, in L2
constexpr idx WINOGRAD_TILES_BYTES = 5 << 19;      // 2.5 MB of transformed tiles at the most
constexpr idx WINOGRAD_TILES_L2 = 1 << 20;         // more than 48 tiles only while they stay in L2

template <class T> struct WinogradConv {
    TileGrid grid;
    idx groups, depth, columns;  // per group
    Image<const T> source;
    Image<T> dest;
    Filters<T> filters;
    bool flipped;  // the input gradient meets the taps in reverse
    const T* bias;
    Activation activation;
};

template <class T> struct WinogradScratch {
    T *slab, *tiles, *taps, *filters, *products;
    std::vector<TileRun> runs;
    static idx bytes(idx block, idx row, idx taps) {
        return padded_bytes<T>(slab_elements<T>(block)) + padded_bytes<T>(PRODUCTS * block * row) +
               padded_bytes<T>(taps * WINOGRAD_DEPTH * NR<T>) + padded_bytes<T>(PRODUCTS * WINOGRAD_DEPTH * NR<T>) +
               padded_bytes<T>(PRODUCTS * block * NR<T>);
    }
    WinogradScratch(char* memory, idx block, idx row, idx tap_count) {
        Arena arena(memory);
        slab = arena.take<T>(slab_elements<T>(block));
        tiles = arena.take<T>(PRODUCTS * block * row);
        taps = arena.take<T>(tap_count * WINOGRAD_DEPTH * NR<T>);
        filters = arena.take<T>(PRODUCTS * WINOGRAD_DEPTH * NR<T>);
        products = arena.take<T>(PRODUCTS * block * NR<T>);
    }
};

// Depths [first, first + depths) of a column panel -> filters[(product * depths + d) * ld + column].
template <class T, int TAPS>
void transform_filters(const WinogradConv<T>& p, idx group, idx first, idx depths, idx column, idx columns, int width,
                       T* taps, T* filters) {
    constexpr int L = LANES<T>;
    const idx ld = width * L, step = p.flipped ? -ld : ld;
    pack_filter_taps(p.filters, TAPS * TAPS, group, first, depths, column, columns, taps, ld);
    for (idx d = 0; d < depths; d++)
        for (int j = 0; j < width; j++) {
            const T* from = taps + (d * TAPS * TAPS + (p.flipped ? TAPS * TAPS - 1 : 0)) * ld + j * L;
            filter_transform_2d<T, TAPS>(from, TAPS * step, step, filters + d * ld + j * L, depths * ld);
        }
}

// products[(product * block + tile) * ld + column] (+)= tiles @ filters
template <class T>
void multiply_tiles(const T* tiles, idx count, idx block, idx row, const T* filters, idx depths, int width, T* products,
                    bool add) {
    const idx ld = width * LANES<T>;
    const Segment segment{depths, 0, 0};
    for (int product = 0; product < PRODUCTS; product++)
        for (idx t = 0; t < count; t += MR) {
            const int m = (int)std::min<idx>(MR, count - t);
            const T* rows[MR];
            T* out[MR];
            for (int i = 0; i < m; i++) {
                rows[i] = tiles + (product * block + t + i) * row;
                out[i] = products + (product * block + t + i) * ld;
            }
            tile_of<T>(m, width)(&segment, 1, Rows<T>{rows, 0, 1}, filters + product * depths * ld, ld, out, add);
        }
}

template <class T, int OUT>
void finish_tiles(const WinogradConv<T>& p, const WinogradScratch<T>& s, idx block, idx channel, idx filled, int width) {
    constexpr int L = LANES<T>;
    for (int j = 0; j < width; j++) {
        const idx lanes = std::min<idx>(L, filled - j * L);
        const Vec<T> bias = p.bias ? load_part(p.bias + channel + j * L, lanes) : Vec<T>{};
        for (const TileRun& run : s.runs) {
            const Window window = output_window(p.grid, run, channel + j * L, lanes);
            const idx row = window.columns * L;
            for (idx t = 0; t < run.count; t++)
                output_transform_2d<T, OUT>(s.products + (run.at + t) * width * L + j * L, block * width * L,
                                            s.slab + OUT * t * L, row, L, bias);
            if (p.activation != LINEAR) finish_row(s.slab, OUT * row, T(0), p.activation);
            store_slab(p.dest, window, s.slab);
        }
    }
}

template <class T, int TAPS>
void run_winograd_job(const WinogradConv<T>& p, idx group, idx first, idx count, idx panel, idx panel_end,
                      const Panels<T>& panels, idx block, idx row, WinogradScratch<T>& s) {
    tile_runs(p.grid, first, count, s.runs);
    transform_tiles(p.grid, s.runs, p.source, group * p.depth, p.depth, s.slab, s.tiles, block, row);
    for (; panel < panel_end; panel++) {
        const int width = panels.width(panel);
        const idx column = panels.first(panel), filled = panels.filled(panel);
        for (idx d = 0; d < p.depth; d += WINOGRAD_DEPTH) {
            const idx depths = std::min(WINOGRAD_DEPTH, p.depth - d);
            transform_filters<T, TAPS>(p, group, d, depths, column, filled, width, s.taps, s.filters);
            multiply_tiles(s.tiles + d, count, block, row, s.filters, depths, width, s.products, d > 0);
        }
        finish_tiles<T, 7 - TAPS>(p, s, block, group * p.columns + column, filled, width);
    }
}

template <class T, int TAPS> void winograd_conv(const WinogradConv<T>& p, double flops, int threads) {
    const Panels<T> panels(p.columns);
    const idx tiles = p.grid.tiles(), row = padded_row<T>(p.depth), wanted = 3 * threads;
    const idx tile_bytes = PRODUCTS * row * sizeof(T);
    idx block = std::min<idx>(96, std::max<idx>(48, WINOGRAD_TILES_L2 / tile_bytes));
    block = std::min(block, std::max<idx>(MR, WINOGRAD_TILES_BYTES / tile_bytes));
    while (block > 24 && p.groups * ceil_div(tiles, block) * panels.count < wanted) block /= 2;
    block = std::min(block / MR * MR, ceil_div<idx>(tiles, MR) * MR);
    const idx blocks = ceil_div(tiles, block), outer = p.groups * blocks;
    const idx parts = outer >= wanted ? 1 : std::min(panels.count, ceil_div(wanted, outer));
    threads = useful_threads(threads, outer * parts, flops);
    Workspace workspace(WinogradScratch<T>::bytes(block, row, TAPS * TAPS), threads);
    parallel_for(outer * parts, threads, [&](idx job, int thread) {
        WinogradScratch<T> scratch(workspace.of(thread), block, row, TAPS * TAPS);
        const idx part = job % parts, first = job / parts % blocks * block, group = job / parts / blocks;
        run_winograd_job<T, TAPS>(p, group, first, std::min(block, tiles - first), panels.count * part / parts,
                                  panels.count * (part + 1) / parts, panels, block, row, scratch);
    });
}

}  // namespace fastconv

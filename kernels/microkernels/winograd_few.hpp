// Winograd for a few tiles, as one image of 7x7 has: transformed filters meet the tiles in registers.
//
// With few tiles the transform of the filters is most of the work, and most of that is writing 36 results for 9 taps.
// Here the products of one row of the 6 x 6 points are summed at a time: 6 vectors of filters, made again for each row
// from the packed taps (180 operations instead of 99), by M tiles, 6 M sums in registers.
#pragma once
#include "parallel.hpp"
#include "winograd_filters.hpp"
#include "winograd_output.hpp"

namespace fastconv {

#if defined(__AVX512F__)
constexpr int FEW_TILES = 4;  // 24 sums in 32 registers
#else
constexpr int FEW_TILES = 1;
#endif

template <class T> bool few_tiles(const TileGrid& grid, const WinogradFilters<T>& f) {
    return f.depth_taps == 1 && grid.tiles() <= FEW_TILES;
}

// Row I of the products of M tiles and a vector of filters: sums[(product * M + tile) * ld] (+)= over `depths`, with taps
// (h, w) at taps + d * TAPS * TAPS * ld + h * row + w * column, and tiles at v[(d * 6 + column) * M + tile].
template <class T, int TAPS, int M, int I>
void few_row(const T* taps, idx row, idx column, const T* v, idx depths, T* sums, idx ld, bool add) {
    Vec<T> acc[POINTS][M];
    FASTCONV_UNROLL
    for (int j = 0; j < POINTS; j++)
        FASTCONV_UNROLL
        for (int t = 0; t < M; t++) acc[j][t] = add ? load(sums + ((I * POINTS + j) * M + t) * ld) : Vec<T>{};
    for (idx d = 0; d < depths; d++, taps += TAPS * TAPS * ld, v += POINTS * M) {
        Vec<T> z[TAPS], u[POINTS];
        FASTCONV_UNROLL
        for (int w = 0; w < TAPS; w++) {
            Vec<T> g[TAPS], all[POINTS];
            FASTCONV_UNROLL
            for (int h = 0; h < TAPS; h++) g[h] = load(taps + h * row + w * column);
            filter_transform<T, TAPS>(g, all);
            z[w] = all[I];
        }
        filter_transform<T, TAPS>(z, u);
        FASTCONV_UNROLL
        for (int j = 0; j < POINTS; j++)
            FASTCONV_UNROLL
            for (int t = 0; t < M; t++) acc[j][t] += broadcast(v[j * M + t]) * u[j];
    }
    FASTCONV_UNROLL
    for (int j = 0; j < POINTS; j++)
        FASTCONV_UNROLL
        for (int t = 0; t < M; t++) store(sums + ((I * POINTS + j) * M + t) * ld, acc[j][t]);
}

// `source`, `dest`, bias and activation as in WinogradConv; the tiles are M, filters of one tap along the depth.
template <class T, int TAPS, int M, class Conv> class WinogradFew {
public:
    WinogradFew(const Conv& p, int threads) : p(p), f(p.filters), panels(f.columns), threads(threads) {}

    void run() {
        Workspace shared(PRODUCTS * M * f.depth * sizeof(T), 1), workspace(scratch(), threads);
        for (idx group = 0; group < f.groups; group++) {
            parallel_for(ceil_div<idx>(f.depth, L), threads,
                         [&](idx job, int thread) { transform(group, job * L, workspace.of(thread), (T*)shared.of(0)); });
            parallel_for(panels.count, threads,
                         [&](idx job, int thread) { multiply(group, job, workspace.of(thread), (const T*)shared.of(0)); });
        }
    }

private:
    static constexpr int L = LANES<T>, TT = TAPS * TAPS;
    const Conv& p;
    const WinogradFilters<T>& f;
    const Panels<T> panels;
    int threads;

    static idx scratch() {
        return padded_bytes<T>(slab_elements<T>(OUTPUT_RUN)) + padded_bytes<T>(PRODUCTS * M * NR<T>) +
               padded_bytes<T>(taps_elements<T>(TAPS));
    }

    // A vector of channels of the tiles, transformed: v[(row of products * depth + channel) * 6 M + column * M + tile].
    void transform(idx group, idx c, char* memory, T* v) {
        Arena arena(memory);
        T *slab = arena.take<T>(slab_elements<T>(OUTPUT_RUN)), *products = arena.take<T>(PRODUCTS * M * L);
        const idx channels = std::min<idx>(L, f.depth - c);
        std::vector<TileRun> runs;
        tile_runs(p.grid, 0, M, INPUT_RUN, runs);
        transform_tiles(p.grid, runs, p.source, 0, group * f.depth + c, channels, slab, products, M * L, L);
        for (int i = 0; i < POINTS; i++)
            transpose(products + i * POINTS * M * L, L, POINTS * M, channels, v + (i * f.depth + c) * POINTS * M, POINTS * M);
    }

    void multiply(idx group, idx panel, char* memory, const T* v) {
        Arena arena(memory);
        T *slab = arena.take<T>(slab_elements<T>(OUTPUT_RUN)), *sums = arena.take<T>(PRODUCTS * M * NR<T>);
        T* taps = arena.take<T>(taps_elements<T>(TAPS));
        const idx ld = panels.width(panel) * L, last = f.flipped ? (TT - 1) * ld : 0;
        for (idx d = 0; d < f.depth; d += FILTER_CHUNK) {
            const idx depths = std::min(FILTER_CHUNK, f.depth - d);
            pack_filter_taps(f.at, TT, group, d, depths, panels.first(panel), panels.filled(panel), taps, ld);
            for (idx j = 0; j < ld; j += L)
                rows(std::make_integer_sequence<int, POINTS>(), taps + last + j, v + d * POINTS * M, depths, sums + j, ld, d > 0);
        }
        std::vector<TileRun> runs;
        tile_runs(p.grid, 0, M, OUTPUT_RUN, runs);
        store_tiles<T, 7 - TAPS>(p.grid, runs, sums, M * ld, panels, panel, group * f.columns + panels.first(panel), p.bias,
                                 p.activation, p.dest, slab);
    }

    template <int... I>
    void rows(std::integer_sequence<int, I...>, const T* taps, const T* v, idx depths, T* sums, idx ld, bool add) {
        const idx step = f.flipped ? -ld : ld;
        (few_row<T, TAPS, M, I>(taps, TAPS * step, step, v + I * f.depth * POINTS * M, depths, sums, ld, add), ...);
    }
};

}  // namespace fastconv

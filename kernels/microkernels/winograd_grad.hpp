// Winograd filter gradient: the outputs are the filter's taps, the "filter" is a tile of dy.
//
//   per product: (channels, tiles) @ (tiles, columns) -> (channels, columns), transformed back once at the end
//
// A job owns a chunk of channels and a column panel, so that its 36 sums stay in L2 while all tiles pass by.
#pragma once
#include "parallel.hpp"
#include "winograd_tiles.hpp"

namespace fastconv {

constexpr idx GRAD_CHANNELS = 64;  // sums of a job: 36 x 64 x NR x 4 bytes = 432 KB
constexpr idx GRAD_TILES = 32;     // depth of a GEMM: 36 x 32 x (64 + 48) x 4 bytes = 516 KB of tiles beside them

template <class T> struct WinogradGrad {
    const Geometry* g;
    TileGrid grid;
    Image<const T> x, dy;
    T* dw;
};

template <class T> struct WinogradGradScratch {
    T *slab, *x_tiles, *dy_tiles, *sums, *taps;
    std::vector<TileRun> runs;
    static constexpr idx ROW = (GRAD_CHANNELS + LANES<T>);
    static constexpr idx SUMS = PRODUCTS * GRAD_CHANNELS * NR<T>;
    static idx bytes(idx taps) {
        return padded_bytes<T>(slab_elements<T>(GRAD_TILES)) + padded_bytes<T>(PRODUCTS * GRAD_TILES * ROW) +
               padded_bytes<T>(PRODUCTS * GRAD_TILES * NR<T>) + padded_bytes<T>(SUMS) +
               padded_bytes<T>(taps * GRAD_CHANNELS * NR<T>);
    }
    WinogradGradScratch(char* memory, idx tap_count) {
        Arena arena(memory);
        slab = arena.take<T>(slab_elements<T>(GRAD_TILES));
        x_tiles = arena.take<T>(PRODUCTS * GRAD_TILES * ROW);
        dy_tiles = arena.take<T>(PRODUCTS * GRAD_TILES * NR<T>);
        sums = arena.take<T>(SUMS);
        taps = arena.take<T>(tap_count * GRAD_CHANNELS * NR<T>);
    }
};

// Channels [c, c + channels) of x and one panel of dy, whose part of the gradient a job sums.
template <class T> struct GradPart {
    idx c, channels, k, filled;
    int width;
};

template <class T, int OUT>
void transform_dy(const WinogradGrad<T>& p, const GradPart<T>& part, WinogradGradScratch<T>& s) {
    constexpr int L = LANES<T>;
    const idx ld = part.width * L;
    for (int j = 0; j < part.width; j++)
        for (const TileRun& run : s.runs) {
            const Window window = output_window(p.grid, run, part.k + j * L, std::min<idx>(L, part.filled - j * L));
            load_slab(p.dy, window, s.slab);
            for (idx t = 0; t < run.count; t++)
                filter_transform_2d<T, OUT>(s.slab + OUT * t * L, window.columns * L, L,
                                            s.dy_tiles + (run.at + t) * ld + j * L, GRAD_TILES * ld);
        }
}

// sums[(product * channels + c) * ld + column] += x_tiles^T @ dy_tiles
template <class T> void add_products(const GradPart<T>& part, idx count, const WinogradGradScratch<T>& s, T* sums) {
    const idx ld = part.width * LANES<T>, row = WinogradGradScratch<T>::ROW;
    const Segment segment{count, 0, 0};
    for (int product = 0; product < PRODUCTS; product++)
        for (idx c = 0; c < part.channels; c += MR) {
            const int m = (int)std::min<idx>(MR, part.channels - c);
            const T* rows[MR];
            T* out[MR];
            for (int i = 0; i < m; i++) {
                rows[i] = s.x_tiles + product * GRAD_TILES * row + c + i;
                out[i] = sums + (product * part.channels + c + i) * ld;
            }
            tile_of<T>(m, part.width)(&segment, 1, Rows<T>{rows, 0, row}, s.dy_tiles + product * GRAD_TILES * ld, ld,
                                      out, true);
        }
}

template <class T, int TAPS>
void add_tiles(const WinogradGrad<T>& p, const GradPart<T>& part, idx first, idx last, WinogradGradScratch<T>& s, T* sums) {
    for (; first < last; first += GRAD_TILES) {
        const idx count = std::min(GRAD_TILES, last - first);
        tile_runs(p.grid, first, count, s.runs);
        transform_tiles(p.grid, s.runs, p.x, part.c, part.channels, s.slab, s.x_tiles,
                        GRAD_TILES * WinogradGradScratch<T>::ROW, WinogradGradScratch<T>::ROW);
        transform_dy<T, 7 - TAPS>(p, part, s);
        add_products(part, count, s, sums);
    }
}

// The sums back to taps, into dw in the filters' layout.
template <class T, int TAPS>
void finish_grad(const WinogradGrad<T>& p, const GradPart<T>& part, const T* sums, T* taps) {
    constexpr int L = LANES<T>, TT = TAPS * TAPS;
    const idx ld = part.width * L, cg = p.g->c_group(), c0 = part.c % cg;
    for (idx c = 0; c < part.channels; c++)
        for (int j = 0; j < part.width; j++)
            output_transform_2d<T, TAPS>(sums + c * ld + j * L, part.channels * ld, taps + c * TT * ld + j * L, TAPS * ld,
                                         ld, Vec<T>{});
    if (p.g->channels_last)
        for (idx c = 0; c < part.channels; c++)
            for (idx tap = 0; tap < TT; tap++)
                copy_run(p.dw + (tap * cg + c0 + c) * p.g->k + part.k, taps + (c * TT + tap) * ld, part.filled);
    else
        transpose(taps, ld, part.channels * TT, part.filled, p.dw + (part.k * cg + c0) * TT, cg * TT);
}

template <class T, int TAPS> void winograd_grad(const WinogradGrad<T>& p, int threads) {
    const Geometry& g = *p.g;
    const Panels<T> panels(g.k_group());
    std::vector<GradPart<T>> parts;
    for (idx group = 0; group < g.groups; group++)
        for (idx c = 0; c < g.c_group(); c += GRAD_CHANNELS)
            for (idx panel = 0; panel < panels.count; panel++)
                parts.push_back({group * g.c_group() + c, std::min(GRAD_CHANNELS, g.c_group() - c),
                                 group * g.k_group() + panels.first(panel), panels.filled(panel), panels.width(panel)});
    // few outputs: several jobs share one, each summing some of the tiles
    const idx tiles = p.grid.tiles(), outputs = (idx)parts.size();
    threads = useful_threads(threads, outputs * tiles, 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels());
    const idx shares = outputs >= 3 * threads ? 1 : std::min(ceil_div<idx>(3 * threads, outputs), ceil_div(tiles, GRAD_TILES));
    const idx size = WinogradGradScratch<T>::SUMS, scratch_bytes = WinogradGradScratch<T>::bytes(TAPS * TAPS);
    Workspace workspace(scratch_bytes, threads), shared(shares > 1 ? outputs * shares * size * sizeof(T) : 0, 1);
    parallel_for(outputs * shares, threads, [&](idx job, int thread) {
        WinogradGradScratch<T> s(workspace.of(thread), TAPS * TAPS);
        const idx share = job % shares;
        T* sums = shares > 1 ? (T*)shared.of(0) + job * size : s.sums;
        std::fill(sums, sums + size, T(0));
        add_tiles<T, TAPS>(p, parts[job / shares], tiles * share / shares, tiles * (share + 1) / shares, s, sums);
        if (shares == 1) finish_grad<T, TAPS>(p, parts[job], sums, s.taps);
    });
    if (shares == 1) return;
    parallel_for(outputs, threads, [&](idx output, int thread) {
        WinogradGradScratch<T> s(workspace.of(thread), TAPS * TAPS);
        T* sums = (T*)shared.of(0) + output * shares * size;
        for (idx share = 1; share < shares; share++)
            for (idx i = 0; i < size; i++) sums[i] += sums[share * size + i];
        finish_grad<T, TAPS>(p, parts[output], sums, s.taps);
    });
}

}  // namespace fastconv

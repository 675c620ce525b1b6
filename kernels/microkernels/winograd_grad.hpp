// Winograd filter gradient: the outputs are the filter's taps, the "filter" is a tile of dy.
//
//   per product: (channels, tiles) @ (tiles, columns) -> (channels, columns), transformed back once at the end
//
// Two ways to share the work. Where the sums of all channels and columns are small, each thread keeps its own and
// adds the tiles of its share. Where they are large, all threads transform as many tiles as the workspace takes,
// then each part of the sums, a chunk of channels by a panel of columns, meets them.
#pragma once
#include "parallel.hpp"
#include "winograd_products.hpp"
#include "winograd_tiles.hpp"

namespace fastconv {

constexpr idx GRAD_CHANNELS = 64;          // sums of a part: 36 x 64 x NR x 4 bytes = 442 KB, in L2
constexpr idx GRAD_OWN_SUMS = 5 << 18;     // 1.25 MB of sums a thread keeps for itself
constexpr idx GRAD_OWN_TILES = 32;         // meets them at a time: 36 x 32 x (64 + 64) x 4 bytes = 590 KB
constexpr idx GRAD_TILES_BYTES = 3 << 20;  // of transformed tiles a thread where all share them
constexpr idx GRAD_SUMS_BYTES = 12 << 20;  // of sums that meet several such blocks: they stay in L3

template <class T> struct WinogradGrad {
    const Geometry* g;
    TileGrid grid;
    Image<const T> x, dy;
    T* dw;
    idx tap;  // of the depth: each has sums of its own
};

// Channels of x and columns of dy whose products are summed together.
struct GradChunk {
    idx c, channels, k, columns;
};

// One part of a chunk's sums: some channels and one panel, the n-th, of dy.
struct GradPart {
    idx c, channels, k, filled, panel;
    int width;
};

template <class T> std::vector<GradPart> parts_of(const GradChunk& chunk) {
    const Panels<T> panels(chunk.columns);
    std::vector<GradPart> parts;
    for (idx panel = 0; panel < panels.count; panel++)
        for (idx c = 0; c < chunk.channels; c += GRAD_CHANNELS)
            parts.push_back({chunk.c + c, std::min(GRAD_CHANNELS, chunk.channels - c), chunk.k + panels.first(panel),
                             panels.filled(panel), panel, panels.width(panel)});
    return parts;
}

// Sums of a part: sums[product * GRAD_STRIDE + channel * ld + column].
template <class T> constexpr idx GRAD_STRIDE = odd_lines<T>(GRAD_CHANNELS* NR<T>);
template <class T> constexpr idx GRAD_SUMS = PRODUCTS * GRAD_STRIDE<T>;

// Where transformed tiles lie: x[product * x_stride + tile * row + channel], and for each panel
// dy[product * dy_stride + tile * ld + column].
template <class T> struct GradTiles {
    GradChunk chunk;
    idx tiles, row, x_stride, dy_stride, panels;
    T *x, *dy;
    GradTiles(const GradChunk& chunk, idx tiles)
        : chunk(chunk), tiles(tiles), row(padded_row<T>(chunk.channels)), x_stride(odd_lines<T>(tiles * row)),
          dy_stride(odd_lines<T>(tiles * NR<T>)), panels(Panels<T>(chunk.columns).count), x(nullptr), dy(nullptr) {}
    idx elements() const { return PRODUCTS * (x_stride + panels * dy_stride); }
    void lie_at(T* memory) { x = memory, dy = memory + PRODUCTS * x_stride; }
    T* panel(idx n) const { return dy + n * PRODUCTS * dy_stride; }
};

template <class T> struct WinogradGradScratch {
    T *slab, *taps, *own;
    std::vector<TileRun> runs;
    WinogradGradScratch(char* memory, idx tap_count) {
        Arena arena(memory);
        slab = arena.take<T>(slab_elements<T>(OUTPUT_RUN));
        taps = arena.take<T>(tap_count * GRAD_CHANNELS * NR<T>);
        own = arena.take<T>(0);
    }
    static idx bytes(idx tap_count, idx own) {
        return padded_bytes<T>(slab_elements<T>(OUTPUT_RUN)) + padded_bytes<T>(tap_count * GRAD_CHANNELS * NR<T>) +
               padded_bytes<T>(own);
    }
};

// Columns [column, column + filled) of a panel of dy, transformed: to[product * stride + tile * ld].
template <class T, int OUT>
void transform_dy(const TileGrid& grid, const std::vector<TileRun>& runs, const Image<const T>& dy, idx column, idx filled,
                  int width, T* slab, T* to, idx stride) {
    constexpr int L = LANES<T>;
    const idx ld = width * L;
    const auto window_of = [&](const TileRun& run, int j) {
        return output_window(grid, run, column + j * L, std::min<idx>(L, filled - j * L));
    };
    for (size_t n = 0; n < runs.size(); n++)
        for (int j = 0; j < width; j++) {
            const TileRun& run = runs[n];
            const Window window = window_of(run, j);
            const Window next = j + 1 < width ? window_of(run, j + 1) : window_of(runs[std::min(n + 1, runs.size() - 1)], 0);
            const PrefetchWindow<const T> ahead(dy, next, run.count);
            load_slab(dy, window, slab);
            for (idx t = 0; t < run.count; t++) {
                ahead.part(t);
                filter_transform_2d<T, OUT>(slab + OUT * t * L, window.columns * L, L, to + (run.at + t) * ld + j * L, stride);
            }
        }
}

// sums (channels, columns) (+)= x_tiles^T (channels, tiles) @ dy_tiles (tiles, columns)
template <class T> void add_products(const GradTiles<T>& v, const GradPart& part, idx count, T* sums, bool add) {
    const idx ld = part.width * LANES<T>;
    for (int product = 0; product < PRODUCTS; product++)
        multiply_panel<T>(part.channels, {v.x + product * v.x_stride + part.c - v.chunk.c, 1, v.row},
                          v.panel(part.panel) + product * v.dy_stride, count, part.width, sums + product * GRAD_STRIDE<T>, ld,
                          add);
}

// The sums back to taps, into dw in the filters' layout.
template <class T, int TAPS>
void finish_grad(const WinogradGrad<T>& p, const GradPart& part, const T* sums, T* taps) {
    constexpr int L = LANES<T>, TT = TAPS * TAPS;
    const idx ld = part.width * L, cg = p.g->c_group(), c0 = part.c % cg;
    for (idx c = 0; c < part.channels; c++)
        for (int j = 0; j < part.width; j++)
            output_transform_2d<T, TAPS>(sums + c * ld + j * L, GRAD_STRIDE<T>, taps + c * TT * ld + j * L, TAPS * ld, ld,
                                         Vec<T>{});
    const idx depth_taps = p.g->window[0];
    if (p.g->channels_last)
        for (idx c = 0; c < part.channels; c++)
            for (idx tap = 0; tap < TT; tap++)
                copy_run(p.dw + ((p.tap * TT + tap) * cg + c0 + c) * p.g->k + part.k, taps + (c * TT + tap) * ld, part.filled);
    else if (depth_taps == 1)
        transpose(taps, ld, part.channels * TT, part.filled, p.dw + (part.k * cg + c0) * TT, cg * TT);
    else
        for (idx c = 0; c < part.channels; c++)
            transpose(taps + c * TT * ld, ld, TT, part.filled, p.dw + ((part.k * cg + c0 + c) * depth_taps + p.tap) * TT,
                      cg * depth_taps * TT);
}

template <class T, int TAPS> class WinogradGradRun {
public:
    // flops: of the direct sum
    WinogradGradRun(const WinogradGrad<T>& p, double flops, int threads)
        : p(p), g(*p.g), cg(g.c_group()), kg(g.k_group()), tiles(p.grid.tiles()),
          threads(useful_threads(threads, tiles * g.k, flops)), shares(ceil_div<idx>(this->threads, g.groups)) {}

    void run() {
        if (few_sums()) return by_shares();
        GradChunk chunk = whole_or_less();
        for (idx group = 0; group < g.groups; group++)
            for (idx c = 0; c < cg; c += chunk.channels)
                for (idx k = 0; k < kg; k += chunk.columns)
                    by_parts({group * cg + c, std::min(chunk.channels, cg - c), group * kg + k, std::min(chunk.columns, kg - k)});
    }

private:
    static constexpr int OUT = 7 - TAPS;
    const WinogradGrad<T>& p;
    const Geometry& g;
    idx cg, kg, tiles;
    int threads;
    idx shares;  // of the tiles of a group, one a thread

    idx all_sums() const { return parts_of<T>({0, cg, 0, kg}).size() * GRAD_SUMS<T>; }
    bool few_sums() const {
        return all_sums() * (idx)sizeof(T) <= GRAD_OWN_SUMS && tiles >= GRAD_OWN_TILES * shares;
    }

    void by_shares() {
        const idx size = all_sums(), parts_count = size / GRAD_SUMS<T>;
        const idx own = GradTiles<T>({0, cg, 0, kg}, GRAD_OWN_TILES).elements();
        Workspace sums(size * sizeof(T), g.groups * shares);
        Workspace workspace(WinogradGradScratch<T>::bytes(TAPS * TAPS, own), threads);
        parallel_for(g.groups * shares, threads, [&](idx job, int thread) {
            const idx share = job % shares, group = job / shares;
            WinogradGradScratch<T> s(workspace.of(thread), TAPS * TAPS);
            GradTiles<T> v({group * cg, cg, group * kg, kg}, GRAD_OWN_TILES);
            v.lie_at(s.own);
            add_tiles(v, tiles * share / shares, tiles * (share + 1) / shares, s, (T*)sums.of(job));
        });
        parallel_for(g.groups * parts_count, threads, [&](idx job, int thread) {
            const idx group = job / parts_count, n = job % parts_count;
            WinogradGradScratch<T> s(workspace.of(thread), TAPS * TAPS);
            T* to = (T*)sums.of(group * shares) + n * GRAD_SUMS<T>;
            for (idx share = 1; share < shares; share++) {
                const T* from = (const T*)sums.of(group * shares + share) + n * GRAD_SUMS<T>;
                for (idx i = 0; i < GRAD_SUMS<T>; i++) to[i] += from[i];
            }
            finish_grad<T, TAPS>(p, parts_of<T>({group * cg, cg, group * kg, kg})[n], to, s.taps);
        });
    }

    // One thread's sums of all parts, from tiles [first, last).
    void add_tiles(const GradTiles<T>& v, idx first, idx last, WinogradGradScratch<T>& s, T* sums) {
        const auto parts = parts_of<T>(v.chunk);
        for (idx at = first; at < last; at += v.tiles) {
            const idx count = std::min(v.tiles, last - at);
            tile_runs(p.grid, at, count, INPUT_RUN, s.runs);
            transform_tiles(p.grid, s.runs, p.x, p.tap, v.chunk.c, v.chunk.channels, s.slab, v.x, v.x_stride, v.row);
            for (const GradPart& part : parts)
                if (part.c == v.chunk.c)
                    transform_dy<T, OUT>(p.grid, s.runs, p.dy, part.k, part.filled, part.width, s.slab, v.panel(part.panel),
                                         v.dy_stride);
            for (size_t n = 0; n < parts.size(); n++)
                add_products(v, parts[n], count, sums + n * GRAD_SUMS<T>, at > first);
        }
    }

    // Tiles of a chunk that the threads' workspaces take.
    idx shared_tiles(const GradChunk& chunk) const {
        const idx bytes = PRODUCTS * (padded_row<T>(chunk.channels) + Panels<T>(chunk.columns).count * NR<T>) * sizeof(T);
        return std::min(tiles, threads * GRAD_TILES_BYTES / bytes);
    }

    // All channels and columns where all their tiles fit; else so few that a block of tiles is worth the loads and
    // stores of the sums, and that these stay in L3.
    GradChunk whole_or_less() const {
        GradChunk chunk{0, cg, 0, kg};
        for (;;) {
            const idx block = shared_tiles(chunk), sums = PRODUCTS * chunk.channels * chunk.columns * sizeof(T);
            if (block == tiles || (block >= GRAD_OWN_TILES && sums <= GRAD_SUMS_BYTES)) return chunk;
            idx& longer = chunk.channels > chunk.columns ? chunk.channels : chunk.columns;
            if (longer <= GRAD_CHANNELS) return chunk;
            longer = ceil_div<idx>(ceil_div<idx>(longer, 2), NR<T>) * NR<T>;
        }
    }

    void by_parts(const GradChunk& chunk) {
        const auto parts = parts_of<T>(chunk);
        const idx block = std::max<idx>(1, shared_tiles(chunk));
        GradTiles<T> v(chunk, block);
        Workspace memory(v.elements() * sizeof(T), 1);
        Workspace sums(GRAD_SUMS<T> * sizeof(T), block < tiles ? (int)parts.size() : threads);
        Workspace workspace(WinogradGradScratch<T>::bytes(TAPS * TAPS, 0), threads);
        v.lie_at((T*)memory.of(0));
        for (idx first = 0; first < tiles; first += block) {
            const idx count = std::min(block, tiles - first);
            transform_block(v, first, count, workspace);
            parallel_for(parts.size(), threads, [&](idx n, int thread) {
                T* to = (T*)sums.of(block < tiles ? (int)n : thread);
                add_products(v, parts[n], count, to, first > 0);
                if (first + count < tiles) return;
                finish_grad<T, TAPS>(p, parts[n], to, WinogradGradScratch<T>(workspace.of(thread), TAPS * TAPS).taps);
            });
        }
    }

    // A job is a vector of channels of x, or a panel of dy, for some of the tiles.
    void transform_block(const GradTiles<T>& v, idx first, idx count, Workspace& workspace) {
        constexpr int L = LANES<T>;
        const Panels<T> panels(v.chunk.columns);
        const idx vectors = ceil_div<idx>(v.chunk.channels, L), pieces = ceil_div(count, GRAD_OWN_TILES);
        parallel_for((panels.count + vectors) * pieces, threads, [&](idx job, int thread) {
            WinogradGradScratch<T> s(workspace.of(thread), TAPS * TAPS);
            const idx tile = job % pieces * GRAD_OWN_TILES, n = job / pieces;
            tile_runs(p.grid, first + tile, std::min(GRAD_OWN_TILES, count - tile), INPUT_RUN, s.runs);
            if (n < panels.count) {
                const int width = panels.width(n);
                transform_dy<T, OUT>(p.grid, s.runs, p.dy, v.chunk.k + panels.first(n), panels.filled(n), width, s.slab,
                                     v.panel(n) + tile * width * L, v.dy_stride);
            } else {
                const idx c = (n - panels.count) * L;
                transform_tiles(p.grid, s.runs, p.x, p.tap, v.chunk.c + c, std::min<idx>(L, v.chunk.channels - c), s.slab,
                                v.x + tile * v.row + c, v.x_stride, v.row);
            }
        });
    }
};

}  // namespace fastconv

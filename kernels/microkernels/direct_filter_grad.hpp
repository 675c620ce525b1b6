// The direct filter gradient: dw[c tap, k] = sum over pixels of strip[pixel + displacement of (c, tap)] * dy[pixel, k].
//
// A thread owns some tiles of dw and adds to them block after block of pixels, so sums do not depend on timing.
#pragma once
#include "direct.hpp"
#include "transpose.hpp"

namespace fastconv {

template <class T> struct DirectFilterGrad {
    const Geometry& g;
    const Strip<T>& strip;
    Panels<T> panels;              // of filters
    std::vector<idx> from, to;     // of each (c, tap) that meets the input: its strip displacement, its place in dw
    idx filter;                    // elements of dw between filters
    const T *x, *dy;
    T *dw, *db;

    idx tiles_per_panel() const { return std::max<idx>(ceil_div<idx>(from.size(), MR), 1); }
    idx tiles() const { return g.groups * panels.count * tiles_per_panel(); }
    idx block_pixels() const { return strip.images * strip.rows * strip.columns; }
    idx panel_size() const { return block_pixels() * std::min<idx>(NR<T>, g.k_group() + LANES<T>); }
    idx block_rows() const { return strip.images * strip.rows; }
};

template <class T> struct FilterGradScratch {
    T *strip, *panel, *tile;
    Tap* rows;
    static idx bytes(const DirectFilterGrad<T>& p) {
        return padded_bytes<T>(p.strip.elements()) + padded_bytes<T>(p.panel_size()) + padded_bytes<T>(MR * NR<T>) +
               padded_bytes<Tap>(p.block_rows());
    }
    FilterGradScratch(const DirectFilterGrad<T>& p, char* memory) {
        Arena arena(memory);
        strip = arena.take<T>(p.strip.elements());
        panel = arena.take<T>(p.panel_size());
        tile = arena.take<T>(MR * NR<T>);
        rows = arena.take<Tap>(p.block_rows());
    }
};

// Gradients of `filled` filters from `k` on -> (pixels of the block, ld), and where each row of pixels lies.
template <class T>
void pack_gradients(const DirectFilterGrad<T>& p, const Block& b, idx k, idx filled, idx ld,
                    const FilterGradScratch<T>& s) {
    const Geometry& g = p.g;
    T* to = s.panel;
    Tap* tap = s.rows;
    for (idx image = 0; image < b.images; image++)
        for (idx row = 0; row < b.rows; row++, tap++, to += b.columns * ld) {
            *tap = {p.strip.position(image, row, 0), to - s.panel};
            const idx pixel = (b.depth * g.out[1] + b.row + row) * g.out[2] + b.column;
            const T* dy = p.dy + (b.image + image) * g.k * g.out_pixels();
            if (g.channels_last)
                for (idx j = 0; j < b.columns; j++) copy_run(to + j * ld, dy + (pixel + j) * g.k + k, filled);
            else
                transpose(dy + k * g.out_pixels() + pixel, g.out_pixels(), filled, b.columns, to, ld);
            if (filled < ld)
                for (idx j = 0; j < b.columns; j++) clear_run(to + j * ld + filled, ld - filled);
        }
}

template <class T> void add_bias_grad(const T* panel, idx pixels, idx ld, idx filled, T* db) {
    T sum[NR<T>] = {};
    for (idx q = 0; q < pixels; q++)
        for (idx j = 0; j < ld; j++) sum[j] += panel[q * ld + j];
    for (idx j = 0; j < filled; j++) db[j] += sum[j];
}

// Adds one block's pixels to tiles [begin, end); strip and panel are packed again where group or panel change.
template <class T>
void add_block(const DirectFilterGrad<T>& p, const Block& b, idx begin, idx end, const FilterGradScratch<T>& s) {
    const idx per_panel = p.tiles_per_panel(), products = (idx)p.from.size();
    for (idx i = begin; i < end; i++) {
        const idx part = i % per_panel, panel = i / per_panel % p.panels.count, group = i / per_panel / p.panels.count;
        const idx ld = p.panels.width(panel) * LANES<T>, filled = p.panels.filled(panel);
        const idx k = group * p.g.k_group() + p.panels.first(panel);
        if (i == begin || (part == 0 && panel == 0)) p.strip.pack(s.strip, p.x, group, b);
        if (i == begin || part == 0) pack_gradients(p, b, k, filled, ld, s);
        if (part == 0 && p.db) add_bias_grad(s.panel, b.images * b.rows * b.columns, ld, filled, p.db + k);

        const T* a[MR];
        const idx first = part * MR;
        const int m = (int)std::min<idx>(MR, products - first);
        if (m <= 0) continue;
        for (int r = 0; r < m; r++) a[r] = s.strip + p.from[first + r];
        direct_tile_of<T>(m, p.panels.width(panel))({s.rows, b.images * b.rows, b.columns, p.strip.pixel, ld}, a, 0,
                                                    s.panel, s.tile, NR<T>, false);
        T* dw = p.dw + (p.g.channels_last ? k : k * p.filter);
        for (int r = 0; r < m; r++) {
            T* to = dw + p.to[first + r];
            const T* sum = s.tile + r * NR<T>;
            if (p.g.channels_last)
                for (idx j = 0; j < filled; j++) to[j] += sum[j];
            else
                for (idx j = 0; j < filled; j++) to[j * p.filter] += sum[j];
        }
    }
}

template <class T>
void direct_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    if (is_depthwise(g)) return direct_depthwise_filter_grad(g, x, dy, dw, db, threads);
    const Filters<T> f = forward_filters<T>(g, dw);
    // larger strips than forward: each block's tiles are added to dw in memory
    const Strip<T> strip(forward_view(g), g.n, g.c_group(), g.groups, g.channels_last, g.window, 3 * STRIP_BYTES);
    DirectFilterGrad<T> p{g, strip, Panels<T>(g.k_group()), {}, {}, f.column_stride, x, dy, dw, db};
    const idx taps = (idx)strip.tap.size(), products = g.c_group() * taps;
    for (idx i = 0; i < products; i++) {  // in the order of dw
        const idx c = g.channels_last ? i % g.c_group() : i / taps, t = g.channels_last ? i / g.c_group() : i % taps;
        p.from.push_back(c * strip.channel + strip.displacement[t]);
        p.to.push_back(c * f.depth_stride + strip.tap[t] * f.tap_stride);
    }
    std::fill_n(dw, g.k * g.c_group() * g.taps(), T(0));
    if (db) std::fill_n(db, g.k, T(0));
    threads = useful_threads(threads, p.tiles(), 2.0 * g.n * g.out_pixels() * g.k * products);
    Workspace workspace(FilterGradScratch<T>::bytes(p), threads);
    on_threads(threads, [&](int thread, int count) {
        const FilterGradScratch<T> scratch(p, workspace.of(thread));
        const idx begin = p.tiles() * thread / count, end = p.tiles() * (thread + 1) / count;
        for (idx i = 0; i < strip.blocks(); i++) add_block(p, strip.block(i), begin, end, scratch);
    });
}

}  // namespace fastconv

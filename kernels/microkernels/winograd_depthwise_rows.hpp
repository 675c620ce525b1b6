// Parts of a map by F(4, 4) along rows alone: filters of medium size.
//
// 7 products for four taps of a row and four outputs instead of 16; rows of taps are summed as they are. Transforms are
// few and all of a part's tiles that two rows of outputs meet stay in L1, in a ring of rows.
#pragma once
#include "winograd_depthwise_plan.hpp"

namespace fastconv {

constexpr idx row_ring(idx taps) { return taps + 1; }  // rows of pixels that two rows of outputs meet

// u[point * plane + (row * blocks + block) * L]
template <class T>
void transform_row_blocks(const WinogradDepthwise<T>& p, idx channel, idx blocks_h, idx blocks_w, T* taps, T* u, idx plane) {
    idx row, column;
    const T* begin = gather_blocks(p, channel, blocks_h, BLOCK * blocks_w, taps, &row, &column);
    for (idx r = 0; r < blocks_h; r++)
        for (idx b = 0; b < blocks_w; b++, u += LANES<T>) {
            const T* from = begin + r * row + BLOCK * b * column;
            Vec<T> g[BLOCK], t[SPAN];
            for (int i = 0; i < BLOCK; i++) g[i] = load(from + i * column);
            filter_points<T>(g, t);
            for (int i = 0; i < SPAN; i++) store(u + i * plane, t[i]);
        }
}

template <class T> void transform_pixel_row(const T* from, idx count, T* to, idx plane) {
    constexpr int L = LANES<T>, KEPT = SPAN - BLOCK;
    Vec<T> z[SPAN];
    for (int k = 0; k < KEPT; k++) z[k] = load(from + k * L);
    for (idx c = 0; c < count; c++, to += L) {
        from += BLOCK * L;
        for (int k = KEPT; k < SPAN; k++) z[k] = load(from + (k - BLOCK) * L);
        input_points<T>(z, to, plane);
        for (int k = 0; k < KEPT; k++) z[k] = z[k + BLOCK];
    }
}

template <class T> void transform_row_back(const T* from, idx plane, idx count, Vec<T> bias, T* out) {
    constexpr int L = LANES<T>;
    for (idx c = 0; c < count; c++, from += L, out += BLOCK * L) {
        Vec<T> y[BLOCK];
        output_points<T>(from, plane, y);
        for (int j = 0; j < BLOCK; j++) store(out + j * L, y[j] + bias);
    }
}

// Two rows of outputs at a time.
template <class T>
void rows_part(const WinogradDepthwise<T>& p, const TilePart& part, const PartSizes<T>& sizes, const PartSpace<T>& space,
               idx lanes, Vec<T> bias) {
    constexpr int L = LANES<T>;
    const idx taps = part.H->blocks, ring = row_ring(taps), columns = part.right - part.left;
    clear_unseen(part, sizes, ring, space.tiles);
    idx next = part.top;
    for (idx row = 0; row < part.rows; row += 2) {
        const idx count = std::min<idx>(2, part.rows - row), first = part.row + row;
        const idx bottom = std::min(part.bottom, first + count + taps - 1);
        for (; next < bottom; next++) {
            load_slab(p.source, part.input(next, 1, lanes), space.slab);
            transform_pixel_row(space.slab, columns, space.tiles + next % ring * sizes.pitch + (part.left - part.column) * L,
                                sizes.tiles);
        }
        const RowsMet met = rows_met(first, count, taps, part.top, part.bottom, 0, ring);
        for (int point = 0; point < SPAN; point++)
            point_products<T>({space.tiles + point * sizes.tiles, ring, sizes.pitch, space.filters + point * sizes.filters, taps,
                               part.W->blocks, space.sums + point * sizes.sums, sizes.sums_pitch},
                              0, count, met, part.columns);
        for (idx i = 0; i < count; i++)
            transform_row_back(space.sums + i * sizes.sums_pitch, sizes.sums, part.columns, bias,
                               space.out + i * BLOCK * part.columns * L);
        finish_outputs(p, part.output(first, count, lanes), space.out);
    }
}

}  // namespace fastconv

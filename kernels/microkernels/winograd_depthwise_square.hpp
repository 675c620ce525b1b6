// Parts of a map by F(4x4, 4x4): large filters.
//
// 49 products for a block of 4 x 4 taps and a tile instead of 256. The points go row by row (a pair +-p, or infinity),
// so that few planes of tiles and sums are alive at a time.
#pragma once
#include "winograd_depthwise_plan.hpp"

namespace fastconv {

template <int G> constexpr int ROWS_OF = G < PAIRS ? 2 : 1;  // rows of points in group G: pairs, and infinity

// u[(7 i + j) * plane + (block row * blocks + block) * L]
template <class T>
void transform_square_blocks(const WinogradDepthwise<T>& p, idx channel, idx blocks_h, idx blocks_w, T* taps, T* u, idx plane) {
    idx row, column;
    const T* begin = gather_blocks(p, channel, BLOCK * blocks_h, BLOCK * blocks_w, taps, &row, &column);
    for (idx b = 0; b < blocks_h; b++)
        for (idx c = 0; c < blocks_w; c++, u += LANES<T>) {
            const T* from = begin + BLOCK * (b * row + c * column);
            Vec<T> z[SPAN][BLOCK];
            for (int j = 0; j < BLOCK; j++) {
                Vec<T> g[BLOCK], t[SPAN];
                for (int i = 0; i < BLOCK; i++) g[i] = load(from + i * row + j * column);
                filter_points<T>(g, t);
                for (int i = 0; i < SPAN; i++) z[i][j] = t[i];
            }
            for (int i = 0; i < SPAN; i++) {
                Vec<T> t[SPAN];
                filter_points<T>(z[i], t);
                for (int j = 0; j < SPAN; j++) store(u + (i * SPAN + j) * plane, t[j]);
            }
        }
}

// A vector of one column of pixels at the points of row group G.
template <class T, int G> inline __attribute__((always_inline)) void column_points(const T* from, idx row, Vec<T>* z) {
    const auto pixel = [=](int i) { return load(from + i * row); };
    if constexpr (G < PAIRS)
        input_pair<T, G>(pixel, z[0], z[1]);
    else
        z[0] = input_infinity<T>(pixel);
}

// A row of `count` tiles of the slab: (i, j)-th product to `to` + (7 i + j) * plane + tile * L.
template <class T, int G> void transform_square_row(const T* from, idx row, idx count, T* to, idx plane) {
    constexpr int L = LANES<T>, KEPT = SPAN - BLOCK, ROWS = ROWS_OF<G>;
    Vec<T> z[2][SPAN];
    const auto take = [&](int k) {
        Vec<T> t[2];
        column_points<T, G>(from, row, t);
        for (int i = 0; i < ROWS; i++) z[i][k] = t[i];
        from += L;
    };
    for (int k = 0; k < KEPT; k++) take(k);
    for (idx c = 0; c < count; c++, to += L) {
        for (int k = KEPT; k < SPAN; k++) take(k);
        for (int i = 0; i < ROWS; i++) {
            input_points<T>(z[i], to + i * SPAN * plane, plane);
            for (int k = 0; k < KEPT; k++) z[i][k] = z[i][k + BLOCK];
        }
    }
}

// A row of tiles of sums, added to four rows of outputs (the first group writes them).
template <class T, int G> void transform_square_back(const T* from, idx plane, idx count, Vec<T> bias, T* out, idx row) {
    constexpr int L = LANES<T>;
    for (idx c = 0; c < count; c++, from += L, out += BLOCK * L) {
        Vec<T> y[2][BLOCK];
        for (int i = 0; i < ROWS_OF<G>; i++) output_points<T>(from + i * SPAN * plane, plane, y[i]);
        for (int j = 0; j < BLOCK; j++) {
            T* to = out + j * L;
            if constexpr (G == PAIRS) {
                store(to + (BLOCK - 1) * row, load(to + (BLOCK - 1) * row) + y[0][j]);
                continue;
            }
            constexpr double p = POINT[G < PAIRS ? G : 0];
            const Vec<T> even = y[0][j] + y[1][j], odd = y[0][j] - y[1][j];
            const Vec<T> part[BLOCK] = {even, T(p) * odd, T(p * p) * even, T(p * p * p) * odd};
            for (int i = 0; i < BLOCK; i++) store(to + i * row, (G ? load(to + i * row) : bias) + part[i]);
        }
    }
}

template <class T, int G>
void square_group(const TilePart& part, const PartSizes<T>& sizes, const PartSpace<T>& space, Vec<T> bias) {
    constexpr int L = LANES<T>;
    const idx rows = part.bottom - part.top, columns = part.right - part.left;
    const idx slab_row = part.W->pixels(columns) * L, out_row = BLOCK * part.columns * L;
    for (idx row = 0; row < rows; row++)
        transform_square_row<T, G>(space.slab + BLOCK * row * slab_row, slab_row, columns,
                                   space.tiles + row * sizes.pitch + (part.left - part.column) * L, sizes.tiles);
    for (int point = 0; point < ROWS_OF<G> * SPAN; point++) {
        const PointPlanes<T> planes{space.tiles + point * sizes.tiles, rows + 1, sizes.pitch,
                                    space.filters + (2 * G * SPAN + point) * sizes.filters, part.H->blocks, part.W->blocks,
                                    space.sums + point * sizes.sums, sizes.sums_pitch};
        for (idx row = 0; row < part.rows; row += 2) {
            const idx count = std::min<idx>(2, part.rows - row);
            const RowsMet met = rows_met(part.row + row, count, part.H->blocks, part.top, part.bottom, part.top, rows + 1);
            point_products(planes, row, count, met, part.columns);
        }
    }
    for (idx row = 0; row < part.rows; row++)
        transform_square_back<T, G>(space.sums + row * sizes.sums_pitch, sizes.sums, part.columns, bias,
                                    space.out + BLOCK * row * out_row, out_row);
}

template <class T>
void square_part(const WinogradDepthwise<T>& p, const TilePart& part, const PartSizes<T>& sizes, const PartSpace<T>& space,
                 idx lanes, Vec<T> bias) {
    if (part.bottom > part.top) load_slab(p.source, part.input(part.top, part.bottom - part.top, lanes), space.slab);
    clear_unseen(part, sizes, part.bottom - part.top, space.tiles);
    square_group<T, 0>(part, sizes, space, bias);
    square_group<T, 1>(part, sizes, space, bias);
    square_group<T, 2>(part, sizes, space, bias);
    square_group<T, PAIRS>(part, sizes, space, bias);
    finish_outputs(p, part.output(part.row, part.rows, lanes), space.out);
}

}  // namespace fastconv

// The products of one point: a plain depthwise convolution of tiles by blocks, all in the level 1 cache.
#pragma once
#include <algorithm>

#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

// With 32 registers 14 sums leave room for 7 tiles and the filters; with 16, 8 sums.
#if defined(__AVX512F__)
constexpr int TILES_W = 7;
#else
constexpr int TILES_W = 4;
#endif

inline int product_width(idx left) { return left >= (TILES_W == 7 ? 5 : 3) ? TILES_W : left >= 3 ? 4 : 2; }
// Columns that n take: the last few may hang over.
inline idx product_columns(idx n) {
    idx end = 0;
    while (end < n) end += product_width(n - end);
    return end;
}

// One point's planes: tiles [row][column][lane], of whose rows [0, rows) are there and others are zero; filters
// [R][S][lane]; results [row][column][lane].
template <class T> struct PointPlanes {
    const T* tiles;
    idx rows, pitch;
    const T* filters;
    idx R, S;
    T* sums;
    idx sums_pitch;
};

template <class T, int OW>
inline __attribute__((always_inline)) void add_product_row(const T* tiles, const T* filters, idx S, Vec<T>* sums) {
    for (idx s = 0; s < S; s++) {
        const Vec<T> u = load(filters + s * LANES<T>);
        for (int o = 0; o < OW; o++) sums[o] += load(tiles + (s + o) * LANES<T>) * u;
    }
}

// OH x OW sums from row `row` of sums on, which meets rows [row - above, ...) of tiles.
template <class T, int OH, int OW> void product_tile(const PointPlanes<T>& p, idx row, idx first, idx column) {
    constexpr int L = LANES<T>;
    const idx S = p.S, R = p.R, step = S * L;
    Vec<T> sums[OH][OW] = {};
    const idx lo = std::max<idx>(0, -first), hi = std::min<idx>(R + OH - 1, p.rows - first);
    for (idx i = lo; i < hi; i++) {
        const T *tiles = p.tiles + (first + i) * p.pitch + column * L, *u0 = p.filters + i * step, *u1 = u0 - step;
        if (OH == 2 && i > 0 && i < R)
            for (idx s = 0; s < S; s++) {
                const Vec<T> a = load(u0 + s * L), b = load(u1 + s * L);
                Vec<T> v[OW];
                for (int o = 0; o < OW; o++) v[o] = load(tiles + (s + o) * L);
                for (int o = 0; o < OW; o++) sums[0][o] += v[o] * a;
                for (int o = 0; o < OW; o++) sums[OH - 1][o] += v[o] * b;
            }
        else if (i < R)
            add_product_row<T, OW>(tiles, u0, S, sums[0]);
        else
            add_product_row<T, OW>(tiles, u1, S, sums[OH - 1]);
    }
    T* to = p.sums + row * p.sums_pitch + column * L;
    for (int j = 0; j < OH; j++)
        for (int o = 0; o < OW; o++) store(to + j * p.sums_pitch + o * L, sums[j][o]);
}

template <class T, int OH> void product_rows(const PointPlanes<T>& p, idx row, idx first, idx columns) {
    for (idx w = 0; w < columns;) {
        const int width = product_width(columns - w);
        width == TILES_W ? product_tile<T, OH, TILES_W>(p, row, first, w)
        : width == 4     ? product_tile<T, OH, 4>(p, row, first, w)
                         : product_tile<T, OH, 2>(p, row, first, w);
        w += width;
    }
}

// Sums [0, rows) x [0, columns); sum (0, .) meets tiles from row `first` on.
template <class T> void point_products(const PointPlanes<T>& p, idx first, idx rows, idx columns) {
    idx row = 0;
    for (; row + 2 <= rows; row += 2) product_rows<T, 2>(p, row, first + row, columns);
    if (row < rows) product_rows<T, 1>(p, row, first + row, columns);
}

}  // namespace fastconv

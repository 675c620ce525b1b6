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

// The loops over sums are unrolled by request: gcc would leave some rolled, and keep the sums in memory.
template <class T, int OW> inline __attribute__((always_inline)) void add_product(const Vec<T>* v, Vec<T> u, Vec<T>* sums) {
#pragma GCC unroll 8
    for (int o = 0; o < OW; o++) sums[o] += v[o] * u;
}

// One row of tiles by a row of blocks, or by two rows for two rows of sums. BLOCKS of a row, or 0 where they are many.
template <class T, int OW, int BLOCKS, bool TWO>
inline __attribute__((always_inline)) void add_products(const T* tiles, const T* above, const T* below, idx S, Vec<T>* first,
                                                        Vec<T>* second) {
    constexpr int L = LANES<T>, STEP = BLOCKS ? BLOCKS : 1, READ = OW + STEP - 1;
    for (idx s = 0; s < (BLOCKS ? 1 : S); s++, tiles += L) {
        Vec<T> v[READ];
#pragma GCC unroll 16
        for (int o = 0; o < READ; o++) v[o] = load(tiles + o * L);
#pragma GCC unroll 4
        for (int b = 0; b < STEP; b++) {
            add_product<T, OW>(v + b, load(above + (s + b) * L), first);
            if (TWO) add_product<T, OW>(v + b, load(below + (s + b) * L), second);
        }
    }
}

// OH x OW sums from (row, column) on, which meet rows [first, first + R + OH - 1) of tiles.
template <class T, int OH, int OW, int BLOCKS> void product_tile(const PointPlanes<T>& p, idx row, idx first, idx column) {
    constexpr int L = LANES<T>;
    const idx S = BLOCKS ? BLOCKS : p.S, R = p.R, step = S * L, pitch = p.pitch;
    const idx lo = std::max<idx>(0, -first), hi = std::min<idx>(R + OH - 1, p.rows - first);
    const T *tiles = p.tiles + first * pitch + column * L, *u = p.filters;
    Vec<T> sums[OH][OW];
#pragma GCC unroll 2
    for (int j = 0; j < OH; j++)
#pragma GCC unroll 8
        for (int o = 0; o < OW; o++) sums[j][o] = Vec<T>{};
    if constexpr (OH == 1) {
        for (idx i = lo; i < hi; i++) add_products<T, OW, BLOCKS, false>(tiles + i * pitch, u + i * step, nullptr, S, sums[0], nullptr);
    } else {
        if (lo == 0 && hi > 0) add_products<T, OW, BLOCKS, false>(tiles, u, nullptr, S, sums[0], nullptr);
        for (idx i = std::max<idx>(lo, 1); i < std::min(hi, R); i++)
            add_products<T, OW, BLOCKS, true>(tiles + i * pitch, u + i * step, u + (i - 1) * step, S, sums[0], sums[1]);
        if (lo <= R && hi > R) add_products<T, OW, BLOCKS, false>(tiles + R * pitch, u + (R - 1) * step, nullptr, S, sums[1], nullptr);
    }
    T* to = p.sums + row * p.sums_pitch + column * L;
#pragma GCC unroll 2
    for (int j = 0; j < OH; j++)
#pragma GCC unroll 8
        for (int o = 0; o < OW; o++) store(to + j * p.sums_pitch + o * L, sums[j][o]);
}

template <class T, int OH, int BLOCKS> void product_rows(const PointPlanes<T>& p, idx row, idx first, idx columns) {
    for (idx w = 0; w < columns;) {
        const int width = product_width(columns - w);
        width == TILES_W ? product_tile<T, OH, TILES_W, BLOCKS>(p, row, first, w)
        : width == 4     ? product_tile<T, OH, 4, BLOCKS>(p, row, first, w)
                         : product_tile<T, OH, 2, BLOCKS>(p, row, first, w);
        w += width;
    }
}

template <class T, int BLOCKS> void all_products(const PointPlanes<T>& p, idx first, idx rows, idx columns) {
    idx row = 0;
    for (; row + 2 <= rows; row += 2) product_rows<T, 2, BLOCKS>(p, row, first + row, columns);
    if (row < rows) product_rows<T, 1, BLOCKS>(p, row, first + row, columns);
}

// Sums [0, rows) x [0, columns); sum (0, .) meets tiles from row `first` on.
template <class T> void point_products(const PointPlanes<T>& p, idx first, idx rows, idx columns) {
    p.S == 2   ? all_products<T, 2>(p, first, rows, columns)
    : p.S == 3 ? all_products<T, 3>(p, first, rows, columns)
    : p.S == 4 ? all_products<T, 4>(p, first, rows, columns)
               : all_products<T, 0>(p, first, rows, columns);
}

}  // namespace fastconv

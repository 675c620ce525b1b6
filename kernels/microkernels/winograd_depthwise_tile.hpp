// The products of one point: a plain depthwise convolution of tiles by blocks, all in the level 1 cache.
#pragma once
#include <algorithm>

#include "lanes.hpp"

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

// One point's planes: tiles [row][column][lane] in a ring of rows, filters [R][S][lane], results [row][column][lane].
template <class T> struct PointPlanes {
    const T* tiles;
    idx ring, pitch;
    const T* filters;
    idx R, S;
    T* sums;
    idx sums_pitch;
};

// The rows of tiles that a row or two of sums meet: the first of them is row `slot` of the ring and meets row `lo` of
// the filters, as those to `hi` do (for the second row of sums, the row before).
struct RowsMet {
    idx slot, lo, hi;
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

// OH x OW sums from (row, column) on.
template <class T, int OH, int OW, int BLOCKS> void product_tile(const PointPlanes<T>& p, idx row, RowsMet met, idx column) {
    constexpr int L = LANES<T>;
    const idx S = BLOCKS ? BLOCKS : p.S, R = p.R, step = S * L, pitch = p.pitch, ring = p.ring * pitch;
    const T *tiles = p.tiles + met.slot * pitch + column * L, *end = p.tiles + ring + column * L, *u = p.filters + met.lo * step;
    const auto advance = [&] {
        u += step, tiles += pitch;
        if (tiles == end) tiles -= ring;
    };
    Vec<T> sums[OH][OW];
#pragma GCC unroll 2
    for (int j = 0; j < OH; j++)
#pragma GCC unroll 8
        for (int o = 0; o < OW; o++) sums[j][o] = Vec<T>{};
    idx i = met.lo;
    if constexpr (OH == 1) {
        for (; i < met.hi; i++, advance()) add_products<T, OW, BLOCKS, false>(tiles, u, nullptr, S, sums[0], nullptr);
    } else {
        if (i == 0 && i < met.hi) add_products<T, OW, BLOCKS, false>(tiles, u, nullptr, S, sums[0], nullptr), i++, advance();
        for (const idx both = std::min(met.hi, R); i < both; i++, advance())
            add_products<T, OW, BLOCKS, true>(tiles, u, u - step, S, sums[0], sums[1]);
        if (i == R && i < met.hi) add_products<T, OW, BLOCKS, false>(tiles, u - step, nullptr, S, sums[1], nullptr);
    }
    T* to = p.sums + row * p.sums_pitch + column * L;
#pragma GCC unroll 2
    for (int j = 0; j < OH; j++)
#pragma GCC unroll 8
        for (int o = 0; o < OW; o++) store(to + j * p.sums_pitch + o * L, sums[j][o]);
}

template <class T, int OH, int BLOCKS> void product_rows(const PointPlanes<T>& p, idx row, RowsMet met, idx columns) {
    for (idx w = 0; w < columns;) {
        const int width = product_width(columns - w);
        width == TILES_W ? product_tile<T, OH, TILES_W, BLOCKS>(p, row, met, w)
        : width == 4     ? product_tile<T, OH, 4, BLOCKS>(p, row, met, w)
                         : product_tile<T, OH, 2, BLOCKS>(p, row, met, w);
        w += width;
    }
}

// Of the rows of tiles [first, first + R + rows - 1) that `rows` rows of sums meet, those in [top, bottom) are there and
// the others zero; row r is in slot r - base of a ring.
inline RowsMet rows_met(idx first, idx rows, idx R, idx top, idx bottom, idx base, idx ring) {
    const idx lo = std::max<idx>(0, top - first), hi = std::min<idx>(R + rows - 1, bottom - first), slot = first + lo - base;
    return {slot < ring ? slot : slot % ring, lo, hi};
}

// One or two rows of sums from `row` on.
template <class T> void point_products(const PointPlanes<T>& p, idx row, idx rows, RowsMet met, idx columns) {
    const auto products = [&](auto blocks) {
        rows == 2 ? product_rows<T, 2, blocks>(p, row, met, columns) : product_rows<T, 1, blocks>(p, row, met, columns);
    };
    p.S == 2   ? products(Constant<2>{})
    : p.S == 3 ? products(Constant<3>{})
    : p.S == 4 ? products(Constant<4>{})
               : products(Constant<0>{});
}

}  // namespace fastconv

// The register tile: C (MR rows, NV vectors) += A (MR, depth) @ B (depth, NV vectors), broadcast x vector FMA.
//
// Rows of A are read in place through pointers, so a row may be a filter, a pixel of a channels-last image or a
// channel of a channels-first one; B is a packed panel. See docs/microkernels.md for how the shape was chosen.
#pragma once
#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

// The tile's accumulators, one broadcast and a row of B must fit the vector registers (32 or 16), and the tile
// needs at least latency x throughput independent accumulators: 4 on Zen 4, 8 on Intel.
#if defined(__AVX512F__)
constexpr int MR = 8, NV = 3;
#else
constexpr int MR = 4, NV = 3;
#endif
template <class T> constexpr int NR = NV * LANES<T>;

// A run of the depth: `length` steps from A rows displaced by `a` elements, against B rows from row `b` on.
struct Segment {
    idx length, a, b;
};

// The rows of A for each segment s: rows[s * pitch + i] + segment.a; pitch 0 shares one set of pointers.
template <class T> struct Rows {
    const T* const* pointers;
    idx pitch;
    idx step;  // elements between depth steps of a row
};

// The loops over a tile are unrolled by request: where gcc leaves one rolled, it keeps the sums on the stack.
#define FASTCONV_UNROLL _Pragma("GCC unroll 16")

template <class T, int M, int V>
inline __attribute__((always_inline)) void accumulate(const Segment* segments, idx count, Rows<T> a, const T* b,
                                                      idx ldb, Vec<T> (&acc)[M][V]) {
    constexpr int L = LANES<T>;
    for (idx s = 0; s < count; s++) {
        const T* row[M];
        for (int i = 0; i < M; i++) row[i] = a.pointers[s * a.pitch + i] + segments[s].a;
        const T* panel = b + segments[s].b * ldb;
        const idx end = segments[s].length * a.step;
        for (idx k = 0; k < end; k += a.step, panel += ldb) {
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = load(panel + j * L);
            for (int i = 0; i < M; i++) {
                Vec<T> av = broadcast(row[i][k]);
                for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
            }
        }
    }
}

// c[i] + [0, V vectors) is overwritten, or added to.
template <class T, int M, int V>
void tile(const Segment* segments, idx count, Rows<T> a, const T* b, idx ldb, T* const* c, bool add) {
    constexpr int L = LANES<T>;
    // Rows of C are far apart, so no hardware prefetcher has them; they are needed when the depth is done.
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) __builtin_prefetch(c[i] + j * L, 1);
    Vec<T> acc[M][V] = {};
    accumulate<T, M, V>(segments, count, a, b, ldb, acc);
    FASTCONV_UNROLL
    for (int i = 0; i < M; i++)
        FASTCONV_UNROLL
        for (int j = 0; j < V; j++) {
            T* p = c[i] + j * L;
            store(p, add ? load(p) + acc[i][j] : acc[i][j]);
        }
}

template <class T> using Tile = void (*)(const Segment*, idx, Rows<T>, const T*, idx, T* const*, bool);

// tile_of<T>(m, v): the tile of m rows (1 to MR) and v vectors (1 to NV).
template <class T, int M> constexpr Tile<T> tile_of_width(int v) {
    return v == 1 ? &tile<T, M, 1> : v == 2 ? &tile<T, M, 2> : &tile<T, M, 3>;
}
template <class T, int M = MR> Tile<T> tile_of(int m, int v) {
    if constexpr (M > 1)
        if (m < M) return tile_of<T, M - 1>(m, v);
    return tile_of_width<T, M>(v);
}

// The same tile of which only `lanes` of the last vector's columns exist in C.
template <class T, int M, int V>
void part_tile(const Segment* segments, idx count, Rows<T> a, const T* b, idx ldb, T* const* c, bool add, int lanes) {
    constexpr int L = LANES<T>;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) __builtin_prefetch(c[i] + j * L, 1);
    Vec<T> acc[M][V] = {};
    accumulate<T, M, V>(segments, count, a, b, ldb, acc);
    FASTCONV_UNROLL
    for (int i = 0; i < M; i++)
        FASTCONV_UNROLL
        for (int j = 0; j < V; j++) {
            T* p = c[i] + j * L;
            if (j < V - 1 || lanes == L)
                store(p, add ? load(p) + acc[i][j] : acc[i][j]);
            else
                store_part(p, add ? load_part(p, lanes) + acc[i][j] : acc[i][j], lanes);
        }
}

template <class T> using PartTile = void (*)(const Segment*, idx, Rows<T>, const T*, idx, T* const*, bool, int);

template <class T, int M> constexpr PartTile<T> part_tile_of_width(int v) {
    return v == 1 ? &part_tile<T, M, 1> : v == 2 ? &part_tile<T, M, 2> : &part_tile<T, M, 3>;
}
template <class T, int M = MR> PartTile<T> part_tile_of(int m, int v) {
    if constexpr (M > 1)
        if (m < M) return part_tile_of<T, M - 1>(m, v);
    return part_tile_of_width<T, M>(v);
}

// Rows of A and of C at constant distances: with no table of pointers a tile costs 130 cycles less, a sixth of its
// products at a depth of 64.
template <class T> struct EvenRows {
    const T* a;
    idx a_row, step;  // elements between rows of A, and between depth steps of a row
    T* c;
    idx c_row;
    const T* ahead = nullptr;  // what the tiles to come need: prefetched, an element every depth step
    idx ahead_step = 0, ahead_jump = 0;  // elements a depth step, and more after a segment
    T* packed = nullptr;  // where B goes, in whole vectors, for the other tiles that meet it
};

// Opaque, or else gcc computes the addresses of all rows at the start and keeps them on the stack.
template <class T> inline T* next_row(T* p, idx row) {
    p += row;
    asm("" : "+r"(p));
    return p;
}

template <class T, int M, int V, bool AHEAD = false>
void even_tile(const Segment* segments, idx count, const EvenRows<T>& rows, const T* b, idx ldb, bool add, int lanes) {
    constexpr int L = LANES<T>;
    const idx a_row = rows.a_row, step = rows.step, c_row = rows.c_row;
    T* p = rows.c;
    FASTCONV_UNROLL
    for (int i = 0; i < M; i++, p = next_row(p, c_row))
        FASTCONV_UNROLL
        for (int j = 0; j < V; j++) __builtin_prefetch(p + j * L, 1);
    Vec<T> acc[M][V] = {};
    const T* ahead = rows.ahead;
    T* packed = rows.packed;
    const bool part = packed && lanes < L;  // in B too
    for (idx s = 0; s < count; s++) {
        const T* from = rows.a + segments[s].a;
        const T* panel = b + segments[s].b * ldb;
        for (idx k = segments[s].length; k > 0; k--, from += step, panel += ldb) {
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = AHEAD && j == V - 1 && part ? load_part(panel + j * L, lanes) : load(panel + j * L);
            if constexpr (AHEAD) {
                __builtin_prefetch(ahead, 0, 2), ahead += rows.ahead_step;
                if (packed)
                    for (int j = 0; j < V; j++, packed += L) store(packed, bv[j]);
            }
            FASTCONV_UNROLL
            for (int i = 0; i < M; i++) {
                Vec<T> av = broadcast(from[i * a_row]);
                FASTCONV_UNROLL
                for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
            }
        }
        if constexpr (AHEAD) ahead += rows.ahead_jump;
    }
    p = rows.c;
    FASTCONV_UNROLL
    for (int i = 0; i < M; i++, p = next_row(p, c_row))
        FASTCONV_UNROLL
        for (int j = 0; j < V; j++) {
            T* to = p + j * L;
            if (j < V - 1 || lanes == L)
                store(to, add ? load(to) + acc[i][j] : acc[i][j]);
            else
                store_part(to, add ? load_part(to, lanes) + acc[i][j] : acc[i][j], lanes);
        }
}

template <class T> using EvenTile = void (*)(const Segment*, idx, const EvenRows<T>&, const T*, idx, bool, int);

template <class T, int M, bool AHEAD> constexpr EvenTile<T> even_tile_of_width(int v) {
    return v == 1 ? &even_tile<T, M, 1, AHEAD> : v == 2 ? &even_tile<T, M, 2, AHEAD> : &even_tile<T, M, 3, AHEAD>;
}
template <class T, bool AHEAD = false, int M = MR> EvenTile<T> even_tile_of(int m, int v) {
    if constexpr (M > 1)
        if (m < M) return even_tile_of<T, AHEAD, M - 1>(m, v);
    return even_tile_of_width<T, M, AHEAD>(v);
}

// A whole tile that packs one of its operands for the tiles to come: B, whose rows lie far apart, or A, whose rows lie
// side by side (a_row == 1) and whose depths lie far apart.
enum PackedSide { PACK_A, PACK_B };

template <class T, int V, PackedSide SIDE>
void even_packing_tile(idx depth, const EvenRows<T>& rows, const T* b, idx ldb, T* packed, bool add) {
    constexpr int L = LANES<T>, AHEAD = SIDE == PACK_A ? 32 : 16;
    const idx a_row = SIDE == PACK_A ? 1 : rows.a_row, step = rows.step, c_row = rows.c_row;
    const T* from = rows.a;
    Vec<T> acc[MR][V] = {};
    for (idx k = depth; k > 0; k--, from += step, b += ldb) {
        Vec<T> bv[V];
        for (int j = 0; j < V; j++) bv[j] = load(b + j * L);
        if (SIDE == PACK_B) {
            for (int j = 0; j < V; j++) {
                __builtin_prefetch(b + AHEAD * ldb + j * L);
                store(packed + j * L, bv[j]);
            }
            __builtin_prefetch(b + AHEAD * ldb + V * L - 1);  // B seldom starts at a cache line
            packed += V * L;
        } else {
            __builtin_prefetch(from + AHEAD * step, 0, 2);  // level 2: distances of 4 KB fall on one set of level 1
            memcpy(packed, from, MR * sizeof(T));
            packed += MR;
        }
        FASTCONV_UNROLL
        for (int i = 0; i < MR; i++) {
            Vec<T> av = broadcast(from[i * a_row]);
            FASTCONV_UNROLL
            for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
        }
    }
    T* p = rows.c;
    FASTCONV_UNROLL
    for (int i = 0; i < MR; i++, p = next_row(p, c_row))
        FASTCONV_UNROLL
        for (int j = 0; j < V; j++) store(p + j * L, add ? load(p + j * L) + acc[i][j] : acc[i][j]);
}

template <class T> using EvenPackingTile = void (*)(idx, const EvenRows<T>&, const T*, idx, T*, bool);
template <class T, PackedSide SIDE> constexpr EvenPackingTile<T> even_packing_tile_of(int v) {
    return v == 1   ? &even_packing_tile<T, 1, SIDE>
           : v == 2 ? &even_packing_tile<T, 2, SIDE>
                    : &even_packing_tile<T, 3, SIDE>;
}

// Widths in vectors of the panels that cover `columns`: as even as possible, at most NV (or `most`) each.
template <class T> struct Panels {
    idx columns, vectors, count;
    explicit Panels(idx columns, int most = NV)
        : columns(columns), vectors(ceil_div<idx>(columns, LANES<T>)), count(ceil_div<idx>(vectors, most)) {}
    idx first(idx panel) const { return (vectors * panel / count) * LANES<T>; }
    int width(idx panel) const { return (int)(vectors * (panel + 1) / count - vectors * panel / count); }
    idx filled(idx panel) const {  // columns of it that exist
        idx begin = first(panel), end = begin + width(panel) * LANES<T>;
        return (end < columns ? end : columns) - begin;
    }
};

}  // namespace fastconv

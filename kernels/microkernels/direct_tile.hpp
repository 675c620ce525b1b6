// The direct kernels' register tile: as tile.hpp's, with both operands read where they lie.
//
//   C (M rows, V vectors) [+]= sum over taps and steps of A[row, a0 + tap.a + step da] * B[tap.b + step db, vectors]
//
// B may be pixels of a strip (displaced by tap), filters or gradients; nothing needs to be contiguous but a vector.
#pragma once
#include "tile.hpp"

namespace fastconv {

struct Tap {
    idx a, b;
};

// What a tile sums over: `count` taps of `length` steps.
struct Sum {
    const Tap* taps;
    idx count, length, da, db;
};

template <class T, int M, int V>
void direct_tile(const Sum& sum, const T* const* a, idx a0, const T* b, T* c, idx ldc, bool add) {
    constexpr int L = LANES<T>;
    Vec<T> acc[M][V];
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) acc[i][j] = add ? load(c + i * ldc + j * L) : Vec<T>{};
    const idx da = sum.da, db = sum.db;
    for (idx t = 0; t < sum.count; t++) {
        const T* row[M];
        for (int i = 0; i < M; i++) row[i] = a[i] + a0 + sum.taps[t].a;
        const T* vectors = b + sum.taps[t].b;
        const idx end = sum.length * da;
        for (idx k = 0; k < end; k += da, vectors += db) {
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = load(vectors + j * L);
            for (int i = 0; i < M; i++) {
                Vec<T> av = broadcast(row[i][k]);
                for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
            }
        }
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) store(c + i * ldc + j * L, acc[i][j]);
}

template <class T> using DirectTile = void (*)(const Sum&, const T* const*, idx, const T*, T*, idx, bool);

// The tile of m rows (1 to MR) and v vectors (1 to NV).
template <class T, int M = MR> DirectTile<T> direct_tile_of(int m, int v) {
    if constexpr (M > 1)
        if (m < M) return direct_tile_of<T, M - 1>(m, v);
    return v == 1 ? &direct_tile<T, M, 1> : v == 2 ? &direct_tile<T, M, 2> : &direct_tile<T, M, 3>;
}

}  // namespace fastconv

// The 36 small GEMMs of Winograd: C (rows, columns) (+)= A (rows, depth) @ B (depth, columns).
//
// All three lie in buffers of our own at constant strides, so a tile takes a base and strides where tile.hpp takes
// a pointer per row: that alone is worth 195 -> 257 GFLOP/s at depth 32 (docs/performance.md).
#pragma once
#include "tile.hpp"

namespace fastconv {

// Element (i, k) of A at at[i * row + k * step].
template <class T> struct Factor {
    const T* at;
    idx row, step;
};

template <class T, int M, int V, bool ADD>
inline __attribute__((always_inline)) void product_tile(Factor<T> a, const T* b, idx depth, T* c, idx ldc) {
    constexpr int L = LANES<T>;
    Vec<T> acc[M][V] = {};
    const T* from = a.at;
    for (idx k = 0; k < depth; k++, from += a.step, b += V * L) {
        Vec<T> bv[V];
        for (int j = 0; j < V; j++) bv[j] = load(b + j * L);
        for (int i = 0; i < M; i++) {
            Vec<T> av = broadcast(from[i * a.row]);
            for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
        }
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) {
            T* p = c + i * ldc + j * L;
            store(p, ADD ? load(p) + acc[i][j] : acc[i][j]);
        }
}

template <class T, int M, int V, bool ADD>
void product_remainder(int m, Factor<T> a, const T* b, idx depth, T* c, idx ldc) {
    if constexpr (M > 1)
        if (m < M) return product_remainder<T, M - 1, V, ADD>(m, a, b, depth, c, ldc);
    product_tile<T, M, V, ADD>(a, b, depth, c, ldc);
}

template <class T, int V, bool ADD>
void product_panel(idx rows, Factor<T> a, const T* b, idx depth, T* c, idx ldc) {
    for (; rows >= MR; rows -= MR, a.at += MR * a.row, c += MR * ldc) product_tile<T, MR, V, ADD>(a, b, depth, c, ldc);
    if (rows > 0) product_remainder<T, MR - 1, V, ADD>((int)rows, a, b, depth, c, ldc);
}

// B and C of `width` vectors a row, B's rows one after another.
template <class T>
void multiply_panel(idx rows, Factor<T> a, const T* b, idx depth, int width, T* c, idx ldc, bool add) {
    if (width == 1)
        (add ? product_panel<T, 1, true> : product_panel<T, 1, false>)(rows, a, b, depth, c, ldc);
    else if (width == 2)
        (add ? product_panel<T, 2, true> : product_panel<T, 2, false>)(rows, a, b, depth, c, ldc);
    else
        (add ? product_panel<T, 3, true> : product_panel<T, 3, false>)(rows, a, b, depth, c, ldc);
}

// Elements rounded up to an odd number of cache lines: 36 addresses so far apart fall on 36 sets of the level 1
// cache, where a multiple of 4 KB has them evict one another (filter transform: 5 times slower).
template <class T> constexpr idx odd_lines(idx elements) {
    constexpr idx line = 64 / sizeof(T);
    return (elements + line - 1) / line / 2 * 2 * line + line;
}

}  // namespace fastconv

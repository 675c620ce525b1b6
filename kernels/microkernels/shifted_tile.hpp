// Register tiles whose rows of B lie anywhere: a convolution of a padded plane without any packing.
#pragma once
#include "tile.hpp"

namespace fastconv {

// (M, depth) @ (depth, V vectors): row k of B starts at b + row_of[k]. c[i] from element `at` on is overwritten or
// added to; of the last vector only `lanes` are.
template <class T, int M, int V>
inline __attribute__((always_inline)) void shifted_block(idx depth, const T* const* a, const idx* row_of, const T* b,
                                                         T* const* c, idx at, bool add, int lanes) {
    constexpr int L = LANES<T>;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) __builtin_prefetch(c[i] + at + j * L, 1);
    Vec<T> acc[M][V] = {};
    const T* row[M];
    for (int i = 0; i < M; i++) row[i] = a[i];
    for (idx k = 0; k < depth; k++) {
        const T* from = b + row_of[k];
        Vec<T> bv[V];
        for (int j = 0; j < V; j++) bv[j] = load(from + j * L);
        for (int i = 0; i < M; i++) {
            Vec<T> av = broadcast(row[i][k]);
            for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
        }
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) {
            T* to = c[i] + at + j * L;
            if (j < V - 1 || lanes == L)
                store(to, add ? load(to) + acc[i][j] : acc[i][j]);
            else
                store_part(to, add ? load_part(to, lanes) + acc[i][j] : acc[i][j], lanes);
        }
}

// Fewer rows leave registers for wider tiles, which keep enough independent sums in flight.
#if defined(__AVX512F__)
constexpr int SHIFTED_VECTORS[MR + 1] = {0, 8, 6, 5, 5, 4, 4, 3, 3};
#else
constexpr int SHIFTED_VECTORS[MR + 1] = {0, 6, 4, 3, 3};
#endif

// The vectors that are left of a run, fewer than a tile's or the last in part.
template <class T, int M, int V>
void shifted_rest(idx depth, const T* const* a, const idx* row_of, const T* b, T* const* c, idx at, idx count, bool add) {
    if constexpr (V > 1)
        if (count <= (V - 1) * LANES<T>) return shifted_rest<T, M, V - 1>(depth, a, row_of, b, c, at, count, add);
    shifted_block<T, M, V>(depth, a, row_of, b + at, c, at, add, (int)(count - (V - 1) * LANES<T>));
}

// `count` positions of M rows.
template <class T, int M>
void shifted_run(idx depth, const T* const* a, const idx* row_of, const T* b, T* const* c, idx count, bool add) {
    constexpr int L = LANES<T>, V = SHIFTED_VECTORS[M];
    idx at = 0;
    for (; at + V * L <= count; at += V * L) shifted_block<T, M, V>(depth, a, row_of, b + at, c, at, add, L);
    if (at < count) shifted_rest<T, M, V>(depth, a, row_of, b, c, at, count - at, add);
}

template <class T> using ShiftedRun = void (*)(idx, const T* const*, const idx*, const T*, T* const*, idx, bool);

template <class T, int M = MR> ShiftedRun<T> shifted_run_of(int m) {
    if constexpr (M > 1)
        if (m < M) return shifted_run_of<T, M - 1>(m);
    return &shifted_run<T, M>;
}

}  // namespace fastconv

// Transposes in registers: a square of vectors by log2(L) rounds of interleaving.
#pragma once
#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

template <class T> struct Lane;
template <> struct Lane<float> { typedef int32_t type; };
template <> struct Lane<double> { typedef int64_t type; };

// In rows r and r + HALF, swaps the off-diagonal blocks of HALF lanes.
template <class T, int HALF> inline __attribute__((always_inline)) void swap_blocks(Vec<T>& a, Vec<T>& b) {
    constexpr int L = LANES<T>;
    typedef typename Lane<T>::type I;
    typedef I Index __attribute__((vector_size(L * sizeof(T))));
    Index low, high;
    for (int i = 0; i < L; i++) {
        bool odd = (i / HALF) % 2;
        low[i] = odd ? L + i - HALF : i;
        high[i] = odd ? L + i : i + HALF;
    }
    typedef T Full __attribute__((vector_size(L * sizeof(T))));
    Full x = (Full)a, y = (Full)b;
    a = (Vec<T>)__builtin_shuffle(x, y, low);
    b = (Vec<T>)__builtin_shuffle(x, y, high);
}

template <class T, int HALF> inline __attribute__((always_inline)) void transpose_rounds(Vec<T>* v) {
    constexpr int L = LANES<T>;
    for (int r = 0; r < L; r++)
        if ((r / HALF) % 2 == 0) swap_blocks<T, HALF>(v[r], v[r + HALF]);
    if constexpr (HALF > 1) transpose_rounds<T, HALF / 2>(v);
}

// The square of at most L x L at `from` (row stride lf) to its transpose at `to`.
template <class T> inline void transpose_square(const T* from, idx lf, idx rows, idx columns, T* to, idx lt) {
    constexpr int L = LANES<T>;
    Vec<T> v[L];
    if (rows == L && columns == L) {
        for (int i = 0; i < L; i++) v[i] = load(from + i * lf);
        transpose_rounds<T, L / 2>(v);
        for (int i = 0; i < L; i++) store(to + i * lt, v[i]);
    } else {
        for (int i = 0; i < L; i++) v[i] = i < rows ? load_part(from + i * lf, columns) : Vec<T>{};
        transpose_rounds<T, L / 2>(v);
        for (int i = 0; i < L; i++)
            if (i < columns) store_part(to + i * lt, v[i], rows);
    }
}

// (rows, columns) at `from` -> (columns, rows) at `to`.
template <class T> void transpose(const T* from, idx lf, idx rows, idx columns, T* to, idx lt) {
    constexpr int L = LANES<T>;
    for (idx r = 0; r < rows; r += L)
        for (idx c = 0; c < columns; c += L)
            transpose_square(from + r * lf + c, lf, rows - r < L ? rows - r : L, columns - c < L ? columns - c : L,
                             to + c * lt + r, lt);
}

// The same, a vector of columns at a time: for rows in cache to distant columns, each of which is then written as
// one stream.
template <class T> void transpose_to_streams(const T* from, idx lf, idx rows, idx columns, T* to, idx lt) {
    constexpr int L = LANES<T>;
    for (idx c = 0; c < columns; c += L)
        for (idx r = 0; r < rows; r += L)
            transpose_square(from + r * lf + c, lf, rows - r < L ? rows - r : L, columns - c < L ? columns - c : L,
                             to + c * lt + r, lt);
}

}  // namespace fastconv

// Vectors of the compiled-for instruction set, by the compiler's vector extension: one source, any width.
#pragma once
#include <cstddef>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fastconv {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

// Aligned as its element: loads and stores through it may be unaligned.
template <class T, int L> struct VecOf {
    typedef T type __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T> constexpr int LANES = VECTOR_BYTES / sizeof(T);
template <class T> using Vec = typename VecOf<T, LANES<T>>::type;

template <class T> inline Vec<T> load(const T* p) { return *(const Vec<T>*)p; }
template <class T> inline void store(T* p, Vec<T> v) { *(Vec<T>*)p = v; }
template <class T> inline Vec<T> broadcast(T s) { return s - Vec<T>{}; }

// The first n of a vector's lanes (n <= L); the others load as zero and are not stored.
#if defined(__AVX512F__)
inline Vec<float> load_part(const float* p, ptrdiff_t n) {
    return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
inline void store_part(float* p, Vec<float> v, ptrdiff_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
inline Vec<double> load_part(const double* p, ptrdiff_t n) {
    return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
}
inline void store_part(double* p, Vec<double> v, ptrdiff_t n) {
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
}
#else
template <class T> inline Vec<T> load_part(const T* p, ptrdiff_t n) {
    Vec<T> v = {};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}
template <class T> inline void store_part(T* p, Vec<T> v, ptrdiff_t n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}
#endif

// Copies n elements, most runs being about a vector long: a call to memcpy would cost more than the copy.
template <class T> inline void copy_run(T* to, const T* from, ptrdiff_t n) {
    constexpr int L = LANES<T>;
    for (; n >= L; n -= L, to += L, from += L) store(to, load(from));
    if (n > 0) store_part(to, load_part(from, n), n);
}
// Rows of V vectors at distance `lf` to distance `lt`; such short runs are beyond the hardware prefetchers.
template <class T, int V> inline void copy_vectors(const T* from, ptrdiff_t lf, ptrdiff_t rows, T* to, ptrdiff_t lt) {
    constexpr int AHEAD = 12, L = LANES<T>;
    for (ptrdiff_t i = 0; i < rows; i++, from += lf, to += lt)
        for (int j = 0; j < V; j++) {
            __builtin_prefetch(from + AHEAD * lf + j * L);
            store(to + j * L, load(from + j * L));
        }
}

// (rows, columns) likewise; panels are mostly of one to three whole vectors.
template <class T>
inline void copy_rows(const T* from, ptrdiff_t lf, ptrdiff_t rows, ptrdiff_t columns, T* to, ptrdiff_t lt) {
    constexpr int AHEAD = 12, L = LANES<T>;
    if (columns == L) return copy_vectors<T, 1>(from, lf, rows, to, lt);
    if (columns == 2 * L) return copy_vectors<T, 2>(from, lf, rows, to, lt);
    if (columns == 3 * L) return copy_vectors<T, 3>(from, lf, rows, to, lt);
    for (ptrdiff_t i = 0; i < rows; i++, from += lf, to += lt) {
        for (ptrdiff_t j = 0; j < columns; j += L) __builtin_prefetch(from + AHEAD * lf + j);
        copy_run(to, from, columns);
    }
}

template <class T> inline void clear_run(T* to, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) to[i] = 0;
}

}  // namespace fastconv

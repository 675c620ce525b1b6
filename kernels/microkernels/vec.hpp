// Vectors of the compiled-for instruction set, by the compiler's vector extension: one source, any width.
#pragma once
#include <cstddef>
#include <cstdint>
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

// Are there masked stores, and permutations of two vectors by any index?
constexpr bool PERMUTES = VECTOR_BYTES == 64;

// Aligned as its element: loads and stores through it may be unaligned.
template <class T, int L> struct VecOf {
    typedef T type __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T> constexpr int LANES = VECTOR_BYTES / sizeof(T);
template <class T> using Vec = typename VecOf<T, LANES<T>>::type;

template <class T> inline Vec<T> load(const T* p) { return *(const Vec<T>*)p; }
template <class T> inline void store(T* p, Vec<T> v) { *(Vec<T>*)p = v; }
// To memory past the caches, which need not fetch the line first: of an aligned vector; shorter runs go the usual way.
// Others see it after `streamed`.
constexpr bool STREAMS = VECTOR_BYTES == 64;  // stores of half lines and less gain nothing
template <class V> inline void stream(void* to, V v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) return _mm512_stream_si512((__m512i*)to, (__m512i)v);
#endif
#if defined(__AVX__)
    if constexpr (sizeof(V) == 32) return _mm256_stream_si256((__m256i*)to, (__m256i)v);
#endif
    memcpy(to, &v, sizeof(V));
}
inline void streamed() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
template <class T> inline Vec<T> broadcast(T s) { return s - Vec<T>{}; }

// A line into level 1, or 2. For functions that do nothing else: gcc takes those for free of effects and drops their
// calls, but for the asm.
template <int LEVEL = 1> inline void prefetch(const void* p) {
    __builtin_prefetch(p, 0, 4 - LEVEL);
    asm volatile("");
}

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
inline void store_part(int32_t* p, typename VecOf<int32_t, 16>::type v, ptrdiff_t n) {
    _mm512_mask_storeu_epi32(p, (__mmask16)((1u << n) - 1), (__m512i)v);
}
inline void store_part(int32_t* p, typename VecOf<int32_t, 8>::type v, ptrdiff_t n) {
    _mm256_mask_storeu_epi32(p, (__mmask8)((1u << n) - 1), (__m256i)v);
}
// Lanes [lo, hi) of the vector at p, which may begin or end outside an array; the others are zero.
inline unsigned lanes_between(ptrdiff_t lo, ptrdiff_t hi) {
    return (hi > 0 ? hi < 16 ? (1u << hi) - 1 : 0xffffu : 0u) & (lo > 0 ? lo < 16 ? ~0u << lo : 0u : ~0u);
}
inline Vec<float> load_between(const float* p, ptrdiff_t lo, ptrdiff_t hi) {
    return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)lanes_between(lo, hi), p);
}
inline Vec<double> load_between(const double* p, ptrdiff_t lo, ptrdiff_t hi) {
    return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)lanes_between(lo, hi), p);
}
#else
template <class T> inline Vec<T> load_between(const T* p, ptrdiff_t lo, ptrdiff_t hi) {
    Vec<T> v = {};
    for (ptrdiff_t i = lo > 0 ? lo : 0; i < hi && i < LANES<T>; i++) v[i] = p[i];
    return v;
}
template <class T> inline Vec<T> load_part(const T* p, ptrdiff_t n) {
    Vec<T> v = {};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}
template <class T> inline void store_part(T* p, Vec<T> v, ptrdiff_t n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}
#endif

// The sum of the lanes, by halves.
template <class T, int L = LANES<T>> inline T sum_lanes(typename VecOf<T, L>::type v) {
    if constexpr (L == 2) {
        return v[0] + v[1];
    } else {
        typename VecOf<T, L / 2>::type half[2];
        memcpy(half, &v, sizeof v);
        return sum_lanes<T, L / 2>(half[0] + half[1]);
    }
}

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
    constexpr int L = LANES<T>;
    for (; n >= L; n -= L, to += L) store(to, Vec<T>{});
    if (n > 0) store_part(to, Vec<T>{}, n);
}
// n elements: from[i] where lo <= i < hi, zero elsewhere.
template <class T> inline void copy_padded(T* to, ptrdiff_t n, const T* from, ptrdiff_t lo, ptrdiff_t hi) {
    constexpr int L = LANES<T>;
    for (ptrdiff_t i = 0; i < n; i += L) {
        const Vec<T> v = i >= lo && i + L <= hi ? load(from + i) : load_between(from + i, lo - i, hi - i);
        if (i + L <= n)
            store(to + i, v);
        else
            store_part(to + i, v, n - i);
    }
}
// The same for `rows` rows. Short ones a vector of columns at a time: what lies inside is found once for all rows.
// Elements that are `ahead` of those read are prefetched.
template <class T>
inline void copy_rows_padded(T* to, ptrdiff_t to_pitch, const T* from, ptrdiff_t from_pitch, ptrdiff_t rows, ptrdiff_t n,
                             ptrdiff_t lo, ptrdiff_t hi, ptrdiff_t ahead = 0) {
    constexpr int L = LANES<T>;
    for (ptrdiff_t r = 0; n > 4 * L && r < rows; r++, to += to_pitch, from += from_pitch) {
        for (ptrdiff_t i = 0; ahead && i < n; i += 64 / sizeof(T)) __builtin_prefetch(from + ahead + i);
        copy_padded(to, n, from, lo, hi);
    }
    for (ptrdiff_t i = 0; n <= 4 * L && i < n; i += L) {
        const T* f = from + i;
        T* t = to + i;
        const bool inside = i >= lo && i + L <= hi, whole = i + L <= n;
        for (ptrdiff_t r = 0; r < rows; r++, f += from_pitch, t += to_pitch) {
            if (ahead) __builtin_prefetch(f + ahead);
            const Vec<T> v = inside ? load(f) : load_between(f, lo - i, hi - i);
            if (whole)
                store(t, v);
            else
                store_part(t, v, n - i);
        }
    }
}

}  // namespace fastconv

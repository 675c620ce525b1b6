// Vectors of the compiled-for instruction set, by the compiler's vector extension: one source, any width.
#pragma once
#include <cstddef>
#include <cstring>
#if defined(__AVX512F__)
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

// Copies n elements, most runs being about a vector long: a call to memcpy would cost more than the copy.
inline void copy_run(float* to, const float* from, ptrdiff_t n) {
    constexpr int L = LANES<float>;
    for (; n >= L; n -= L, to += L, from += L) store(to, load(from));
#if defined(__AVX512F__)
    __mmask16 rest = (__mmask16)((1u << n) - 1);
    _mm512_mask_storeu_ps(to, rest, _mm512_maskz_loadu_ps(rest, from));
#else
    for (ptrdiff_t i = 0; i < n; i++) to[i] = from[i];
#endif
}
inline void copy_run(double* to, const double* from, ptrdiff_t n) {
    constexpr int L = LANES<double>;
    for (; n >= L; n -= L, to += L, from += L) store(to, load(from));
#if defined(__AVX512F__)
    __mmask8 rest = (__mmask8)((1u << n) - 1);
    _mm512_mask_storeu_pd(to, rest, _mm512_maskz_loadu_pd(rest, from));
#else
    for (ptrdiff_t i = 0; i < n; i++) to[i] = from[i];
#endif
}
template <class T> inline void clear_run(T* to, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) to[i] = 0;
}

}  // namespace fastconv

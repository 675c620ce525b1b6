// Vectors of the compiled-for instruction set, by the compiler's vector extension: one source, any width.
#pragma once
#include <cstddef>

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

}  // namespace fastconv

// Runs of elements that vectors cover: as many lanes as fit, down to one.
#pragma once
#include <algorithm>
#include <type_traits>

#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

// L elements: a vector, or one plain element, for which compilers have better code than for a vector of one.
template <class T, int L> struct RunOf : VecOf<T, L> {};
template <class T> struct RunOf<T, 1> {
    typedef T type;
};
template <class T, int L> using Run = typename RunOf<T, L>::type;

// 0, step, 2 step, ...
template <class I, int L> inline Run<I, L> multiples(I step) {
    if constexpr (L == 1) {
        return 0;
    } else {
        Run<I, L> lane;
        for (int i = 0; i < L; i++) lane[i] = i;
        return lane * step;
    }
}

// Is any of L elements a NaN? (A loop over the lanes of a wide vector would cost more than a window's comparisons.)
template <class T, int L> inline bool has_nan(Run<T, L> v) {
    constexpr bool SINGLE = sizeof(T) == 4;
    if constexpr (L == 1) return v != v;
#if defined(__AVX512F__)
    else if constexpr (L * sizeof(T) == 64 && SINGLE) return _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    else if constexpr (L * sizeof(T) == 64) return _mm512_cmp_pd_mask((__m512d)v, (__m512d)v, _CMP_UNORD_Q);
#endif
#if defined(__AVX__)
    else if constexpr (L * sizeof(T) == 32 && SINGLE)
        return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q));
    else if constexpr (L * sizeof(T) == 32)
        return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, (__m256d)v, _CMP_UNORD_Q));
#endif
#if defined(__SSE2__)
    else if constexpr (L * sizeof(T) == 16 && SINGLE) return _mm_movemask_ps(_mm_cmpunord_ps((__m128)v, (__m128)v));
    else if constexpr (L * sizeof(T) == 16) return _mm_movemask_pd(_mm_cmpunord_pd((__m128d)v, (__m128d)v));
#endif
    else {
        bool found = false;
        for (int i = 0; i < L; i++) found |= v[i] != v[i];
        return found;
    }
}

// a > b ? a : b, for which gcc 12 compares and selects. The masks spare a warning about its own header.
template <class T, int L> inline Run<T, L> larger(Run<T, L> a, Run<T, L> b) {
    constexpr bool SINGLE = sizeof(T) == 4;
    if constexpr (L == 1) return a > b ? a : b;
#if defined(__AVX512F__)
    else if constexpr (L * sizeof(T) == 64 && SINGLE) return (Run<T, L>)_mm512_maskz_max_ps((__mmask16)-1, (__m512)a, (__m512)b);
    else if constexpr (L * sizeof(T) == 64) return (Run<T, L>)_mm512_maskz_max_pd((__mmask8)-1, (__m512d)a, (__m512d)b);
#endif
#if defined(__AVX__)
    else if constexpr (L * sizeof(T) == 32 && SINGLE) return (Run<T, L>)_mm256_max_ps((__m256)a, (__m256)b);
    else if constexpr (L * sizeof(T) == 32) return (Run<T, L>)_mm256_max_pd((__m256d)a, (__m256d)b);
#endif
#if defined(__SSE2__)
    else if constexpr (L * sizeof(T) == 16 && SINGLE) return (Run<T, L>)_mm_max_ps((__m128)a, (__m128)b);
    else if constexpr (L * sizeof(T) == 16) return (Run<T, L>)_mm_max_pd((__m128d)a, (__m128d)b);
#endif
    else return a > b ? a : b;
}

template <int V> using Constant = std::integral_constant<int, V>;

// Calls body(Constant<L>) with the lanes of a vector, halved until they are at most `count`.
template <class T, int L = LANES<T>, class Body> inline auto with_lanes(idx count, Body body) {
    if constexpr (L > 1)
        if (count < L) return with_lanes<T, L / 2>(count, body);
    return body(Constant<L>{});
}

// Calls body(Constant<L>, first) for runs of L elements that cover [begin, end); the last may overlap its neighbour.
template <class T, class Body> inline void cover(idx begin, idx end, Body body) {
    with_lanes<T>(end - begin, [=](auto lanes) {
        for (idx i = begin; i < end; i += lanes) body(lanes, std::min(i, end - lanes));
    });
}

}  // namespace fastconv

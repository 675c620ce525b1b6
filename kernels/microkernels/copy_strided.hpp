// Elements at a distance, copied side by side.
#pragma once
#include <algorithm>

#include "geometry.hpp"
#include "transpose.hpp"
#include "vec.hpp"

namespace fastconv {

// A step known to the compiler lets it take the elements out of whole vectors.
template <int STEP, class T> inline void copy_every(T* __restrict to, const T* __restrict from, idx n) {
    for (idx i = 0; i < n; i++) to[i] = from[STEP * i];
}

// Every other of two vectors.
template <class T> inline void copy_every_other(T* to, const T* from, idx n) {
    constexpr int L = LANES<T>;
    typedef typename Lane<T>::type Index __attribute__((vector_size(L * sizeof(T))));
    typedef T Full __attribute__((vector_size(L * sizeof(T))));
    Index even;
    for (int i = 0; i < L; i++) even[i] = 2 * i;
    for (; n > L; n -= L, to += L, from += 2 * L)
        store(to, (Vec<T>)__builtin_shuffle((Full)load(from), (Full)load(from + L), even));
    const idx last = 2 * n - 1;  // elements up to the last one read
    if (n > 0)
        store_part(to,
                   (Vec<T>)__builtin_shuffle((Full)load_part(from, std::min<idx>(L, last)),
                                             (Full)load_part(from + L, std::max<idx>(0, last - L)), even),
                   n);
}

template <class T> inline void copy_strided(T* to, const T* from, idx n, idx step) {
    switch (step) {
        case 1: return copy_run(to, from, n);
        case 2: return copy_every_other(to, from, n);
        case 3: return copy_every<3>(to, from, n);
        case 4: return copy_every<4>(to, from, n);
        default:
            for (idx i = 0; i < n; i++) to[i] = from[i * step];
    }
}

}  // namespace fastconv

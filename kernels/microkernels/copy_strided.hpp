// Elements at a distance, copied side by side.
#pragma once
#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

// A step known to the compiler lets it take the elements out of whole vectors.
template <int STEP, class T> inline void copy_every(T* __restrict to, const T* __restrict from, idx n) {
    for (idx i = 0; i < n; i++) to[i] = from[STEP * i];
}

template <class T> inline void copy_strided(T* to, const T* from, idx n, idx step) {
    switch (step) {
        case 1: return copy_run(to, from, n);
        case 2: return copy_every<2>(to, from, n);
        case 3: return copy_every<3>(to, from, n);
        case 4: return copy_every<4>(to, from, n);
        default:
            for (idx i = 0; i < n; i++) to[i] = from[i * step];
    }
}

}  // namespace fastconv

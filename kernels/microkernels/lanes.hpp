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

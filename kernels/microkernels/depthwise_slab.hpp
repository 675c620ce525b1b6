// Slabs for convolutions whose groups are narrower than a vector: lanes are outputs, each with its group's inputs.
//
// With D input channels a group a pixel of the slab is D vectors, [row][pixel][d][lane]: lane l of vector d holds input
// channel d of the group of output l. Depthwise is D = 1; its taps, D times as many here, are what the tiles see.
#pragma once
#include "filters.hpp"
#include "slab.hpp"

namespace fastconv {

// Groups of `depth` source channels and `width` channels written.
struct Groups {
    idx depth, width;
    bool plain() const { return depth == 1 && width == 1; }
    idx source(idx channel, idx d) const { return channel / width * depth + d; }
    // Vectors of source channels that L outputs meet, at most.
    idx vectors(int L) const { return plain() ? 1 : ceil_div(((L - 1 + width - 1) / width + 1) * depth, idx(L)); }
};

// Of outputs [channel, channel + lanes), the source lane of each, counted from the first source channel.
template <class T> struct LaneMap {
    typedef typename Lane<T>::type Index;
    idx first, count;
    std::vector<Index> at;  // [d][lane]

    LaneMap(const Groups& groups, idx channel, idx lanes) : first(groups.source(channel, 0)) {
        count = groups.source(channel + lanes - 1, groups.depth - 1) - first + 1;
        for (idx d = 0; d < groups.depth; d++)
            for (idx l = 0; l < LANES<T>; l++)
                at.push_back((Index)(groups.source(channel + std::min(l, lanes - 1), d) - first));
    }
};

// to = the lanes of (a, b) that index names; index is L numbers.
template <class T> inline void pick_lanes(Vec<T> a, Vec<T> b, const typename Lane<T>::type* index, T* to) {
    constexpr int L = LANES<T>;
    typedef typename Lane<T>::type I;
    typedef I Index __attribute__((vector_size(L * sizeof(T))));
    typedef T Full __attribute__((vector_size(L * sizeof(T))));
    Index lanes;
    memcpy(&lanes, index, sizeof lanes);
    store(to, (Vec<T>)__builtin_shuffle((Full)a, (Full)b, lanes));
}

// natural [vector][pixel][lane] -> slab [pixel][d][lane]
template <class T> void spread_lanes(const LaneMap<T>& map, const T* natural, idx pixels, T* slab) {
    constexpr int L = LANES<T>;
    const idx vectors = ceil_div<idx>(map.count, L), plane = pixels * L, depth = (idx)map.at.size() / L;
    for (idx p = 0; p < pixels; p++, natural += L) {
        if (vectors > 2) {
            for (idx i = 0; i < depth * L; i++) slab[i] = natural[map.at[i] / L * plane + map.at[i] % L];
        } else {
            const Vec<T> a = load(natural), b = vectors == 2 ? load(natural + plane) : a;
            for (idx d = 0; d < depth; d++) pick_lanes<T>(a, b, map.at.data() + d * L, slab + d * L);
        }
        slab += depth * L;
    }
}

// The source pixels of a window (its channels are outputs) as a slab; `natural` holds Groups::vectors slabs.
template <class T> void load_group_slab(const Image<const T>& x, const Groups& groups, Window window, T* natural, T* slab) {
    if (groups.plain()) return load_slab(x, window, slab);
    const LaneMap<T> map(groups, window.c, window.lanes);
    window.c = map.first, window.lanes = map.count;
    load_slab(x, window, natural);
    spread_lanes(map, natural, window.rows * window.columns, slab);
}

// A weight of output `channel`.
template <class T> T* group_weight(const Filters<T>& f, const Groups& groups, idx tap, idx d, idx channel) {
    return const_cast<T*>(f.at) + tap * f.tap_stride + d * f.depth_stride + channel % groups.width * f.column_stride +
           channel / groups.width * f.group_stride;
}

}  // namespace fastconv

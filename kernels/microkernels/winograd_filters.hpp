// Winograd's transformed filters: per group and column panel, [product][tap of the depth][channel][column].
#pragma once
#include "filters.hpp"
#include "winograd_products.hpp"
#include "winograd_tiles.hpp"

namespace fastconv {

// Up to here each thread transforms all filters for itself: to read what another core has just written takes longer where
// level 3 is busy (docs/performance.md). More would crowd the tiles out of it.
constexpr idx WINOGRAD_OWN_BYTES = 3 << 20;
constexpr idx FILTER_CHUNK = 32;  // depths whose taps are gathered at a time: 9 x 32 x NR x 4 bytes = 54 KB

// Filters as one of the two passes meets them.
template <class T> struct WinogradFilters {
    Filters<T> at;
    idx groups, depth_taps, depth, columns;  // the latter two, channels read and written, per group
    bool flipped;                // the input gradient meets the taps in reverse
};

// The layout of the transformed filters. An even number of panels, so that two threads share them evenly, but none of
// a single vector: the tile needs two for its peak.
template <class T> struct FilterPanels {
    Panels<T> panels;
    idx groups, depth;  // of all taps of the depth
    explicit FilterPanels(const WinogradFilters<T>& f)
        : panels(f.columns), groups(f.groups), depth(f.depth_taps * f.depth) {
        if (panels.count % 2 && 2 * (panels.count + 1) <= panels.vectors) panels.count++;
    }
    idx product(int width) const { return odd_lines<T>(depth * width * LANES<T>); }  // elements from one to the next
    idx panel() const { return PRODUCTS * product((int)ceil_div(panels.vectors, panels.count)); }
    idx elements() const { return groups * panels.count * panel(); }
    idx offset(idx group, idx n) const { return (group * panels.count + n) * panel(); }
};

// Channels [first, first + depths) of a panel at a tap of the depth, gathered tap by tap and transformed:
// u[product * stride + d * ld + column].
template <class T, int TAPS>
void transform_filters(const WinogradFilters<T>& f, const Panels<T>& panels, idx group, idx panel, idx tap, idx first,
                       idx depths, T* taps, T* u, idx stride) {
    constexpr int L = LANES<T>, TT = TAPS * TAPS;
    const int width = panels.width(panel);
    const idx ld = width * L, step = f.flipped ? -ld : ld;
    Filters<T> plane = f.at;
    plane.at += (f.flipped ? f.depth_taps - 1 - tap : tap) * TT * plane.tap_stride;
    for (idx at = 0; at < depths; at += FILTER_CHUNK) {
        const idx chunk = std::min(FILTER_CHUNK, depths - at);
        pack_filter_taps(plane, TT, group, first + at, chunk, panels.first(panel), panels.filled(panel), taps, ld);
        for (idx d = 0; d < chunk; d++)
            for (int j = 0; j < width; j++)
                filter_transform_2d<T, TAPS>(taps + (d * TT + (f.flipped ? TT - 1 : 0)) * ld + j * L, TAPS * step, step,
                                             u + (at + d) * ld + j * L, stride);
    }
}

template <class T> constexpr idx taps_elements(idx taps) { return taps * taps * FILTER_CHUNK * NR<T>; }

// All of them, into layout.elements().
template <class T, int TAPS>
void transform_all_filters(const WinogradFilters<T>& f, const FilterPanels<T>& layout, T* u, int threads) {
    const idx chunks = ceil_div(f.depth, FILTER_CHUNK), jobs = f.groups * layout.panels.count * f.depth_taps * chunks;
    // about 100 cycles for a vector of filters, as long as 6000 flops take
    threads = useful_threads(threads, jobs, 6e3 * f.groups * layout.depth * layout.panels.vectors);
    Workspace workspace(padded_bytes<T>(taps_elements<T>(TAPS)), threads);
    parallel_for(jobs, threads, [&](idx job, int thread) {
        const idx d = job % chunks * FILTER_CHUNK, tap = job / chunks % f.depth_taps;
        const idx panel = job / chunks / f.depth_taps % layout.panels.count;
        const idx group = job / chunks / f.depth_taps / layout.panels.count;
        const int width = layout.panels.width(panel);
        transform_filters<T, TAPS>(f, layout.panels, group, panel, tap, d, std::min(FILTER_CHUNK, f.depth - d),
                                   (T*)workspace.of(thread),
                                   u + layout.offset(group, panel) + (tap * f.depth + d) * width * LANES<T>,
                                   layout.product(width));
    });
}

// Transformed filters, of each thread or of all.
template <class T> class ThreadFilters {
public:
    const bool own;

    ThreadFilters(idx elements, int threads)
        : own(elements * (idx)sizeof(T) <= WINOGRAD_OWN_BYTES), made(threads, !own), memory(padded_bytes<T>(elements), own ? threads : 1) {}
    T* all() const { return (T*)memory.of(0); }
    // make(u) transforms a thread's own, once.
    template <class Make> const T* of(int thread, Make make) {
        T* u = (T*)memory.of(own ? thread : 0);
        if (!made[thread]) make(u), made[thread] = true;
        return u;
    }

private:
    std::vector<char> made;
    Workspace memory;
};

}  // namespace fastconv

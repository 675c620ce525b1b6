// How a kernel finds a filter's weights, whatever the layout and the pass.
#pragma once
#include "geometry.hpp"
#include "transpose.hpp"

namespace fastconv {

// weight(tap, depth, column) = at[tap * tap_stride + depth * depth_stride + column * column_stride] in a group;
// depth is summed over (C forward, K in the input gradient), column is the channel written.
template <class T> struct Filters {
    const T* at;
    idx tap_stride, depth_stride, column_stride, group_stride;
    const T* packed = nullptr;  // a plan's: the PackedFilters of all views after one another; `at` is null then
};

template <class T> inline Filters<T> forward_filters(const Geometry& g, const T* w) {
    if (g.channels_last) return {w, g.c_group() * g.k, g.k, 1, g.k_group()};
    return {w, 1, g.taps(), g.c_group() * g.taps(), g.k_group() * g.c_group() * g.taps()};
}

template <class T> inline Filters<T> input_grad_filters(const Geometry& g, const T* w) {
    Filters<T> f = forward_filters(g, w);
    return {f.at, f.tap_stride, f.column_stride, f.depth_stride, f.group_stride};
}

// weight(tap, depth0 + d, column0 + j) -> panel[d * ld + j], zero in columns [columns, ld).
template <class T>
inline void pack_filter_panel(const Filters<T>& f, idx group, idx tap, idx depth0, idx depths, idx column0,
                              idx columns, T* panel, idx ld) {
    const T* w = f.at + group * f.group_stride + tap * f.tap_stride + depth0 * f.depth_stride +
                 column0 * f.column_stride;
    if (f.column_stride == 1)
        copy_rows(w, f.depth_stride, depths, columns, panel, ld);
    else if (f.depth_stride == 1)
        transpose(w, f.column_stride, columns, depths, panel, ld);
    else
        for (idx d = 0; d < depths; d++)
            for (idx j = 0; j < columns; j++)
                panel[d * ld + j] = w[d * f.depth_stride + j * f.column_stride];
    if (columns < ld)
        for (idx d = 0; d < depths; d++) clear_run(panel + d * ld + columns, ld - columns);
}

// All taps of depths [depth0, +depths) and columns [column0, +columns) -> panel[(d * taps + tap) * ld + j].
template <class T>
void pack_filter_taps(const Filters<T>& f, idx taps, idx group, idx depth0, idx depths, idx column0, idx columns, T* panel,
                      idx ld) {
    const T* w = f.at + group * f.group_stride + depth0 * f.depth_stride + column0 * f.column_stride;
    if (f.tap_stride == 1 && f.depth_stride == taps)
        transpose(w, f.column_stride, columns, depths * taps, panel, ld);
    else if (f.tap_stride == 1)  // column_stride == taps
        for (idx d = 0; d < depths; d++)
            transpose(w + d * f.depth_stride, f.column_stride, columns, taps, panel + d * taps * ld, ld);
    else if (f.column_stride == 1)
        for (idx d = 0; d < depths; d++)
            for (idx tap = 0; tap < taps; tap++)
                copy_run(panel + (d * taps + tap) * ld, w + tap * f.tap_stride + d * f.depth_stride, columns);
    else  // depth_stride == 1
        for (idx tap = 0; tap < taps; tap++)
            transpose(w + tap * f.tap_stride, f.column_stride, columns, depths, panel + tap * ld, taps * ld);
    if (columns < ld)
        for (idx row = 0; row < depths * taps; row++) clear_run(panel + row * ld + columns, ld - columns);
}

}  // namespace fastconv

// The views of the shifted kernel: the forward pass, and the input gradient with its columns' phases side by side.
#pragma once
#include "filters.hpp"
#include "shifted_conv.hpp"

namespace fastconv {

// (taps, C/groups, K) -> (K, C/groups, taps), as channels-first filters are.
template <class T> std::vector<T> filters_by_rows(const Geometry& g, const T* w) {
    const idx taps = g.taps(), depth = g.c_group();
    std::vector<T> rows(taps * depth * g.k);
    for (idx k = 0; k < g.k; k++)
        for (idx i = 0; i < depth; i++)
            for (idx t = 0; t < taps; t++) rows[(k * depth + i) * taps + t] = w[(t * depth + i) * g.k + k];
    return rows;
}

// `w` is (K, C/groups, taps).
template <class T> ShiftedView<T> shifted_forward_view(const Geometry& g, const T* w) {
    ShiftedView<T> v{forward_view(g), 1, {}};
    RowPart<T> all{0, g.k_group(), {}, w, g.c_group() * g.taps(), g.k * g.c_group() * g.taps() / g.groups};
    for (idx t = 0; t < g.taps(); t++) all.taps.push_back(t);
    v.parts.push_back(all);
    return v;
}

// Filters of one part, rows (phase, channel): (K, C/groups, taps) or (taps, C/groups, K) -> (rows, K/groups, taps of
// the part). `column` is the filter's column at each of the view's, for the first phase; the next phase's is one on.
template <class T>
void pack_part(const Geometry& g, const Filters<T>& f, const View& v, const std::vector<idx>& column, RowPart<T>& part,
               T* to, int threads) {
    const idx cg = g.c_group(), kg = g.k_group(), width = v.axis[2].taps(), height = v.axis[1].taps();
    part.filters = to, part.row = kg * (idx)part.taps.size(), part.group = part.rows * part.row;
    std::vector<idx> at;
    for (idx tap : part.taps) {
        const idx d = v.axis[0].tap[tap / width / height], h = v.axis[1].tap[tap / width % height];
        at.push_back(((d * g.window[1] + h) * g.window[2] + column[tap % width]) * f.tap_stride);
    }
    parallel_for(g.groups * part.rows, threads, [&](idx job, int) {
        const idx group = job / part.rows, row = job % part.rows, phase = (part.first + row) / cg - part.first / cg;
        const T* from = f.at + group * f.group_stride + row % cg * f.column_stride + phase * f.tap_stride;
        T* filters = to + job * part.row;
        for (idx k = 0; k < kg; k++, from += f.depth_stride)
            for (idx offset : at) *filters++ = from[offset];
    });
}

// All column phases as one axis of (size + stride - 1) / stride positions, and the phases [lo, hi) that each tap serves.
inline Axis joined_phases(const Geometry& g, std::vector<idx>& lo, std::vector<idx>& hi) {
    const idx stride = g.stride[2], window = g.window[2], before = g.before[2];
    Axis x{g.out[2], ceil_div(g.size[2], stride), 1, 0, stride, {}, {}};
    const idx phases = std::min(stride, g.size[2]);
    for (idx o = -ceil_div(window, stride) - 1; o <= (phases - 1 + before) / stride; o++) {
        const idx begin = std::max<idx>(0, o * stride - before), end = std::min(phases, o * stride - before + window);
        if (begin >= end) continue;
        x.offset.push_back(o), x.tap.push_back(0), lo.push_back(begin), hi.push_back(end);
    }
    return x;
}

// The parts of a view with joined phases: taps that serve the same phases, those that serve most first.
template <class T>
std::vector<RowPart<T>> phase_parts(const Geometry& g, const View& v, const std::vector<idx>& lo, const std::vector<idx>& hi) {
    std::vector<RowPart<T>> parts;
    const idx width = v.axis[2].taps(), rows = v.axis[0].taps() * v.axis[1].taps();
    for (idx o = 0; o < width; o++) {
        const idx first = lo[o] * g.c_group(), count = (hi[o] - lo[o]) * g.c_group();
        size_t i = 0;
        while (i < parts.size() && (parts[i].first != first || parts[i].rows != count)) i++;
        if (i == parts.size()) parts.push_back({first, count, {}, nullptr, 0, 0});
        for (idx r = 0; r < rows; r++) parts[i].taps.push_back(r * width + o);
    }
    std::stable_sort(parts.begin(), parts.end(), [](const RowPart<T>& a, const RowPart<T>& b) { return a.rows > b.rows; });
    return parts;
}

// The views of the input gradient; `packed` holds their filters. Phases are joined where the window has no holes.
template <class T>
std::vector<ShiftedView<T>> shifted_gradient_views(const Geometry& g, const T* w, std::vector<T>& packed, int threads) {
    const Filters<T> f = input_grad_filters(g, w);
    const bool joined = g.stride[2] > 1 && g.dilation[2] == 1 && g.size[2] >= g.stride[2];
    std::vector<ShiftedView<T>> views;
    packed.resize(g.taps() * g.c * g.k_group());
    threads = useful_threads(threads, g.c, 20.0 * packed.size());
    T* next = packed.data();
    for (View& view : input_grad_views(g)) {
        if (joined && view.axis[2].first > 0) continue;
        ShiftedView<T> v{view, joined ? g.stride[2] : 1, {}};
        std::vector<idx> lo(view.axis[2].taps(), 0), hi(view.axis[2].taps(), 1), column = view.axis[2].tap;
        if (joined) {
            lo.clear(), hi.clear(), column.clear();
            v.view.axis[2] = joined_phases(g, lo, hi);
            for (size_t o = 0; o < lo.size(); o++)
                column.push_back(lo[o] + g.before[2] - v.view.axis[2].offset[o] * g.stride[2]);
        }
        v.parts = phase_parts<T>(g, v.view, lo, hi);
        for (RowPart<T>& part : v.parts) {
            pack_part(g, f, v.view, column, part, next, threads);
            next += g.groups * part.group;
        }
        views.push_back(std::move(v));
    }
    return views;
}

template <class T> ShiftedConv<T> shifted_problem(const Geometry& g, bool input_grad, const T* source, T* dest) {
    const idx from = input_grad ? g.k : g.c, to = input_grad ? g.c : g.k;
    const idx source_plane = input_grad ? g.out_pixels() : g.pixels(), dest_plane = input_grad ? g.pixels() : g.out_pixels();
    const bool last = g.channels_last;
    ShiftedConv<T> p{g.n, g.groups, from / g.groups, to / g.groups,
                     source, from * source_plane, last ? 1 : source_plane, last ? from : 1,
                     dest, to * dest_plane, last ? 1 : dest_plane, last ? to : 1, {}, nullptr, LINEAR};
    for (int a = 0; a < 3; a++) p.dest_size[a] = input_grad ? g.size[a] : g.out[a];
    return p;
}

}  // namespace fastconv

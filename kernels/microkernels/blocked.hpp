// The blocked kernel: implicit GEMM for the three passes, no im2col buffer (Goto, van de Geijn 2008; Dukhan 2019).
#pragma once
#include "filter_grad.hpp"
#include "gather_boxes.hpp"
#include "pointwise.hpp"
#include "gather_last.hpp"
#include "shifted_conv.hpp"
#include "shifted_grad.hpp"

namespace fastconv {

template <class T>
ChannelsLast<T> channels_last_problem(const Geometry& g, bool input_grad, const T* source, T* dest) {
    const idx depth = input_grad ? g.k_group() : g.c_group(), columns = input_grad ? g.c_group() : g.k_group();
    ChannelsLast<T> p{g.n, g.groups, depth, columns, {source, {}, {}, depth * g.groups}, {dest, {}, {}, columns * g.groups},
                      nullptr, LINEAR};
    for (int a = 0; a < 3; a++) {
        p.source.size[a] = input_grad ? g.out[a] : g.size[a];
        p.dest.size[a] = input_grad ? g.size[a] : g.out[a];
    }
    return p;
}

template <class T>
ChannelsFirst<T> channels_first_problem(const Geometry& g, bool input_grad, const T* source, T* dest) {
    const idx depth = input_grad ? g.k_group() : g.c_group(), rows = input_grad ? g.c_group() : g.k_group();
    const idx source_plane = input_grad ? g.out_pixels() : g.pixels();
    const idx dest_plane = input_grad ? g.pixels() : g.out_pixels();
    ChannelsFirst<T> p{g.n, g.groups, depth, rows, depth * g.groups * source_plane, source_plane,
                       rows * g.groups * dest_plane, dest_plane, {}, source, dest, nullptr, LINEAR};
    for (int a = 0; a < 3; a++) p.dest_size[a] = input_grad ? g.size[a] : g.out[a];
    return p;
}

// A 1x1 window at stride 1 without padding.
inline bool pointwise(const View& v) {
    for (const Axis& x : v.axis)
        if (x.taps() != 1 || x.offset[0] || x.step != 1 || x.stride != 1 || x.size != x.out) return false;
    return true;
}

// Packing a panel pays when many rows share it; a volume's shifts need none, but compute between the rows too.
constexpr idx SHIFTED_ROWS = 64;

template <class T>
void run_channels_first(const Geometry& g, const std::vector<View>& views, const Filters<T>& filters,
                        const ChannelsFirst<T>& p, int threads) {
    if (views.size() == 1 && pointwise(views[0]))
        pointwise_first(g, p, Matrix<const T>{filters.at, filters.column_stride, filters.depth_stride}, filters.group_stride,
                        threads);
    else
        gather_boxes(g, views, filters, p, threads);
}

// Filters of the input gradient as rows: (K, C/groups, taps) -> per view (C/groups, K/groups x the view's taps).
template <class T>
void pack_filter_rows(const Geometry& g, const T* w, const View& v, T* rows, int threads) {
    const idx taps = v.taps(), kg = g.k_group(), cg = g.c_group();
    std::vector<idx> tap;
    for (idx d : v.axis[0].tap)
        for (idx h : v.axis[1].tap)
            for (idx x : v.axis[2].tap) tap.push_back((d * g.window[1] + h) * g.window[2] + x);
    parallel_for(g.c, threads, [&](idx c, int) {
        T* to = rows + c * kg * taps;
        const T* from = w + (c / cg * kg * cg + c % cg) * g.taps();
        for (idx k = 0; k < kg; k++, from += cg * g.taps())
            for (idx t = 0; t < taps; t++) *to++ = from[tap[t]];
    });
}

template <class T>
void blocked_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    std::vector<View> views{forward_view(g)};
    if (g.channels_last) {
        ChannelsLast<T> p = channels_last_problem(g, false, x, y);
        p.bias = bias, p.activation = activation;
        gather_channels_last(g, views, forward_filters(g, w), p, threads);
    } else {
        ChannelsFirst<T> p = channels_first_problem(g, false, x, y);
        p.bias = bias, p.activation = activation;
        const idx row = g.c_group() * g.taps();
        if (p.rows <= SHIFTED_ROWS && g.taps() > 1)
            shifted_conv(g, views, {{w, row, g.k_group() * row}}, p, threads);
        else
            run_channels_first(g, views, forward_filters(g, w), p, threads);
    }
}

template <class T> void blocked_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    std::vector<View> views = input_grad_views(g);
    if (g.channels_last) {
        gather_channels_last(g, views, input_grad_filters(g, w), channels_last_problem(g, true, dy, dx), threads);
    } else {
        ChannelsFirst<T> p = channels_first_problem(g, true, dy, dx);
        if (p.rows > SHIFTED_ROWS || g.taps() == 1) return run_channels_first(g, views, input_grad_filters(g, w), p, threads);
        std::vector<T> packed(g.taps() * g.c * g.k_group());
        std::vector<FilterRows<T>> filters;
        T* next = packed.data();
        for (View& v : views) {
            const idx row = g.k_group() * v.taps();
            pack_filter_rows(g, w, v, next, useful_threads(threads, g.c, 20.0 * g.c * row));
            filters.push_back({next, row, g.c_group() * row});
            next += g.c * row;
        }
        shifted_conv(g, views, filters, p, threads);
    }
}

// Below a tile's rows of channels, rows are made of channels and taps together.
template <class T>
void blocked_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const bool few = g.c_group() < MR && g.taps() > 1 && g.taps() * g.c_group() * g.k * (idx)sizeof(T) <= PRIVATE_GRAD_BYTES;
    if (few)
        shifted_filter_grad(g, x, dy, dw, db, threads);
    else
        gemm_filter_grad(g, x, dy, dw, db, threads);
}

}  // namespace fastconv

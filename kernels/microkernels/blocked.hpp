// The blocked kernel: implicit GEMM for the three passes, no im2col buffer (Goto, van de Geijn 2008; Dukhan 2019).
#pragma once
#include "conv_cost.hpp"
#include "filter_grad.hpp"
#include "gather_boxes.hpp"
#include "pointwise_first.hpp"
#include "pointwise_grad.hpp"
#include "pointwise_last.hpp"
#include "gather_last.hpp"
#include "group_grad.hpp"
#include "image_conv.hpp"
#include "padded_conv.hpp"
#include "padded_grad.hpp"
#include "phases.hpp"
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

// Less than a vector of them: packing costs as much as the products.
template <class T> bool few_channels(const Geometry& g) { return g.c_group() < LANES<T>; }

inline std::vector<View> conv_views(const Geometry& g, bool input_grad) {
    return input_grad ? input_grad_views(g) : std::vector<View>{forward_view(g)};
}

template <class T>
void run_channels_first(const Geometry& g, const std::vector<View>& views, const Filters<T>& filters,
                        const ChannelsFirst<T>& p, int threads) {
    if (pointwise(views))
        pointwise_first(g, views[0], p, Matrix<const T>{filters.at, filters.column_stride, filters.depth_stride}, filters.group_stride,
                        threads);
    else
        gather_boxes(g, views, filters, p, threads);
}

template <class T>
void run_channels_last(const Geometry& g, const std::vector<View>& views, const Filters<T>& filters, const ChannelsLast<T>& p,
                       int threads) {
    if (pointwise(views))
        PointwiseLast<T>(p, views[0], PackedFilters<T>(g, views[0], filters, p.groups, p.depth, p.columns))
            .run(flops_of(g), threads);
    else
        gather_channels_last(g, views, filters, p, threads);
}

template <class T>
void gathered_forward(const Geometry& g, const std::vector<View>& views, const T* x, const Filters<T>& filters, const T* bias,
                      Activation activation, T* y, int threads) {
    if (g.channels_last) {
        ChannelsLast<T> p = channels_last_problem(g, false, x, y);
        p.bias = bias, p.activation = activation;
        run_channels_last(g, views, filters, p, threads);
    } else {
        ChannelsFirst<T> p = channels_first_problem(g, false, x, y);
        p.bias = bias, p.activation = activation;
        run_channels_first(g, views, filters, p, threads);
    }
}

template <class T>
void gathered_input_grad(const Geometry& g, const std::vector<View>& views, const T* dy, const Filters<T>& filters, T* dx,
                         int threads) {
    if (g.channels_last)
        run_channels_last(g, views, filters, channels_last_problem(g, true, dy, dx), threads);
    else
        run_channels_first(g, views, filters, channels_first_problem(g, true, dy, dx), threads);
}

template <class T>
void blocked_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    const std::vector<View> views = conv_views(g, false);
    switch (conv_choice<T>(g, views, false).way) {
    case IMAGES:
        return image_conv(g, views[0], forward_filters(g, w), input_images(g, x), output_images(g, y), bias, activation, threads);
    case PADDED: return padded_forward(g, x, w, bias, activation, y, threads);
    case SHIFTED: {
        ShiftedConv<T> p = shifted_problem(g, false, x, y);
        p.bias = bias, p.activation = activation;
        const std::vector<T> rows = g.channels_last ? filters_by_rows(g, w) : std::vector<T>();
        return shifted_conv(p, {shifted_forward_view(g, g.channels_last ? rows.data() : w)}, flops_of(g), threads);
    }
    case GATHER: return gathered_forward(g, views, x, forward_filters(g, w), bias, activation, y, threads);
    }
}

template <class T> void blocked_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    const std::vector<View> views = conv_views(g, true);
    const ConvWay way = conv_choice<T>(g, views, true).way;
    if (way == IMAGES)
        return image_conv<T>(g, views[0], input_grad_filters(g, w), output_images(g, dy), input_images(g, dx), nullptr, LINEAR,
                             threads);
    if (way == SHIFTED) {
        std::vector<T> packed;
        const std::vector<ShiftedView<T>> shifted = shifted_gradient_views(g, w, packed, threads);
        return shifted_conv(shifted_problem(g, true, dy, dx), shifted, flops_of(g), threads);
    }
    gathered_input_grad(g, views, dy, input_grad_filters(g, w), dx, threads);
}

// What a forward pass or an input gradient takes on one thread, as the choice of its way expects.
template <class T> double blocked_nanoseconds(const Geometry& g, bool input_grad) {
    return conv_choice<T>(g, conv_views(g, input_grad), input_grad).nanoseconds;
}

// The packed filters of a pass, a view after another; none where its filters are read in place or are few.
template <class T> std::vector<PackedFilters<T>> blocked_filters(const Geometry& g, bool input_grad, const T* w) {
    const std::vector<View> views = conv_views(g, input_grad);
    std::vector<PackedFilters<T>> packed;
    if (conv_choice<T>(g, views, input_grad).way != GATHER || (!g.channels_last && pointwise(views))) return packed;
    const Filters<T> filters = input_grad ? input_grad_filters(g, w) : forward_filters(g, w);
    const idx depth = input_grad ? g.k_group() : g.c_group(), columns = input_grad ? g.c_group() : g.k_group();
    for (const View& v : views) packed.emplace_back(g, v, filters, g.groups, depth, columns);
    return packed;
}

template <class T> idx blocked_prepared_elements(const Geometry& g, bool input_grad) {
    idx elements = 0;
    for (const PackedFilters<T>& p : blocked_filters<T>(g, input_grad, nullptr)) elements += p.elements();
    return elements;
}

template <class T> void blocked_prepare(const Geometry& g, bool input_grad, const T* w, T* packed, int threads) {
    for (const PackedFilters<T>& p : blocked_filters(g, input_grad, w)) {
        p.pack_into(packed, threads);
        packed += p.elements();
    }
}

template <class T>
void blocked_forward_prepared(const Geometry& g, const T* x, const T* packed, const T* bias, Activation activation, T* y,
                              int threads) {
    Filters<T> filters = forward_filters<T>(g, nullptr);
    filters.packed = packed;
    gathered_forward(g, conv_views(g, false), x, filters, bias, activation, y, threads);
}

template <class T>
void blocked_input_grad_prepared(const Geometry& g, const T* dy, const T* packed, T* dx, int threads) {
    Filters<T> filters = input_grad_filters<T>(g, nullptr);
    filters.packed = packed;
    gathered_input_grad(g, conv_views(g, true), dy, filters, dx, threads);
}

// Below a tile's rows of channels, rows are made of channels and taps together.
template <class T>
void blocked_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    if (group_grad_takes<T>(g) && !shifts_beat_rotations<T>(g)) {
        group_filter_grad(g, x, dy, dw, threads);
        if (db) bias_grad(g, dy, db, threads);
        return;
    }
    const bool few = few_channels<T>(g) && g.taps() > 1 && g.taps() * g.c_group() * g.k * (idx)sizeof(T) <= PRIVATE_GRAD_BYTES;
    if (few && (g.channels_last || g.k_group() >= LANES<T>))
        padded_filter_grad(g, x, dy, dw, db, threads);
    else if (few)
        shifted_filter_grad(g, x, dy, dw, db, threads);
    else if (pointwise_grad_takes(g))
        pointwise_filter_grad(g, x, dy, dw, db, threads);
    else
        gemm_filter_grad(g, x, dy, dw, db, threads);
}

}  // namespace fastconv

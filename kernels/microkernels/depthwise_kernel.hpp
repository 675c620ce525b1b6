// The depthwise kernel: in place where the layout allows it, through slabs elsewhere.
#pragma once
#include "depthwise_first_grad.hpp"
#include "depthwise_grad.hpp"
#include "group_grad.hpp"

namespace fastconv {

template <class T>
void run_depthwise(const Geometry& g, const std::vector<View>& views, const Depthwise<T>& p, int threads) {
    if (transposed_depthwise<T>(g)) return depthwise_conv_first(g, views, p, threads);
    if (!in_place_depthwise<T>(g)) return depthwise_conv(g, views, p, threads);
    const Image<const T>& from = p.source;
    const Image<T>& to = p.dest;
    const DepthwiseLast<T> last{g.c, ChannelVectors<T>(g.c, from.at), {from.depth, from.height, from.width},
                                {to.depth, to.height, to.width}, from.at, to.at, p.bias, p.activation, nullptr, false};
    depthwise_conv_last(g, views, p.filters.at, last, threads);
}

template <class T>
void depthwise_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    const Groups groups{g.c_group(), g.k_group()};
    const Filters<T> filters = forward_filters(g, const_cast<T*>(w));
    run_depthwise<T>(g, {forward_view(g)},
                     {plane_of(g, false, x), plane_of(g, true, y), filters, groups, g.window, bias, activation}, threads);
}

template <class T> void depthwise_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    const Groups groups{g.k_group(), g.c_group()};
    const Filters<T> filters = input_grad_filters(g, const_cast<T*>(w));
    run_depthwise<T>(g, input_grad_views(g),
                     {plane_of(g, true, dy), plane_of(g, false, dx), filters, groups, g.window, nullptr, LINEAR}, threads);
}

template <class T>
void depthwise_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    if (transposed_depthwise<T>(g) && g.dilation[2] == 1)  // phases would cut short lines
        depthwise_filter_grad_first(g, x, dy, dw, threads);
    else if (in_place_depthwise<T>(g))
        depthwise_filter_grad_last(g, forward_view(g), x, dy, dw, threads);
    else if (group_grad_takes<T>(g))
        group_filter_grad(g, x, dy, dw, threads);
    else
        depthwise_filter_grad_slab(g, x, dy, dw, threads);
    if (db) bias_grad(g, dy, db, threads);
}

}  // namespace fastconv

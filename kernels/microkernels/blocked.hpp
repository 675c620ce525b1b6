// The blocked kernel: implicit GEMM for the three passes, no im2col buffer (Goto, van de Geijn 2008; Dukhan 2019).
#pragma once
#include "filter_grad.hpp"
#include "gather_last.hpp"

namespace fastconv {

template <class T>
ChannelsLast<T> channels_last_problem(const Geometry& g, bool input_grad, const T* source, const T* w, T* dest) {
    const idx depth = input_grad ? g.k_group() : g.c_group(), columns = input_grad ? g.c_group() : g.k_group();
    ChannelsLast<T> p{g.n, g.groups, depth, columns, depth * g.groups, columns * g.groups, {}, {}, source, dest,
                      input_grad ? input_grad_filters(g, w) : forward_filters(g, w), nullptr, LINEAR};
    for (int a = 0; a < 3; a++) {
        p.source_size[a] = input_grad ? g.out[a] : g.size[a];
        p.dest_size[a] = input_grad ? g.size[a] : g.out[a];
    }
    return p;
}

template <class T>
void blocked_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    std::vector<View> views{forward_view(g)};
    ChannelsLast<T> p = channels_last_problem(g, false, x, w, y);
    p.bias = bias, p.activation = activation;
    gather_channels_last(g, views, p, threads);
}

template <class T> void blocked_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    std::vector<View> views = input_grad_views(g);
    gather_channels_last(g, views, channels_last_problem(g, true, dy, w, dx), threads);
}

}  // namespace fastconv

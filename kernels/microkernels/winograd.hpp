// The Winograd kernel: F(4x4, 3x3) and F(2x2, 5x5) for stride 1, any dilation, padding and groups.
#pragma once
#include "bias_grad.hpp"
#include "winograd_conv.hpp"
#include "winograd_grad.hpp"

namespace fastconv {

template <class T, class Pixel> Image<Pixel> image_of(const Geometry& g, bool output, Pixel* at) {
    const idx* size = output ? g.out : g.size;
    return {at, size[1], size[2], output ? g.k : g.c, g.channels_last != 0};
}

template <class T> WinogradFilters<T> winograd_filters(const Geometry& g, bool input_grad, const T* w) {
    if (input_grad) return {input_grad_filters(g, w), g.groups, g.k_group(), g.c_group(), true};
    return {forward_filters(g, w), g.groups, g.c_group(), g.k_group(), false};
}

// Stride 1 makes the input gradient a convolution of dy with the filters turned by 180 degrees.
template <class T>
WinogradConv<T> winograd_problem(const Geometry& g, bool input_grad, const T* source, const T* w, T* dest) {
    const idx taps = g.window[1];
    idx before[2];
    for (int a = 0; a < 2; a++)
        before[a] = input_grad ? g.dilation[a + 1] * (taps - 1) - g.before[a + 1] : g.before[a + 1];
    const Image<T> to = image_of<T>(g, !input_grad, dest);
    return {TileGrid(g.n, to.height, to.width, g.dilation + 1, before, POINTS + 1 - taps),
            image_of<T>(g, input_grad, source), to, winograd_filters(g, input_grad, w), nullptr, LINEAR};
}

template <class T> void run_winograd(const Geometry& g, const WinogradConv<T>& p, int threads) {
    const double flops = 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels();
    g.window[1] == 3 ? winograd_conv<T, 3>(p, nullptr, flops, threads) : winograd_conv<T, 5>(p, nullptr, flops, threads);
}

template <class T>
void winograd_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    WinogradConv<T> p = winograd_problem(g, false, x, w, y);
    p.bias = bias, p.activation = activation;
    run_winograd(g, p, threads);
}

template <class T> void winograd_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    run_winograd(g, winograd_problem(g, true, dy, w, dx), threads);
}

template <class T>
void winograd_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const WinogradGrad<T> p{&g, TileGrid(g.n, g.out[1], g.out[2], g.dilation + 1, g.before + 1, POINTS + 1 - g.window[1]),
                            image_of<T>(g, false, x), image_of<T>(g, true, dy), dw};
    g.window[1] == 3 ? winograd_grad<T, 3>(p, threads) : winograd_grad<T, 5>(p, threads);
    if (db) bias_grad(g, dy, db, threads);
}

}  // namespace fastconv

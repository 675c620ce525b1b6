// The Winograd kernel: F(4x4, 3x3) and F(2x2, 5x5) on the last two axes for stride 1, any dilation, padding and groups;
// any number of taps along the first of three axes. At stride 2 on two axes, classes of taps (winograd_strided.hpp); of
// few input channels, the forward pass at any stride (winograd_shallow.hpp).
#pragma once
#include "bias_grad.hpp"
#include "winograd_conv.hpp"
#include "winograd_grad.hpp"
#include "winograd_shallow.hpp"
#include "winograd_strided.hpp"

namespace fastconv {

template <class T, class Pixel> Image<Pixel> image_of(const Geometry& g, bool output, Pixel* at) {
    const idx* size = output ? g.out : g.size;
    return {at, size[1], size[2], output ? g.k : g.c, g.channels_last != 0, size[0]};
}

inline double winograd_flops(const Geometry& g) { return 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels(); }

template <class T> WinogradFilters<T> winograd_filters(const Geometry& g, bool input_grad, const T* w) {
    if (input_grad) return {input_grad_filters(g, w), g.groups, g.window[0], g.k_group(), g.c_group(), true};
    return {forward_filters(g, w), g.groups, g.window[0], g.c_group(), g.k_group(), false};
}

// Stride 1 makes the input gradient a convolution of dy with the filters turned by 180 degrees.
template <class T>
WinogradConv<T> winograd_problem(const Geometry& g, bool input_grad, const T* source, const T* w, T* dest) {
    idx before[3];
    for (int a = 0; a < 3; a++)
        before[a] = input_grad ? g.dilation[a] * (g.window[a] - 1) - g.before[a] : g.before[a];
    const Image<const T> from = image_of<T>(g, input_grad, source);
    const Image<T> to = image_of<T>(g, !input_grad, dest);
    const DepthTaps depth{g.window[0], from.depth, to.depth, g.dilation[0], before[0]};
    return {TileGrid(g.n, depth, to.height, to.width, g.dilation + 1, before + 1, POINTS + 1 - g.window[1]), from, to,
            winograd_filters(g, input_grad, w), nullptr, LINEAR};
}

template <class T> WinogradGrad<T> winograd_grad_problem(const Geometry& g, const T* x, const T* dy, T* dw) {
    const DepthTaps depth{g.window[0], g.size[0], g.out[0], g.dilation[0], g.before[0]};
    return {&g, TileGrid(g.n, depth, g.out[1], g.out[2], g.dilation + 1, g.before + 1, POINTS + 1 - g.window[1]),
            image_of<T>(g, false, x), image_of<T>(g, true, dy), dw, 0};
}

// `ready`: the filters as winograd_prepare made them, or null.
template <class T> void run_winograd(const Geometry& g, const WinogradConv<T>& p, const T* ready, int threads) {
    if (g.window[1] == 3)
        WinogradRun<T, 3>(p, ready, winograd_flops(g), threads).run();
    else
        WinogradRun<T, 5>(p, ready, winograd_flops(g), threads).run();
}

inline bool strided(const Geometry& g) { return g.stride[1] == 2; }

template <class T>
void winograd_strided(const Geometry& g, bool input_grad, const T* source, const T* w, const T* bias, Activation activation,
                      T* dest, int threads) {
    const TapClasses rows(g, 1, input_grad), columns(g, 2, input_grad);
    const idx dilation[2] = {1, 1}, before[2] = {0, 0};
    const StridedConv<T> p{&g, input_grad, rows, columns,
                           TileGrid(g.n, DepthTaps{1, 1, 1, 1, 0}, rows.count, columns.count, dilation, before, POINTS + 1 - rows.taps()),
                           image_of<T>(g, input_grad, source), image_of<T>(g, !input_grad, dest),
                           winograd_filters(g, input_grad, w), bias, activation};
    if (rows.taps() == 2)
        StridedRun<T, 2>(p, winograd_flops(g), threads).run();
    else
        StridedRun<T, 3>(p, winograd_flops(g), threads).run();
}

template <class T>
void winograd_shallow(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    const ShallowConv<T> p{&g, x, w, bias, activation, y};
    switch (shallow_taps(g)) {
        case 3: return ShallowRun<T, 3>(p, threads).run();
        case 4: return ShallowRun<T, 4>(p, threads).run();
        default: return ShallowRun<T, 5>(p, threads).run();
    }
}

template <class T>
void winograd_forward_with(const Geometry& g, const T* x, const T* w, const T* ready, const T* bias, Activation activation,
                           T* y, int threads) {
    if (!ready && shallow<T>(g)) return winograd_shallow(g, x, w, bias, activation, y, threads);
    if (strided(g)) return winograd_strided(g, false, x, w, bias, activation, y, threads);
    WinogradConv<T> p = winograd_problem(g, false, x, w, y);
    p.bias = bias, p.activation = activation;
    run_winograd(g, p, ready, threads);
}

template <class T>
void winograd_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y, int threads) {
    winograd_forward_with<T>(g, x, w, nullptr, bias, activation, y, threads);
}

template <class T>
void winograd_forward_prepared(const Geometry& g, const T* x, const T* u, const T* bias, Activation activation, T* y,
                               int threads) {
    winograd_forward_with<T>(g, x, nullptr, u, bias, activation, y, threads);
}

template <class T> void winograd_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    if (strided(g)) return winograd_strided<T>(g, true, dy, w, nullptr, LINEAR, dx, threads);
    run_winograd<T>(g, winograd_problem(g, true, dy, w, dx), nullptr, threads);
}

template <class T> void winograd_input_grad_prepared(const Geometry& g, const T* dy, const T* u, T* dx, int threads) {
    run_winograd<T>(g, winograd_problem<T>(g, true, dy, nullptr, dx), u, threads);
}

template <class T>
void winograd_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    WinogradGrad<T> p = winograd_grad_problem(g, x, dy, dw);
    for (p.tap = 0; p.tap < g.window[0]; p.tap++)
        if (g.window[1] == 3)
            WinogradGradRun<T, 3>(p, winograd_flops(g), threads).run();
        else
            WinogradGradRun<T, 5>(p, winograd_flops(g), threads).run();
    if (db) bias_grad(g, dy, db, threads);
}

// Elements of the transformed filters; 0 where they are so many that transforming them anew in each call is cheaper
// than reading them from memory, as for a few tiles, at stride 2, and of few input channels.
template <class T> idx winograd_prepared_elements(const Geometry& g, bool input_grad) {
    if (strided(g) || (!input_grad && shallow<T>(g))) return 0;
    const WinogradConv<T> p = winograd_problem<T>(g, input_grad, nullptr, nullptr, nullptr);
    if (few_tiles(p.grid, p.filters)) return 0;
    const idx elements = FilterPanels<T>(p.filters).elements();
    return elements * (idx)sizeof(T) <= WINOGRAD_U_BYTES ? elements : 0;
}

template <class T> void winograd_prepare(const Geometry& g, bool input_grad, const T* w, T* u, int threads) {
    const WinogradFilters<T> filters = winograd_filters(g, input_grad, w);
    if (g.window[1] == 3)
        transform_all_filters<T, 3>(filters, FilterPanels<T>(filters), u, threads);
    else
        transform_all_filters<T, 5>(filters, FilterPanels<T>(filters), u, threads);
}

}  // namespace fastconv

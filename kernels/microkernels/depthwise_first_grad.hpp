// Depthwise filter gradient of channels-first images whose planes are small, by channels-last copies of a few vectors of
// channels.
#pragma once
#include "depthwise_first.hpp"
#include "depthwise_last_grad.hpp"

namespace fastconv {

template <class T> void depthwise_filter_grad_first(const Geometry& g, const T* x, const T* dy, T* dw, int threads) {
    constexpr idx L = LANES<T>;
    // blocks of `most` vectors of channels; where those are few, several jobs share them, each with some of the images
    const idx vectors = ceil_div(g.c, L), most = first_vectors<T>(g, vectors, threads), blocks = ceil_div(vectors, most);
    const idx shares = std::min(g.n, ceil_div<idx>(4 * threads, blocks)), pixels = g.pixels(), out = g.out_pixels();
    Geometry last = g;  // a block of an image
    last.n = 1, last.c = most * L;
    const View forward = forward_view(last);
    const ChannelVectors<T> all_vectors(last.c, nullptr);
    const LastGradPlan<T> plan(last, forward, all_vectors, 1);
    const std::vector<RowRun> runs = row_runs(false, plan.view.W.taps, plan.view.W.step);
    const std::vector<T> zeros(last.c, T(0));
    threads = useful_threads(threads, blocks * shares, 2.0 * g.n * g.c * out * (g.taps() + 8));
    const idx x_bytes = padded_bytes<T>(pixels * last.c), dy_bytes = padded_bytes<T>(out * last.c);
    Workspace workspace(plan.bytes() + x_bytes + dy_bytes, threads), sums(padded_bytes<T>(blocks * shares * plan.size), 1);
    T* all = (T*)sums.of(0);
    parallel_for(blocks * shares, threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        const T** table = arena.take<const T*>(plan.table);
        T *source = arena.take<T>(pixels * last.c), *gradient = arena.take<T>(out * last.c), *total = all + job * plan.size;
        const idx first = job / shares * most, share = job % shares, count = std::min(most, vectors - first), c = first * L;
        const idx pixel = count * L, channels = std::min(pixel, g.c - c);
        std::fill(total, total + plan.size, T(0));
        if (channels < pixel) {
            std::fill(source, source + pixels * pixel, T(0));
            std::fill(gradient, gradient + out * pixel, T(0));
        }
        const DepthwiseLast<T> at{pixel, ChannelVectors<T>(pixel, source), {g.size[0], g.size[1], g.size[2]},
                                  {g.out[0], g.out[1], g.out[2]}, source, nullptr, nullptr, LINEAR, zeros.data(), false};
        for (idx image = g.n * share / shares; image < g.n * (share + 1) / shares; image++) {
            for (idx i = 0; i < channels; i += L) {
                const idx lanes = std::min(L, channels - i), plane = image * g.c + c + i;
                transpose(x + plane * pixels, pixels, lanes, pixels, source + i, pixel);
                transpose(dy + plane * out, out, lanes, out, gradient + i, pixel);
            }
            for (const GradLines& lines : plan.jobs) add_job(at, plan.view, lines, runs, gradient, table, total);
        }
    });
    for (idx k = 0; k < g.c; k++)
        for (idx tap = 0; tap < g.taps(); tap++) {
            T sum = 0;
            for (idx share = 0; share < shares; share++) {
                const T* total = all + (k / L / most * shares + share) * plan.size;
                sum += total[(k / L % most * g.taps() + tap) * L + k % L];
            }
            dw[k * g.taps() + tap] = sum;
        }
}

}  // namespace fastconv

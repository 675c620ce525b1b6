// Depthwise convolution of channels-first images whose planes are small: a few vectors of channels of an image are
// transposed at once, pixels of the whole plane in a row, and computed in place as channels-last.
#pragma once
#include "depthwise.hpp"
#include "depthwise_last.hpp"

namespace fastconv {

// Both copies of a job: a quarter of the level 2 cache where more than one vector fits, half of it otherwise.
constexpr idx FIRST_JOB_BYTES = 128 << 10, FIRST_MOST_BYTES = 512 << 10, FIRST_VECTORS = 8;

// Of a vector of channels of an image, source and destination.
template <class T> idx first_bytes(const Geometry& g) { return (g.pixels() + g.out_pixels()) * VECTOR_BYTES; }

template <class T> bool transposed_depthwise(const Geometry& g) {
    const bool depthwise = g.groups == g.c && g.groups == g.k;
    return !g.channels_last && depthwise && first_bytes<T>(g) <= FIRST_MOST_BYTES;
}

// The vectors of channels of a job: enough jobs for all threads, if there are so many.
template <class T> idx first_vectors(const Geometry& g, idx vectors, int threads) {
    const idx fit = std::max<idx>(1, FIRST_JOB_BYTES / first_bytes<T>(g)), share = ceil_div<idx>(g.n * vectors, 4 * threads);
    const idx most = std::min(std::min(fit, FIRST_VECTORS), std::max<idx>(1, std::min(share, vectors)));
    return ceil_div(vectors, ceil_div(vectors, most));
}

template <class T>
void depthwise_conv_first(const Geometry& g, const std::vector<View>& views, const Depthwise<T>& p, int threads) {
    constexpr idx L = LANES<T>;
    const idx vectors = ceil_div(g.c, L), most = first_vectors<T>(g, vectors, threads), blocks = ceil_div(vectors, most);
    const idx from_pixels = p.source.plane(), to_pixels = p.dest.plane();
    Geometry last = g;  // of all channels, whole vectors
    last.c = vectors * L;
    std::vector<T> filters(g.taps() * last.c, T(0)), bias(last.c, T(0)), zeros(most * L, T(0));
    transpose(p.filters.at, g.taps(), g.c, g.taps(), filters.data(), last.c);
    if (p.bias) std::copy(p.bias, p.bias + g.c, bias.data());
    last.n = 1;
    const LastPlan<T> plan(last, views, filters.data(), ChannelVectors<T>(last.c, nullptr), most * L, 1);
    threads = useful_threads(threads, g.n * blocks, 2.0 * g.n * g.c * g.out_pixels() * (g.taps() + 8));
    const idx from_bytes = padded_bytes<T>(from_pixels * most * L), to_bytes = padded_bytes<T>(to_pixels * most * L);
    Workspace workspace(plan.bytes() + from_bytes + to_bytes, threads);
    parallel_for(g.n * blocks, threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        const T** table = arena.take<const T*>(plan.pixels);
        T **to = arena.take<T*>(plan.outputs), *spare = arena.take<T>(plan.channels);
        T *source = arena.take<T>(from_pixels * most * L), *dest = arena.take<T>(to_pixels * most * L);
        const idx image = job / blocks, first = job % blocks * most, count = std::min(most, vectors - first);
        const idx c = first * L, channels = std::min(count * L, g.c - c), pixel = count * L;
        if (channels < pixel) std::fill(source, source + from_pixels * pixel, T(0));
        for (idx i = 0; i < channels; i += L)
            transpose(p.source.at + (image * g.c + c + i) * from_pixels, from_pixels, std::min(L, channels - i), from_pixels,
                      source + i, pixel);
        const DepthwiseLast<T> at{pixel, ChannelVectors<T>(pixel, source), {p.source.depth, p.source.height, p.source.width},
                                  {p.dest.depth, p.dest.height, p.dest.width}, source, dest,
                                  p.bias ? bias.data() + c : nullptr, p.activation, zeros.data(), false, first};
        for (const LastLine<T>& line : plan.lines) depthwise_lines(at, line, table, to, spare);
        for (idx i = 0; i < channels; i += L)
            transpose(dest + i, pixel, to_pixels, std::min(L, channels - i), p.dest.at + (image * g.c + c + i) * to_pixels,
                      to_pixels);
    });
}

}  // namespace fastconv

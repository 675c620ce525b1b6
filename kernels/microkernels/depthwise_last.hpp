// Depthwise convolution of channels-last images in place: tiles of neighbouring pixels, streaming over channels.
//
// A tile's source pixels are looked up once (zeros outside the image); the loop over channels then runs through whole
// pixels in memory order, which the prefetcher follows.
#pragma once
#include "depthwise.hpp"

namespace fastconv {

template <class T> struct DepthwiseLast {
    idx channels;
    idx source_size[3], dest_size[3];
    const T* source;
    T* dest;
    const T* weights;  // (R, S, 1, C)
    idx window_width;
    const T* bias;
    Activation activation;
    const T* zeros;
};

struct LastRow {
    const View* view;
    idx image, d, h;
};

inline idx span_of(const View& v, int pixels) { return (pixels - 1) * v.axis[2].step + v.axis[2].taps(); }

// Pixels met by PIXELS outputs from position w on: pixels[r * span + i], i counted from the first tap's pixel.
template <class T>
void look_up_pixels(const DepthwiseLast<T>& p, const LastRow& row, idx w, int pixels, const T** to) {
    const Axis *H = &row.view->axis[1], *W = &row.view->axis[2];
    const idx span = span_of(*row.view, pixels), first = w * W->step + (W->taps() ? W->offset[0] : 0);
    for (idx r = 0; r < H->taps(); r++, to += span) {
        const idx h = row.h * H->step + H->offset[r];
        const bool row_inside = h >= 0 && h < H->size;
        const T* line = p.source + (row.image * p.source_size[1] + h) * p.source_size[2] * p.channels;
        for (idx i = 0; i < span; i++) {
            const idx x = first + i;
            to[i] = row_inside && x >= 0 && x < W->size ? line + x * p.channels : p.zeros;
        }
    }
}

template <class T, int PIXELS, int TAPS, int STEP>
inline __attribute__((always_inline)) void add_pixels(const T* const* pixels, const T* const* weights, idx c, idx step,
                                                      Vec<T>* sums) {
    if constexpr (STEP == 0) {
        for (int t = 0; t < TAPS; t++) {
            const Vec<T> w = load(weights[t] + c);
            for (int j = 0; j < PIXELS; j++) sums[j] += load(pixels[j * step + t] + c) * w;
        }
    } else {
        constexpr int SPAN = (PIXELS - 1) * STEP + TAPS;
        Vec<T> v[SPAN];
        for (int i = 0; i < SPAN; i++) v[i] = load(pixels[i] + c);
        for (int t = 0; t < TAPS; t++) {
            const Vec<T> w = load(weights[t] + c);
            for (int j = 0; j < PIXELS; j++) sums[j] += v[j * STEP + t] * w;
        }
    }
}

template <class T, int PIXELS, int TAPS = DEPTHWISE_TAPS>
inline __attribute__((always_inline)) void add_pixels_of(idx taps, idx step, const T* const* pixels,
                                                         const T* const* weights, idx c, Vec<T>* sums) {
    if constexpr (TAPS > 1)
        if (taps < TAPS) return add_pixels_of<T, PIXELS, TAPS - 1>(taps, step, pixels, weights, c, sums);
    if (step == 1)
        add_pixels<T, PIXELS, TAPS, 1>(pixels, weights, c, step, sums);
    else if (step == 2 && TAPS <= 4)
        add_pixels<T, PIXELS, TAPS, 2>(pixels, weights, c, step, sums);
    else
        add_pixels<T, PIXELS, TAPS, 0>(pixels, weights, c, step, sums);
}

// A share of the pixels that follow `last`, those of the next tile: step c of the loop over channels fetches lines
// c * PIXELS * step on. Tiles hop between pixels, which the hardware prefetchers do not follow.
template <int PIXELS, class T> inline void prefetch_next(const T* last, idx channels, idx step, idx c) {
    for (idx i = 0; i < PIXELS * step; i++) __builtin_prefetch(last + channels + c * PIXELS * step + i * LANES<T>);
}

// All channels of PIXELS outputs. The last vector overlaps the one before where C is no multiple of it.
template <class T, int PIXELS>
void depthwise_tile(const DepthwiseLast<T>& p, const LastRow& row, idx w, const T* const* weights, const T** pixels) {
    constexpr int L = LANES<T>;
    const Axis *D = &row.view->axis[0], *H = &row.view->axis[1], *W = &row.view->axis[2];
    look_up_pixels(p, row, w, PIXELS, pixels);
    const idx span = span_of(*row.view, PIXELS), rows = H->taps(), taps = W->taps();
    const idx line = ((row.image * p.dest_size[0] + D->first) * p.dest_size[1] + H->first + row.h * H->stride) * p.dest_size[2];
    T* to = p.dest + (line + W->first + w * W->stride) * p.channels;
    for (idx c = 0; c < p.channels; c += L) {
        c = std::min(c, p.channels - L);
        Vec<T> sums[PIXELS];
        const Vec<T> bias = p.bias ? load(p.bias + c) : Vec<T>{};
        for (int j = 0; j < PIXELS; j++) sums[j] = bias;
        if (rows && span) prefetch_next<PIXELS>(pixels[rows * span - 1], p.channels, W->step, c);
        for (idx i = 0; i < PIXELS * W->stride; i++)
            __builtin_prefetch(to + (PIXELS * p.channels + c * PIXELS) * W->stride + i * L, 1);
        for (idx r = 0; r < rows; r++)
            for (idx s = 0; s < taps; s += DEPTHWISE_TAPS)
                add_pixels_of<T, PIXELS>(std::min<idx>(DEPTHWISE_TAPS, taps - s), W->step, pixels + r * span + s,
                                         weights + r * taps + s, c, sums);
        for (int j = 0; j < PIXELS; j++) store(to + j * W->stride * p.channels + c, sums[j]);
    }
    if (p.activation != LINEAR)
        for (int j = 0; j < PIXELS; j++) finish_row(to + j * W->stride * p.channels, p.channels, T(0), p.activation);
}

template <class T> std::vector<const T*> tap_weights(const DepthwiseLast<T>& p, const View& v) {
    std::vector<const T*> weights;
    for (idx r : v.axis[1].tap)
        for (idx s : v.axis[2].tap) weights.push_back(p.weights + (r * p.window_width + s) * p.channels);
    return weights;
}

template <class T>
void depthwise_row(const DepthwiseLast<T>& p, const LastRow& row, const T* const* weights, const T** pixels) {
    const idx out = row.view->axis[2].out;
    idx w = 0;
    for (; w + DEPTHWISE_PIXELS <= out; w += DEPTHWISE_PIXELS)
        depthwise_tile<T, DEPTHWISE_PIXELS>(p, row, w, weights, pixels);
    for (; w + 2 <= out; w += 2) depthwise_tile<T, 2>(p, row, w, weights, pixels);
    if (w < out) depthwise_tile<T, 1>(p, row, w, weights, pixels);
}

// In place needs a whole vector of channels, and taps that are neighbours. Large windows gain more from a slab's
// aligned loads than its copy costs: 55 against 90 GFLOP/s for 31x31, but 52 against 44 for 7x7.
constexpr idx IN_PLACE_TAPS = 121;
template <class T> bool in_place_depthwise(const Geometry& g, const std::vector<View>& views) {
    bool neighbours = true;
    for (const View& v : views) neighbours = neighbours && (v.positions() == 0 || SlabTaps(v).consecutive);
    return g.channels_last && g.c >= LANES<T> && neighbours && g.taps() <= IN_PLACE_TAPS;
}

template <class T>
void depthwise_conv_last(const Geometry& g, const std::vector<View>& views, DepthwiseLast<T> p, int threads) {
    const std::vector<T> zeros(g.c, T(0));
    p.zeros = zeros.data();
    std::vector<std::vector<const T*>> weights;
    std::vector<LastRow> rows;
    std::vector<size_t> view_of;
    idx table = 0;
    for (const View& v : views) {
        weights.push_back(tap_weights(p, v));
        table = std::max(table, v.axis[1].taps() * span_of(v, DEPTHWISE_PIXELS));
    }
    // rows of all views interleaved, so that the source rows they share are still in the cache
    for (idx image = 0; image < g.n; image++)
        for (idx h = 0; h < views[0].axis[1].out; h++)
            for (size_t i = 0; i < views.size(); i++)
                if (h < views[i].axis[1].out && views[i].axis[2].out > 0) {
                    rows.push_back({&views[i], image, 0, h});
                    view_of.push_back(i);
                }
    threads = useful_threads(threads, (idx)rows.size(), 2.0 * g.n * g.c * g.out_pixels() * (g.taps() + 4));
    Workspace workspace(padded_bytes<const T*>(table), threads);
    parallel_for((idx)rows.size(), threads, [&](idx job, int thread) {
        depthwise_row(p, rows[job], weights[view_of[job]].data(), (const T**)workspace.of(thread));
    });
}

// sums[t] += the products of PIXELS neighbouring gradients with the pixels their taps meet.
template <class T, int PIXELS, int TAPS, int STEP>
inline __attribute__((always_inline)) void add_gradients(const T* const* pixels, const T* dy, idx dy_step, idx c, idx step,
                                                         T* sums, idx ld) {
    Vec<T> d[PIXELS];
    for (int j = 0; j < PIXELS; j++) d[j] = load(dy + j * dy_step + c);
    if constexpr (STEP == 0) {
        for (int t = 0; t < TAPS; t++) {
            Vec<T> sum = {};
            for (int j = 0; j < PIXELS; j++) sum += d[j] * load(pixels[j * step + t] + c);
            store(sums + t * ld + c, load(sums + t * ld + c) + sum);
        }
    } else {
        constexpr int SPAN = (PIXELS - 1) * STEP + TAPS;
        Vec<T> v[SPAN];
        for (int i = 0; i < SPAN; i++) v[i] = load(pixels[i] + c);
        for (int t = 0; t < TAPS; t++) {
            Vec<T> sum = {};
            for (int j = 0; j < PIXELS; j++) sum += d[j] * v[j * STEP + t];
            store(sums + t * ld + c, load(sums + t * ld + c) + sum);
        }
    }
}

template <class T, int PIXELS, int TAPS = DEPTHWISE_TAPS>
inline __attribute__((always_inline)) void add_gradients_of(idx taps, idx step, const T* const* pixels, const T* dy,
                                                            idx dy_step, idx c, T* sums, idx ld) {
    if constexpr (TAPS > 1)
        if (taps < TAPS) return add_gradients_of<T, PIXELS, TAPS - 1>(taps, step, pixels, dy, dy_step, c, sums, ld);
    if (step == 1)
        add_gradients<T, PIXELS, TAPS, 1>(pixels, dy, dy_step, c, step, sums, ld);
    else if (step == 2 && TAPS <= 4)
        add_gradients<T, PIXELS, TAPS, 2>(pixels, dy, dy_step, c, step, sums, ld);
    else
        add_gradients<T, PIXELS, TAPS, 0>(pixels, dy, dy_step, c, step, sums, ld);
}

// One tile of dy into sums (R x S, ld).
template <class T, int PIXELS>
void depthwise_grad_tile(const DepthwiseLast<T>& p, const LastRow& row, idx w, const T* dy, const T** pixels, T* sums, idx ld) {
    constexpr int L = LANES<T>;
    const Axis *H = &row.view->axis[1], *W = &row.view->axis[2];
    look_up_pixels(p, row, w, PIXELS, pixels);
    const idx span = span_of(*row.view, PIXELS), rows = H->taps(), taps = W->taps();
    for (idx r = 0; r < rows; r++)
        for (idx s = 0; s < taps; s += DEPTHWISE_TAPS)
            for (idx c = 0; c + L <= p.channels; c += L) {
                if (r == 0 && s == 0)
                    {
                    prefetch_next<PIXELS>(pixels[rows * span - 1], p.channels, W->step, c);
                    prefetch_next<PIXELS>(dy + (w + PIXELS - 1) * p.channels, p.channels, 1, c);
                }
                add_gradients_of<T, PIXELS>(std::min<idx>(DEPTHWISE_TAPS, taps - s), W->step, pixels + r * span + s,
                                            dy + w * p.channels, p.channels, c, sums + (r * taps + s) * ld, ld);
            }
    for (idx c = p.channels / L * L; c < p.channels; c++)  // the channels of a part of a vector
        for (idx r = 0; r < rows; r++)
            for (idx s = 0; s < taps; s++)
                for (int j = 0; j < PIXELS; j++)
                    sums[(r * taps + s) * ld + c] +=
                        dy[(w + j) * p.channels + c] * pixels[r * span + j * W->step + s][c];
}

// Each thread sums its share of the rows, a row at a time for accuracy; the shares are added in order.
template <class T>
void depthwise_filter_grad_last(const Geometry& g, const View& view, const T* x, const T* dy, T* dw, int threads) {
    const std::vector<T> zeros(g.c, T(0));
    const DepthwiseLast<T> p{g.c, {g.size[0], g.size[1], g.size[2]}, {g.out[0], g.out[1], g.out[2]}, x, nullptr, nullptr,
                             g.window[2], nullptr, LINEAR, zeros.data()};
    const idx size = g.taps() * g.c, rows = g.n * g.out[1], out = g.out[2];
    threads = useful_threads(threads, rows, 2.0 * g.n * g.c * g.out_pixels() * (g.taps() + 4));
    const idx table = g.window[1] * span_of(view, DEPTHWISE_PIXELS);
    Workspace workspace(padded_bytes<const T*>(table) + 2 * padded_bytes<T>(size), threads);
    std::vector<T*> parts(threads, nullptr);
    on_threads(threads, [&](int thread, int count) {
        Arena arena(workspace.of(thread));
        const T** pixels = arena.take<const T*>(table);
        T *total = arena.take<T>(size), *sums = arena.take<T>(size);
        std::fill(total, total + size, T(0));
        parts[thread] = total;
        for (idx q = rows * thread / count, last = rows * (thread + 1) / count; q < last; q++) {
            std::fill(sums, sums + size, T(0));
            const LastRow row{&view, q / g.out[1], 0, q % g.out[1]};
            const T* line = dy + q * out * g.c;
            idx w = 0;
            for (; w + DEPTHWISE_PIXELS <= out; w += DEPTHWISE_PIXELS)
                depthwise_grad_tile<T, DEPTHWISE_PIXELS>(p, row, w, line, pixels, sums, g.c);
            for (; w < out; w++) depthwise_grad_tile<T, 1>(p, row, w, line, pixels, sums, g.c);
            for (idx i = 0; i < size; i++) total[i] += sums[i];
        }
    });
    for (idx i = 0; i < size; i++) {
        T sum = 0;
        for (const T* part : parts)
            if (part) sum += part[i];
        dw[i] = sum;
    }
}

}  // namespace fastconv

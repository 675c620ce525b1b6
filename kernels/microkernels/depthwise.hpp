// Depthwise convolution (one input channel a filter), vectorized over channels in every layout.
//
// A band of the image is copied into a zero-padded slab [row][pixel][lane]: the copy serves all taps, aligns every
// load and leaves no borders. A tile of neighbouring pixels then shares the loads of a row of taps.
#pragma once
#include "bias_grad.hpp"
#include "epilogue.hpp"
#include "filters.hpp"
#include "parallel.hpp"
#include "slab.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

constexpr int DEPTHWISE_PIXELS = 6;  // sums in flight; with 7 taps 12 loads and a weight fill 19 registers
constexpr int DEPTHWISE_TAPS = 7;    // taps of a row that share loads
constexpr idx DEPTHWISE_SLAB_BYTES = 160 << 10;
// Vectors of channels a job takes: in channels-last a pixel's few cache lines then come in one go.
constexpr idx DEPTHWISE_VECTORS = 4;
inline idx depthwise_vectors(const Geometry& g, int lanes) {
    return g.channels_last ? std::min<idx>(DEPTHWISE_VECTORS, ceil_div<idx>(g.c, lanes)) : 1;
}

// One view's taps in a slab: rows and pixels counted from the slab's first.
struct SlabTaps {
    const View* view;
    idx low[2], reach[2];  // least offset, and 1 + the greatest above it
    bool consecutive;      // taps of a row are neighbours

    explicit SlabTaps(const View& v) : view(&v), consecutive(true) {
        for (int a = 0; a < 2; a++) {
            const std::vector<idx>& offset = v.axis[a + 1].offset;
            low[a] = offset.empty() ? 0 : offset.front();
            reach[a] = offset.empty() ? 1 : offset.back() - low[a] + 1;
        }
        const std::vector<idx>& offset = v.axis[2].offset;
        for (size_t t = 1; t < offset.size(); t++) consecutive = consecutive && offset[t] == offset[t - 1] + 1;
    }
    idx rows(idx out_rows) const { return (out_rows - 1) * view->axis[1].step + reach[0]; }
    idx columns() const { return (view->axis[2].out - 1) * view->axis[2].step + reach[1]; }
};

// sums[j] += TAPS neighbouring pixels of a slab row from `x + j * step` on, times their weights.
template <class T, int PIXELS, int TAPS, int STEP>
inline void add_taps(const T* x, const T* weights, idx step, Vec<T>* sums) {
    constexpr int L = LANES<T>, SPAN = (PIXELS - 1) * STEP + TAPS;
    if constexpr (STEP == 0) {
        for (int t = 0; t < TAPS; t++) {
            Vec<T> w = load(weights + t * L);
            for (int j = 0; j < PIXELS; j++) sums[j] += load(x + (j * step + t) * L) * w;
        }
    } else {
        Vec<T> v[SPAN];
        for (int i = 0; i < SPAN; i++) v[i] = load(x + i * L);
        for (int t = 0; t < TAPS; t++) {
            Vec<T> w = load(weights + t * L);
            for (int j = 0; j < PIXELS; j++) sums[j] += v[j * STEP + t] * w;
        }
    }
}

template <class T, int PIXELS, int TAPS = DEPTHWISE_TAPS>
inline void add_taps_of(idx taps, idx step, const T* x, const T* weights, Vec<T>* sums) {
    if constexpr (TAPS > 1)
        if (taps < TAPS) return add_taps_of<T, PIXELS, TAPS - 1>(taps, step, x, weights, sums);
    if (step == 1)
        add_taps<T, PIXELS, TAPS, 1>(x, weights, step, sums);
    else if (step == 2 && TAPS <= 4)  // wider spans do not fit the registers
        add_taps<T, PIXELS, TAPS, 2>(x, weights, step, sums);
    else
        add_taps<T, PIXELS, TAPS, 0>(x, weights, step, sums);
}

// PIXELS outputs of a row from pixel w on; `row` is the slab row of the first tap, weights are [tap][lane].
template <class T, int PIXELS>
void depthwise_pixels(const SlabTaps& taps, const T* row, idx columns, idx w, const T* weights, Vec<T> bias, T* out,
                      idx out_step) {
    constexpr int L = LANES<T>;
    const Axis *H = &taps.view->axis[1], *W = &taps.view->axis[2];
    Vec<T> sums[PIXELS];
    for (int j = 0; j < PIXELS; j++) sums[j] = bias;
    for (idx r = 0; r < H->taps(); r++) {
        const T* x = row + ((H->offset[r] - taps.low[0]) * columns + w * W->step) * L;
        const T* weight = weights + r * W->taps() * L;
        for (idx s = 0; s < W->taps();) {
            const idx count = taps.consecutive ? std::min<idx>(DEPTHWISE_TAPS, W->taps() - s) : 1;
            add_taps_of<T, PIXELS>(count, W->step, x + (W->offset[s] - taps.low[1]) * L, weight + s * L, sums);
            s += count;
        }
    }
    for (int j = 0; j < PIXELS; j++) store(out + j * out_step, sums[j]);
}

template <class T> struct Depthwise {
    Image<const T> source;
    Image<T> dest;
    Filters<T> filters;  // channel c is group c
    idx window_width;
    const T* bias;
    Activation activation;
};

// The views that write the same rows of dest, one a column phase, over one slab.
struct RowPhase {
    std::vector<SlabTaps> taps;
    idx low, columns;  // of the slab: least column offset, width
    const Axis& height() const { return taps[0].view->axis[1]; }

    explicit RowPhase(const std::vector<const View*>& views) {
        for (const View* v : views) taps.emplace_back(*v);
        low = taps[0].low[1];
        for (const SlabTaps& t : taps) low = std::min(low, t.low[1]);
        columns = 0;
        for (SlabTaps& t : taps) {
            columns = std::max(columns, t.low[1] - low + t.columns());
            t.low[1] = low;
        }
    }
};

// Views grouped by the row phase they write; those without positions left out.
inline std::vector<RowPhase> row_phases(const std::vector<View>& views) {
    std::vector<RowPhase> phases;
    for (size_t i = 0; i < views.size();) {
        std::vector<const View*> same;
        const idx first = views[i].axis[1].first;
        for (; i < views.size() && views[i].axis[1].first == first; i++)
            if (views[i].positions() > 0) same.push_back(&views[i]);
        if (!same.empty()) phases.emplace_back(same);
    }
    return phases;
}

struct DepthwiseJob {
    const RowPhase* phase;
    idx image, channel, row, rows;  // output rows of the phase
};

// Weights of a vector of channels, in the view's order: [tap][lane].
template <class T>
void load_weights(const Depthwise<T>& p, const View& v, idx channel, idx lanes, T* weights) {
    constexpr int L = LANES<T>;
    for (idx r : v.axis[1].tap)
        for (idx s : v.axis[2].tap) {
            const T* at = p.filters.at + (r * p.window_width + s) * p.filters.tap_stride + channel * p.filters.group_stride;
            for (idx l = 0; l < L; l++) *weights++ = l < lanes ? at[l * p.filters.group_stride] : T(0);
        }
}

// One view's output for one vector of channels, from its slab plane; `out` is the plane of whole dest rows.
template <class T>
void depthwise_plane(const SlabTaps& taps, idx columns, idx rows, const T* slab, const T* weights, Vec<T> bias, T* out,
                     idx out_row) {
    constexpr int L = LANES<T>;
    const Axis *H = &taps.view->axis[1], *W = &taps.view->axis[2];
    const idx step = W->stride * L;
    for (idx h = 0; h < rows; h++) {
        const T* row = slab + h * H->step * columns * L;
        T* to = out + h * out_row + W->first * L;
        idx w = 0;
        for (; w + DEPTHWISE_PIXELS <= W->out; w += DEPTHWISE_PIXELS)
            depthwise_pixels<T, DEPTHWISE_PIXELS>(taps, row, columns, w, weights, bias, to + w * step, step);
        for (; w + 2 <= W->out; w += 2) depthwise_pixels<T, 2>(taps, row, columns, w, weights, bias, to + w * step, step);
        if (w < W->out) depthwise_pixels<T, 1>(taps, row, columns, w, weights, bias, to + w * step, step);
    }
}

template <class T>
void run_depthwise_job(const Depthwise<T>& p, const DepthwiseJob& job, idx vectors, T* weights, T* slab, T* out) {
    constexpr int L = LANES<T>;
    const RowPhase& phase = *job.phase;
    const Axis& H = phase.height();
    const idx lanes = std::min<idx>(vectors * L, p.source.channels - job.channel);
    const Window window{job.image, job.row * H.step + phase.taps[0].low[0], phase.low, 1, 1, phase.taps[0].rows(job.rows),
                        phase.columns, job.channel, lanes};
    load_slab(p.source, window, slab);
    const idx out_row = p.dest.width * L, plane = job.rows * out_row;
    for (idx v = 0; v < window.vectors(L); v++) {
        const idx channel = job.channel + v * L, part = std::min<idx>(L, lanes - v * L);
        const Vec<T> bias = p.bias ? load_part(p.bias + channel, part) : Vec<T>{};
        for (const SlabTaps& taps : phase.taps) {
            load_weights(p, *taps.view, channel, part, weights);
            depthwise_plane(taps, phase.columns, job.rows, slab + v * window.rows * window.columns * L, weights, bias,
                            out + v * plane, out_row);
        }
        if (p.activation != LINEAR) finish_row(out + v * plane, plane, T(0), p.activation);
    }
    store_slab(p.dest, {job.image, H.first + job.row * H.stride, 0, H.stride, 1, job.rows, p.dest.width, job.channel, lanes},
               out);
}

// Rows of a band whose slab is about DEPTHWISE_SLAB_BYTES, but enough that the rows neighbouring bands share
// (`reach` - 1) are not copied too often; all bands about equal.
template <class T> idx band_rows(idx height, idx step, idx reach, idx columns, idx vectors) {
    const idx row_bytes = columns * vectors * LANES<T> * sizeof(T);
    const idx fit = (DEPTHWISE_SLAB_BYTES / row_bytes - reach) / step;
    const idx rows = std::min(height, std::max(fit, 1 + reach / 2));
    return ceil_div(height, ceil_div(height, rows));
}

template <class T> void depthwise_conv(const Geometry& g, const std::vector<View>& views, const Depthwise<T>& p, int threads) {
    constexpr int L = LANES<T>;
    const std::vector<RowPhase> phases = row_phases(views);
    std::vector<DepthwiseJob> jobs;
    const idx vectors = depthwise_vectors(g, L);
    idx slab = 0, out = 0;
    for (const RowPhase& phase : phases) {
        const Axis& H = phase.height();
        const SlabTaps& t = phase.taps[0];
        const idx rows = band_rows<T>(H.out, H.step, t.reach[0], phase.columns, vectors);
        slab = std::max(slab, t.rows(rows) * phase.columns * vectors * L);
        out = std::max(out, rows * p.dest.width * vectors * L);
        for (idx image = 0; image < g.n; image++)
            for (idx c = 0; c < g.c; c += vectors * L)
                for (idx h = 0; h < H.out; h += rows) jobs.push_back({&phase, image, c, h, std::min(rows, H.out - h)});
    }
    // a slab element costs about a multiply-add each way, so count two taps more than there are
    threads = useful_threads(threads, (idx)jobs.size(), 2.0 * g.n * g.c * g.out_pixels() * (g.taps() + 4));
    const idx weights = g.taps() * L;
    Workspace workspace(padded_bytes<T>(slab) + padded_bytes<T>(out) + padded_bytes<T>(weights), threads);
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T *w = arena.take<T>(weights), *s = arena.take<T>(slab);
        run_depthwise_job(p, jobs[job], vectors, w, s, arena.take<T>(out));
    });
}

template <class T> Image<T> plane_of(const Geometry& g, bool output, T* at) {
    const idx* size = output ? g.out : g.size;
    return {at, size[1], size[2], g.c, g.channels_last != 0};
}

// Channel c's filter is group c, whichever layout: (R, S, 1, C) or (C, 1, R, S).
template <class T> Filters<T> depthwise_filters(const Geometry& g, const T* w) {
    const Filters<T> f = forward_filters(g, w);
    return {f.at, f.tap_stride, 0, 0, g.channels_last ? 1 : g.taps()};
}

}  // namespace fastconv

// Depthwise convolution, channel multipliers and small groups through slabs, vectorized over outputs in any layout.
//
// A part of the image is copied into a zero-padded slab: the copy serves all taps, aligns every load and leaves no
// borders. Tiles of two rows share its loads.
#pragma once
#include "bias_grad.hpp"
#include "depthwise_slab.hpp"
#include "depthwise_tile.hpp"
#include "epilogue.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

constexpr idx DEPTHWISE_SLAB_BYTES = 160 << 10;
constexpr idx SLAB_POSITIONS = 112;  // of a row at a time, so that the workspace has a limit

template <class T> struct Depthwise {
    Image<const T> source;
    Image<T> dest;
    Filters<T> filters;
    Groups groups;
    const idx* window;
    const T* bias;
    Activation activation;
};

// One view's taps in a slab of `columns` pixels a row, counted from the slab's first pixel; offsets in elements.
struct SlabView {
    const View* view;
    const Axis* D;
    Comb H;
    std::vector<idx> offset;  // of each tap of a row and depth
    idx low;                  // least column offset

    explicit SlabView(const View& v)
        : view(&v), D(&v.axis[0]), H(v.axis[1]), low(v.axis[2].taps() ? v.axis[2].offset[0] : 0) {}
    const Axis& W() const { return view->axis[2]; }
    idx columns(idx positions) const { return (positions - 1) * W().step + (W().taps() ? W().offset.back() - low : 0) + 1; }
    idx reach(idx rows) const { return H.taps ? (rows - 1) * H.axis->step + (H.taps - 1) * H.gap + 1 : 1; }
};

// The views that write the same planes and rows of dest, one a column phase, over one slab.
struct RowPhase {
    std::vector<SlabView> views;
    idx low;  // least column offset
    const Axis& depth() const { return *views[0].D; }
    const Axis& height() const { return *views[0].H.axis; }
    idx step() const { return views[0].W().step; }
    idx positions() const {
        idx most = 0;
        for (const SlabView& v : views) most = std::max(most, v.W().out);
        return most;
    }
    idx columns(idx positions) const {
        idx most = 0;
        for (const SlabView& v : views) most = std::max(most, v.low - low + v.columns(positions));
        return most;
    }

    RowPhase(const std::vector<const View*>& same, idx depth, int lanes) {
        for (const View* v : same) views.emplace_back(*v);
        low = views[0].low;
        for (const SlabView& v : views) low = std::min(low, v.low);
        for (SlabView& v : views)
            for (idx at : v.W().offset)
                for (idx d = 0; d < depth; d++) v.offset.push_back(((at - low) * depth + d) * lanes);
    }
};

// Views grouped by the row phase they write; those without positions left out.
inline std::vector<RowPhase> row_phases(const std::vector<View>& views, idx depth, int lanes) {
    std::vector<RowPhase> phases;
    for (size_t i = 0; i < views.size();) {
        std::vector<const View*> same;
        const idx plane = views[i].axis[0].first, first = views[i].axis[1].first;
        for (; i < views.size() && views[i].axis[0].first == plane && views[i].axis[1].first == first; i++)
            if (views[i].positions() > 0) same.push_back(&views[i]);
        if (!same.empty()) phases.emplace_back(same, depth, lanes);
    }
    return phases;
}

// OH x OW outputs: lattice rows `row` elements apart, positions `step` elements. Weights are [r][tap of a row][lane].
template <class T> struct SlabTile {
    const T* slab;
    idx row, step, R, step_h;
    const idx* offset;
    idx taps;  // of a row
    const T* weights;
    T* out;
    idx out_row, out_step;
    bool add;  // to what the taps of an earlier plane gave
};

template <class T, int OW>
inline __attribute__((always_inline)) void add_slab_row(const T* row, const SlabTile<T>& t, const T* weights, Vec<T>* sums) {
    for (idx s = 0; s < t.taps; s++) {
        const Vec<T> weight = load(weights + s * LANES<T>);
        for (int o = 0; o < OW; o++) sums[o] += load(row + t.offset[s] + o * t.step) * weight;
    }
}

template <class T, int OH, int OW> void slab_tile(const SlabTile<T>& tile, Vec<T> bias) {
    constexpr int L = LANES<T>;
    const SlabTile<T> t = tile;
    Vec<T> sums[OH][OW];
    for (int j = 0; j < OH; j++)
        for (int o = 0; o < OW; o++) sums[j][o] = t.add ? load(t.out + j * t.out_row + o * t.out_step) : bias;
    for (idx i = 0; i < (OH - 1) * t.step_h + t.R; i++) {
        const T *row = t.slab + i * t.row, *w0 = t.weights + i * t.taps * L, *w1 = w0 - t.step_h * t.taps * L;
        const bool first = i < t.R, second = OH == 2 && i >= t.step_h;
        if (first && second)
            for (idx s = 0; s < t.taps; s++) {
                Vec<T> v[OW];
                for (int o = 0; o < OW; o++) v[o] = load(row + t.offset[s] + o * t.step);
                add_tap<T, OW, 1>(v, w0 + s * L, sums[0]);
                add_tap<T, OW, 1>(v, w1 + s * L, sums[OH - 1]);
            }
        else if (first)
            add_slab_row<T, OW>(row, t, w0, sums[0]);
        else if (second)
            add_slab_row<T, OW>(row, t, w1, sums[OH - 1]);
    }
    for (int j = 0; j < OH; j++)
        for (int o = 0; o < OW; o++) store(t.out + j * t.out_row + o * t.out_step, sums[j][o]);
}

template <class T, int OH> void slab_line(SlabTile<T> t, idx positions, Vec<T> bias) {
    for (idx w = 0; w < positions;) {
        const idx left = positions - w, width = left >= TILE_W ? TILE_W : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        width == TILE_W ? slab_tile<T, OH, TILE_W>(t, bias)
        : width == 4    ? slab_tile<T, OH, 4>(t, bias)
        : width == 2    ? slab_tile<T, OH, 2>(t, bias)
                        : slab_tile<T, OH, 1>(t, bias);
        w += width, t.slab += width * t.step, t.out += width * t.out_step;
    }
}

// Output rows [row, row + rows) and positions [w, w + columns) of plane `d` of a phase, for the vector of channels from
// `channel` on.
struct DepthwiseJob {
    const RowPhase* phase;
    idx image, channel, d, row, rows, w, columns;
};

// Weights of a vector of outputs for plane `td` of the window, in the view's order: [tap][d][lane].
template <class T> void load_weights(const Depthwise<T>& p, const View& v, idx td, idx channel, idx lanes, T* weights) {
    for (idx r : v.axis[1].tap)
        for (idx s : v.axis[2].tap)
            for (idx d = 0; d < p.groups.depth; d++)
                for (idx l = 0; l < LANES<T>; l++) {
                    const idx tap = (td * p.window[1] + r) * p.window[2] + s;
                    *weights++ = l < lanes ? *group_weight(p.filters, p.groups, tap, d, channel + l) : T(0);
                }
}

// One view's outputs of a job from a slab; `out` is [row][dest pixel][lane].
template <class T>
void depthwise_plane(const SlabView& v, const DepthwiseJob& job, idx depth, idx columns, const T* slab, const T* weights,
                     Vec<T> bias, bool add, T* out, idx out_row) {
    constexpr int L = LANES<T>;
    const Axis& W = v.W();
    const idx positions = std::min(job.columns, W.out - job.w), pixel = depth * L, row = columns * pixel;
    if (positions <= 0) return;
    SlabTile<T> t{slab, v.H.gap * row, W.step * pixel, v.H.taps, v.H.step, v.offset.data(), (idx)v.offset.size(), weights,
                  out, v.H.phases * out_row, W.stride * L, add};
    for (idx phase = 0; phase < std::min(v.H.phases, job.rows); phase++)
        for (idx h = phase; h < job.rows;) {
            const bool two = h + v.H.phases < job.rows;
            t.slab = slab + h * v.H.axis->step * row, t.out = out + h * out_row + W.first * L;
            two ? slab_line<T, 2>(t, positions, bias) : slab_line<T, 1>(t, positions, bias);
            h += (two ? 2 : 1) * v.H.phases;
        }
}

template <class T> struct SlabSpace {
    T *weights, *slab, *natural, *out;
};

template <class T> void run_depthwise_job(const Depthwise<T>& p, const DepthwiseJob& job, const SlabSpace<T>& space) {
    constexpr int L = LANES<T>;
    const RowPhase& phase = *job.phase;
    const Axis& H = phase.height();
    const idx lanes = std::min<idx>(L, p.dest.channels - job.channel), columns = phase.columns(job.columns);
    const idx low_h = H.taps() ? H.offset[0] : 0, stride_w = phase.views[0].W().stride;
    Window window{0, job.row * H.step + low_h, job.w * phase.step() + phase.low, 1, 1,
                  phase.views[0].reach(job.rows), columns, job.channel, lanes};
    const idx out_columns = job.columns * stride_w, out_row = out_columns * L;
    const Vec<T> bias = p.bias ? load_part(p.bias + job.channel, lanes) : Vec<T>{};
    const Axis& D = phase.depth();
    bool add = false;
    for (idx t = 0; t < D.taps(); t++) {  // a slab for each plane of the window that lies in the image
        const idx plane = job.d * D.step + D.offset[t];
        if (plane < 0 || plane >= p.source.depth) continue;
        window.image = job.image * p.source.depth + plane;
        load_group_slab(p.source, p.groups, window, space.natural, space.slab);
        for (const SlabView& v : phase.views) {
            load_weights(p, *v.view, D.tap[t], job.channel, lanes, space.weights);
            depthwise_plane(v, job, p.groups.depth, columns, space.slab, space.weights, bias, add, space.out, out_row);
        }
        add = true;
    }
    if (!add)
        for (idx i = 0; i < job.rows * out_row; i += L) store(space.out + i, bias);
    if (p.activation != LINEAR) finish_row(space.out, job.rows * out_row, T(0), p.activation);
    const idx plane = job.image * p.dest.depth + D.first + job.d * D.stride;
    const Window written{plane, H.first + job.row * H.stride, job.w * stride_w, H.stride, 1,
                         job.rows, out_columns, job.channel, lanes};
    store_slab(p.dest, written, space.out);
}

// Rows of a band whose slab is about DEPTHWISE_SLAB_BYTES, but enough that the rows neighbouring bands share
// (`reach` - 1) are not copied too often; all bands about equal.
inline idx band_rows(idx height, idx step, idx reach, idx row_bytes) {
    const idx fit = (DEPTHWISE_SLAB_BYTES / row_bytes - reach) / step;
    const idx rows = std::min(height, std::max(fit, 1 + reach / 2));
    return ceil_div(height, ceil_div(height, rows));
}

// The jobs of a pass and the elements that each needs.
template <class T> struct SlabPlan {
    std::vector<RowPhase> phases;
    std::vector<DepthwiseJob> jobs;
    idx weights, slab = 0, natural = 0, out = 0;
    int threads;

    SlabPlan(const Geometry& g, const std::vector<View>& views, const Groups& groups, idx channels, int most_threads)
        : phases(row_phases(views, groups.depth, LANES<T>)), weights(g.window[1] * g.window[2] * groups.depth * LANES<T>) {
        constexpr int L = LANES<T>;
        for (const RowPhase& phase : phases) {
            const Axis& H = phase.height();
            const idx positions = phase.positions(), part = std::min(positions, SLAB_POSITIONS);
            const idx columns = phase.columns(part);
            const idx rows = band_rows(H.out, H.step, phase.views[0].reach(1), columns * groups.depth * L * sizeof(T));
            const idx pixels = phase.views[0].reach(rows) * columns;
            slab = std::max(slab, pixels * groups.depth * L);
            if (!groups.plain()) natural = std::max(natural, pixels * groups.vectors(L) * L);
            out = std::max(out, rows * part * phase.views[0].W().stride * L);
            for (idx image = 0; image < g.n; image++)
                for (idx c = 0; c < channels; c += L)
                    for (idx d = 0; d < phase.depth().out; d++)
                        for (idx h = 0; h < H.out; h += rows)
                            for (idx w = 0; w < positions; w += part)
                                jobs.push_back({&phase, image, c, d, h, std::min(rows, H.out - h), w,
                                                std::min(part, positions - w)});
        }
        // a slab element costs about a multiply-add each way, so count two taps more than there are
        const double flops = 2.0 * g.n * g.k * g.c_group() * g.out_pixels() * (g.taps() + 4);
        threads = useful_threads(most_threads, (idx)jobs.size(), flops);
    }
    SlabPlan(const SlabPlan&) = delete;
    idx bytes() const {
        return padded_bytes<T>(slab) + padded_bytes<T>(natural) + padded_bytes<T>(out) + padded_bytes<T>(weights);
    }
};

template <class T>
void depthwise_conv(const Geometry& g, const std::vector<View>& views, const Depthwise<T>& p, int threads) {
    const SlabPlan<T> plan(g, views, p.groups, p.dest.channels, threads);
    Workspace workspace(plan.bytes(), plan.threads);
    parallel_for((idx)plan.jobs.size(), plan.threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T *w = arena.take<T>(plan.weights), *s = arena.take<T>(plan.slab), *n = arena.take<T>(plan.natural);
        run_depthwise_job(p, plan.jobs[job], SlabSpace<T>{w, s, n, arena.take<T>(plan.out)});
    });
}

template <class T> Image<T> plane_of(const Geometry& g, bool output, T* at) {
    const idx* size = output ? g.out : g.size;
    return {at, size[1], size[2], output ? g.k : g.c, g.channels_last != 0, size[0]};
}

}  // namespace fastconv

// What the channels-last depthwise kernels share: the vectors of a pixel, and a view with its weights.
#pragma once
#include "depthwise_tile.hpp"
#include "epilogue.hpp"

namespace fastconv {

// The vectors that cover the channels of a pixel. Where pixels are whole vectors long but lie between the cache's
// lines, the vectors from the second on begin with a line, `lead` lanes early: one vector more, but a load that
// crosses lines takes twice the time. The first two overlap then; the last two where C is no multiple of a vector.
template <class T> struct ChannelVectors {
    idx channels, lead, count;

    static constexpr idx LEAST = 8;
    ChannelVectors(idx channels, const T* pixels) : channels(channels), lead(0) {
        constexpr idx L = LANES<T>;
        if (channels % L == 0 && channels >= LEAST * L) lead = (idx)((size_t)pixels / sizeof(T)) % L;
        count = ceil_div(channels + lead, L);
    }
    idx start(idx v) const { return std::min(std::max<idx>(0, v * LANES<T> - lead), channels - LANES<T>); }
    bool overlap_at(idx v) const {  // vectors v - 1 and v
        return (v == 1 && lead > 0) || (v > 0 && v == count - 1 && (channels + lead) % LANES<T> > 0);
    }
};

// A vector of weights, aligned.
template <class T> struct alignas(VECTOR_BYTES) WeightVector {
    T lane[LANES<T>];
};

// A view with its weights by vectors: [vector][plane][r][s].
template <class T> struct LastView {
    Comb D, H, W;
    std::vector<RowRun> runs;
    std::vector<WeightVector<T>> weights;
    bool single = false;     // one row of taps, one row of positions
    bool in_blocks = false;  // by tiles without tables
    idx most_rows = TILE_H;  // at a time

    explicit LastView(const View& v) : D(v.axis[0]), H(v.axis[1]), W(v.axis[2]) {}
    LastView(const View& v, const T* w, const Geometry& g, const ChannelVectors<T>& vectors) : LastView(v) {
        single = D.taps * H.taps == 1 && H.axis->out == 1;
        runs = row_runs(single, D.taps > 0 && H.taps > 0 ? W.taps : 0, W.step);
        if (!w) return;
        weights.reserve(vectors.count * v.taps());
        for (idx b = 0; b < vectors.count; b++)
            for (idx d : v.axis[0].tap)
                for (idx r : v.axis[1].tap)
                    for (idx s : v.axis[2].tap) {
                        weights.emplace_back();
                        const idx tap = (d * g.window[1] + r) * g.window[2] + s;
                        store(weights.back().lane, load(w + tap * g.c + vectors.start(b)));
                    }
    }
    idx taps() const { return D.taps * H.taps * W.taps; }
    TileShape shape(const RowRun& run) const {
        if (single) return {run.repeats, 1, run.count, H.step, W.step};
        return {D.taps, H.taps, W.taps, H.step, W.step};
    }
};

template <class T> struct DepthwiseLast {
    idx channels;
    ChannelVectors<T> vectors;
    idx source_size[3], dest_size[3];
    const T* source;
    T* dest;
    const T* bias;
    Activation activation;
    const T* zeros;  // a pixel
    bool beyond_cache;
    idx first = 0;  // of the view's vectors of weights
    const WeightVector<T>* weights(const LastView<T>& view) const { return view.weights.data() + first * view.taps(); }
};

// Some rows and columns of one row phase and column phase: what one call of a kernel computes.
template <class T> struct LastLine {
    const LastView<T>* view;
    idx image, d_phase, d, h_phase, h, rows, w_phase, w, columns;
};

}  // namespace fastconv

// The register tile of depthwise convolution: OH x OW neighbouring outputs of one vector of channels.
//
// An axis of a view is a comb: its taps are `gap` source elements apart, and positions whose sources differ by whole
// gaps form a phase. On the lattice of one row phase and one column phase every problem, dilated or not, has
// neighbouring taps, so that a loaded pixel serves all the taps and both rows of a tile that meet it.
#pragma once
#include <algorithm>
#include <numeric>

#include "vec.hpp"
#include "view.hpp"

namespace fastconv {

struct Comb {
    const Axis* axis;
    idx taps, gap;
    idx phases;  // position k of phase p is the view's position p + k * phases
    idx step;    // gaps between the sources of neighbouring positions of a phase

    explicit Comb(const Axis& x) : axis(&x), taps(x.taps()) {
        gap = taps > 1 ? x.offset[1] - x.offset[0] : std::max<idx>(1, x.step);
        const idx common = std::gcd(x.step, gap);
        phases = gap / common, step = x.step / common;
    }
    idx positions(idx phase) const { return phase < axis->out ? ceil_div(axis->out - phase, phases) : 0; }
    // Source of position k and the first tap; tap t is t * gap further.
    idx source(idx phase, idx k) const { return phase * axis->step + k * step * gap + (taps ? axis->offset[0] : 0); }
    idx dest(idx phase, idx k) const { return axis->first + axis->stride * (phase + k * phases); }
    idx dest_step() const { return axis->stride * phases; }
    // Source lines under n positions.
    idx reach(idx n) const { return taps ? (n - 1) * step + taps : 0; }
};

// With 32 registers 14 sums leave room for 9 pixels and the weights; with 16, 8 sums for 6 pixels.
#if defined(__AVX512F__)
constexpr int TILE_W = 7, LINE_W = 12;
#else
constexpr int TILE_W = 4, LINE_W = 6;
#endif
constexpr int TILE_H = 2;  // a single row has tiles of 1 x LINE_W

// Taps of a row that one pass over the tile takes: all for the usual windows, runs of 7 for wider ones. Where
// window and output are one row (`single`), runs of a length follow each other in one pass, as if they were planes.
struct RowRun {
    idx first, count, repeats;
};
inline std::vector<RowRun> row_runs(bool single, idx taps, idx step) {
    const idx most = step == 1 ? 7 : step == 2 ? 5 : 1;
    std::vector<RowRun> runs;
    for (idx s = 0; s < taps;) {
        const idx left = taps - s, count = std::min(most, left == 6 ? idx(3) : left);
        const idx repeats = single ? left / count : 1;
        runs.push_back({s, count, repeats});
        s += count * repeats;
    }
    if (runs.empty()) runs = {{0, 0, 1}};
    return runs;
}

// Where a tile's pixels are: pixel k of lattice row i, as a vector of channels from c on.
template <class T> struct PixelTable {
    const T* const* at;
    idx pitch;
    const T* const* row(idx i) const { return at + i * pitch; }
    static Vec<T> pixel(const T* const* row, idx k, idx c) { return load(row[k] + c); }
};
template <class T> struct PixelSlab {  // [row][pixel][lane]
    const T* at;
    idx pitch;
    const T* row(idx i) const { return at + i * pitch; }
    static Vec<T> pixel(const T* row, idx k, idx) { return load(row + k * LANES<T>); }
};

// What a tile meets of the filters and the source, in lattice units.
struct TileShape {
    idx planes, R, S, step_h, step_w;
};

template <class T, int OW, int STEP>
inline __attribute__((always_inline)) void add_tap(const Vec<T>* v, const T* w, Vec<T>* sums) {
    const Vec<T> weight = load(w);
    for (int o = 0; o < OW; o++) sums[o] += v[o * STEP] * weight;
}

// sums += the taps [0, TAPS) of every filter row. Weights are [plane][r][s][lane]. SQUARE: all of TAPS x TAPS, steps
// STEP x STEP, in code without loops. The two rows take turns, so that 14 sums are in flight.
template <class T, int OH, int OW, int TAPS, int STEP, bool SQUARE, class Pixels>
inline __attribute__((always_inline)) void add_tile(const Pixels& pixels, TileShape shape, const T* weights, idx c,
                                                    Vec<T> (&sums)[OH][OW]) {
    constexpr int L = LANES<T>, SPAN = STEP ? (OW - 1) * STEP + TAPS : OW, M = STEP ? STEP : 1;
    if (SQUARE) shape = {1, TAPS, TAPS, STEP, STEP};
    const idx rows = (OH - 1) * shape.step_h + shape.R;
    for (idx p = 0; p < shape.planes; p++, weights += shape.R * shape.S * L) {
        for (idx i = 0; i < rows; i++) {
            const auto row = pixels.row(p * rows + i);
            Vec<T> v[SPAN];
            for (int k = 0; k < SPAN; k++) v[k] = pixels.pixel(row, STEP ? k : k * shape.step_w, c);
            const bool first = i < shape.R, second = OH == 2 && i >= shape.step_h;
            const T *w0 = weights + i * shape.S * L, *w1 = w0 - shape.step_h * shape.S * L;
            if (first && second)
                for (int t = 0; t < TAPS; t++) {
                    add_tap<T, OW, M>(v + t, w0 + t * L, sums[0]);
                    add_tap<T, OW, M>(v + t, w1 + t * L, sums[OH - 1]);
                }
            else if (first)
                for (int t = 0; t < TAPS; t++) add_tap<T, OW, M>(v + t, w0 + t * L, sums[0]);
            else if (second)
                for (int t = 0; t < TAPS; t++) add_tap<T, OW, M>(v + t, w1 + t * L, sums[OH - 1]);
        }
    }
}

// Widths of the tiles that cover n positions: the last may hang over by a few.
inline int tile_width(idx left) { return left >= (TILE_W == 7 ? 5 : 3) ? TILE_W : left >= 3 ? 4 : 2; }
inline idx tiles_end(idx n) {
    idx w = 0;
    while (w < n) w += tile_width(n - w);
    return w;
}

}  // namespace fastconv

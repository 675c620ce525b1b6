// Channels-last depthwise convolution by blocks of rows: tiles of neighbouring pixels that need no table of them.
//
// Where all taps of a row lie inside, pixels are a constant distance apart: a register for each odd distance and the
// scale of an address reach them all. Rows outside are left out. The columns at the border, which lack taps, are tiles
// of one column, tap by tap.
#pragma once
#include "depthwise_last_view.hpp"

namespace fastconv {

// 16 sums leave room for the pixels of a row and a few weights; with 16 registers it is half of that.
#if defined(__AVX512F__)
constexpr int BLOCK_H = 4;
#else
constexpr int BLOCK_H = 2;
#endif
constexpr int BLOCK_W = 4;
constexpr idx LINE_BYTES = 64;

// Pixels 0 to N - 1, `bytes` apart.
template <int N> struct PixelSteps {
    idx odd[N / 2 + 1];  // distances of pixels 1, 3, 5, ...

    explicit PixelSteps(idx bytes) {
        for (int k = 0; k <= N / 2; k++) odd[k] = (2 * k + 1) * bytes;
    }
    // Otherwise compilers keep a pointer a pixel, on the stack: one load more for each.
    void keep_in_registers() {
#pragma GCC unroll 8
        for (int k = 0; k < N / 2; k++) asm volatile("" : "+r"(odd[k]));
    }
    template <class Bytes> Bytes* at(Bytes* first, int k) const {
        if (k == 0) return first;
        int scale = 0;
        while (k % 2 == 0 && scale < 3) k /= 2, scale++;
        return first + (odd[k / 2] << scale);
    }
};

template <class T> struct BlockTile {
    const char* from;  // lattice row 0 and the first tap's pixel 0, maybe outside
    char* to;
    idx row, pixel, to_row, to_pixel;  // bytes from one to the next
    idx lo, hi;                        // lattice rows that lie inside
    idx runs;                          // of taps, neighbours
    idx R, S, step_h;
    idx fresh;                       // the first lattice row that no tile above met
    bool fetch_outputs, stream;      // the next tile's; past the caches
    const WeightVector<T>* weights;  // of the first tap
    const T* bias;
};

// sums += what OW x TAPS pixels of lattice row i give to the tile's rows.
template <class T, int OH, int OW, int TAPS, int STEP>
inline __attribute__((always_inline)) void add_block_row(const char* row, const PixelSteps<(OW - 1) * STEP + TAPS>& pixels,
                                                         const WeightVector<T>* weights, idx i, idx R, idx S, idx step_h,
                                                         Vec<T> (&sums)[OH][OW]) {
    constexpr int SPAN = (OW - 1) * STEP + TAPS;
    Vec<T> v[SPAN];
#pragma GCC unroll 16
    for (int k = 0; k < SPAN; k++) {
        v[k] = *(const Vec<T>*)pixels.at(row, k);
#if defined(__AVX512F__)
        asm volatile("" : "+v"(v[k]));  // or compilers load it for each product: twice the time across lines
#endif
    }
#pragma GCC unroll 8
    for (int j = 0; j < OH; j++) {
        const idx r = i - j * step_h;
        if (r < 0 || r >= R) continue;
#pragma GCC unroll 8
        for (int t = 0; t < TAPS; t++) {
            const Vec<T> weight = load(weights[r * S + t].lane);
#pragma GCC unroll 4
            for (int o = 0; o < OW; o++) sums[j][o] += v[o * STEP + t] * weight;
        }
    }
}

// Fetches what the next tile meets first, the share of vector v: of a row of pixels, the bytes that follow those under
// this tile, from end to end (docs/performance.md).
constexpr idx FETCH_AHEAD = 512;
template <int PIXELS> inline __attribute__((always_inline)) void fetch_row(const char* row, idx pixel, idx v) {
    const char* ahead = row + PIXELS * (pixel + v * LINE_BYTES) + FETCH_AHEAD;
#pragma GCC unroll 8
    for (int k = 0; k < PIXELS; k++) __builtin_prefetch(ahead + k * LINE_BYTES);
}

// OH x OW outputs of all channels. ROWS taps high with steps of STEP rows too, in code without loops; or, if 0, any.
// FETCH: what the next tile meets.
template <class T, int OH, int OW, int TAPS, int STEP, int ROWS, bool FETCH = false>
void block_tile(const BlockTile<T>& of, const ChannelVectors<T>& of_vectors) {
    const BlockTile<T> tile = of;
    const ChannelVectors<T> vectors = of_vectors;
    PixelSteps<(OW - 1) * STEP + TAPS> pixels(tile.pixel);
    PixelSteps<OW> outputs(tile.to_pixel);
    const idx taps = tile.R * tile.S;
    for (idx v = 0; v < vectors.count; v++) {
        const idx c = vectors.start(v);
        const WeightVector<T>* weights = tile.weights + v * taps;
        const Vec<T> bias = tile.bias ? load(tile.bias + c) : Vec<T>{};
        Vec<T> sums[OH][OW];
#pragma GCC unroll 16
        for (int k = 0; k < OH * OW; k++) sums[k / OW][k % OW] = bias;
        pixels.keep_in_registers(), outputs.keep_in_registers();
        const char* from = tile.from + c * sizeof(T);
        for (idx run = 0; run < tile.runs; run++, from += TAPS * tile.pixel, weights += TAPS) {
            if constexpr (ROWS > 0) {
                const char* row = from;
#pragma GCC unroll 16
                for (int i = 0; i < (OH - 1) * STEP + ROWS; i++, row += tile.row) {
                    asm volatile("" : "+r"(row));
                    if (FETCH && i >= tile.fresh && i < tile.hi) fetch_row<OW * STEP>(row - c * sizeof(T), tile.pixel, v);
                    if (i >= tile.lo && i < tile.hi)
                        add_block_row<T, OH, OW, TAPS, STEP>(row, pixels, weights, i, ROWS, OW > 1 ? TAPS : ROWS, STEP,
                                                             sums);
                }
            } else {
                for (idx i = tile.lo; i < tile.hi; i++)
                    add_block_row<T, OH, OW, TAPS, STEP>(from + i * tile.row, pixels, weights, i, tile.R, tile.S,
                                                         tile.step_h, sums);
            }
        }
        char* to = tile.to + c * sizeof(T);
        if (tile.fetch_outputs)
            for (int j = 0; j < OH; j++)
                for (int o = 0; o < OW; o++) __builtin_prefetch(outputs.at(to + j * tile.to_row + OW * tile.to_pixel, o), 1);
#pragma GCC unroll 4
        for (int j = 0; j < OH; j++, to += tile.to_row) {
            asm volatile("" : "+r"(to));
#pragma GCC unroll 4
            for (int o = 0; o < OW; o++) {
                if (FETCH && tile.stream)
                    stream(outputs.at(to, o), sums[j][o]);
                else
                    *(Vec<T>*)outputs.at(to, o) = sums[j][o];
            }
        }
    }
}

template <class T> using BlockTileOf = void (*)(const BlockTile<T>&, const ChannelVectors<T>&);
enum class BlockPart { BORDER, INSIDE, FETCHING };
// The code for OH rows; null where there is none for so many taps a row.
template <class T, int OH> BlockTileOf<T> block_tile_of(const Comb& H, const Comb& W, BlockPart part) {
    constexpr int OW = BLOCK_W;
    const bool square = H.taps == W.taps && H.step == W.step, fetch = part == BlockPart::FETCHING;
    if (part == BlockPart::BORDER) {
        if (!square || W.step > 2 || (W.taps != 3 && W.taps != 5)) return &block_tile<T, OH, 1, 1, 1, 0>;
        if (W.taps == 5) return &block_tile<T, OH, 1, 1, 2, 5>;
        return W.step == 1 ? &block_tile<T, OH, 1, 1, 1, 3> : &block_tile<T, OH, 1, 1, 2, 3>;
    }
    if (W.step == 2 && W.taps == 3)
        return !square ? &block_tile<T, OH, OW, 3, 2, 0>
               : fetch ? &block_tile<T, OH, OW, 3, 2, 3, true>
                       : &block_tile<T, OH, OW, 3, 2, 3>;
    if (W.step == 2 && W.taps == 5)
        return !square ? &block_tile<T, OH, OW, 5, 2, 0>
               : fetch ? &block_tile<T, OH, OW, 5, 2, 5, true>
                       : &block_tile<T, OH, OW, 5, 2, 5>;
    if (W.step != 1) return nullptr;
    switch (W.taps) {
        case 1: return &block_tile<T, OH, OW, 1, 1, 0>;
        case 2: return &block_tile<T, OH, OW, 2, 1, 0>;
        case 3:
            return !square ? &block_tile<T, OH, OW, 3, 1, 0>
                   : fetch ? &block_tile<T, OH, OW, 3, 1, 3, true>
                           : &block_tile<T, OH, OW, 3, 1, 3>;
        default: return nullptr;  // 5 gained nothing, 7 lost a tenth
    }
}
template <class T> BlockTileOf<T> block_tile_of(idx rows, const Comb& H, const Comb& W, BlockPart part) {
    if constexpr (BLOCK_H == 4) {
        if (rows == 4) return block_tile_of<T, BLOCK_H>(H, W, part);
        if (rows == 3) return block_tile_of<T, BLOCK_H - 1>(H, W, part);
    }
    return rows == 2 ? block_tile_of<T, 2>(H, W, part) : block_tile_of<T, 1>(H, W, part);
}

// Positions [lo, hi) of a phase at which all of a row's taps lie inside.
inline void inside_columns(const Comb& W, idx phase, idx* lo, idx* hi) {
    const idx first = W.source(phase, 0), step = W.step * W.gap, out = W.positions(phase);
    idx l, h;
    valid_range(first, step, W.axis->size, out, lo, hi);
    valid_range(first + (W.taps - 1) * W.gap, step, W.axis->size, out, &l, &h);
    *lo = std::max(*lo, l), *hi = std::max(*lo, std::min(*hi, h));
}

// Rows of outputs at a time: from beyond the caches, fewer if only then what a tile and the next meet stays in the
// level 1 cache.
constexpr idx TILES_BYTES = 40 << 10;
template <class T> bool tiles_fit(const Comb& H, const Comb& W, idx rows, idx channels) {
    const idx pixels = H.reach(rows) * W.reach(BLOCK_W) + rows * H.step * BLOCK_W * W.step;
    return pixels * channels * (idx)sizeof(T) <= TILES_BYTES;
}
template <class T> idx block_rows(const LastView<T>& view, idx channels, bool beyond_cache) {
    const auto fit = [&](idx rows) { return tiles_fit<T>(view.H, view.W, rows, channels); };
    return beyond_cache && !fit(BLOCK_H) && fit(TILE_H) ? TILE_H : BLOCK_H;
}

// Reads the lattice rows that no line above meets, from one end to the other: where the arrays leave no place in the
// level 3 cache and tiles none for fetching in level 1, only the hardware's streams keep up, and a tile's short runs
// start none (docs/performance.md).
constexpr idx TOUCHED_BYTES = 512 << 10;  // half of the level 2 cache
template <class T> void touch_rows(const DepthwiseLast<T>& p, const LastLine<T>& line) {
    const Comb &D = line.view->D, &H = line.view->H;
    const idx *size = p.source_size, bytes = size[2] * p.channels * (idx)sizeof(T), fresh = line.rows * H.step;
    if (size[1] * size[2] < p.dest_size[1] * p.dest_size[2] || fresh * bytes > TOUCHED_BYTES) return;
    const idx d = D.source(line.d_phase, line.d), h = H.source(line.h_phase, line.h);
    if (D.taps != 1 || d < 0 || d >= size[0] || line.w > 0) return;
    for (idx i = std::max<idx>(0, H.reach(line.rows) - fresh); i < H.reach(line.rows); i++) {
        const idx at = h + i * H.gap;
        if (at < 0 || at >= size[1]) continue;
        const char* row = (const char*)p.source + ((line.image * size[0] + d) * size[1] + at) * bytes;
#pragma GCC unroll 8
        for (idx b = 0; b < bytes; b += 64) (void)*(const volatile char*)(row + b);
    }
}

template <class T> void depthwise_block(const DepthwiseLast<T>& p, const LastLine<T>& line) {
    const LastView<T>& view = *line.view;
    const Comb &D = view.D, &H = view.H, &W = view.W;
    const idx d = D.source(line.d_phase, line.d), h = H.source(line.h_phase, line.h), w = W.source(line.w_phase, 0);
    const idx pixel = p.channels, row = p.source_size[2] * pixel, to_row = p.dest_size[2] * pixel;
    const idx to_d = line.image * p.dest_size[0] + D.dest(line.d_phase, line.d), to_h = H.dest(line.h_phase, line.h);
    const T* from = p.source + ((line.image * p.source_size[0] + d) * p.source_size[1] + h) * row + w * pixel;
    T* to = p.dest + (to_d * p.dest_size[1] + to_h) * to_row + W.dest(line.w_phase, 0) * pixel;
    const idx next = W.step * W.gap * pixel, to_next = W.dest_step() * pixel, to_down = H.dest_step() * to_row;

    constexpr idx SIZE = sizeof(T);
    BlockTile<T> tile{nullptr, nullptr, H.gap * row * SIZE, W.gap * pixel * SIZE, to_down * SIZE, to_next * SIZE, 0, 0, 0,
                      H.taps, W.taps, H.step, H.reach(line.rows) - line.rows * H.step, p.beyond_cache, false, nullptr, p.bias};
    valid_range(h, H.gap, p.source_size[1], d >= 0 && d < p.source_size[0] ? H.reach(line.rows) : 0, &tile.lo, &tile.hi);
    // `columns` outputs from position k on, of the taps from s on
    const auto tile_at = [&](BlockTileOf<T> code, idx k, idx columns, idx s) {
        tile.from = (const char*)(from + k * next + s * W.gap * pixel), tile.to = (char*)(to + k * to_next);
        tile.weights = p.weights(view) + s;
        code(tile, p.vectors);
        for (idx j = 0; p.activation != LINEAR && j < line.rows; j++)
            for (idx o = k; o < k + columns; o++) finish_row(to + j * to_down + o * to_next, p.channels, T(0), p.activation);
    };
    const bool fetch = p.beyond_cache && W.gap == 1 && tiles_fit<T>(H, W, line.rows, p.channels);
    // where every vector of outputs is a line of its own that nothing reads again
    tile.stream = STREAMS && fetch && p.activation == LINEAR && pixel * SIZE % LINE_BYTES == 0 && p.vectors.lead == 0 &&
                  (size_t)p.dest % LINE_BYTES == 0;
    tile.fetch_outputs = p.beyond_cache && !tile.stream;
    if (p.beyond_cache && !fetch) touch_rows(p, line);
    const BlockTileOf<T> inside = block_tile_of<T>(line.rows, H, W, fetch ? BlockPart::FETCHING : BlockPart::INSIDE);
    const BlockTileOf<T> border = block_tile_of<T>(line.rows, H, W, BlockPart::BORDER);
    const auto border_at = [&](idx k) {
        idx s, end;
        valid_range(w + k * W.step * W.gap, W.gap, p.source_size[2], W.taps, &s, &end);
        tile.runs = end - s;
        tile_at(border, k, 1, s);
    };
    idx left, right;
    inside_columns(W, line.w_phase, &left, &right);
    for (idx k = 0; k < left; k++) border_at(k);
    tile.runs = 1;
    for (idx k = left; k < right; k += BLOCK_W)  // the last may overlap its neighbour
        tile_at(inside, std::min(k, right - BLOCK_W), BLOCK_W, 0);
    for (idx k = right; k < line.columns; k++) border_at(k);
    if (tile.stream) streamed();
}

// Blocks need whole tiles of columns inside and few columns at the border: at 2 of 7 they lost a fifth, at 2 of 14 they
// gained a tenth. Pixels whole pages apart share a set of the level 1 cache, where they lost a quarter.
constexpr idx BORDER_SHARE = 7, PAGE_BYTES = 4096;
template <class T> bool in_blocks(const LastView<T>& view, idx channels) {
    const Comb& W = view.W;
    if (view.D.taps != 1 || view.H.taps == 0 || !block_tile_of<T>(1, view.H, W, BlockPart::INSIDE)) return false;
    const idx pixel = channels * sizeof(T);
    if (W.gap * pixel % PAGE_BYTES == 0 || W.dest_step() * pixel % PAGE_BYTES == 0) return false;
    for (idx phase = 0; phase < std::min(W.phases, W.axis->out); phase++) {
        idx lo, hi;
        inside_columns(W, phase, &lo, &hi);
        const idx columns = W.positions(phase), border = columns - (hi - lo);
        if (hi - lo < BLOCK_W || border * BORDER_SHARE > columns) return false;
    }
    return true;
}

}  // namespace fastconv

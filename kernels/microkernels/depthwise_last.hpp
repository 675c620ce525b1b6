// Depthwise convolution of channels-last images in place: tiles of neighbouring pixels, streaming over channels.
//
// The pixels that a line of tiles meets are looked up once (zeros outside the image); the loop over channels then
// runs through whole pixels in memory order.
#pragma once
#include "depthwise_block.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

constexpr idx LINE_COLUMNS = 56;  // keeps the tables in the level 1 cache

// Pixels [lo, hi) of `count` lie in the row, `step` elements apart from `first` on.
template <class T>
inline void look_up_row(const T* first, idx step, const T* zeros, idx lo, idx hi, idx count, const T** to) {
    for (idx k = 0; k < lo; k++) to[k] = zeros;
    for (idx k = lo; k < hi; k++) to[k] = first + k * step;
    for (idx k = hi; k < count; k++) to[k] = zeros;
}

// Pointers to the pixels under `columns` positions (hanging tiles included) of `rows` rows, [plane][row][pixel].
template <class T>
void look_up_pixels(const DepthwiseLast<T>& p, const LastLine<T>& line, idx rows, idx count, const T** to) {
    const Comb &D = line.view->D, &H = line.view->H, &W = line.view->W;
    const idx w = W.source(line.w_phase, line.w);
    idx lo, hi;
    valid_range(w, W.gap, p.source_size[2], count, &lo, &hi);
    for (idx t = 0; t < D.taps; t++)
        for (idx i = 0; i < H.reach(rows); i++, to += count) {
            const idx d = D.source(line.d_phase, line.d) + t * D.gap, h = H.source(line.h_phase, line.h) + i * H.gap;
            const bool inside = d >= 0 && d < p.source_size[0] && h >= 0 && h < p.source_size[1];
            const idx row = (line.image * p.source_size[0] + d) * p.source_size[1] + h;
            const T* at = p.source + row * p.source_size[2] * p.channels;
            look_up_row(at + w * p.channels, W.gap * p.channels, p.zeros, inside ? lo : 0, inside ? hi : 0, count, to);
        }
}

// Pointers to the outputs, [row][column]; those that hang over go to `spare`.
template <class T>
void look_up_outputs(const DepthwiseLast<T>& p, const LastLine<T>& line, idx rows, idx count, T* spare, T** to) {
    const Comb &D = line.view->D, &H = line.view->H, &W = line.view->W;
    const idx d = D.dest(line.d_phase, line.d), w = W.dest(line.w_phase, line.w), step = W.dest_step() * p.channels;
    for (idx j = 0; j < rows; j++, to += count) {
        const idx h = H.dest(line.h_phase, line.h + j);
        T* at = p.dest + (((line.image * p.dest_size[0] + d) * p.dest_size[1] + h) * p.dest_size[2] + w) * p.channels;
        for (idx k = 0; k < count; k++) to[k] = k < line.columns ? at + k * step : spare;
    }
}

// Arrays of 4 MB gained nothing from prefetching, of 16 MB lost a quarter, of 24 MB gained a third: those that leave
// no place in the level 3 cache.
constexpr idx PREFETCHED_BYTES = 20 << 20;

template <class T> struct LastTile {
    PixelTable<T> pixels;
    T* const* to;
    idx to_pitch;
    const WeightVector<T>* weights;
    const T* bias;
    ChannelVectors<T> vectors;
    idx first, last;  // of the vectors
    idx tiles;        // neighbours in a line
    idx taps;         // of all runs and rows of the filter
    TileShape shape;
    idx pixel_step, output_step;  // pixels from a tile to the next, where prefetching them pays, or 0
    bool add;                     // to what an earlier run stored
    idx channels() const { return vectors.channels; }
};

// The share of vector c in fetching what the next tile meets first. Where positions skip pixels, the hardware
// prefetchers do not follow and the few products a pixel do not hide the wait (docs/performance.md).
template <class T, int OH>
inline __attribute__((always_inline)) void prefetch_next(const LastTile<T>& t, idx last_pixel, idx c) {
    constexpr int L = LANES<T>;
    const idx rows = (OH - 1) * t.shape.step_h + t.shape.R;
    if (t.pixel_step)
        for (idx i = std::max<idx>(0, rows - OH * t.shape.step_h); i < rows; i++) {
            const T* from = t.pixels.row(i)[last_pixel] + t.channels() + c * t.pixel_step;
            for (idx k = 0; k < t.pixel_step; k++) __builtin_prefetch(from + k * L);
        }
    if (t.output_step)
        for (int j = 0; j < OH; j++) {
            const T* to = t.to[j * t.to_pitch] + t.output_step * t.channels() + c * t.output_step;
            for (idx k = 0; k < t.output_step; k++) __builtin_prefetch(to + k * L, 1);
        }
}

template <class T, int OH, int OW, int TAPS, int STEP, bool SQUARE>
inline __attribute__((always_inline)) void last_vector(const LastTile<T>& tile, idx v) {
    const idx c = tile.vectors.start(v);
    Vec<T> sums[OH][OW];
    const Vec<T> bias = tile.bias ? load(tile.bias + c) : Vec<T>{};
    for (int j = 0; j < OH; j++)
        for (int o = 0; o < OW; o++) sums[j][o] = tile.add ? load(tile.to[j * tile.to_pitch + o] + c) : bias;
    if (!tile.add && TAPS > 0) prefetch_next<T, OH>(tile, (OW - 1) * tile.shape.step_w + TAPS - 1, c);
    if constexpr (TAPS > 0)
        add_tile<T, OH, OW, TAPS, STEP, SQUARE>(tile.pixels, tile.shape, tile.weights[v * tile.taps].lane, c, sums);
    for (int j = 0; j < OH; j++)
        for (int o = 0; o < OW; o++) store(tile.to[j * tile.to_pitch + o] + c, sums[j][o]);
}

template <class T, int OH, int OW, int TAPS, int STEP, bool SQUARE> void last_tiles(const LastTile<T>& first) {
    LastTile<T> tile = first;
    for (idx k = 0; k < tile.tiles; k++, tile.pixels.at += OW * tile.shape.step_w, tile.to += OW)
        for (idx v = tile.first; v < tile.last; v++) last_vector<T, OH, OW, TAPS, STEP, SQUARE>(tile, v);
}

template <class T> using LastTileOf = void (*)(const LastTile<T>&);
template <class T, int OH, int OW> LastTileOf<T> last_tile_of(idx taps, const TileShape& s) {
    const bool square = s.planes == 1 && s.R == taps && s.S == taps && s.step_h == s.step_w;
    if (taps == 0) return &last_tiles<T, OH, OW, 0, 0, false>;
    if (taps == 1) return &last_tiles<T, OH, OW, 1, 0, false>;
    if (s.step_w == 2) {
        if (taps == 2) return &last_tiles<T, OH, OW, 2, 2, false>;
        if (taps == 4) return &last_tiles<T, OH, OW, 4, 2, false>;
        if (taps == 5) return square ? &last_tiles<T, OH, OW, 5, 2, true> : &last_tiles<T, OH, OW, 5, 2, false>;
        return square ? &last_tiles<T, OH, OW, 3, 2, true> : &last_tiles<T, OH, OW, 3, 2, false>;
    }
    switch (taps) {
        case 2: return square ? &last_tiles<T, OH, OW, 2, 1, true> : &last_tiles<T, OH, OW, 2, 1, false>;
        case 3: return square ? &last_tiles<T, OH, OW, 3, 1, true> : &last_tiles<T, OH, OW, 3, 1, false>;
        case 4: return &last_tiles<T, OH, OW, 4, 1, false>;
        case 5: return square ? &last_tiles<T, OH, OW, 5, 1, true> : &last_tiles<T, OH, OW, 5, 1, false>;
        default: return &last_tiles<T, OH, OW, 7, 1, false>;
    }
}
template <class T> LastTileOf<T> last_tile_of(idx rows, int width, idx taps, const TileShape& shape) {
    if (rows == 1) return last_tile_of<T, 1, LINE_W>(taps, shape);
    if (width == TILE_W) return last_tile_of<T, TILE_H, TILE_W>(taps, shape);
    return width == 4 ? last_tile_of<T, TILE_H, 4>(taps, shape) : last_tile_of<T, TILE_H, 2>(taps, shape);
}

// All channels of neighbouring tiles. Several runs take turns on a few vectors, whose sums then stay in the level 1 cache.
constexpr idx RUN_VECTORS = 4;
template <class T>
void add_runs(LastTile<T>& tile, const LastView<T>& view, const WeightVector<T>* weights, const T* const* pixels, idx pitch,
              idx rows, int width) {
    const idx vectors = tile.vectors.count, block = view.runs.size() > 1 ? RUN_VECTORS : vectors;
    for (idx v = 0; v < vectors; v = tile.last) {
        tile.first = v, tile.last = v + 1;
        const idx end = std::min(vectors, v + block);
        while (tile.last < end && (view.runs.size() == 1 || !tile.vectors.overlap_at(tile.last))) tile.last++;
        for (const RowRun& run : view.runs) {
            tile.pixels = {pixels + run.first, view.single ? run.count : pitch};
            tile.shape = view.shape(run);
            tile.weights = weights + run.first;
            tile.add = run.first > 0;
            last_tile_of<T>(rows, width, run.count, tile.shape)(tile);
        }
    }
}

template <class T>
void depthwise_line(const DepthwiseLast<T>& p, const LastLine<T>& line, const T** pixels, T** to, T* spare) {
    const LastView<T>& view = *line.view;
    const idx rows = line.rows;
    const idx end = rows == 1 ? ceil_div<idx>(line.columns, LINE_W) * LINE_W : tiles_end(line.columns);
    const idx count = view.W.reach(end);
    look_up_pixels(p, line, rows, count, pixels);
    look_up_outputs(p, line, rows, end, spare, to);
    LastTile<T> tile{{}, nullptr, end, nullptr, p.bias, p.vectors, 0, 0, 1, view.taps(), {}, 0, 0, false};
    const auto width_at = [&](idx w) { return rows == 1 ? LINE_W : tile_width(line.columns - w); };
    const bool apart = p.beyond_cache && (view.W.step > 1 || view.W.dest_step() > 1);
    for (idx w = 0; w < end;) {
        const int width = width_at(w);
        const idx first = w;
        do w += width;  // tiles of one width; several runs take a tile at a time
        while (view.runs.size() == 1 && w < end && width_at(w) == width);
        tile.to = to + first, tile.tiles = (w - first) / width;
        tile.pixel_step = apart ? width * view.W.step * view.W.gap : 0;
        tile.output_step = apart && view.W.dest_step() > 1 ? width * view.W.dest_step() : 0;
        add_runs(tile, view, p.weights(view), pixels + first * view.W.step, count, rows, width);
    }
    if (p.activation != LINEAR)
        for (idx j = 0; j < rows; j++)
            for (idx w = 0; w < line.columns; w++) finish_row(to[j * end + w], p.channels, T(0), p.activation);
}

template <class T>
void depthwise_lines(const DepthwiseLast<T>& p, const LastLine<T>& line, const T** table, T** to, T* spare) {
    line.view->in_blocks ? depthwise_block(p, line) : depthwise_line(p, line, table, to, spare);
}

// Lines of all views and phases interleaved, so that the source rows they share are still in the cache.
template <class T> std::vector<LastLine<T>> last_lines(const Geometry& g, const std::vector<LastView<T>>& views) {
    std::vector<LastLine<T>> lines;
    idx most = 0, deep = 0;
    for (const LastView<T>& v : views)
        most = std::max(most, ceil_div(v.H.positions(0), v.most_rows)), deep = std::max(deep, v.D.axis->out);
    const auto push = [&](const LastView<T>& v, idx image, idx d, idx hp, idx part) {
        const idx out = v.H.positions(hp), parts = ceil_div(out, v.most_rows);
        if (d >= v.D.axis->out || part >= parts) return;
        // blocks about equal
        const idx h = v.in_blocks ? out * part / parts : part * TILE_H;
        const idx rows = v.in_blocks ? out * (part + 1) / parts - h : std::min<idx>(TILE_H, out - h);
        for (idx wp = 0; wp < v.W.phases; wp++)
            for (idx w = 0, columns = v.W.positions(wp), most = v.in_blocks ? columns : LINE_COLUMNS; w < columns; w += most)
                lines.push_back({&v, image, d % v.D.phases, d / v.D.phases, hp, h, rows, wp, w,
                                 std::min(most, columns - w)});
    };
    for (idx image = 0; image < g.n; image++)
        for (idx d = 0; d < deep; d++)
            for (idx part = 0; part < most; part++)
                for (const LastView<T>& v : views)
                    for (idx hp = 0; hp < v.H.phases; hp++) push(v, image, d, hp, part);
    return lines;
}

// In place needs a whole vector of channels, one input and one output a group.
template <class T> bool in_place_depthwise(const Geometry& g) {
    return g.channels_last && g.c >= LANES<T> && g.groups == g.c && g.groups == g.k;
}

// The lines of a pass, and what it needs.
template <class T> struct LastPlan {
    std::vector<LastView<T>> views;
    std::vector<LastLine<T>> lines;
    idx pixels = 0, outputs = TILE_H * (LINE_COLUMNS + LINE_W), channels;
    int threads;

    // `channels`: of a pixel in memory
    LastPlan(const Geometry& g, const std::vector<View>& of, const T* w, const ChannelVectors<T>& vectors, idx channels,
             int most_threads, bool beyond_cache = false)
        : channels(channels) {
        for (const View& v : of)
            if (v.positions() > 0) {
                views.emplace_back(v, w, g, vectors);
                LastView<T>& last = views.back();
                last.in_blocks = in_blocks(last, channels);
                last.most_rows = last.in_blocks ? block_rows(last, channels, beyond_cache) : TILE_H;
                pixels = std::max(pixels, last.D.taps * last.H.reach(TILE_H) * last.W.reach(LINE_COLUMNS + LINE_W));
            }
        lines = last_lines(g, views);
        const double flops = 2.0 * g.n * g.c * g.out_pixels() * (g.taps() + 4);
        threads = useful_threads(most_threads, (idx)lines.size(), flops);
    }
    LastPlan(const LastPlan&) = delete;
    idx bytes() const { return padded_bytes<const T*>(pixels) + padded_bytes<T*>(outputs) + padded_bytes<T>(channels); }
};

template <class T>
void depthwise_conv_last(const Geometry& g, const std::vector<View>& views, const T* w, DepthwiseLast<T> p, int threads) {
    const std::vector<T> zeros(g.c, T(0));
    p.zeros = zeros.data();
    p.beyond_cache = g.n * g.c * (g.pixels() + g.out_pixels()) * (idx)sizeof(T) > PREFETCHED_BYTES;
    const LastPlan<T> plan(g, views, w, p.vectors, g.c, threads, p.beyond_cache);
    Workspace workspace(plan.bytes(), plan.threads);
    parallel_for((idx)plan.lines.size(), plan.threads, [&](idx at, int thread) {
        Arena arena(workspace.of(thread));
        const T** table = arena.take<const T*>(plan.pixels);
        T** to = arena.take<T*>(plan.outputs);
        depthwise_lines(p, plan.lines[at], table, to, arena.take<T>(g.c));
    });
}

}  // namespace fastconv

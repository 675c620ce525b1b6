// How nested Winograd cuts a depthwise convolution: axes into tiles, maps into parts.
#pragma once
#include <vector>

#include "epilogue.hpp"
#include "filters.hpp"
#include "slab.hpp"
#include "winograd_depthwise_tile.hpp"
#include "winograd_depthwise_transforms.hpp"
#include "winograd_products.hpp"
#include "workspace.hpp"

namespace fastconv {

// Forward or input gradient, stride 1.
template <class T> struct WinogradDepthwise {
    Image<const T> source;
    Image<T> dest;
    idx images, window[2], before[2], dilation[2];
    Filters<T> filters;
    bool flipped;  // the input gradient meets the taps in reverse
    const T* bias;
    Activation activation;
};

// One phase of an axis (dilation d makes d plain convolutions of pixels d apart), in tiles of `tile` outputs and blocks
// of as many taps. Tile t sees the phase's pixels [tile * t, tile * (t + 2) - 1); those from `first` to `last` are in the
// image. Along a plain axis tiles, blocks and pixels are one.
struct TileAxis {
    idx tile, tiles, blocks;
    idx source, dest, step, first, last;

    TileAxis(idx tile, idx outputs, idx taps, idx before, idx dilation, idx size, idx phase)
        : tile(tile), tiles(ceil_div(ceil_div(outputs - phase, dilation), tile)), blocks(ceil_div(taps, tile)),
          source(phase - before), dest(phase), step(dilation), first(std::max<idx>(0, ceil_div(-source, dilation))),
          last(std::max(first, ceil_div(size - source, dilation))) {}

    // Of `count` tiles from `from` on and those that their blocks reach, those that see the image: [lo, hi).
    void seen(idx from, idx count, idx* lo, idx* hi) const {
        const idx end = from + count + blocks - 1;
        *lo = std::min(end, std::max(from, ceil_div(first - 2 * tile + 2, tile)));
        *hi = std::max(*lo, first < last ? std::min(end, ceil_div(last, tile)) : 0);
    }
    idx most_seen(idx count) const {
        idx most = 0;
        for (idx from = 0; from < tiles; from += count) {
            idx lo, hi;
            seen(from, std::min(count, tiles - from), &lo, &hi);
            most = std::max(most, hi - lo);
        }
        return most;
    }
    idx pixels(idx seen) const { return tile * (seen + 1) - 1; }
    idx pixel(idx t) const { return source + step * tile * t; }
    idx output(idx t) const { return dest + step * tile * t; }
};

// Tiles [row, row + rows) x [column, column + columns) of one phase of an image, for a vector of channels; the tiles
// [top, bottom) x [left, right) see the image.
struct TilePart {
    const TileAxis *H, *W;
    idx image, channel, row, rows, column, columns;
    idx top, bottom, left, right;

    TilePart(const TileAxis& h, const TileAxis& w, idx image, idx channel, idx row, idx rows, idx column, idx columns)
        : H(&h), W(&w), image(image), channel(channel), row(row), rows(std::min(rows, h.tiles - row)), column(column),
          columns(std::min(columns, w.tiles - column)) {
        H->seen(row, this->rows, &top, &bottom);
        W->seen(column, this->columns, &left, &right);
        if (left == right) bottom = top;
    }
    // The pixels of `count` rows of tiles from `first` on, and the outputs.
    Window input(idx first, idx count, idx lanes) const {
        return {image, H->pixel(first), W->pixel(left), H->step, W->step, H->pixels(count), W->pixels(right - left), channel, lanes};
    }
    Window output(idx first, idx count, idx lanes) const {
        return {image, H->output(first), W->output(column), H->step, W->step, H->tile * count, W->tile * columns, channel, lanes};
    }
};

// What a part needs, in elements. `tiles`, `sums` and `filters`: from one point's plane to the next.
template <class T> struct PartSizes {
    idx pitch, sums_pitch, tiles, sums, filters, points, planes;
    idx slab, out;

    // `points` products of a tile, of which `planes` are alive at a time. At a time there are `ring` rows of tiles, the
    // pixels of `seen` rows, and the sums and outputs of `rows`.
    PartSizes(const TileAxis& H, const TileAxis& W, idx points, idx planes, idx ring, idx seen, idx rows, idx seen_columns, idx columns)
        : points(points), planes(planes) {
        constexpr idx L = LANES<T>;
        sums_pitch = product_columns(columns) * L, pitch = sums_pitch + (W.blocks - 1) * L;
        tiles = odd_lines<T>(ring * pitch), sums = odd_lines<T>(rows * sums_pitch);
        filters = odd_lines<T>(H.blocks * W.blocks * L);
        const idx taps = H.blocks * H.tile * W.blocks * W.tile;  // in the slab's place while they are transformed
        slab = std::max(H.pixels(seen) * W.pixels(seen_columns), taps) * L;
        out = H.tile * rows * W.tile * columns * L;
    }
    PartSizes() = default;
    idx bytes() const {
        return padded_bytes<T>(slab) + padded_bytes<T>(out) + padded_bytes<T>(planes * tiles) + padded_bytes<T>(planes * sums) +
               padded_bytes<T>(points * filters);
    }
};

// One thread's scratch.
template <class T> struct PartSpace {
    T *slab, *out, *tiles, *sums, *filters;
    PartSpace(char* memory, const PartSizes<T>& s) {
        Arena arena(memory);
        slab = arena.take<T>(s.slab), out = arena.take<T>(s.out);
        tiles = arena.take<T>(s.planes * s.tiles), sums = arena.take<T>(s.planes * s.sums);
        filters = arena.take<T>(s.points * s.filters);
    }
};

// Outputs complete but for the activation, to where they belong.
template <class T> void finish_outputs(const WinogradDepthwise<T>& p, const Window& to, T* out) {
    if (p.activation != LINEAR) finish_row(out, to.rows * to.columns * LANES<T>, T(0), p.activation);
    store_slab(p.dest, to, out);
}

// Rows of tiles, outside the columns that see the image: zero.
template <class T> void clear_unseen(const TilePart& part, const PartSizes<T>& sizes, idx rows, T* tiles) {
    constexpr int L = LANES<T>;
    for (idx plane = 0; plane < sizes.planes; plane++)
        for (idx row = 0; row < rows; row++) {
            T* to = tiles + plane * sizes.tiles + row * sizes.pitch;
            std::fill(to, to + (part.left - part.column) * L, T(0));
            std::fill(to + (part.right - part.column) * L, to + sizes.pitch, T(0));
        }
}

// The filters of a vector of channels, tap by tap and padded with zeros to whole blocks, at `taps`. Returns where the
// first of the taps is, as a pass meets them; their distances go to `row` and `column`.
template <class T>
const T* gather_blocks(const WinogradDepthwise<T>& p, idx channel, idx height, idx width, T* taps, idx* row, idx* column) {
    constexpr int L = LANES<T>;
    const idx R = p.window[0], S = p.window[1], step = p.filters.tap_stride, f = p.filters.group_stride;
    const idx lanes = std::min<idx>(L, p.dest.channels - channel);
    std::fill(taps, taps + height * width * L, T(0));
    // flipped, the taps lie at the end, and are read from there
    T* at = taps + (p.flipped ? (height - R) * width + width - S : 0) * L;
    for (idx r = 0; r < R; r++, at += width * L) {
        const T* w = p.filters.at + channel * f + r * S * step;
        if (f == 1)
            for (idx s = 0; s < S; s++) store(at + s * L, load_part(w + s * step, lanes));
        else
            transpose(w, f, lanes, S, at, idx(L));
    }
    *row = p.flipped ? -width * L : width * L, *column = p.flipped ? -L : L;
    return p.flipped ? taps + (height * width - 1) * L : taps;
}

}  // namespace fastconv

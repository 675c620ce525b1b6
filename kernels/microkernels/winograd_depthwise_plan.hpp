// How nested Winograd cuts a depthwise convolution: axes into tiles, maps into parts that fit L2.
#pragma once
#include <vector>

#include "filters.hpp"
#include "slab.hpp"
#include "winograd_depthwise_tile.hpp"
#include "winograd_depthwise_transforms.hpp"
#include "winograd_products.hpp"
#include "workspace.hpp"

namespace fastconv {

constexpr idx PART_BYTES = 960 << 10;  // what a part of a map needs
constexpr idx PART_COLUMNS = 3 * TILES_W;

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

// One phase of an axis (dilation d makes d plain convolutions of pixels d apart). Tile t sees the phase's pixels
// [4 t, 4 t + 7), of which those from `first` to `last` are in the image.
struct TileAxis {
    idx tiles, blocks;  // written; of the filter
    idx source, dest, step, first, last;

    TileAxis(idx outputs, idx taps, idx before, idx dilation, idx size, idx phase)
        : tiles(ceil_div(ceil_div(outputs - phase, dilation), idx(BLOCK))), blocks(ceil_div(taps, idx(BLOCK))),
          source(phase - before), dest(phase), step(dilation), first(std::max<idx>(0, ceil_div(-source, dilation))),
          last(std::max(first, ceil_div(size - source, dilation))) {}

    // Of the `count` tiles from `from` on and those that their blocks reach, those that see the image: [lo, hi).
    void seen(idx from, idx count, idx* lo, idx* hi) const {
        const idx end = from + count + blocks - 1;
        *lo = std::min(end, std::max(from, ceil_div(first - SPAN + 1, idx(BLOCK))));
        *hi = std::max(*lo, first < last ? std::min(end, ceil_div(last, idx(BLOCK))) : 0);
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
};

// Tiles [row, row + rows) x [column, column + columns) of one phase of an image, for a vector of channels.
struct TilePart {
    const TileAxis *H, *W;
    idx image, channel, row, rows, column, columns;
};

// Elements of what a part needs.
template <class T> struct PartSizes {
    idx pitch, sums_pitch;                     // a row of tiles, of sums
    idx tiles, sums, filters;                  // from one point's plane to the next
    idx slab, out;
    PartSizes() = default;
    PartSizes(idx blocks_h, idx blocks_w, idx seen_rows, idx seen_columns, idx rows, idx columns) {
        constexpr idx L = LANES<T>;
        sums_pitch = product_columns(columns) * L, pitch = sums_pitch + (blocks_w - 1) * L;
        tiles = odd_lines<T>(seen_rows * pitch), sums = odd_lines<T>(rows * sums_pitch);
        filters = odd_lines<T>(blocks_h * blocks_w * L);
        slab = std::max((BLOCK * seen_rows + BLOCK - 1) * (BLOCK * seen_columns + BLOCK - 1), square_blocks(blocks_h * blocks_w)) * L;
        out = BLOCK * BLOCK * rows * columns * L;
    }
    static idx square_blocks(idx blocks) { return BLOCK * BLOCK * blocks; }
    idx bytes() const {
        return padded_bytes<T>(slab) + padded_bytes<T>(out) + padded_bytes<T>(2 * SPAN * tiles) + padded_bytes<T>(2 * SPAN * sums) +
               padded_bytes<T>(SPAN * SPAN * filters);
    }
};

}  // namespace fastconv

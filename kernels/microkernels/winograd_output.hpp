// Tiles of sums back to outputs: inverse transform, bias, activation, store.
#pragma once
#include "epilogue.hpp"
#include "tile.hpp"
#include "winograd_tiles.hpp"
#include "winograd_transforms.hpp"

namespace fastconv {

// One panel of columns, of which the first is `channel` of dest. Sums are (product, tile, column), products `stride`
// apart and tiles a panel's width; runs count tiles from the first.
template <class T, int OUT>
void store_tiles(const TileGrid& grid, const std::vector<TileRun>& runs, const T* sums, idx stride, const Panels<T>& panels,
                 idx panel, idx channel, const T* bias, Activation activation, const Image<T>& dest, T* slab) {
    constexpr int L = LANES<T>;
    const int width = panels.width(panel);
    const idx filled = panels.filled(panel);
    for (int j = 0; j < width; j++) {
        const idx c = channel + j * L, lanes = std::min<idx>(L, filled - j * L);
        const Vec<T> b = bias ? load_part(bias + c, lanes) : Vec<T>{};
        for (const TileRun& run : runs) {
            const Window window = output_window(grid, run, c, lanes);
            const idx row = window.columns * L;
            for (idx t = 0; t < run.count; t++)
                output_transform_2d<T, OUT>(sums + ((run.at + t) * width + j) * L, stride, slab + OUT * t * L, row, L, b);
            if (activation != LINEAR) finish_row(slab, OUT * row, T(0), activation);
            store_slab(dest, window, slab);
        }
    }
}

}  // namespace fastconv

// The grid of Winograd tiles on a (dilated) stride-1 convolution, and what its three passes share.
//
// Dilation d splits the plane into d x d interleaved phases, each a plain convolution: a tile's pixels are d apart.
#pragma once
#include "slab.hpp"
#include "tile.hpp"
#include "winograd_transforms.hpp"
#include "workspace.hpp"

namespace fastconv {

constexpr int PRODUCTS = POINTS * POINTS;

// Volumes: each of the `out` planes meets `taps` planes of the source, whose products are summed like channels.
struct DepthTaps {
    idx taps, size, out, step, before;
    // The source's plane at a tap of output plane `image`, counted over all images; -1 outside.
    idx plane(idx image, idx tap) const {
        if (taps == 1 && size == 1 && out == 1) return image;
        const idx d = image % out + tap * step - before;
        return d < 0 || d >= size ? -1 : image / out * size + d;
    }
};

struct TileGrid {
    DepthTaps depth;
    idx images, step[2], rows, columns, out;  // images: all output planes; out x out outputs a tile
    idx before[2];

    TileGrid(idx images, const DepthTaps& depth, idx height, idx width, const idx* dilation, const idx* before, idx out)
        : depth(depth), images(images * depth.out), step{dilation[0], dilation[1]},
          rows(ceil_div(ceil_div(height, dilation[0]), out)), columns(ceil_div(ceil_div(width, dilation[1]), out)), out(out),
          before{before[0], before[1]} {}
    idx tiles() const { return images * step[0] * step[1] * rows * columns; }
};

// The longest runs whose slabs (24 KB) stay in level 1; their lengths are whole vectors of columns, just about.
constexpr idx INPUT_RUN = 15, OUTPUT_RUN = 24;


// Tiles side by side in one row of tiles: `count` of them from the `at`-th of a block.
struct TileRun {
    idx image, h, w, at, count;  // h, w: output pixel of the first tile
};

inline void tile_runs(const TileGrid& grid, idx first, idx count, idx longest, std::vector<TileRun>& runs) {
    runs.clear();
    for (idx q = first; q < first + count;) {
        idx column = q % grid.columns, rest = q / grid.columns;
        idx row = rest % grid.rows, phase = rest / grid.rows;
        idx pw = phase % grid.step[1], ph = phase / grid.step[1] % grid.step[0];
        idx length = std::min({grid.columns - column, first + count - q, longest});
        runs.push_back({phase / grid.step[1] / grid.step[0], ph + grid.step[0] * grid.out * row,
                        pw + grid.step[1] * grid.out * column, q - first, length});
        q += length;
    }
}

// The input pixels that a run of tiles reads at a tap of the depth: 6 rows, neighbouring tiles overlapping by
// taps - 1. A plane outside is taken for rows below an image.
inline Window input_window(const TileGrid& grid, const TileRun& run, idx tap, idx height, idx c, idx lanes) {
    const idx plane = grid.depth.plane(run.image, tap);
    return {plane, plane < 0 ? height : run.h - grid.before[0], run.w - grid.before[1], grid.step[0], grid.step[1], POINTS,
            grid.out * (run.count - 1) + POINTS, c, lanes};
}

// The output pixels of a run of tiles.
inline Window output_window(const TileGrid& grid, const TileRun& run, idx c, idx lanes) {
    return {run.image, run.h, run.w, grid.step[0], grid.step[1], grid.out, grid.out * run.count, c, lanes};
}

template <class T> constexpr idx slab_elements(idx tiles) { return POINTS * (POINTS * tiles + POINTS) * LANES<T>; }

// Images up to this size are read from end to end by a few windows: the hardware prefetchers have them, and prefetching
// takes up to a quarter of the time.
constexpr idx NEAR_IMAGE_BYTES = 32 << 10;

// Prefetches a window of a larger image part by part into level 2: its lines lie where no hardware prefetcher follows,
// whichever the layout.
template <class T> class PrefetchWindow {
public:
    PrefetchWindow(const Image<T>& x, const Window& win, idx parts) : x(x), win(win), parts(parts) {
        clip(win.h, win.step_h, win.rows, x.height, &top, &bottom);
        clip(win.w, win.step_w, win.columns, x.width, &lo, &hi);
        if (x.channels * x.plane() * (idx)sizeof(T) <= NEAR_IMAGE_BYTES) bottom = top;
    }

    void part(idx n) const {
        constexpr idx line = 64 / sizeof(T);
        if (top == bottom) return;
        if (x.channels_last) {
            const idx begin = lo + (hi - lo) * n / parts, end = lo + (hi - lo) * (n + 1) / parts;
            for (idx i = top; i < bottom; i++)
                for (idx j = begin; j < end; j++) prefetch<2>(at(i, j, 0));
            return;
        }
        for (idx c = win.lanes * n / parts; c < win.lanes * (n + 1) / parts; c++)
            for (idx i = top; i < bottom; i++) {
                const T* end = at(i, hi, c);
                for (const T* from = at(i, lo, c); from < end; from += line) prefetch<2>(from);
            }
    }

private:
    const Image<T>& x;
    const Window win;
    idx parts, top, bottom, lo, hi;
    const T* at(idx i, idx j, idx c) const {
        return x.at + x.offset(win.image, win.h + i * win.step_h, win.w + j * win.step_w, win.c + c);
    }
};

// Channels [c, c + channels) of the runs' input at a tap of the depth, transformed:
// v[product * stride + tile * row + channel].
template <class T>
void transform_tiles(const TileGrid& grid, const std::vector<TileRun>& runs, const Image<const T>& x, idx tap, idx c,
                     idx channels, T* slab, T* v, idx stride, idx row) {
    constexpr int L = LANES<T>;
    const auto window_of = [&](const TileRun& run, idx lane) {
        return input_window(grid, run, tap, x.height, c + lane, std::min<idx>(L, channels - lane));
    };
    for (size_t n = 0; n < runs.size(); n++)
        for (idx lane = 0; lane < channels; lane += L) {
            const TileRun& run = runs[n];
            const Window window = window_of(run, lane);
            const Window next =
                lane + L < channels ? window_of(run, lane + L) : window_of(runs[std::min(n + 1, runs.size() - 1)], 0);
            const PrefetchWindow<const T> ahead(x, next, run.count);
            load_slab(x, window, slab);
            for (idx t = 0; t < run.count; t++) {
                ahead.part(t);
                input_transform_2d<T>(slab + grid.out * t * L, window.columns * L, L, v + (run.at + t) * row + lane,
                                      stride);
            }
        }
}

// A row of v, padded so that eight rows of a power of two do not fall on one set of the level 1 cache.
template <class T> constexpr idx padded_row(idx channels) {
    return (channels + LANES<T> - 1) / LANES<T> * LANES<T> + LANES<T>;
}

}  // namespace fastconv

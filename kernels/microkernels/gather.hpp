// The core of the implicit GEMM: pixels of a view of a channels-last source against packed filters.
//
//   (pixels, taps x depth) @ (taps x depth, columns) -> (pixels, columns)
//
// Rows are pixels read in place. For each KC-deep part of the filters, which stay in L2, pixels go tile by tile and
// each tile through all panels, so that the pixels come from L1 and the results are written in the order of memory.
// A tap outside the source reads a row of zeros instead. gather_last.hpp runs it on whole arrays, gather_boxes.hpp on
// transposed pieces of channels-first ones.
#pragma once
#include "epilogue.hpp"
#include "packed_filters.hpp"
#include "tile.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// Pixels located at a time: 32 tiles for each time their filters come from L3 to L2.
constexpr idx GATHER_PIXELS = 256;
// The filters of a depth block that tiles go through: a quarter of L2, beside the pixels and results that stream by.
constexpr idx FILTER_BYTES = 256 << 10;

// A box of elements with channels innermost: `size` and `origin` are those of the memory that holds it.
template <class T> struct PixelBox {
    T* at;
    idx size[3], origin[3], channels;
    idx pixel(idx image, idx d, idx h, idx w) const {
        return ((image * size[0] + d - origin[0]) * size[1] + h - origin[1]) * size[2] + w - origin[2];
    }
};

// Positions [lo, hi) of a view, in some images.
struct Positions {
    idx lo[3], hi[3];
    idx size(int a) const { return hi[a] > lo[a] ? hi[a] - lo[a] : 0; }
    idx count() const { return size(0) * size(1) * size(2); }
};

// What a tile reads at one depth block.
struct GatherBlock {
    std::vector<idx> offset;      // of each run from the pixel, in elements
    std::vector<Segment> merged;  // for tiles inside: runs that follow each other in memory joined
};

// One view with its filters.
template <class T> struct GatherView {
    const View* view;
    PackedFilters<T> filters;
    bool border, mostly;  // some position lacks a tap, more than half of them do
    std::vector<GatherBlock> blocks;

    // `source` tells the distances in memory, which every box must share.
    GatherView(const View& v, PackedFilters<T> packed, const PixelBox<const T>& source)
        : view(&v), filters(std::move(packed)) {
        idx whole = 1;  // positions that have all taps
        for (const Axis& x : v.axis) {
            idx lo, hi;
            x.inside_all(&lo, &hi);
            whole *= std::max<idx>(0, hi - lo);
        }
        border = whole < v.positions(), mostly = 2 * whole < v.positions();
        for (const DepthBlock& b : filters.blocks) blocks.push_back(block_of(b, source));
    }

    GatherBlock block_of(const DepthBlock& b, const PixelBox<const T>& source) const {
        GatherBlock block;
        for (const TapRun& r : b.runs) {
            const idx at = (view->axis[0].offset[r.d] * source.size[1] + view->axis[1].offset[r.h]) * source.size[2] +
                           view->axis[2].offset[r.w];
            const idx offset = at * source.channels + r.depth;
            block.offset.push_back(offset);
            std::vector<Segment>& merged = block.merged;
            if (!merged.empty() && merged.back().a + merged.back().length == offset)
                merged.back().length += r.length;
            else
                merged.push_back({r.length, offset, r.at});
        }
        return block;
    }

    // Panels whose filters of a depth block fit their part of L2.
    idx panels_that_fit() const {
        return std::max<idx>(1, FILTER_BYTES / (filters.kc * NR<T> * (idx)sizeof(T)));
    }
};

// How positions are cut into tiles: MR at a time, or row by row where they meet a border and divide well, so that a
// whole tile lacks the taps above or below the source and need not multiply by zeros. Small maps of several images
// are taken position by position, images innermost: then a tile lacks the taps beside the source, too.
struct Tiling {
    bool images_inner;
    idx unit, tile;  // blocks of pixels are multiples of `unit`, which tiles of `tile` cover
    template <class T>
    Tiling(const GatherView<T>& v, idx width, idx images) : images_inner(v.mostly && images >= MR / 2), unit(MR), tile(MR) {
        const idx line = images_inner ? images : width, even = ceil_div(line, std::max<idx>(1, ceil_div(line, (idx)MR)));
        if (v.border && even >= MR - 2 && line <= GATHER_PIXELS) unit = line, tile = even;
    }
    idx block() const { return GATHER_PIXELS / unit * unit; }
    int filled(idx q, idx pixels) const { return (int)std::min(std::min(tile, unit - q % unit), pixels - q); }
};

// Where pixels read and write, and whether their taps all stay inside the source.
template <class T> struct PixelBlock {
    const T* source[GATHER_PIXELS + MR];
    T* dest[GATHER_PIXELS + MR];
    idx at[GATHER_PIXELS + MR][3];
    bool inside[GATHER_PIXELS + MR];
};

// `count` positions of the box from the first-th on, of `images` images innermost.
template <class T>
void locate_in_images(const View& v, const Positions& box, const PixelBox<const T>& source, const PixelBox<T>& dest,
                      idx images, idx first, idx count, PixelBlock<T>& block) {
    for (idx q = 0; q < count;) {
        const idx position = (first + q) / images, row = position / box.size(2);
        const idx at[3] = {box.lo[0] + row / box.size(1), box.lo[1] + row % box.size(1), box.lo[2] + position % box.size(2)};
        idx from[3], to[3];
        bool inside = true;
        for (int a = 0; a < 3; a++) {
            const Axis& x = v.axis[a];
            idx lo, hi;
            x.inside_all(&lo, &hi);
            inside = inside && at[a] >= lo && at[a] < hi;
            from[a] = at[a] * x.step, to[a] = x.first + at[a] * x.stride;
        }
        for (idx image = (first + q) % images; image < images && q < count; image++, q++) {
            block.source[q] = source.at + source.pixel(image, from[0], from[1], from[2]) * source.channels;
            block.dest[q] = dest.at + dest.pixel(image, to[0], to[1], to[2]) * dest.channels;
            std::copy(at, at + 3, block.at[q]);
            block.inside[q] = inside;
        }
    }
}

// `count` positions of the box from the first-th on, images outermost.
template <class T>
void locate_pixels(const View& v, const Positions& box, const PixelBox<const T>& source, const PixelBox<T>& dest, idx first,
                   idx count, PixelBlock<T>& block) {
    const Axis *D = &v.axis[0], *H = &v.axis[1], *W = &v.axis[2];
    idx lo[3], hi[3];
    for (int a = 0; a < 3; a++) v.axis[a].inside_all(&lo[a], &hi[a]);
    for (idx q = 0; q < count;) {
        const idx w = box.lo[2] + (first + q) % box.size(2), row = (first + q) / box.size(2);
        const idx h = box.lo[1] + row % box.size(1), rest = row / box.size(1);
        const idx d = box.lo[0] + rest % box.size(0), image = rest / box.size(0);
        const idx end = std::min(count, q + box.hi[2] - w);
        const T* from = source.at + source.pixel(image, d * D->step, h * H->step, w * W->step) * source.channels;
        T* to = dest.at + dest.pixel(image, D->first + d * D->stride, H->first + h * H->stride, W->first + w * W->stride) *
                              dest.channels;
        const bool inside = d >= lo[0] && d < hi[0] && h >= lo[1] && h < hi[1];
        for (idx i = w; q < end; q++, i++) {
            block.source[q] = from, block.dest[q] = to;
            block.at[q][0] = d, block.at[q][1] = h, block.at[q][2] = i;
            block.inside[q] = inside && i >= lo[2] && i < hi[2];
            from += W->step * source.channels, to += W->stride * dest.channels;
        }
    }
}

template <class T> struct GatherScratch {
    const T* zeros;  // as long as the deepest block
    const T** pointers;
    PixelBlock<T>* pixels;
    T* filters;  // of a depth block, where jobs pack them for themselves
    std::vector<Segment> segments;

    static idx bytes(idx runs, idx filters) {
        return padded_bytes<T*>(runs * MR) + padded_bytes<PixelBlock<T>>(1) + padded_bytes<T>(filters);
    }
    GatherScratch(Arena& arena, const T* zeros, idx runs, idx filter_count) : zeros(zeros) {
        pointers = arena.take<const T*>(runs * MR);
        pixels = arena.take<PixelBlock<T>>(1);
        filters = arena.take<T>(filter_count);
    }
};

// A tile that meets the border: the runs that some of its pixels have, and for each a row of MR pointers to the
// pixels, or to zeros outside.
template <class T>
void border_runs(const View& v, const DepthBlock& b, const GatherBlock& block, idx q, int m, GatherScratch<T>& s) {
    const PixelBlock<T>& pixels = *s.pixels;
    const T** pointers = s.pointers;
    s.segments.clear();
    for (size_t r = 0; r < b.runs.size(); r++) {
        const idx tap[3] = {b.runs[r].d, b.runs[r].h, b.runs[r].w};
        bool any = false;
        for (int i = 0; i < m; i++) {
            bool inside = true;
            for (int a = 0; a < 3; a++) {
                idx at = pixels.at[q + i][a] * v.axis[a].step + v.axis[a].offset[tap[a]];
                inside = inside && at >= 0 && at < v.axis[a].size;
            }
            pointers[i] = inside ? pixels.source[q + i] + block.offset[r] : s.zeros;
            any = any || inside;
        }
        if (!any) continue;
        s.segments.push_back({b.runs[r].length, 0, b.runs[r].at});
        pointers += MR;
    }
}

// Whether pixels [q, q + m) are equally far apart, and how far.
template <class T> bool evenly_spaced(const PixelBlock<T>& pixels, idx q, int m, EvenRows<T>& rows) {
    if (m < 2) return true;
    rows.a_row = pixels.source[q + 1] - pixels.source[q], rows.c_row = pixels.dest[q + 1] - pixels.dest[q];
    bool even = true;
    for (int i = 2; i < m; i++)
        even = even && pixels.source[q + i] - pixels.source[q] == i * rows.a_row &&
               pixels.dest[q + i] - pixels.dest[q] == i * rows.c_row;
    return even;
}

// Pixels [q, q + m) at depth block b through some panels, whose filters start at `filters`.
template <class T>
void gather_tile(const GatherView<T>& v, size_t b, const T* filters, idx first_panel, idx panel_count, idx q, int m,
                 GatherScratch<T>& s) {
    const PixelBlock<T>& pixels = *s.pixels;
    const DepthBlock& depth = v.filters.blocks[b];
    bool inside = true;
    for (int i = 0; i < m; i++) inside = inside && pixels.inside[q + i];
    Rows<T> rows{s.pointers, inside ? 0 : MR, 1};
    if (inside)
        rows.pointers = pixels.source + q;
    else
        border_runs(*v.view, depth, v.blocks[b], q, m, s);
    const std::vector<Segment>& segments = inside ? v.blocks[b].merged : s.segments;
    const Panels<T>& panels = v.filters.panels;
    const idx first = panels.first(first_panel);
    EvenRows<T> even{pixels.source[q], 0, 1, pixels.dest[q], 0};
    const bool is_even = inside && evenly_spaced(pixels, q, m, even);
    for (idx panel = first_panel; panel < first_panel + panel_count; panel++) {
        const idx column = panels.first(panel) - first;
        const int width = panels.width(panel), lanes = (int)(panels.filled(panel) - (width - 1) * LANES<T>);
        if (is_even) {
            even.c = pixels.dest[q] + column;
            even_tile_of<T>(m, width)(segments.data(), (idx)segments.size(), even, filters + depth.length * column,
                                      width * LANES<T>, b > 0, lanes);
            continue;
        }
        T* c[MR];
        for (int i = 0; i < m; i++) c[i] = pixels.dest[q + i] + column;
        part_tile_of<T>(m, width)(segments.data(), (idx)segments.size(), rows, filters + depth.length * column,
                                  width * LANES<T>, c, b > 0, lanes);
    }
}

// The next tile's pixels; the hardware prefetchers follow once a row is under way.
template <class T> inline void prefetch_pixels(const PixelBlock<T>& block, idx q, idx pixels, idx depth) {
    const idx length = depth < 8 * LANES<T> ? depth : 8 * LANES<T>;
    for (idx i = q; i < q + MR && i < pixels; i++)
        for (idx c = 0; c < length; c += 64 / sizeof(T)) prefetch(block.source[i] + c);
}

// The columns of a group that a job writes; `bias` is that of the first.
template <class T> struct PanelRange {
    idx group, panel, panels, count;
    const T* bias;
    Activation activation;
    PanelRange(const Panels<T>& all, idx group, idx panel, idx panels, const T* bias, Activation activation)
        : group(group), panel(panel), panels(panels), activation(activation) {
        count = all.first(panel + panels - 1) + all.filled(panel + panels - 1) - all.first(panel);
        this->bias = bias ? bias + group * all.columns + all.first(panel) : nullptr;
    }
};

// `count` positions of a box in `images` images from the first-th on: dest = source @ filters, with bias and activation.
template <class T>
void gather_pixels(const GatherView<T>& v, const Positions& box, const PixelBox<const T>& source, const PixelBox<T>& dest,
                   const PanelRange<T>& columns, idx images, idx first, idx count, GatherScratch<T>& s) {
    const Tiling tiling(v, box.size(2), images);
    const Panels<T>& panels = v.filters.panels;
    const idx column = panels.first(columns.panel), blocks = (idx)v.blocks.size();
    for (idx b = 0; b < blocks; b++) {
        const T* filters = v.filters.packed ? v.filters.at(columns.group, b, columns.panel) : s.filters;
        if (!v.filters.packed)
            for (idx panel = columns.panel; panel < columns.panel + columns.panels; panel++)
                v.filters.pack_panel(columns.group, b, panel,
                                     s.filters + v.filters.blocks[b].length * (panels.first(panel) - column));
        for (idx p = first; p < first + count; p += tiling.block()) {
            const idx pixels = std::min(tiling.block(), first + count - p);
            if (tiling.images_inner)
                locate_in_images(*v.view, box, source, dest, images, p, pixels, *s.pixels);
            else
                locate_pixels(*v.view, box, source, dest, p, pixels, *s.pixels);
            for (idx q = 0, m; q < pixels; q += m) {
                m = tiling.filled(q, pixels);
                if (b == 0) prefetch_pixels(*s.pixels, q + MR, pixels, v.filters.depth);
                gather_tile(v, b, filters, columns.panel, columns.panels, q, (int)m, s);
                if (b == blocks - 1 && (columns.bias || columns.activation != LINEAR))
                    for (idx i = 0; i < m; i++)
                        finish_pixel(s.pixels->dest[q + i], columns.count, columns.bias, columns.activation);
            }
        }
    }
}

// Positions of a view without taps (strides beyond the window): zeros of the input gradient.
template <class T>
void clear_pixels(const View& v, const Positions& box, const PixelBox<T>& dest, idx columns, idx first, idx count) {
    for (idx q = first; q < first + count; q++) {
        const idx w = box.lo[2] + q % box.size(2), row = q / box.size(2);
        const idx h = box.lo[1] + row % box.size(1), rest = row / box.size(1);
        const idx d = box.lo[0] + rest % box.size(0), image = rest / box.size(0);
        const idx at[3] = {d, h, w};
        idx to[3];
        for (int a = 0; a < 3; a++) to[a] = v.axis[a].first + at[a] * v.axis[a].stride;
        T* pixel = dest.at + dest.pixel(image, to[0], to[1], to[2]) * dest.channels;
        std::fill(pixel, pixel + columns, T(0));
    }
}

}  // namespace fastconv

// 1x1 windows without padding on channels-last arrays: a plain product, whose rows are pixels at one distance.
//
//   (pixels, depth) @ (depth, columns) -> (pixels, columns)
//
// Finding pixels one by one, as gather.hpp does, costs a twentieth of the products of a depth of 64. Where one job
// has all pixels, its first tile reads the filters in place and packs them for the others on the way.
#pragma once
#include "gather_last.hpp"

namespace fastconv {

// Tiles at once: as many as gather.hpp's pixels.
constexpr idx POINTWISE_TILES = GATHER_PIXELS / MR;
// Filters of a depth block that tiles go through: pixels come and go but once, so they may fill half of L2 and more
// (r50_1x1s2 1.03 of its speed with 256 KB).
constexpr idx POINTWISE_FILTER_BYTES = 576 << 10;

// The pixels of a view of one tap, as lines in which they lie at one distance; lines that follow one another are one.
template <class T> struct PixelLines {
    const View* view;
    PixelBox<const T> source;
    PixelBox<T> dest;
    int outer;              // axes [0, outer) tell lines apart, the others lie within a line
    idx length, count;      // pixels of a line, lines
    idx tile, tiles;        // pixels of a tile, tiles of a line
    idx source_step, dest_step;

    PixelLines(const View& v, const PixelBox<const T>& source, const PixelBox<T>& dest, idx images)
        : view(&v), source(source), dest(dest), outer(2), length(v.axis[2].out), count(images) {
        auto dense = [&](int a) {
            const Axis& x = v.axis[a];
            return x.out == 1 ? x.size == 1 && dest.size[a] == 1 : x.step == 1 && x.stride == 1 && x.out == x.size;
        };
        auto joins = [&](int a) { return v.axis[a].out == 1 || (v.axis[a].step == 1 && v.axis[a].stride == 1); };
        while (outer > 0 && dense(outer) && joins(outer - 1)) length *= v.axis[--outer].out;
        if (outer == 0 && dense(0)) length *= images, count = 1;
        for (int a = 0; a < outer; a++) count *= v.axis[a].out;
        tile = ceil_div(length, ceil_div(length, (idx)MR)), tiles = ceil_div(length, tile);
        source_step = v.axis[2].step * source.channels, dest_step = v.axis[2].stride * dest.channels;
    }

    // The n-th tile of all lines, of m pixels.
    EvenRows<T> rows(idx n, int* m) const {
        const idx first = n % tiles * tile;
        idx line = n / tiles, from[3], to[3];
        for (int a = 2; a >= 0; a--) {
            const Axis& x = view->axis[a];
            const idx i = a < outer ? line % x.out : 0;
            if (a < outer) line /= x.out;
            from[a] = i * x.step + x.offset[0], to[a] = x.first + i * x.stride;
        }
        *m = (int)std::min(tile, length - first);
        const idx read = source.pixel(line, from[0], from[1], from[2]) * source.channels;
        const idx write = dest.pixel(line, to[0], to[1], to[2]) * dest.channels;
        return {source.at + read + first * source_step, source_step, 1, dest.at + write + first * dest_step, dest_step};
    }
};

struct ColumnPanel {
    idx first;  // column of the group
    int width, lanes;
};

// A thread's own filters, of all depth blocks.
constexpr idx POINTWISE_OWN_BYTES = 4 << 20;
// With fewer tiles for each thread, filters packed by all together cost less than each packing its own.
constexpr idx TILES_TO_PACK = 16;

// Panels side by side, of at most POINTWISE_FILTER_BYTES a depth block.
template <class T> struct PanelRun {
    std::vector<ColumnPanel> panels;
    idx first() const { return panels.front().first; }
    idx width() const { return panels.back().first - first() + panels.back().width * LANES<T>; }
    idx columns() const { return width() - LANES<T> + panels.back().lanes; }
};

// What a panel's tile prefetches: rows [first, first + count) of the next tile of pixels, one in each segment of its depth.
// All of them at once hold up the loads of the tile (r50_1x1a's input gradient 0.9 of its speed).
struct RowsAhead {
    idx first, count, step, segments;
    Segment segment[MR];

    RowsAhead(idx panel, idx panels, idx depth)
        : first(MR * panel / panels), count(MR * (panel + 1) / panels - first), segments(std::max<idx>(1, std::min(count, depth))) {
        step = count ? ceil_div(depth, std::max<idx>(1, depth / segments)) : 0;
        for (idx i = 0; i < segments; i++) {
            const idx at = depth * i / segments;
            segment[i] = {depth * (i + 1) / segments - at, at, at};
        }
    }
    template <class T> void set(const T* row, EvenRows<T>* tile) const {
        tile->ahead = row + first * tile->a_row;
        tile->ahead_step = step, tile->ahead_jump = tile->a_row - step * segment[0].length;
    }
};

template <class T> class PointwiseLast {
public:
    PointwiseLast(const ChannelsLast<T>& p, const View& v, PackedFilters<T> packed)
        : p(p), lines(v, p.source, p.dest, p.images), filters(std::move(packed)), tiles(lines.count * lines.tiles) {}

    void run(double flops, int threads) {
        threads = useful_threads(threads, tiles * p.groups, flops);
        const idx bytes = std::min(POINTWISE_FILTER_BYTES / filters.kc, POINTWISE_OWN_BYTES / std::max<idx>(1, filters.total()));
        const idx fit = std::max<idx>(1, bytes / (NR<T> * (idx)sizeof(T)));
        if (!filters.filters.packed && tiles <= POINTWISE_TILES) return run_columns(fit * NV, threads);
        if (filters.filters.packed)
            filters.packed = filters.filters.packed;
        else if (tiles < TILES_TO_PACK * threads)
            filters.pack(threads);
        run_pixels(ceil_div(filters.panels.count, fit), threads);
    }

private:
    const ChannelsLast<T> p;
    const PixelLines<T> lines;
    PackedFilters<T> filters;
    const idx tiles;

    // Every tile is a job, so that threads end together. Each packs its own filters, unless there are any: what another
    // has written is slow to read.
    void run_pixels(idx parts, int threads) const {
        std::vector<PanelRun<T>> runs(parts);
        const Panels<T>& panels = filters.panels;
        idx widest = 0;
        for (idx i = 0; i < parts; i++) {
            for (idx n = panels.count * i / parts; n < panels.count * (i + 1) / parts; n++)
                runs[i].panels.push_back(column_panel(panels, n, 0));
            widest = std::max(widest, runs[i].width());
        }
        Workspace workspace(filters.packed ? 0 : padded_bytes<T>(filters.total() * widest), threads);
        std::vector<idx> held(threads, -1);  // the part in each workspace
        parallel_ranges(p.groups * parts * tiles, threads, POINTWISE_TILES, [&](idx first, idx end, int thread) {
            for (idx next; first < end; first = next) {
                const idx part = first / tiles, tile = first % tiles;
                next = std::min(end, (part + 1) * tiles);
                const PanelRun<T>& run = runs[part % parts];
                T* own = filters.packed ? nullptr : (T*)workspace.of(thread);
                run_tiles(part / parts, run, tile, tile + next - first, own, run.width(), own && held[thread] != part);
                held[thread] = part;
            }
        });
    }

    // Few pixels: jobs are columns, and pack the filters they need.
    void run_columns(idx most_vectors, int threads) const {
        const idx vectors = filters.panels.vectors, parts = equal_parts(vectors, p.groups, ceil_div(vectors, most_vectors), threads);
        std::vector<PanelRun<T>> runs(parts);
        idx widest = 0;
        for (idx i = 0; i < parts; i++) {
            const idx first = vectors * i / parts * LANES<T>, end = std::min(vectors * (i + 1) / parts * LANES<T>, p.columns);
            const Panels<T> own(end - first);
            for (idx n = 0; n < own.count; n++) runs[i].panels.push_back(column_panel(own, n, first));
            widest = std::max(widest, runs[i].width());
        }
        const idx blocks = std::min(tiles, ceil_div<idx>(threads, p.groups * parts));
        Workspace workspace(padded_bytes<T>(filters.kc * widest), threads);
        parallel_for(p.groups * parts * blocks, threads, [&](idx job, int thread) {
            const idx block = job % blocks, part = job / blocks % parts;
            run_tiles(job / blocks / parts, runs[part], tiles * block / blocks, tiles * (block + 1) / blocks, (T*)workspace.of(thread), 0, true);
        });
    }

    static ColumnPanel column_panel(const Panels<T>& p, idx n, idx column) {
        return {column + p.first(n), p.width(n), (int)(p.filled(n) - (p.width(n) - 1) * LANES<T>)};
    }

    // Parts of `vectors`, at least `least`, with which threads that take them in turns are done first.
    static idx equal_parts(idx vectors, idx groups, idx least, int threads) {
        idx best = least;
        auto longest = [&](idx parts) { return ceil_div<idx>(groups * parts, threads) * ceil_div(vectors, parts); };
        for (idx parts = least + 1; parts <= std::min<idx>(vectors, least + 3 * threads); parts++)
            if (longest(parts) < longest(best)) best = parts;
        return best;
    }

    // Tiles [first, end) of pixels with a run of panels, which lie in `own`, `step` elements a depth on, or else among the
    // packed filters. The first tile packs them, if told to.
    void run_tiles(idx group, const PanelRun<T>& run, idx first, idx end, T* own, idx step, bool packs) const {
        const idx column = group * p.columns + run.first();
        for (size_t b = 0; b < filters.blocks.size(); b++) {
            const DepthBlock& block = filters.blocks[b];
            const idx depth = group * p.depth + block.first;
            const T* panels = own ? own + block.first * step : filters.packed + filters.offset(group, b, run.first());
            std::vector<RowsAhead> ahead;
            for (size_t i = 0; i < run.panels.size(); i++) ahead.emplace_back(i, run.panels.size(), block.length);
            int m, next_m;
            EvenRows<T> rows, next = lines.rows(first, &next_m);
            for (idx n = first; n < end; n++) {
                rows = next, m = next_m;
                if (n + 1 < tiles) next = lines.rows(n + 1, &next_m);
                rows.a += depth;
                T* const pixel = rows.c + column;
                for (size_t i = 0; i < run.panels.size(); i++) {
                    const ColumnPanel& panel = run.panels[i];
                    const T* packed = panels + block.length * (panel.first - run.first());
                    rows.c = pixel + panel.first - run.first();
                    ahead[i].set(next.a + depth, &rows);
                    if (packs && n == first)
                        packing_tile(group, b, panel, rows, m, (T*)packed);
                    else
                        even_tile_of<T, true>(m, panel.width)(ahead[i].segment, ahead[i].segments, rows, packed, panel.width * LANES<T>,
                                                              b > 0, panel.lanes);
                }
                if (b + 1 == filters.blocks.size() && (p.bias || p.activation != LINEAR))
                    for (int i = 0; i < m; i++)
                        finish_pixel(pixel + i * rows.c_row, run.columns(), p.bias ? p.bias + column : nullptr, p.activation);
            }
        }
    }

    // The first tile of a job, which packs a panel.
    void packing_tile(idx group, size_t b, const ColumnPanel& panel, const EvenRows<T>& rows, int m, T* packed) const {
        const DepthBlock& block = filters.blocks[b];
        const Filters<T>& f = filters.filters;
        const idx ld = panel.width * LANES<T>;
        if (f.column_stride == 1 && m == MR && panel.lanes == LANES<T>) {
            const T* from = f.at + group * f.group_stride + block.runs[0].filter_tap * f.tap_stride + panel.first;
            return even_packing_tile_of<T, PACK_B>(panel.width)(block.length, rows, from + block.first * f.depth_stride,
                                                                f.depth_stride, packed, b > 0);
        }
        const Segment segment{block.length, 0, 0};
        pack_filter_panel(f, group, block.runs[0].filter_tap, block.first, block.length, panel.first,
                          (panel.width - 1) * LANES<T> + panel.lanes, packed, ld);
        even_tile_of<T>(m, panel.width)(&segment, 1, rows, packed, ld, b > 0, panel.lanes);
    }
};

}  // namespace fastconv

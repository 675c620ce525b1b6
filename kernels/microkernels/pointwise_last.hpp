// 1x1 windows without padding on channels-last arrays: a plain product, whose rows are pixels at one distance.
//
//   (pixels, depth) @ (depth, columns) -> (pixels, columns)
//
// Finding pixels one by one, as gather.hpp does, costs a twentieth of the products of a depth of 64. Where one job
// has all pixels, its first tile reads the filters in place and packs them for the others on the way.
#pragma once
#include "gather_last.hpp"

namespace fastconv {

// Tiles a job: as many as gather.hpp's pixels.
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

struct PointwiseLastJob {
    idx group, tile, tiles;
    std::vector<ColumnPanel> panels;
};

template <class T> void add_panels(const Panels<T>& p, idx column, idx first, idx count, std::vector<ColumnPanel>& panels) {
    for (idx n = first; n < first + count; n++)
        panels.push_back({column + p.first(n), p.width(n), (int)(p.filled(n) - (p.width(n) - 1) * LANES<T>)});
}

template <class T> class PointwiseLast {
public:
    PointwiseLast(const ChannelsLast<T>& p, const View& v, PackedFilters<T> packed)
        : p(p), lines(v, p.source, p.dest, p.images), filters(std::move(packed)) {}

    void run(double flops, int threads) {
        const idx tiles = lines.count * lines.tiles;
        threads = useful_threads(threads, tiles * p.groups, flops);
        const idx blocks = ceil_div(tiles, POINTWISE_TILES);
        if (filters.filters.packed)
            filters.packed = filters.filters.packed;
        else if (blocks > 1)
            filters.pack(threads);
        const std::vector<PointwiseLastJob> jobs = split(tiles, threads);
        idx widest = 0;
        for (const PointwiseLastJob& job : jobs) {
            const ColumnPanel& last = job.panels.back();
            widest = std::max(widest, last.first + last.width * LANES<T> - job.panels[0].first);
        }
        Workspace workspace(filters.packed ? 0 : padded_bytes<T>(filters.kc * widest), threads);
        parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) { run_job(jobs[job], (T*)workspace.of(thread)); });
    }

private:
    const ChannelsLast<T> p;
    const PixelLines<T> lines;
    PackedFilters<T> filters;

    // Blocks of tiles, and of columns whose filters fit their part of L2; with few blocks, columns are cut until
    // every thread has several jobs, along the panels of filters that are packed already.
    std::vector<PointwiseLastJob> split(idx tiles, int threads) const {
        const Panels<T>& panels = filters.panels;
        const idx wanted = threads == 1 ? 1 : 3 * threads;
        const idx fit = std::max<idx>(1, POINTWISE_FILTER_BYTES / (filters.kc * NR<T> * (idx)sizeof(T)));
        idx blocks = ceil_div(tiles, POINTWISE_TILES), parts = ceil_div(panels.count, fit);
        if (p.groups * blocks * parts < wanted) parts = std::min(panels.count, ceil_div(wanted, p.groups * blocks));
        if (p.groups * blocks * parts < wanted) blocks = std::min(tiles, ceil_div(wanted, p.groups * parts));
        std::vector<PointwiseLastJob> jobs;
        for (idx group = 0; group < p.groups; group++)
            for (idx b = 0; b < blocks; b++)
                for (idx part = 0; part < parts; part++) {
                    const idx tile = tiles * b / blocks;
                    PointwiseLastJob job{group, tile, tiles * (b + 1) / blocks - tile, {}};
                    if (filters.packed) {
                        const idx first = panels.count * part / parts;
                        add_panels(panels, 0, first, panels.count * (part + 1) / parts - first, job.panels);
                    } else {
                        const idx first = panels.vectors * part / parts * LANES<T>;
                        const idx end = std::min(panels.vectors * (part + 1) / parts * LANES<T>, p.columns);
                        const Panels<T> own(end - first);
                        add_panels(own, first, 0, own.count, job.panels);
                    }
                    jobs.push_back(std::move(job));
                }
        return jobs;
    }

    void run_job(const PointwiseLastJob& job, T* scratch) const {
        const ColumnPanel &head = job.panels.front(), &tail = job.panels.back();
        const idx column = job.group * p.columns + head.first;
        const idx count = tail.first + (tail.width - 1) * LANES<T> + tail.lanes - head.first;
        for (size_t b = 0; b < filters.blocks.size(); b++) {
            const DepthBlock& block = filters.blocks[b];
            const Segment segment{block.length, 0, 0};
            const T* panels = filters.packed ? filters.packed + filters.offset(job.group, b, head.first) : scratch;
            for (idx n = job.tile; n < job.tile + job.tiles; n++) {
                int m;
                EvenRows<T> rows = lines.rows(n, &m);
                rows.a += job.group * p.depth + block.first;
                T* const pixel = rows.c + column;
                prefetch_tile(n + 1, block);
                for (const ColumnPanel& panel : job.panels) {
                    const T* packed = panels + block.length * (panel.first - head.first);
                    rows.c = pixel + panel.first - head.first;
                    const idx ld = panel.width * LANES<T>;
                    if (filters.packed || n > job.tile)
                        even_tile_of<T>(m, panel.width)(&segment, 1, rows, packed, ld, b > 0, panel.lanes);
                    else
                        packing_tile(job.group, b, panel, rows, m, (T*)packed);
                }
                if (b + 1 == filters.blocks.size() && (p.bias || p.activation != LINEAR))
                    for (int i = 0; i < m; i++)
                        finish_pixel(pixel + i * rows.c_row, count, p.bias ? p.bias + column : nullptr, p.activation);
            }
        }
    }

    // The next tile's pixels; the hardware prefetchers follow once a row is under way.
    void prefetch_tile(idx n, const DepthBlock& block) const {
        if (n >= lines.count * lines.tiles) return;
        int m;
        const EvenRows<T> rows = lines.rows(n, &m);
        const idx length = std::min(block.length, 8 * (idx)LANES<T>);
        for (int i = 0; i < m; i++)
            for (idx c = 0; c < length; c += 64 / sizeof(T)) prefetch(rows.a + block.first + i * rows.a_row + c);
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

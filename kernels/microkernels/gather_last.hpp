// Implicit GEMM over a view of a channels-last source: rows are pixels read in place, columns channels.
//
//   (pixels, taps x depth) @ (taps x depth, columns) -> (pixels, columns)
//
// A job is a block of pixels and of column panels: for each KC-deep part of the filters, which stay in L2, it takes
// its pixels tile by tile and each tile through all panels, so that the pixels come from L1 and the results are
// written in the order of memory. Filters that several jobs share are packed once a call (packed_filters.hpp),
// others by their job. A tap outside the source reads a row of zeros instead.
#pragma once
#include "epilogue.hpp"
#include "packed_filters.hpp"
#include "parallel.hpp"
#include "tile.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// A job's pixels: 32 tiles for each time its filters come from L3 to L2.
constexpr idx PIXELS_LAST = 256;
// The filters of a job at one depth block: a quarter of L2, beside the pixels and results that stream by.
constexpr idx PANEL_BYTES_LAST = 256 << 10;

template <class T> struct ChannelsLast {
    idx images, groups, depth, columns;  // depth and columns per group
    idx source_channels, dest_channels;
    idx source_size[3], dest_size[3];
    const T* source;
    T* dest;
    const T* bias;
    Activation activation;
};

// What a tile reads at one depth block.
struct LastBlock {
    std::vector<idx> offset;      // of each run from the pixel, in elements
    std::vector<Segment> merged;  // for tiles inside: runs that follow each other in memory joined
};

template <class T> LastBlock last_block(const View& v, const ChannelsLast<T>& p, const DepthBlock& b) {
    LastBlock block;
    for (const TapRun& r : b.runs) {
        const idx at = (v.axis[0].offset[r.d] * p.source_size[1] + v.axis[1].offset[r.h]) * p.source_size[2] +
                       v.axis[2].offset[r.w];
        const idx offset = at * p.source_channels + r.depth;
        block.offset.push_back(offset);
        std::vector<Segment>& merged = block.merged;
        if (!merged.empty() && merged.back().a + merged.back().length == offset)
            merged.back().length += r.length;
        else
            merged.push_back({r.length, offset, r.at});
    }
    return block;
}

// The pixels of a job: where each reads and writes, and whether its taps all stay inside the source.
template <class T> struct PixelBlock {
    const T* source[PIXELS_LAST + MR];
    T* dest[PIXELS_LAST + MR];
    idx at[PIXELS_LAST + MR][3];
    bool inside[PIXELS_LAST + MR];
};

template <class T>
void locate_pixels(const View& v, const ChannelsLast<T>& p, idx group, idx first, idx count, PixelBlock<T>& block) {
    const Axis *D = &v.axis[0], *H = &v.axis[1], *W = &v.axis[2];
    idx lo[3], hi[3];
    for (int a = 0; a < 3; a++) v.axis[a].inside_all(&lo[a], &hi[a]);
    for (idx q = 0; q < count;) {
        const idx w = (first + q) % W->out, row = (first + q) / W->out;
        const idx h = row % H->out, d = row / H->out % D->out, image = row / H->out / D->out;
        const idx end = std::min(count, q + W->out - w);
        const idx from = ((image * D->size + d * D->step) * H->size + h * H->step) * W->size + w * W->step;
        const idx to = ((image * p.dest_size[0] + D->first + d * D->stride) * p.dest_size[1] + H->first + h * H->stride) *
                           p.dest_size[2] + W->first + w * W->stride;
        const T* source = p.source + from * p.source_channels + group * p.depth;
        T* dest = p.dest + to * p.dest_channels + group * p.columns;
        const bool inside = d >= lo[0] && d < hi[0] && h >= lo[1] && h < hi[1];
        for (idx i = w; q < end; q++, i++) {
            block.source[q] = source, block.dest[q] = dest;
            block.at[q][0] = d, block.at[q][1] = h, block.at[q][2] = i;
            block.inside[q] = inside && i >= lo[2] && i < hi[2];
            source += W->step * p.source_channels, dest += W->stride * p.dest_channels;
        }
    }
}

// A tile that meets the border: the runs that some of its pixels have, and for each a row of MR pointers to the
// pixels, or to zeros outside.
template <class T>
void border_runs(const View& v, const DepthBlock& b, const LastBlock& block, const PixelBlock<T>& pixels, idx q, int m,
                 const T* zeros, std::vector<Segment>& segments, const T** pointers) {
    segments.clear();
    for (size_t r = 0; r < b.runs.size(); r++) {
        const idx tap[3] = {b.runs[r].d, b.runs[r].h, b.runs[r].w};
        bool any = false;
        for (int i = 0; i < m; i++) {
            bool inside = true;
            for (int a = 0; a < 3; a++) {
                idx s = pixels.at[q + i][a] * v.axis[a].step + v.axis[a].offset[tap[a]];
                inside = inside && s >= 0 && s < v.axis[a].size;
            }
            pointers[i] = inside ? pixels.source[q + i] + block.offset[r] : zeros;
            any = any || inside;
        }
        if (!any) continue;
        segments.push_back({b.runs[r].length, 0, b.runs[r].at});
        pointers += MR;
    }
}

// How a view's pixels are cut into tiles: MR at a time, or by rows where they meet a border and divide well, so that
// a whole tile lacks the taps above or below the source and need not multiply by zeros.
struct Tiling {
    idx unit, tile;  // blocks of pixels are multiples of `unit`, which tiles of `tile` cover
    int filled(idx q, idx pixels) const { return (int)std::min(std::min(tile, unit - q % unit), pixels - q); }
};

inline Tiling tiling(const View& v, idx block) {
    const idx width = v.axis[2].out, tile = ceil_div(width, std::max<idx>(1, ceil_div(width, (idx)MR)));
    bool border = false;
    for (const Axis& x : v.axis) {
        idx lo, hi;
        x.inside_all(&lo, &hi);
        border = border || lo > 0 || hi < x.out;
    }
    return border && tile >= MR - 2 && width <= block ? Tiling{width, tile} : Tiling{MR, MR};
}

// One view with its filters.
template <class T> struct LastView {
    const View* view;
    PackedFilters<T> filters;
    Tiling tiling;
    std::vector<LastBlock> blocks;
};

struct LastJob {
    idx view, group, pixel, pixels, panel, panels;
};

template <class T> struct LastScratch {
    const T** pointers;
    PixelBlock<T>* pixels;
    T* filters;  // a depth block of a job's panels, where it packs them itself
    std::vector<Segment> segments;
    static idx bytes(idx runs, idx filters) {
        return padded_bytes<T*>(runs * MR) + padded_bytes<PixelBlock<T>>(1) + padded_bytes<T>(filters);
    }
    LastScratch(char* memory, idx runs, idx filter_count) {
        Arena arena(memory);
        pointers = arena.take<const T*>(runs * MR);
        pixels = arena.take<PixelBlock<T>>(1);
        filters = arena.take<T>(filter_count);
    }
};

// The next tile's pixels; the hardware prefetchers follow once a row is under way.
template <class T> inline void prefetch_pixels(const ChannelsLast<T>& p, const PixelBlock<T>& block, idx q, idx pixels) {
    const idx length = p.depth < 8 * LANES<T> ? p.depth : 8 * LANES<T>;
    for (idx i = q; i < q + MR && i < pixels; i++)
        for (idx c = 0; c < length; c += 64 / sizeof(T)) __builtin_prefetch(block.source[i] + c);
}

// The pixels [q, q + m) of a job through all its panels, which start at `filters`, at depth block b.
template <class T>
void run_last_tile(const LastView<T>& v, const LastJob& job, size_t b, const T* filters, idx q, int m, const T* zeros,
                   LastScratch<T>& s) {
    const PixelBlock<T>& pixels = *s.pixels;
    const DepthBlock& depth = v.filters.blocks[b];
    const LastBlock& block = v.blocks[b];
    bool inside = true;
    for (int i = 0; i < m; i++) inside = inside && pixels.inside[q + i];
    Rows<T> rows{s.pointers, inside ? 0 : MR, 1};
    if (inside)
        rows.pointers = pixels.source + q;
    else
        border_runs(*v.view, depth, block, pixels, q, m, zeros, s.segments, s.pointers);
    const std::vector<Segment>& segments = inside ? block.merged : s.segments;
    const Panels<T>& panels = v.filters.panels;
    for (idx panel = job.panel; panel < job.panel + job.panels; panel++) {
        const idx column = panels.first(panel), filled = panels.filled(panel);
        const int width = panels.width(panel);
        const T* from = filters + depth.length * (column - panels.first(job.panel));
        T* c[MR];
        for (int i = 0; i < m; i++) c[i] = pixels.dest[q + i] + column;
        part_tile_of<T>(m, width)(segments.data(), (idx)segments.size(), rows, from, width * LANES<T>, c, b > 0,
                                  (int)(filled - (width - 1) * LANES<T>));
    }
}

template <class T>
void run_last_job(const ChannelsLast<T>& p, const LastView<T>& v, const LastJob& job, const T* zeros, LastScratch<T>& s) {
    locate_pixels(*v.view, p, job.group, job.pixel, job.pixels, *s.pixels);
    const Panels<T>& panels = v.filters.panels;
    const idx column = panels.first(job.panel);
    const idx columns = std::min(p.columns, panels.first(job.panel + job.panels - 1) + NR<T>) - column;
    const T* bias = p.bias ? p.bias + job.group * p.columns + column : nullptr;
    const size_t blocks = v.blocks.size();
    for (size_t b = 0; b < blocks; b++) {
        const T* filters = v.filters.memory ? v.filters.at(job.group, b, job.panel) : s.filters;
        if (!v.filters.memory)
            for (idx panel = job.panel; panel < job.panel + job.panels; panel++)
                v.filters.pack_panel(job.group, b, panel, s.filters + v.filters.blocks[b].length * (panels.first(panel) - column));
        for (idx q = 0, m; q < job.pixels; q += m) {
            m = v.tiling.filled(q, job.pixels);
            if (b == 0) prefetch_pixels(p, *s.pixels, q + MR, job.pixels);
            run_last_tile(v, job, b, filters, q, (int)m, zeros, s);
            if (b == blocks - 1 && (bias || p.activation != LINEAR))
                for (idx i = 0; i < m; i++) finish_pixel(s.pixels->dest[q + i] + column, columns, bias, p.activation);
        }
    }
}

// A view without taps (strides beyond the window): its positions of the input gradient are zero.
template <class T> void clear_last_job(const ChannelsLast<T>& p, const View& v, const LastJob& job, PixelBlock<T>& pixels) {
    locate_pixels(v, p, job.group, job.pixel, job.pixels, pixels);
    for (idx q = 0; q < job.pixels; q++) std::fill(pixels.dest[q], pixels.dest[q] + p.columns, T(0));
}

// Pixels a job and panels a job: filters of a depth block fit their part of L2, and every thread has several jobs.
template <class T>
void split_last(idx pixels, idx groups, const LastView<T>& v, int threads, idx* per_job, idx* panels_per_job) {
    const idx wanted = 3 * threads, panels = v.filters.panels.count, unit = v.tiling.unit;
    const idx fit = std::max<idx>(1, PANEL_BYTES_LAST / (v.filters.kc * NR<T> * (idx)sizeof(T)));
    *panels_per_job = ceil_div(panels, ceil_div(panels, fit));
    const idx column_jobs = groups * ceil_div(panels, *panels_per_job), most = PIXELS_LAST / unit;
    idx units = ceil_div(ceil_div(pixels, unit), std::max<idx>(1, ceil_div(pixels, most * unit)));
    while (units * unit > 6 * MR && units > 1 && column_jobs * ceil_div(pixels, units * unit) < wanted) units = ceil_div<idx>(units, 2);
    *per_job = units * unit;
    const idx jobs = groups * ceil_div(pixels, *per_job);
    if (jobs < wanted) *panels_per_job = std::min(*panels_per_job, ceil_div(panels, ceil_div(wanted, jobs)));
}

template <class T>
void gather_channels_last(const Geometry& g, const std::vector<View>& views, const Filters<T>& filters,
                          const ChannelsLast<T>& p, int threads) {
    const double flops = 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels();
    threads = useful_threads(threads, p.images * p.groups * views[0].positions(), flops);
    std::vector<LastView<T>> lasts;
    std::vector<LastJob> jobs;
    idx longest = 1, runs = 1, own_filters = 0;
    for (size_t i = 0; i < views.size(); i++) {
        const View& v = views[i];
        lasts.push_back({&v, PackedFilters<T>(g, v, filters, p.groups, p.depth, p.columns), tiling(v, PIXELS_LAST), {}});
        for (const DepthBlock& b : lasts[i].filters.blocks) {
            lasts[i].blocks.push_back(last_block(v, p, b));
            longest = std::max(longest, b.length);
            runs = std::max(runs, (idx)b.runs.size());
        }
        const idx pixels = p.images * v.positions();
        const Panels<T>& panels = lasts[i].filters.panels;
        idx per_job, panels_per_job;
        split_last(pixels, p.groups, lasts[i], threads, &per_job, &panels_per_job);
        if (v.taps() == 0)
            panels_per_job = panels.count;
        else if (pixels > per_job)
            lasts[i].filters.pack(threads);
        else
            own_filters = std::max(own_filters, lasts[i].filters.kc * panels_per_job * NR<T>);
        for (idx group = 0; group < p.groups; group++)
            for (idx q = 0; q < pixels; q += per_job)
                for (idx panel = 0; panel < panels.count; panel += panels_per_job)
                    jobs.push_back({(idx)i, group, q, std::min(per_job, pixels - q), panel,
                                    std::min(panels_per_job, panels.count - panel)});
    }
    Workspace workspace(LastScratch<T>::bytes(runs, own_filters), threads);
    const std::vector<T> zeros(longest, T(0));
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        LastScratch<T> scratch(workspace.of(thread), runs, own_filters);
        const LastView<T>& v = lasts[jobs[job].view];
        if (v.view->taps() == 0)
            clear_last_job(p, *v.view, jobs[job], *scratch.pixels);
        else
            run_last_job(p, v, jobs[job], zeros.data(), scratch);
    });
}

}  // namespace fastconv

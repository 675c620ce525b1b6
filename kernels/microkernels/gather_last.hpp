// Implicit GEMM over a view of a channels-last source: rows are pixels read in place, columns channels.
//
//   (pixels, taps x depth) @ (taps x depth, columns) -> (pixels, columns)
//
// A job is a block of pixels and some column panels. Its filter panel (KC x NR, in L2) is packed as it goes and
// used by every tile of the block; a tap outside the source reads a row of zeros instead.
#pragma once
#include "epilogue.hpp"
#include "filters.hpp"
#include "parallel.hpp"
#include "tile.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// A KC x NR panel (96 KB) and the pixels that meet it share L2; sums of 512 keep the rounding error small.
constexpr idx KC_LAST = 512;
// Each packed panel serves this many pixels: 24 tiles against one pass of packing.
constexpr idx PIXELS_LAST = 192;

// A run of channels at one tap: `length` depths from source offset `offset` (elements, without the pixel).
struct TapRun {
    idx d, h, w;  // tap numbers of the view's axes
    idx filter_tap, depth, length, offset;
};

template <class T> struct ChannelsLast {
    idx images, groups, depth, columns;  // depth and columns per group
    idx source_channels, dest_channels;
    idx source_size[3], dest_size[3];
    const T* source;
    T* dest;
    Filters<T> filters;
    const T* bias;
    Activation activation;
};

struct DepthBlock {
    std::vector<TapRun> runs;           // one a tap: for tiles that touch the border
    std::vector<Segment> per_run;       // the same as segments, displacement in the pointers
    std::vector<Segment> merged;        // for tiles inside: runs that follow each other in memory joined
    idx length = 0;
};

template <class T> std::vector<DepthBlock> depth_blocks(const View& v, const ChannelsLast<T>& p, const Geometry& g) {
    std::vector<DepthBlock> blocks(1);
    for (idx d = 0; d < v.axis[0].taps(); d++)
        for (idx h = 0; h < v.axis[1].taps(); h++)
            for (idx w = 0; w < v.axis[2].taps(); w++)
                for (idx c = 0; c < p.depth;) {
                    if (blocks.back().length == KC_LAST) blocks.emplace_back();
                    DepthBlock& b = blocks.back();
                    idx room = KC_LAST - b.length, length = p.depth - c < room ? p.depth - c : room;
                    idx at = (v.axis[0].offset[d] * p.source_size[1] + v.axis[1].offset[h]) * p.source_size[2] +
                             v.axis[2].offset[w];
                    idx tap = (v.axis[0].tap[d] * g.window[1] + v.axis[1].tap[h]) * g.window[2] + v.axis[2].tap[w];
                    idx offset = at * p.source_channels + c;
                    b.runs.push_back({d, h, w, tap, c, length, offset});
                    b.per_run.push_back({length, 0, b.length * NR<T>});
                    if (!b.merged.empty() && b.merged.back().a + b.merged.back().length == offset)
                        b.merged.back().length += length;
                    else
                        b.merged.push_back({length, offset, b.length * NR<T>});
                    b.length += length;
                    c += length;
                }
    return blocks;
}

// The pixels of a job: where each reads and writes, and whether a tile of them stays inside the source.
template <class T> struct PixelBlock {
    const T* source[PIXELS_LAST + MR];
    T* dest[PIXELS_LAST + MR];
    idx at[PIXELS_LAST + MR][3];
    bool inside[PIXELS_LAST + MR];
};

template <class T> void locate_pixels(const View& v, const ChannelsLast<T>& p, idx group, idx first, idx count,
                                      PixelBlock<T>& block) {
    idx lo[3], hi[3];
    for (int a = 0; a < 3; a++) {
        lo[a] = 0, hi[a] = v.axis[a].out;
        for (idx t = 0; t < v.axis[a].taps(); t++) {
            idx l, h;
            v.axis[a].inside(t, &l, &h);
            lo[a] = l > lo[a] ? l : lo[a], hi[a] = h < hi[a] ? h : hi[a];
        }
    }
    idx i[3], rest = first;
    for (int a = 2; a >= 0; a--) i[a] = rest % v.axis[a].out, rest /= v.axis[a].out;
    idx image = rest;
    for (idx q = 0; q < count; q++) {
        idx from = image, to = image;
        bool inside = true;
        for (int a = 0; a < 3; a++) {
            from = from * p.source_size[a] + i[a] * v.axis[a].step;
            to = to * p.dest_size[a] + v.axis[a].first + i[a] * v.axis[a].stride;
            inside = inside && i[a] >= lo[a] && i[a] < hi[a];
            block.at[q][a] = i[a];
        }
        block.source[q] = p.source + from * p.source_channels + group * p.depth;
        block.dest[q] = p.dest + to * p.dest_channels + group * p.columns;
        block.inside[q] = inside;
        for (int a = 2; a >= 0; a--) {
            if (++i[a] < v.axis[a].out) break;
            i[a] = 0;
            if (a == 0) image++;
        }
    }
}

// Pointers of a tile that meets the border, a row of MR for each tap: the tap's pixel, or zeros outside.
template <class T>
void border_pointers(const View& v, const DepthBlock& b, const PixelBlock<T>& block, idx q, int m, const T* zeros,
                     const T** pointers) {
    for (size_t r = 0; r < b.runs.size(); r++) {
        const TapRun& run = b.runs[r];
        const idx tap[3] = {run.d, run.h, run.w};
        for (int i = 0; i < m; i++) {
            bool inside = true;
            for (int a = 0; a < 3; a++) {
                idx s = block.at[q + i][a] * v.axis[a].step + v.axis[a].offset[tap[a]];
                inside = inside && s >= 0 && s < v.axis[a].size;
            }
            pointers[r * MR + i] = inside ? block.source[q + i] + run.offset : zeros;
        }
    }
}

template <class T> struct LastJob {
    const View* view;
    const std::vector<DepthBlock>* blocks;
    idx group, pixel, pixels, panel, panels;
};

template <class T> struct LastScratch {
    T* panel;
    const T** pointers;
    PixelBlock<T>* block;
    T* temp;
    static idx bytes(idx depth_length, idx runs) {
        return padded_bytes<T>(depth_length * NR<T>) + padded_bytes<T*>(runs * MR + MR) +
               padded_bytes<PixelBlock<T>>(1) + padded_bytes<T>(MR * NR<T>);
    }
    LastScratch(char* memory, idx depth_length, idx runs) {
        Arena arena(memory);
        panel = arena.take<T>(depth_length * NR<T>);
        pointers = arena.take<const T*>(runs * MR + MR);
        block = arena.take<PixelBlock<T>>(1);
        temp = arena.take<T>(MR * NR<T>);
    }
};

template <class T>
void run_last_tile(const View& v, const DepthBlock& b, const PixelBlock<T>& block, idx q,
                   int m, int width, idx column, idx filled, bool add, const T* zeros, LastScratch<T>& s) {
    constexpr int L = LANES<T>;
    bool inside = true;
    for (int i = 0; i < m; i++) inside = inside && block.inside[q + i];
    Rows<T> rows{s.pointers, inside ? 0 : MR, 1};
    if (inside)
        rows.pointers = block.source + q;
    else
        border_pointers(v, b, block, q, m, zeros, s.pointers);
    const std::vector<Segment>& segments = inside ? b.merged : b.per_run;
    T* c[MR];
    const bool whole = filled == width * L;
    for (int i = 0; i < m; i++) {
        c[i] = whole ? block.dest[q + i] + column : s.temp + i * NR<T>;
        if (!whole && add) copy_run(c[i], block.dest[q + i] + column, filled);
    }
    tile_of<T>(m, width)(segments.data(), (idx)segments.size(), rows, s.panel, NR<T>, c, add);
    if (!whole)
        for (int i = 0; i < m; i++) copy_run(block.dest[q + i] + column, c[i], filled);
}

// The next tile's pixels, the first time a block meets them: later panels find them in L2.
template <class T> inline void prefetch_pixels(const ChannelsLast<T>& p, const PixelBlock<T>& block, idx q, idx pixels) {
    const idx length = p.depth < 8 * LANES<T> ? p.depth : 8 * LANES<T>;
    for (idx i = q; i < q + MR && i < pixels; i++)
        for (idx c = 0; c < length; c += 64 / sizeof(T)) __builtin_prefetch(block.source[i] + c);
}

template <class T>
void run_last_job(const ChannelsLast<T>& p, const LastJob<T>& job, const Panels<T>& panels, const T* zeros,
                  LastScratch<T>& s) {
    PixelBlock<T>& block = *s.block;
    locate_pixels(*job.view, p, job.group, job.pixel, job.pixels, block);
    for (idx panel = job.panel; panel < job.panel + job.panels; panel++) {
        const idx column = panels.first(panel), filled = panels.filled(panel);
        const int width = panels.width(panel);
        bool add = false;
        for (const DepthBlock& b : *job.blocks) {
            for (size_t r = 0; r < b.runs.size(); r++)
                pack_filter_panel(p.filters, job.group, b.runs[r].filter_tap, b.runs[r].depth, b.runs[r].length, column,
                                  filled, s.panel + b.per_run[r].b, NR<T>);
            for (idx q = 0; q < job.pixels; q += MR) {
                int m = (int)(job.pixels - q < MR ? job.pixels - q : MR);
                if (panel == job.panel && !add) prefetch_pixels(p, block, q + MR, job.pixels);
                run_last_tile(*job.view, b, block, q, m, width, column, filled, add, zeros, s);
                if (&b == &job.blocks->back() && (p.bias || p.activation != LINEAR))
                    for (int i = 0; i < m; i++)
                        finish_pixel(block.dest[q + i] + column, filled,
                                     p.bias ? p.bias + job.group * p.columns + column : nullptr, p.activation);
            }
            add = true;
        }
    }
}

// Pixels a job and panels a job, such that every thread has several jobs but a packed panel serves many pixels.
template <class T> void split_last(idx pixels, idx groups, const Panels<T>& panels, int threads, idx* per_job, idx* panels_per_job) {
    const idx wanted = 3 * threads;
    idx block = PIXELS_LAST;
    while (block > 6 * MR && groups * ceil_div(pixels, block) * panels.count < wanted) block = (block / 2 + MR - 1) / MR * MR;
    *per_job = block;
    idx jobs = groups * ceil_div(pixels, block);
    *panels_per_job = jobs >= wanted ? panels.count : ceil_div(panels.count, ceil_div(wanted, jobs));
}

template <class T>
void gather_channels_last(const Geometry& g, const std::vector<View>& views, const ChannelsLast<T>& p, int threads) {
    const Panels<T> panels(p.columns);
    std::vector<std::vector<DepthBlock>> blocks;
    std::vector<LastJob<T>> jobs;
    blocks.reserve(views.size());
    idx longest = 1, runs = 1;
    for (const View& v : views) {
        blocks.push_back(depth_blocks(v, p, g));
        for (const DepthBlock& b : blocks.back()) {
            longest = b.length > longest ? b.length : longest;
            runs = (idx)b.runs.size() > runs ? (idx)b.runs.size() : runs;
        }
        const idx pixels = p.images * v.positions();
        idx per_job, panels_per_job;
        split_last(pixels, p.groups, panels, threads, &per_job, &panels_per_job);
        for (idx group = 0; group < p.groups; group++)
            for (idx q = 0; q < pixels; q += per_job)
                for (idx panel = 0; panel < panels.count; panel += panels_per_job)
                    jobs.push_back({&v, &blocks.back(), group, q, q + per_job < pixels ? per_job : pixels - q, panel,
                                    panel + panels_per_job < panels.count ? panels_per_job : panels.count - panel});
    }
    const double flops = 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels();
    threads = useful_threads(threads, (idx)jobs.size(), flops);
    Workspace workspace(LastScratch<T>::bytes(longest, runs), threads);
    const std::vector<T> zeros(longest, T(0));
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        LastScratch<T> scratch(workspace.of(thread), longest, runs);
        run_last_job(p, jobs[job], panels, zeros.data(), scratch);
    });
}

}  // namespace fastconv

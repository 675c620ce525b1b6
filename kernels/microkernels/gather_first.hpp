// Implicit GEMM over a view of a channels-first source: rows are channels written, columns pixels.
//
//   (rows, depth x taps) @ (depth x taps, pixels) -> (rows, pixels)
//
// Filters are the rows, read in place (forward) or packed once (input gradient). A job is a block of pixels: it
// packs their taps into NR-wide panels a KC-deep part at a time, straight from the image, and runs down the rows.
#pragma once
#include <algorithm>

#include "epilogue.hpp"
#include "filters.hpp"
#include "parallel.hpp"
#include "tile.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// A job's panels: KC x PIXELS x 4 bytes = 384 KB at the most, in L2 beside the filter rows that stream by.
constexpr idx KC_FIRST = 512;
template <class T> constexpr idx PANELS_FIRST = 4;

template <class T> struct ChannelsFirst {
    idx images, groups, depth, rows;  // depth and rows per group
    idx source_image, source_plane, dest_image, dest_plane;  // elements
    idx dest_size[3];
    const T* source;
    T* dest;
    const T* bias;
    Activation activation;
};

// Filter rows of one view: row r of a group is depth x taps elements, taps fastest.
template <class T> struct FilterRows {
    const T* at;
    idx row, group;  // strides
};

// Consecutive output pixels of a panel that lie in one output row: columns [column, column + length).
struct PixelRow {
    idx d, h, w, column, length;
    idx source, dest;  // offsets of the image, and of the first pixel in dest
};

// Where a tap of a PixelRow comes from: columns [lo, hi) copied from `source` on, the rest of the row zero.
struct TapRow {
    idx lo, hi, source;
};

template <class T>
idx locate_rows(const View& v, const ChannelsFirst<T>& p, idx group, idx first, idx count, PixelRow* rows) {
    const Axis *D = &v.axis[0], *H = &v.axis[1], *W = &v.axis[2];
    idx found = 0;
    for (idx q = 0; q < count; found++) {
        idx w = (first + q) % W->out, rest = (first + q) / W->out;
        idx h = rest % H->out, d = rest / H->out % D->out, image = rest / H->out / D->out;
        idx length = std::min(W->out - w, count - q);
        idx to = ((D->first + d * D->stride) * p.dest_size[1] + H->first + h * H->stride) * p.dest_size[2] + W->first +
                 w * W->stride;
        rows[found] = {d, h, w, q, length, image * p.source_image + group * p.depth * p.source_plane,
                       image * p.dest_image + group * p.rows * p.dest_plane + to};
        q += length;
    }
    return found;
}

// Per tap (of the view's taps in order) and row of the panel, what to copy.
inline void locate_taps(const View& v, const PixelRow* rows, idx count, TapRow* taps) {
    const Axis *D = &v.axis[0], *H = &v.axis[1], *W = &v.axis[2];
    for (idx td = 0; td < D->taps(); td++)
        for (idx th = 0; th < H->taps(); th++)
            for (idx tw = 0; tw < W->taps(); tw++) {
                idx lo, hi;
                W->inside(tw, &lo, &hi);
                for (idx r = 0; r < count; r++, taps++) {
                    idx d = rows[r].d * D->step + D->offset[td], h = rows[r].h * H->step + H->offset[th];
                    idx begin = std::max(rows[r].w, lo), end = std::min(rows[r].w + rows[r].length, hi);
                    bool outside = d < 0 || d >= D->size || h < 0 || h >= H->size || begin >= end;
                    if (outside) begin = end = rows[r].w;
                    taps->lo = rows[r].column + begin - rows[r].w;
                    taps->hi = rows[r].column + end - rows[r].w;
                    taps->source = rows[r].source + (d * H->size + h) * W->size + begin * W->step + W->offset[tw];
                }
            }
}

template <class T> inline void copy_strided(T* to, const T* from, idx n, idx step) {
    if (step == 1)
        copy_run(to, from, n);
    else if (step == 2)  // a constant step lets the compiler deinterleave vectors
        for (idx i = 0; i < n; i++) to[i] = from[2 * i];
    else
        for (idx i = 0; i < n; i++) to[i] = from[i * step];
}

// Depths [first, last) of depth x taps for one panel -> (last - first, ld).
template <class T>
void pack_pixels(const ChannelsFirst<T>& p, const View& v, idx row_count, const TapRow* taps, idx first, idx last,
                 T* panel, idx ld) {
    const idx tap_count = v.taps(), step = v.axis[2].step;
    for (idx k = first; k < last; k++, panel += ld) {
        const TapRow* tap = taps + k % tap_count * row_count;
        const T* plane = p.source + k / tap_count * p.source_plane;
        if (k % tap_count == 0 && k + 4 * tap_count < last)  // planes are too far apart for the hardware prefetchers
            for (idx at = 0; at < ld * step; at += 64 / sizeof(T))
                __builtin_prefetch(plane + 4 * p.source_plane + tap->source + at);
        if (row_count == 1 && tap->lo == 0 && tap->hi == ld) {
            copy_strided(panel, plane + tap->source, ld, step);
            continue;
        }
        idx column = 0;
        for (idx r = 0; r < row_count; r++) {
            if (tap[r].lo > column) clear_run(panel + column, tap[r].lo - column);
            if (tap[r].hi > tap[r].lo) copy_strided(panel + tap[r].lo, plane + tap[r].source, tap[r].hi - tap[r].lo, step);
            column = std::max(column, tap[r].hi);
        }
        if (column < ld) clear_run(panel + column, ld - column);
    }
}

template <class T> struct FirstJob {
    const View* view;
    const FilterRows<T>* filters;
    idx group, pixel, pixels;
};

template <class T> struct FirstScratch {
    T *panels, *temp;
    PixelRow* rows;
    TapRow* taps;
    static constexpr idx ROWS = NR<T>;  // a panel has at most a row of pixels a column
    static idx bytes(idx kc, idx taps) {
        return padded_bytes<T>(PANELS_FIRST<T> * kc * NR<T>) + padded_bytes<T>(MR * NR<T>) +
               padded_bytes<PixelRow>(PANELS_FIRST<T> * ROWS) + padded_bytes<TapRow>(taps * ROWS);
    }
    FirstScratch(char* memory, idx kc, idx tap_count) {
        Arena arena(memory);
        panels = arena.take<T>(PANELS_FIRST<T> * kc * NR<T>);
        temp = arena.take<T>(MR * NR<T>);
        rows = arena.take<PixelRow>(PANELS_FIRST<T> * ROWS);
        taps = arena.take<TapRow>(tap_count * ROWS);
    }
};

// temp (m rows, NR) <-> the scattered pixels of a panel.
template <class T, bool TO_DEST>
void move_pixels(const ChannelsFirst<T>& p, const View& v, const PixelRow* rows, idx row_count, idx row, int m, T* temp) {
    const idx stride = v.axis[2].stride;
    for (int i = 0; i < m; i++)
        for (idx r = 0; r < row_count; r++) {
            T* to = p.dest + rows[r].dest + (row + i) * p.dest_plane;
            T* from = temp + i * NR<T> + rows[r].column;
            for (idx j = 0; j < rows[r].length; j++) {
                if (TO_DEST)
                    to[j * stride] = from[j];
                else
                    from[j] = to[j * stride];
            }
        }
}

// Rows [row, row + m) of one panel, depths [first, last); bias and activation after the last depth.
template <class T>
void run_first_tile(const ChannelsFirst<T>& p, const View& v, const FirstJob<T>& job, const PixelRow* rows, idx row_count,
                    idx row, int m, idx first, idx last, idx depth, const T* panel, int width, FirstScratch<T>& s) {
    constexpr int L = LANES<T>;
    const idx filled = rows[row_count - 1].column + rows[row_count - 1].length;
    const bool direct = row_count == 1 && filled == width * L && v.axis[2].stride == 1, add = first > 0;
    const T* filters[MR];
    T* c[MR];
    for (int i = 0; i < m; i++) {
        filters[i] = job.filters->at + job.group * job.filters->group + (row + i) * job.filters->row;
        c[i] = direct ? p.dest + rows[0].dest + (row + i) * p.dest_plane : s.temp + i * NR<T>;
    }
    if (!direct && add) move_pixels<T, false>(p, v, rows, row_count, row, m, s.temp);
    const Segment segment{last - first, first, 0};
    tile_of<T>(m, width)(&segment, 1, Rows<T>{filters, 0, 1}, panel, width * L, c, add);
    if (last == depth && (p.bias || p.activation != LINEAR))
        for (int i = 0; i < m; i++)
            finish_row(c[i], direct ? width * L : filled, p.bias ? p.bias[job.group * p.rows + row + i] : T(0),
                       p.activation);
    if (!direct) move_pixels<T, true>(p, v, rows, row_count, row, m, s.temp);
}

template <class T> void run_first_job(const ChannelsFirst<T>& p, const FirstJob<T>& job, idx kc, FirstScratch<T>& s) {
    constexpr int L = LANES<T>;
    const View& v = *job.view;
    const Panels<T> panels(job.pixels);
    const idx depth = p.depth * v.taps();
    idx row_count[PANELS_FIRST<T> + 1];
    for (idx q = 0; q < panels.count; q++)
        row_count[q] = locate_rows(v, p, job.group, job.pixel + panels.first(q), panels.filled(q),
                                   s.rows + q * FirstScratch<T>::ROWS);
    for (idx first = 0; first == 0 || first < depth; first += kc) {
        const idx last = std::min(first + kc, depth);
        for (idx q = 0; q < panels.count; q++) {
            const PixelRow* rows = s.rows + q * FirstScratch<T>::ROWS;
            locate_taps(v, rows, row_count[q], s.taps);
            pack_pixels(p, v, row_count[q], s.taps, first, last, s.panels + q * kc * NR<T>, panels.width(q) * L);
        }
        for (idx row = 0; row < p.rows; row += MR)
            for (idx q = 0; q < panels.count; q++)
                run_first_tile(p, v, job, s.rows + q * FirstScratch<T>::ROWS, row_count[q], row,
                               (int)std::min<idx>(MR, p.rows - row), first, last, depth, s.panels + q * kc * NR<T>,
                               panels.width(q), s);
    }
}

template <class T>
void gather_channels_first(const Geometry& g, const std::vector<View>& views, const std::vector<FilterRows<T>>& filters,
                           const ChannelsFirst<T>& p, int threads) {
    std::vector<FirstJob<T>> jobs;
    idx kc = 1, taps = 1;
    for (size_t i = 0; i < views.size(); i++) {
        const idx pixels = p.images * views[i].positions(), depth = p.depth * views[i].taps();
        taps = std::max(taps, views[i].taps());
        // blocks of equal depth, so that no last block is too short to be worth its stores
        kc = std::max(kc, ceil_div(depth, ceil_div(depth, KC_FIRST) + (depth == 0)));
        idx block = PANELS_FIRST<T> * NR<T>;
        while (block > NR<T> && p.groups * ceil_div(pixels, block) < 3 * threads) block -= NR<T>;
        for (idx group = 0; group < p.groups; group++)
            for (idx q = 0; q < pixels; q += block)
                jobs.push_back({&views[i], &filters[i], group, q, std::min(block, pixels - q)});
    }
    const double flops = 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels();
    threads = useful_threads(threads, (idx)jobs.size(), flops);
    Workspace workspace(FirstScratch<T>::bytes(kc, taps), threads);
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        FirstScratch<T> scratch(workspace.of(thread), kc, taps);
        run_first_job(p, jobs[job], kc, scratch);
    });
}

}  // namespace fastconv

// The filter gradient as GEMM over pixels, both operands nearly in place.
//
//   (tap, c; pixels) @ (pixels, k) -> (tap, c, k)
//
// Rows are channels of x at one tap, read in place along output rows (a step is the stride times the pixel's
// distance, so layout and stride cost nothing); the panel is dy, packed pixel by pixel for a block of pixels.
#pragma once
#include <algorithm>

#include "parallel.hpp"
#include "tile.hpp"
#include "transpose.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// Depth of a block; sums of 512 keep rounding small. Its panels (up to 288 KB of dy) and the part of x that meets
// them stay in L2.
constexpr idx PIXELS_GRAD = 512;
constexpr idx PANELS_GRAD = 3;
// Up to this size each thread sums its share of the pixels into a gradient of its own; beyond, outputs are split.
constexpr idx PRIVATE_GRAD_BYTES = 1 << 20;

template <class T> struct FilterGrad {
    const Geometry* g;
    const View* view;
    const T *x, *dy;
    idx x_image, x_channel, x_pixel, dy_image, dy_channel, dy_pixel;  // strides in elements
    T* dw;  // (taps, C/groups, K)
    T* db;  // (K), or none
};

// Part of an output row: positions [w, w + length) of row (image, d, h), the `at`-th of the block.
struct PixelRun {
    idx image, d, h, w, length, at;
};

// The rest of a pixel's row.
inline PixelRun pixel_run(const View& v, idx pixel) {
    const idx width = v.axis[2].out, height = v.axis[1].out, depth = v.axis[0].out, row = pixel / width;
    return {row / height / depth, row / height % depth, row % height, pixel % width, width - pixel % width, 0};
}

inline void pixel_runs(const View& v, idx first, idx last, std::vector<PixelRun>& runs) {
    runs.clear();
    for (idx q = first; q < last; q += runs.back().length) {
        PixelRun r = pixel_run(v, q);
        r.length = std::min(r.length, last - q), r.at = q - first;
        runs.push_back(r);
    }
}

// The block's pixels whose tap is inside x, as segments: displacement in x against rows of the panel.
template <class T>
void tap_segments(const FilterGrad<T>& p, const idx tap[3], const std::vector<PixelRun>& runs,
                  std::vector<Segment>& segments) {
    const Axis* axis = p.view->axis;
    const idx step = axis[2].step * p.x_pixel;
    idx lo, hi;
    axis[2].inside(tap[2], &lo, &hi);
    segments.clear();
    for (const PixelRun& r : runs) {
        idx d = r.d * axis[0].step + axis[0].offset[tap[0]], h = r.h * axis[1].step + axis[1].offset[tap[1]];
        if (d < 0 || d >= axis[0].size || h < 0 || h >= axis[1].size) continue;
        idx begin = std::max(r.w, lo), end = std::min(r.w + r.length, hi);
        if (begin >= end) continue;
        idx w = begin * axis[2].step + axis[2].offset[tap[2]];
        idx pixel = (d * axis[1].size + h) * axis[2].size + w;
        const idx a = r.image * p.x_image + pixel * p.x_pixel, b = r.at + begin - r.w;
        if (!segments.empty() && segments.back().a + segments.back().length * step == a &&
            segments.back().b + segments.back().length == b)
            segments.back().length += end - begin;  // rows that follow each other
        else
            segments.push_back({end - begin, a, b});
    }
}

// dy of the block's pixels, columns [k, k + columns) -> panel (pixels, ld).
template <class T>
void pack_dy(const FilterGrad<T>& p, const std::vector<PixelRun>& runs, idx k, idx columns, T* panel, idx ld) {
    const Axis* axis = p.view->axis;
    for (const PixelRun& r : runs) {
        const idx pixel = (r.d * axis[1].out + r.h) * axis[2].out + r.w;
        const T* from = p.dy + r.image * p.dy_image + pixel * p.dy_pixel + k * p.dy_channel;
        T* to = panel + r.at * ld;
        if (p.dy_channel == 1)
            copy_rows(from, p.dy_pixel, r.length, columns, to, ld);
        else
            transpose(from, p.dy_channel, columns, r.length, to, ld);
        if (columns < ld)
            for (idx i = 0; i < r.length; i++) clear_run(to + i * ld + columns, ld - columns);
    }
}

template <class T> void add_columns(const T* panel, idx rows, idx ld, idx columns, T* sums) {
    constexpr int L = LANES<T>;
    for (idx j = 0; j < columns; j += L) {
        const idx lanes = std::min<idx>(L, columns - j);
        Vec<T> sum = {};
        for (idx i = 0; i < rows; i++) sum += lanes == L ? load(panel + i * ld + j) : load_part(panel + i * ld + j, lanes);
        for (idx l = 0; l < lanes; l++) sums[j + l] += sum[l];
    }
}

// Rows [c, c + count) of one tap.
struct GradRows {
    idx tap[3], filter_tap, c, count;
};

// Channels a job takes at a time; small enough to share 2 threads' work evenly, large enough to reuse a panel.
constexpr idx GRAD_ROWS = 128;

template <class T> std::vector<GradRows> grad_rows(const FilterGrad<T>& p) {
    std::vector<GradRows> rows;
    const Axis* axis = p.view->axis;
    for (idx d = 0; d < axis[0].taps(); d++)
        for (idx h = 0; h < axis[1].taps(); h++)
            for (idx w = 0; w < axis[2].taps(); w++)
                for (idx c = 0; c < p.g->c_group(); c += GRAD_ROWS)
                    rows.push_back({{d, h, w}, (d * p.g->window[1] + h) * p.g->window[2] + w, c,
                                    std::min(GRAD_ROWS, p.g->c_group() - c)});
    return rows;
}

template <class T> struct GradScratch {
    T *panels, *rows;
    std::vector<PixelRun> runs;
    std::vector<Segment> segments;
    static idx bytes() {
        return padded_bytes<T>(PANELS_GRAD * PIXELS_GRAD * NR<T>) + padded_bytes<T>(PIXELS_GRAD * GRAD_ROWS);
    }
    T* panel(idx i) const { return panels + i * PIXELS_GRAD * NR<T>; }
    explicit GradScratch(char* memory) {
        Arena arena(memory);
        panels = arena.take<T>(PANELS_GRAD * PIXELS_GRAD * NR<T>);
        rows = arena.take<T>(PIXELS_GRAD * GRAD_ROWS);
    }
};

// Pixels a multiple of 2 KB apart fall on few sets of the caches: the rows of a job are then copied side by side.
constexpr idx CONFLICT_BYTES = 2048;

template <class T> bool rows_conflict(const FilterGrad<T>& p) {
    return p.x_channel == 1 && p.view->axis[2].step * p.x_pixel * sizeof(T) % CONFLICT_BYTES == 0;
}

// Channels [c, c + count) of the segments' pixels -> (pixels, GRAD_ROWS); the segments then read the copy.
template <class T>
void pack_rows(const T* x, idx step, idx count, std::vector<Segment>& segments, T* to) {
    idx at = 0;
    for (Segment& s : segments) {
        copy_rows(x + s.a, step, s.length, count, to + at, GRAD_ROWS);
        s.a = at;
        at += s.length * GRAD_ROWS;
    }
}

// Channels [r.c, r.c + r.count) of one tap against all panels of a block: dw += x @ dy.
template <class T>
void add_grad_rows(const FilterGrad<T>& p, idx group, const Panels<T>& panels, idx panel, idx panel_count, const GradRows& r,
                   T* dw, GradScratch<T>& s) {
    constexpr int L = LANES<T>;
    tap_segments(p, r.tap, s.runs, s.segments);
    if (s.segments.empty()) return;
    const T* x = p.x + (group * p.g->c_group() + r.c) * p.x_channel;
    idx step = p.view->axis[2].step * p.x_pixel;
    if (rows_conflict(p)) {
        pack_rows(x, step, r.count, s.segments, s.rows);
        x = s.rows, step = GRAD_ROWS;
    }
    for (idx c = 0; c < r.count; c += MR) {
        const int m = (int)std::min<idx>(MR, r.count - c);
        for (idx j = panel; j < panel + panel_count; j++) {
            const int width = panels.width(j), lanes = (int)(panels.filled(j) - (width - 1) * L);
            const idx row = r.filter_tap * p.g->c_group() + r.c + c, column = group * p.g->k_group() + panels.first(j);
            const EvenRows<T> even{x + c * p.x_channel, p.x_channel, step, dw + row * p.g->k + column, p.g->k};
            even_tile_of<T>(m, width)(s.segments.data(), (idx)s.segments.size(), even, s.panel(j - panel), width * L, true,
                                      lanes);
        }
    }
}

// Adds pixels [first, last) of one group to rows [begin, end) of some column panels in dw, and to db.
template <class T>
void add_filter_grad(const FilterGrad<T>& p, idx group, const Panels<T>& panels, idx panel, idx panel_count,
                     const GradRows* begin, const GradRows* end, idx first, idx last, T* dw, T* db, GradScratch<T>& s) {
    for (idx q = first; q < last; q += PIXELS_GRAD) {
        const idx q_end = std::min(last, q + PIXELS_GRAD);
        pixel_runs(*p.view, q, q_end, s.runs);
        for (idx j = panel; j < panel + panel_count; j++) {
            const idx filled = panels.filled(j), column = group * p.g->k_group() + panels.first(j);
            const idx ld = panels.width(j) * LANES<T>;
            pack_dy(p, s.runs, column, filled, s.panel(j - panel), ld);
            if (db) add_columns(s.panel(j - panel), q_end - q, ld, filled, db + column);
        }
        for (const GradRows* r = begin; r < end; r++) add_grad_rows(p, group, panels, panel, panel_count, *r, dw, s);
    }
}

// Every thread sums its share of the pixels; the shares are then added in the order of the threads.
template <class T> void filter_grad_by_pixels(const FilterGrad<T>& p, const Panels<T>& panels, int threads) {
    const idx size = p.g->taps() * p.g->c_group() * p.g->k, pixels = p.g->n * p.g->out_pixels();
    const std::vector<GradRows> rows = grad_rows(p);
    Workspace workspace(GradScratch<T>::bytes() + padded_bytes<T>(size + p.g->k), threads);
    std::vector<T*> parts(threads, nullptr);
    on_threads(threads, [&](int thread, int count) {
        GradScratch<T> scratch(workspace.of(thread));
        T* dw = (T*)(workspace.of(thread) + GradScratch<T>::bytes());
        T* db = p.db ? dw + size : nullptr;
        std::fill(dw, dw + size + p.g->k, T(0));
        parts[thread] = dw;
        idx first = pixels * thread / count, last = pixels * (thread + 1) / count;
        for (idx group = 0; group < p.g->groups; group++)
            for (idx panel = 0; panel < panels.count; panel += PANELS_GRAD)
                add_filter_grad(p, group, panels, panel, std::min(PANELS_GRAD, panels.count - panel), rows.data(),
                                rows.data() + rows.size(), first, last, dw, db, scratch);
    });
    for (idx i = 0; i < size; i++) {
        T sum = 0;
        for (const T* part : parts)
            if (part) sum += part[i];
        p.dw[i] = sum;
    }
    for (idx k = 0; p.db && k < p.g->k; k++) {
        p.db[k] = 0;
        for (const T* part : parts)
            if (part) p.db[k] += part[size + k];
    }
}

// A job owns some rows of some column panels and sums all pixels.
template <class T> void filter_grad_by_outputs(const FilterGrad<T>& p, const Panels<T>& panels, int threads) {
    const std::vector<GradRows> rows = grad_rows(p);
    const idx parts_of_columns = ceil_div(panels.count, PANELS_GRAD);
    const idx outer = p.g->groups * parts_of_columns, parts = std::min<idx>(rows.size(), ceil_div<idx>(6 * threads, outer));
    Workspace workspace(GradScratch<T>::bytes(), threads);
    std::fill(p.dw, p.dw + p.g->taps() * p.g->c_group() * p.g->k, T(0));
    if (p.db) std::fill(p.db, p.db + p.g->k, T(0));
    parallel_for(outer * parts, threads, [&](idx job, int thread) {
        GradScratch<T> scratch(workspace.of(thread));
        const idx part = job % parts, columns = job / parts % parts_of_columns, group = job / parts / parts_of_columns;
        const idx panel = panels.count * columns / parts_of_columns;
        const idx panel_end = panels.count * (columns + 1) / parts_of_columns;
        add_filter_grad(p, group, panels, panel, panel_end - panel, rows.data() + rows.size() * part / parts,
                        rows.data() + rows.size() * (part + 1) / parts, 0, p.g->n * p.g->out_pixels(), p.dw,
                        part == 0 ? p.db : nullptr, scratch);
    });
}

// (taps, C/groups, K) -> (K, C/groups, taps), a vector of filters at a time: each is then written from front to end.
template <class T> void by_tap_to_first(const Geometry& g, const T* by_tap, T* dw, int threads) {
    constexpr idx CHANNELS = 64, AHEAD = 8;
    const idx channels = g.c_group(), taps = g.taps(), blocks = ceil_div(channels, CHANNELS);
    parallel_for(ceil_div<idx>(g.k, LANES<T>) * blocks, threads, [&](idx job, int) {
        const idx k = job / blocks * LANES<T>, filters = std::min<idx>(LANES<T>, g.k - k), first = job % blocks * CHANNELS;
        if (taps == 1)
            return transpose(by_tap + first * g.k + k, g.k, std::min(CHANNELS, channels - first), filters,
                             dw + k * channels + first, channels);
        for (idx c = first; c < std::min(channels, first + CHANNELS); c++) {
            const T* from = by_tap + c * g.k + k;
            T* to = dw + (k * channels + c) * taps;
            for (idx t = 0; t < taps; t++) __builtin_prefetch(from + t * channels * g.k + AHEAD * g.k);
            for (idx i = 0; i < filters; i++) __builtin_prefetch(to + (i * channels + AHEAD) * taps, 1);
            transpose(from, channels * g.k, taps, filters, to, channels * taps);
        }
    });
}

template <class T>
void gemm_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const View view = forward_view(g);
    const bool last = g.channels_last;
    const idx size = g.taps() * g.c_group() * g.k;
    Workspace memory(last ? 0 : size * sizeof(T), 1);
    T* by_tap = (T*)memory.of(0);
    FilterGrad<T> p{&g, &view, x, dy, 0, 1, g.c, 0, 1, g.k, last ? dw : by_tap, db};
    if (!last) p.x_channel = g.pixels(), p.x_pixel = 1, p.dy_channel = g.out_pixels(), p.dy_pixel = 1;
    p.x_image = g.c * g.pixels(), p.dy_image = g.k * g.out_pixels();
    const Panels<T> panels(g.k_group());
    const double flops = 2.0 * size * g.n * g.out_pixels();
    threads = useful_threads(threads, g.n * g.out_pixels(), flops);
    if (size * (idx)sizeof(T) <= PRIVATE_GRAD_BYTES)
        filter_grad_by_pixels(p, panels, threads);
    else
        filter_grad_by_outputs(p, panels, threads);
    if (!last) by_tap_to_first(g, by_tap, dw, threads);
}

}  // namespace fastconv

// Filter gradient of few input channels.
//
//   (taps x channels, pixels) @ (pixels, K) -> (taps x channels, K)
//
// Rows are the taps and channels of a padded band, read in place; the panel is dy as it lies or, channels-first and
// where its channels do not fill vectors, packed.
#pragma once
#include "filter_grad.hpp"
#include "line_tile.hpp"
#include "padded_band.hpp"

namespace fastconv {

template <class T> struct PaddedGrad {
    const PaddedBand* band;
    const T *x, *dy;
    const std::vector<idx>* offsets;
    std::vector<LineRows> lines;  // a line's rows lie together; none where the general tile serves
    idx line;                     // rows of a line
    // Whether dy is read where it lies. The lanes beyond a group's filters then hold other numbers, which nobody reads;
    // the last pixels would be read beyond the array.
    bool in_place(const BandJob& job, idx pixels, idx ld) const {
        const Geometry& g = *band->g;
        const idx end = (job.pixel(g, *band) + pixels - 1) * g.k + job.group * g.k_group() + ld;
        return g.channels_last && end <= g.n * g.out_pixels() * g.k;
    }
};

template <class T> struct PaddedGradScratch {
    T *band, *panel, *dw, *db;
};

// dy of a job's pixels, at distance `ldb`; packed, K/groups wide as `ld`.
template <class T>
const T* dy_panel(const PaddedGrad<T>& p, const BandJob& job, idx pixels, idx ld, T* panel, idx* ldb) {
    const Geometry& g = *p.band->g;
    const idx pixel = job.pixel(g, *p.band), kg = g.k_group();
    const bool in_place = p.in_place(job, pixels, ld);
    *ldb = in_place ? g.k : ld;
    if (!g.channels_last) {
        const idx plane = g.out_pixels(), image = pixel / plane;
        transpose(p.dy + (image * g.k + job.group * kg) * plane + pixel % plane, plane, kg, pixels, panel, ld);
        return panel;
    }
    const T* dy = p.dy + pixel * g.k + job.group * kg;
    if (in_place) return dy;
    for (idx q = 0; q < pixels; q++) copy_padded(panel + q * ld, ld, dy + q * g.k, 0, kg);
    return panel;
}

// A band's rows and dy, and where its sums go.
template <class T> struct BandProduct {
    const T* dy;
    idx ldb;
    T* dw;  // (taps x channels, ld)
    idx ld, pixels;
    bool ahead;  // whether there is a next band in dy
};

// Tiles of rows that lie in lines; each prefetches a cache line of each pixel of the next band's dy.
template <class T>
void add_line_tiles(const PaddedGrad<T>& p, const BandProduct<T>& m, const Panels<T>& panels, const Segment* segments, idx count,
                    const T* band) {
    constexpr idx LINE = 64 / sizeof(T);
    const PaddedBand& b = *p.band;
    idx tile = 0;
    for (idx q = 0; q < panels.count; q++)
        for (const LineRows& t : p.lines) {
            Lines<T> lines{{}, {}, b.pixel_step(), m.ld, m.dy, 0};
            for (int i = 0; i < t.lines; i++) {
                lines.a[i] = band + (*p.offsets)[t.row + i * p.line];
                lines.c[i] = m.dw + (t.row + i * p.line) * m.ld + panels.first(q);
            }
            if (m.ahead && tile * LINE < b.g->k)
                lines.ahead = m.dy + m.pixels * b.g->k + tile++ * LINE, lines.ahead_step = b.g->k;
            line_tile_of<T>(t.lines, t.width, panels.width(q))(segments, count, lines, m.dy + panels.first(q), m.ldb);
        }
}

template <class T>
void add_general_tiles(const PaddedGrad<T>& p, const BandProduct<T>& m, const Panels<T>& panels, const Segment* segments, idx count,
                       const T* band) {
    const idx rows = (idx)p.offsets->size(), tiles = ceil_div<idx>(rows, MR);
    for (idx q = 0; q < panels.count; q++)
        for (idx t = 0; t < tiles; t++) {
            const idx row = rows * t / tiles;
            const int height = (int)(rows * (t + 1) / tiles - row);
            const T* a[MR];
            T* c[MR];
            for (int i = 0; i < height; i++) {
                a[i] = band + (*p.offsets)[row + i];
                c[i] = m.dw + (row + i) * m.ld + panels.first(q);
            }
            tile_of<T>(height, panels.width(q))(segments, count, Rows<T>{a, 0, p.band->pixel_step()}, m.dy + panels.first(q), m.ldb, c,
                                                true);
        }
}

// Adds a band to dw (groups, taps x channels, ld) and db (groups, ld).
template <class T>
void add_padded_band(const PaddedGrad<T>& p, const BandJob& job, idx ld, std::vector<Segment>& segments,
                     const PaddedGradScratch<T>& s) {
    const PaddedBand& b = *p.band;
    const Geometry& g = *b.g;
    const idx height = job.rows(b), width = job.columns(b), pixels = height * width;
    const Panels<T> panels(g.k_group(), p.lines.empty() ? NV : LINE_VECTORS);
    fill_band(b, job, p.x, s.band);
    BandProduct<T> m{nullptr, 0, s.dw + job.group * (idx)p.offsets->size() * ld, ld, pixels, false};
    m.dy = dy_panel(p, job, pixels, ld, s.panel, &m.ldb);
    m.ahead = m.dy != s.panel && job.pixel(g, b) + 2 * pixels <= g.n * g.out_pixels();
    if (s.db) add_columns(m.dy, pixels, m.ldb, g.k_group(), s.db + job.group * ld);
    segments.clear();
    for (idx h = 0; h < height; h++)
        for (idx w = 0; w < width; w += PIXELS_GRAD)
            segments.push_back({std::min(PIXELS_GRAD, width - w), h * b.row_step() + w * b.pixel_step(), h * width + w});
    for (size_t begin = 0, end; begin < segments.size(); begin = end) {
        idx depth = segments[begin].length;
        for (end = begin + 1; end < segments.size() && depth + segments[end].length <= PIXELS_GRAD; end++)
            depth += segments[end].length;
        const auto add = p.lines.empty() ? &add_general_tiles<T> : &add_line_tiles<T>;
        add(p, m, panels, segments.data() + begin, (idx)(end - begin), s.band);
    }
}

// Every thread sums its share of the bands; the shares are added in order.
template <class T>
void padded_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    constexpr int L = LANES<T>;
    const PaddedBand one(g, 1);
    const idx all = g.out[one.axis], fit = std::min(all, std::max<idx>(1, one.axis == 1 ? PIXELS_GRAD / g.out[2] : PIXELS_GRAD));
    const PaddedBand band(g, ceil_div(all, ceil_div(all, fit)));
    const std::vector<idx> offsets = band.offsets();
    PaddedGrad<T> p{&band, x, dy, &offsets, {}, 0};
    const Panels<T> narrow(g.k_group(), LINE_VECTORS);
    if (lines_pay(narrow.vectors)) p.lines = cut_lines(offsets, narrow.width(narrow.count - 1), &p.line);
    const idx ld = ceil_div<idx>(g.k_group(), L) * L, rows = (idx)offsets.size(), size = g.groups * rows * ld;
    const idx jobs = BandJob::count(g, band), panel = g.channels_last && g.k_group() % L == 0 ? 0 : band.pixels() * ld;
    threads = useful_threads(threads, jobs, 2.0 * g.n * g.k * rows * g.out_pixels());
    Workspace workspace(padded_bytes<T>(band.size()) + padded_bytes<T>(panel) + padded_bytes<T>(size + g.groups * ld), threads);
    std::vector<T*> parts(threads, nullptr);
    on_threads(threads, [&](int thread, int count) {
        Arena arena(workspace.of(thread));
        PaddedGradScratch<T> s{arena.take<T>(band.size()), arena.take<T>(panel), arena.take<T>(size + g.groups * ld), nullptr};
        if (db) s.db = s.dw + size;
        parts[thread] = s.dw;
        std::fill(s.dw, s.dw + size + g.groups * ld, T(0));
        std::fill(s.panel, s.panel + panel, T(0));
        std::vector<Segment> segments;
        for (idx job = jobs * thread / count; job < jobs * (thread + 1) / count; job++)
            add_padded_band(p, BandJob(g, band, job), ld, segments, s);
    });
    T* total = parts[0];
    for (size_t t = 1; t < parts.size() && parts[t]; t++)
        for (idx i = 0; i < size + g.groups * ld; i++) total[i] += parts[t][i];
    for (idx group = 0; group < g.groups; group++) {
        if (!g.channels_last)
            transpose(total + group * rows * ld, ld, rows, g.k_group(), dw + group * g.k_group() * rows, rows);
        for (idx row = 0; g.channels_last && row < rows; row++)
            copy_run(dw + row * g.k + group * g.k_group(), total + (group * rows + row) * ld, g.k_group());
        if (db) copy_run(db + group * g.k_group(), total + size + group * ld, g.k_group());
    }
}

}  // namespace fastconv

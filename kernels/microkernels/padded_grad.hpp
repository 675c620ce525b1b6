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

// Arrays beyond this are prefetched: about a core's share of the last cache (docs/performance.md).
constexpr idx FAR_BYTES = 12 << 20;

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
        return g.channels_last && (job.pixel(g, *band) + pixels - 1) * g.k + job.group * g.k_group() + ld <= g.n * g.out_pixels() * g.k;
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

// Adds a band to dw (groups, taps x channels, ld) and db (groups, ld).
template <class T>
void add_padded_band(const PaddedGrad<T>& p, const BandJob& job, idx ld, std::vector<Segment>& segments, const PaddedGradScratch<T>& s) {
    const PaddedBand& b = *p.band;
    const Geometry& g = *b.g;
    const idx height = job.rows(b), width = job.columns(b), rows = (idx)p.offsets->size(), tiles = ceil_div<idx>(rows, MR);
    const Panels<T> panels(g.k_group());
    fill_band(b, job, p.x, s.band);
    idx ldb;
    const T* dy = dy_panel(p, job, height * width, ld, s.panel, &ldb);
    if (s.db) add_columns(dy, height * width, ldb, g.k_group(), s.db + job.group * ld);
    // The next band's dy comes while this one's is used, where it is too large for the caches to have it.
    constexpr idx LINE = 64 / sizeof(T);
    const idx calls = panels.count * tiles, behind = (idx)(p.dy + g.n * g.out_pixels() * g.k - dy) / LINE;
    const idx ahead = dy != s.panel && g.n * g.out_pixels() * g.k * (idx)sizeof(T) > FAR_BYTES ? std::max<idx>(0, std::min(height * width * g.k / LINE, behind - height * width * g.k / LINE)) : 0;
    segments.clear();
    for (idx h = 0; h < height; h++)
        for (idx w = 0; w < width; w += PIXELS_GRAD)
            segments.push_back({std::min(PIXELS_GRAD, width - w), h * b.row_step() + w * b.pixel_step(), h * width + w});
    for (size_t begin = 0, end; begin < segments.size(); begin = end) {
        idx depth = segments[begin].length;
        for (end = begin + 1; end < segments.size() && depth + segments[end].length <= PIXELS_GRAD; end++) depth += segments[end].length;
        for (const LineRows& t : p.lines) {
            const T* a[MOST_LINES];
            T* c[MOST_LINES];
            for (int i = 0; i < t.lines; i++) {
                a[i] = s.band + (*p.offsets)[t.row + i * p.line];
                c[i] = s.dw + (job.group * rows + t.row + i * p.line) * ld;
            }
            line_tile_of<T>(t.lines, t.width)(segments.data() + begin, (idx)(end - begin), a, b.pixel_step(), dy, ldb, c, ld);
        }
        for (idx q = 0; p.lines.empty() && q < panels.count; q++)
            for (idx t = 0; t < tiles; t++) {
                const idx row = rows * t / tiles;
                const int m = (int)(rows * (t + 1) / tiles - row);
                const T* a[MR];
                T* c[MR];
                for (int i = 0; i < m; i++) {
                    a[i] = s.band + (*p.offsets)[row + i];
                    c[i] = s.dw + (job.group * rows + row + i) * ld + panels.first(q);
                }
                if (ahead)
                    for (idx i = ahead * (q * tiles + t) / calls; i < ahead * (q * tiles + t + 1) / calls; i++)
                        __builtin_prefetch(dy + (ahead + i) * LINE, 0, 2);
                tile_of<T>(m, panels.width(q))(segments.data() + begin, (idx)(end - begin), Rows<T>{a, 0, b.pixel_step()},
                                               dy + panels.first(q), ldb, c, true);
            }
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
    if (g.k_group() <= L) p.lines = cut_lines(offsets, &p.line);
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

// 1x1 windows without padding on channels-first arrays: a plain product, nothing to gather.
//
//   (rows, depth) @ (depth, pixels) -> (rows, pixels)
//
// Filters are read in place in either direction. A job is a block of pixels, of one or several images; where enough
// rows share them, or a stride passes over pixels, it packs their depths side by side, or else reads the planes where
// they lie.
#pragma once
#include "channels_first.hpp"
#include "copy_strided.hpp"
#include "epilogue.hpp"
#include "gemm.hpp"
#include "parallel.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// A job's pixels, and the depth of a block: 384 KB of packed pixels in L2; sums of 512 keep rounding small.
template <class T> constexpr idx POINTWISE_COLUMNS = 4 * NR<T>;
constexpr idx POINTWISE_KC = 512;
// Up to this many rows, packing a pixel costs more than its unaligned loads.
constexpr idx POINTWISE_IN_PLACE_ROWS = 4 * MR;
// Planes whose distance is a multiple of this fall on few sets of the caches.
constexpr idx POINTWISE_CONFLICT_BYTES = 1024;

// Columns [first, first + count) of all images' pixels, as pieces of planes.
inline std::vector<Piece> plane_pieces(idx plane, idx dest_image, idx first, idx count) {
    std::vector<Piece> pieces;
    for (idx q = 0; q < count;) {
        const idx image = (first + q) / plane, at = (first + q) % plane, length = std::min(plane - at, count - q);
        pieces.push_back({q, length, image * dest_image + at});
        q += length;
    }
    return pieces;
}

// Where the pixels of a job lie in the source: runs of a row, `step` apart.
struct PixelRow {
    idx to, at, count;  // column of the job, elements from the group's first plane
};

// Columns [first, first + count) of all images' positions, a plane's rows as one where they follow each other.
inline std::vector<PixelRow> pixel_rows(const View& v, idx source_image, idx first, idx count) {
    const Axis *d = &v.axis[0], *h = &v.axis[1], *w = &v.axis[2];
    const idx line = same_pixels(v) ? v.positions() : w->out;
    std::vector<PixelRow> rows;
    for (idx q = 0; q < count;) {
        const idx position = first + q, length = std::min(line - position % line, count - q);
        const idx at = position % v.positions(), i = at / w->out;
        const idx plane_row = (i / h->out * d->step + d->offset[0]) * h->size + i % h->out * h->step + h->offset[0];
        rows.push_back({q, position / v.positions() * source_image + plane_row * w->size + at % w->out * w->step + w->offset[0],
                        length});
        q += length;
    }
    return rows;
}

// Depths of a job's pixels side by side: panel[k * ld + column].
template <class T>
void pack_pixel_rows(const T* from, idx plane, idx depth, const std::vector<PixelRow>& rows, idx step, T* panel, idx ld) {
    if (step == 1) {
        for (const PixelRow& row : rows) copy_rows(from + row.at, plane, depth, row.count, panel + row.to, ld);
        return;
    }
    constexpr idx AHEAD = 2, LINE = 64 / sizeof(T);
    for (idx k = 0; k < depth; k++, from += plane, panel += ld)
        for (const PixelRow& row : rows) {
            for (idx i = 0; i < row.count * step; i += LINE) __builtin_prefetch(from + AHEAD * plane + row.at + i);
            copy_strided(panel + row.to, from + row.at, row.count, step);
        }
}

// Below this many rows a job, packing the pixels would take more than a tenth of its products.
constexpr idx POINTWISE_JOB_ROWS = 8 * MR;
// Columns [first, first + columns) of rows [row, row + rows) of a group.
template <class T> struct PointwiseJob {
    idx group, first, columns, row, rows;
};

template <class T>
void run_pointwise_job(const ChannelsFirst<T>& p, const View& v, Matrix<const T> filters, idx filter_group,
                       const PointwiseJob<T>& job, T* panel, T* copied, T* temp) {
    const idx plane = p.dest_plane, ldb = ceil_div<idx>(job.columns, LANES<T>) * LANES<T>;
    const idx first_row = job.group * p.rows + job.row;
    const Product<T> c{p.dest + first_row * plane, plane, plane_pieces(plane, p.dest_image, job.first, job.columns)};
    const std::vector<PixelRow> pixels = pixel_rows(v, p.source_image, job.first, job.columns);
    const bool in_place = same_pixels(v) && c.pieces.size() == 1 && ldb == job.columns && job.rows <= POINTWISE_IN_PLACE_ROWS &&
                          plane * sizeof(T) % POINTWISE_CONFLICT_BYTES != 0;
    const idx blocks = std::max<idx>(1, ceil_div(p.depth, POINTWISE_KC));
    T* const rows = filters.row == 1 && filters.column != 1 ? copied : nullptr;
    for (idx b = 0; b < blocks; b++) {
        const idx first = p.depth * b / blocks, depth = p.depth * (b + 1) / blocks - first;
        const T* from = p.source + (job.group * p.depth + first) * p.source_plane;
        Matrix<const T> a = filters;
        a.at += job.group * filter_group + job.row * a.row + first * a.column;
        if (in_place) {
            gemm(job.rows, job.columns, depth, a, from + pixels[0].at, plane, c, b > 0, temp, rows);
        } else {
            pack_pixel_rows(from, p.source_plane, depth, pixels, v.axis[2].step, panel, ldb);
            for (idx k = 0; ldb > job.columns && k < depth; k++) clear_run(panel + k * ldb + job.columns, ldb - job.columns);
            gemm(job.rows, job.columns, depth, a, (const T*)panel, ldb, c, b > 0, temp, rows);
        }
    }
    if (p.bias || p.activation != LINEAR)
        for (idx row = 0; row < job.rows; row++)
            for (const Piece& piece : c.pieces)
                finish_row(c.at + row * plane + piece.at, piece.length, p.bias ? p.bias[first_row + row] : T(0), p.activation);
}

// Blocks of columns of about equal length, in whole vectors; where they are too few for the threads, rows are cut in
// the fewest parts, since each packs the pixels again, that give every thread the same number of jobs or several. Only
// then are blocks narrowed.
template <class T>
std::vector<PointwiseJob<T>> pointwise_jobs(const ChannelsFirst<T>& p, int threads) {
    constexpr idx L = LANES<T>, MOST = POINTWISE_COLUMNS<T> / L;
    const idx columns = p.images * p.dest_plane, vectors = ceil_div(columns, L), wanted = threads > 1 ? 3 * threads : 1;
    idx count = std::max<idx>(1, (vectors + MOST / 2) / MOST), parts = 1;
    auto total = [&] { return p.groups * count * parts; };
    while (total() < wanted && total() % threads && (parts + 1) * POINTWISE_JOB_ROWS <= p.rows) parts++;
    if (total() < threads)
        count = std::min(std::max(count, ceil_div(vectors, (idx)NV)), ceil_div(wanted, p.groups * parts));
    std::vector<PointwiseJob<T>> jobs;
    for (idx group = 0; group < p.groups; group++)
        for (idx i = 0; i < count; i++)
            for (idx part = 0; part < parts; part++) {
                const idx first = vectors * i / count * L, end = std::min(columns, vectors * (i + 1) / count * L);
                const idx units = ceil_div(p.rows, (idx)MR), row = units * part / parts * MR;
                jobs.push_back({group, first, end - first, row, std::min(p.rows, units * (part + 1) / parts * MR) - row});
            }
    return jobs;
}

template <class T>
void pointwise_first(const Geometry& g, const View& v, const ChannelsFirst<T>& p, Matrix<const T> filters, idx filter_group,
                     int threads) {
    threads = useful_threads(threads, p.groups * p.rows * ceil_div<idx>(p.images * p.dest_plane, NR<T>), flops_of(g));
    const std::vector<PointwiseJob<T>> jobs = pointwise_jobs(p, threads);
    idx widest = 1;
    for (const PointwiseJob<T>& job : jobs) widest = std::max(widest, ceil_div<idx>(job.columns, LANES<T>) * LANES<T>);
    const idx depth = std::min(POINTWISE_KC, p.depth), panel = depth * widest, copied = depth * MR;
    constexpr idx temp = MR * NR<T>;
    Workspace workspace(padded_bytes<T>(panel) + padded_bytes<T>(copied) + padded_bytes<T>(temp), threads);
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T* packed = arena.take<T>(panel);
        T* rows = arena.take<T>(copied);
        run_pointwise_job(p, v, filters, filter_group, jobs[job], packed, rows, arena.take<T>(temp));
    });
}

}  // namespace fastconv

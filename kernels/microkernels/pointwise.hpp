// 1x1 convolutions at stride 1 on channels-first arrays: a plain product, nothing to gather.
//
//   (rows, depth) @ (depth, pixels) -> (rows, pixels)
//
// Filters are read in place in either direction. A job is a block of pixels, of one or several images; where enough
// rows share them it packs their depths side by side, or else reads the planes where they lie.
#pragma once
#include "channels_first.hpp"
#include "epilogue.hpp"
#include "gemm.hpp"
#include "parallel.hpp"
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

template <class T> struct PointwiseJob {
    idx group, first, columns;
};

template <class T>
void run_pointwise_job(const ChannelsFirst<T>& p, Matrix<const T> filters, idx filter_group, const PointwiseJob<T>& job, T* panel,
                       T* temp) {
    const idx plane = p.dest_plane, ldb = ceil_div<idx>(job.columns, LANES<T>) * LANES<T>;
    const Product<T> c{p.dest + job.group * p.rows * plane, plane, plane_pieces(plane, p.dest_image, job.first, job.columns)};
    const bool in_place = c.pieces.size() == 1 && ldb == job.columns && p.rows <= POINTWISE_IN_PLACE_ROWS &&
                          plane * sizeof(T) % POINTWISE_CONFLICT_BYTES != 0;
    const idx blocks = std::max<idx>(1, ceil_div(p.depth, POINTWISE_KC));
    for (idx b = 0; b < blocks; b++) {
        const idx first = p.depth * b / blocks, depth = p.depth * (b + 1) / blocks - first;
        const T* from = p.source + (job.group * p.depth + first) * plane;
        Matrix<const T> a = filters;
        a.at += job.group * filter_group + first * a.column;
        if (in_place) {
            const idx image = job.first / plane;
            gemm(p.rows, job.columns, depth, a, from + image * p.source_image + job.first % plane, plane, c, b > 0, temp);
        } else {
            for (const Piece& piece : c.pieces) {
                const idx image = (job.first + piece.first) / plane, at = (job.first + piece.first) % plane;
                copy_rows(from + image * p.source_image + at, plane, depth, piece.length, panel + piece.first, ldb);
            }
            for (idx k = 0; ldb > job.columns && k < depth; k++) clear_run(panel + k * ldb + job.columns, ldb - job.columns);
            gemm(p.rows, job.columns, depth, a, panel, ldb, c, b > 0, temp);
        }
    }
    if (p.bias || p.activation != LINEAR)
        for (idx row = 0; row < p.rows; row++)
            for (const Piece& piece : c.pieces)
                finish_row(c.at + row * plane + piece.at, piece.length, p.bias ? p.bias[job.group * p.rows + row] : T(0),
                           p.activation);
}

template <class T>
void pointwise_first(const Geometry& g, const ChannelsFirst<T>& p, Matrix<const T> filters, idx filter_group, int threads) {
    const idx columns = p.images * p.dest_plane;
    idx block = POINTWISE_COLUMNS<T>;
    while (block > NR<T> && p.groups * ceil_div(columns, block) < 3 * threads) block -= NR<T>;
    std::vector<PointwiseJob<T>> jobs;
    for (idx group = 0; group < p.groups; group++)
        for (idx q = 0; q < columns; q += block) jobs.push_back({group, q, std::min(block, columns - q)});
    threads = useful_threads(threads, (idx)jobs.size(), flops_of(g));
    const idx panel = std::min(POINTWISE_KC, p.depth) * block, temp = MR * NR<T>;
    Workspace workspace(padded_bytes<T>(panel) + padded_bytes<T>(temp), threads);
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T* packed = arena.take<T>(panel);
        run_pointwise_job(p, filters, filter_group, jobs[job], packed, arena.take<T>(temp));
    });
}

}  // namespace fastconv

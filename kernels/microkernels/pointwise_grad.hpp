// Filter gradient of a 1x1 window without padding: a product over pixels.
//
//   (rows, pixels) @ (pixels, columns) -> (rows, columns)
//
// Rows are read in place, channel by channel; columns too where a pixel's channels lie together and fill vectors, or
// else they are packed. Which of x and dy are the columns is a question of cost; the result is transposed if its layout
// is the other one.
#pragma once
#include "bias_grad.hpp"
#include "copy_strided.hpp"
#include "filter_grad.hpp"

namespace fastconv {

// A block of 256 pixels by 12 panels (576 channels) takes 576 KB of L2; with 512 pixels 1024 columns lose a fifth.
constexpr idx POINTWISE_GRAD_PIXELS = 256;
template <class T> constexpr idx POINTWISE_GRAD_COLUMNS = 12 * NR<T>;
// Pixels a multiple of this apart fall on few cache sets: rows are then copied side by side, a cache line at a time.
constexpr idx POINTWISE_GRAD_CONFLICT_BYTES = 1024;
template <class T> constexpr idx POINTWISE_GRAD_CHUNK = LANES<T> > MR ? LANES<T> : MR;
// Rows or columns that make a job; with fewer, what all jobs read would come from memory faster than it does.
constexpr idx POINTWISE_GRAD_JOB = 64;

// x at the window, or dy, of a group.
template <class T> struct PixelMatrix {
    const T* at;
    idx channels, group, channel, image, step[3];  // elements between groups, channels, images and output positions
    PixelMatrix(const T* at, idx images, idx channels, idx groups, const idx size[3], const idx stride[3], bool last)
        : at(at), channels(channels / groups) {
        const idx plane = size[0] * size[1] * size[2], pixel = last ? channels : 1;
        channel = last ? 1 : plane, group = this->channels * channel, image = channels * plane;
        step[2] = pixel * stride[2], step[1] = pixel * size[2] * stride[1], step[0] = pixel * size[1] * size[2] * stride[0];
        if (plane == 1 && images > 1) step[2] = image;
    }
    idx pixel() const { return step[2]; }
    idx of(const PixelRun& r) const { return r.image * image + r.d * step[0] + r.h * step[1] + r.w * step[2]; }
    bool fills_vectors() const { return channel == 1 && channels % LANES<T> == 0; }
};

// Pixels that are evenly spaced in both operands: their places in these, and in the block.
struct PixelPiece {
    idx rows, columns, length, at;
};

template <class T> struct PointwiseGrad {
    const View& view;
    PixelMatrix<T> rows, columns;
    bool dy_is_rows;
    bool in_place() const {  // columns, where one step leads from each pixel to the next
        const Axis* a = view.axis;
        return columns.fills_vectors() && columns.step[1] == a[2].out * columns.step[2] && columns.step[0] == a[1].out * columns.step[1] &&
               columns.image == a[0].out * columns.step[0];
    }
    bool rows_conflict() const {
        return rows.channel == 1 && rows.pixel() * (idx)sizeof(T) % POINTWISE_GRAD_CONFLICT_BYTES == 0;
    }
    void pieces(idx first, idx last, std::vector<PixelRun>& runs, std::vector<PixelPiece>& found) const {
        pixel_runs(view, first, last, runs);
        found.clear();
        for (const PixelRun& r : runs) {
            const PixelPiece next{rows.of(r), columns.of(r), r.length, r.at};
            PixelPiece* p = found.empty() ? nullptr : &found.back();
            if (p && p->rows + p->length * rows.pixel() == next.rows && p->columns + p->length * columns.pixel() == next.columns)
                p->length += next.length;
            else
                found.push_back(next);
        }
    }
};

// Rows by columns of a group, summed over pixels [first, last) into `to`.
template <class T> struct PointwiseGradJob {
    idx group, row, rows, column, columns, first, last;
    T* to;
    idx ld;
    T* db;  // (K), or none
};

template <class T> struct PointwiseGradScratch {
    T *rows, *columns, *strided;
    std::vector<PixelRun> runs;
    std::vector<PixelPiece> pieces;
    std::vector<Segment> segments;
    static idx bytes() {
        return padded_bytes<T>(POINTWISE_GRAD_PIXELS * POINTWISE_GRAD_CHUNK<T>) +
               padded_bytes<T>(POINTWISE_GRAD_PIXELS * POINTWISE_GRAD_COLUMNS<T>) + padded_bytes<T>(POINTWISE_GRAD_PIXELS * NR<T>);
    }
    explicit PointwiseGradScratch(char* memory) {
        Arena arena(memory);
        rows = arena.take<T>(POINTWISE_GRAD_PIXELS * POINTWISE_GRAD_CHUNK<T>);
        columns = arena.take<T>(POINTWISE_GRAD_PIXELS * POINTWISE_GRAD_COLUMNS<T>);
        strided = arena.take<T>(POINTWISE_GRAD_PIXELS * NR<T>);
    }
};

// Columns [0, count) of the pieces' pixels at `from` -> panel (pixels, ld).
template <class T>
void pack_pixels(const PixelMatrix<T>& m, const T* from, const std::vector<PixelPiece>& pieces, idx count, T* panel, idx ld, T* strided) {
    for (const PixelPiece& p : pieces) {
        T* to = panel + p.at * ld;
        const T* source = from + p.columns;
        idx channel = m.channel;
        if (channel == 1) {
            copy_rows(source, m.pixel(), p.length, count, to, ld);
        } else {
            if (m.pixel() > 1) {
                for (idx c = 0; c < count; c++) copy_strided(strided + c * p.length, source + c * channel, p.length, m.pixel());
                source = strided, channel = p.length;
            }
            transpose(source, channel, count, p.length, to, ld);
        }
        for (idx i = 0; count < ld && i < p.length; i++) clear_run(to + i * ld + count, ld - count);
    }
}

// Which lines of the next block a tile prefetches, one a pixel: first those of the columns, then those of the rows.
template <class T>
void set_ahead(const PointwiseGrad<T>& p, const PixelPiece& piece, idx pixels, const T* columns, idx column_lines, const T* rows,
               idx row_lines, idx tile, EvenRows<T>* even) {
    constexpr idx LINE = 64 / sizeof(T);
    if (tile < column_lines)
        even->ahead = columns + piece.columns + pixels * p.columns.pixel() + tile * LINE, even->ahead_step = p.columns.pixel();
    else if (tile < column_lines + row_lines)
        even->ahead = rows + piece.rows + pixels * p.rows.pixel() + (tile - column_lines) * LINE, even->ahead_step = p.rows.pixel();
    else
        even->ahead = even->a, even->ahead_step = 0;
}

// Adds a block of pixels to a job's sums, or starts them.
template <class T>
void add_pixel_block(const PointwiseGrad<T>& p, const PointwiseGradJob<T>& job, idx pixels, bool add, PointwiseGradScratch<T>& s) {
    constexpr idx L = LANES<T>, CHUNK = POINTWISE_GRAD_CHUNK<T>, LINE = 64 / sizeof(T);
    const Panels<T> panels(job.columns);
    const T* x = p.rows.at + job.group * p.rows.group + job.row * p.rows.channel;
    const T* y = p.columns.at + job.group * p.columns.group + job.column * p.columns.channel;
    const bool in_place = p.in_place(), copied = p.rows_conflict();
    if (!in_place)
        for (idx j = 0; j < panels.count; j++)
            pack_pixels(p.columns, y + panels.first(j) * p.columns.channel, s.pieces, panels.filled(j),
                        s.columns + pixels * panels.first(j), panels.width(j) * L, s.strided);
    s.segments.clear();
    for (const PixelPiece& piece : s.pieces) s.segments.push_back({piece.length, copied ? piece.at * CHUNK : piece.rows, piece.at});
    const idx column_lines = p.columns.channel == 1 ? ceil_div(job.columns, LINE) : 0;
    const idx row_lines = p.rows.channel == 1 ? ceil_div(job.rows, LINE) : 0;
    idx tile = 0;
    for (idx chunk = 0; chunk < job.rows; chunk += CHUNK) {
        const idx end = std::min(chunk + CHUNK, job.rows);
        if (copied)
            for (const PixelPiece& piece : s.pieces)
                copy_rows(x + piece.rows + chunk, p.rows.pixel(), piece.length, end - chunk, s.rows + piece.at * CHUNK, CHUNK);
        for (idx row = chunk; row < end; row += MR) {
            const int m = (int)std::min<idx>(MR, end - row);
            for (idx j = 0; j < panels.count; j++, tile++) {
                const int width = panels.width(j), lanes = (int)(panels.filled(j) - (width - 1) * L);
                EvenRows<T> even{x + row * p.rows.channel, p.rows.channel, p.rows.pixel(), job.to + row * job.ld + panels.first(j), job.ld};
                if (copied) even.a = s.rows + row - chunk, even.step = CHUNK;
                set_ahead(p, s.pieces[0], pixels, y, column_lines, x, row_lines, tile, &even);
                const T* b = in_place ? y + s.pieces[0].columns + panels.first(j) : s.columns + pixels * panels.first(j);
                even_tile_of<T, true>(m, width)(s.segments.data(), (idx)s.segments.size(), even, b,
                                                in_place ? p.columns.pixel() : width * L, add, lanes);
            }
        }
    }
}

// db += dy of the block, if the job is the one of those with these filters that does.
template <class T> void add_bias_block(const PointwiseGrad<T>& p, const PointwiseGradJob<T>& job, const std::vector<PixelPiece>& pieces) {
    if (!job.db || (p.dy_is_rows ? job.column : job.row)) return;
    const PixelMatrix<T>& m = p.dy_is_rows ? p.rows : p.columns;
    const idx first = p.dy_is_rows ? job.row : job.column, count = p.dy_is_rows ? job.rows : job.columns;
    const T* dy = m.at + job.group * m.group + first * m.channel;
    T* db = job.db + job.group * m.channels + first;
    for (const PixelPiece& piece : pieces) {
        const T* from = dy + (p.dy_is_rows ? piece.rows : piece.columns);
        if (m.channel == 1)
            add_columns(from, piece.length, m.pixel(), count, db);
        else
            for (idx k = 0; k < count; k++) db[k] += sum_of(from + k * m.channel, piece.length);
    }
}

template <class T>
void run_pointwise_grad_job(const PointwiseGrad<T>& p, const PointwiseGradJob<T>& job, PointwiseGradScratch<T>& s) {
    const idx pixels = job.last - job.first, blocks = ceil_div(pixels, POINTWISE_GRAD_PIXELS);
    for (idx column = 0; column < job.columns; column += POINTWISE_GRAD_COLUMNS<T>) {
        PointwiseGradJob<T> part = job;
        part.column += column, part.to += column, part.columns = std::min(POINTWISE_GRAD_COLUMNS<T>, job.columns - column);
        for (idx b = 0; b < blocks; b++) {
            const idx first = job.first + pixels * b / blocks, last = job.first + pixels * (b + 1) / blocks;
            p.pieces(first, last, s.runs, s.pieces);
            add_pixel_block(p, part, last - first, b > 0, s);
            add_bias_block(p, part, s.pieces);
        }
    }
}

// A 1x1 window that lies inside at every position.
inline bool pointwise_grad_takes(const Geometry& g) {
    for (int a = 0; a < 3; a++)
        if (g.window[a] != 1 || g.before[a] || (g.out[a] - 1) * g.stride[a] >= g.size[a]) return false;
    return true;
}

// Below this ratio of the costs the result is transposed.
constexpr double TRANSPOSED_GAIN = 0.95;

// Cycles a pixel with AVX-512, more or less: two products of vectors a cycle; a packed element 0.3, 0.1 where its
// channels lie together, and 0.3 for an element of the result if that is transposed.
template <class T> double pointwise_grad_cost(const Geometry& g, const PointwiseGrad<T>& p, bool transposed) {
    const idx rows = p.rows.channels, columns = p.columns.channels;
    const double packed = p.in_place() ? 0 : p.columns.channel == 1 ? 0.1 : 0.3, pixels = g.n * g.out_pixels();
    return rows * ceil_div<idx>(columns, LANES<T>) / 2.0 + packed * columns + (transposed ? 0.3 * rows * columns / pixels : 0);
}

// How the work is cut: all pixels of some rows or columns, which are those that a job has to itself, or some pixels
// of all, whose sums are then added in the order of the parts.
struct PointwiseGradCut {
    idx parts;
    bool pixels;
    PointwiseGradCut(idx groups, idx channels, idx bytes, int threads) : parts(1), pixels(false) {
        if (threads == 1 || groups % threads == 0) return;
        parts = std::min<idx>(channels / POINTWISE_GRAD_JOB, ceil_div<idx>(4 * threads, groups)) / threads * threads;
        pixels = parts == 0 && bytes <= PRIVATE_GRAD_BYTES;
        if (parts == 0) parts = threads;
    }
};

// Adds the parts of the sums, in order, to the first.
template <class T> void add_parts(T* sums, idx part_size, idx parts, idx size, int threads) {
    constexpr idx PIECE = 4096;
    parallel_for(ceil_div(size, PIECE), threads, [&](idx piece, int) {
        const idx end = std::min(size, (piece + 1) * PIECE);
        for (idx part = 1; part < parts; part++)
            for (idx i = piece * PIECE; i < end; i++) sums[i] += sums[part * part_size + i];
    });
}

template <class T>
void pointwise_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    constexpr idx one[3] = {1, 1, 1};
    const bool last = g.channels_last;
    const View view = forward_view(g);
    const PixelMatrix<T> from_x(x, g.n, g.c, g.groups, g.size, g.stride, last), from_dy(dy, g.n, g.k, g.groups, g.out, one, last);
    const PointwiseGrad<T> by_layout{view, last ? from_x : from_dy, last ? from_dy : from_x, !last};
    const PointwiseGrad<T> other{view, by_layout.columns, by_layout.rows, last};
    const idx pixels = g.n * g.out_pixels(), size = g.k * g.c_group(), bytes = size * (idx)sizeof(T);
    const bool transposed = bytes <= PRIVATE_GRAD_BYTES &&
                            pointwise_grad_cost(g, other, true) < TRANSPOSED_GAIN * pointwise_grad_cost(g, by_layout, false);
    const PointwiseGrad<T>& p = transposed ? other : by_layout;
    const idx rows = p.rows.channels, columns = p.columns.channels;
    const bool in_dw = last && !transposed;  // the groups' columns lie side by side
    const idx ld = in_dw ? g.k : columns, group_step = in_dw ? columns : rows * columns;

    threads = useful_threads(threads, pixels, flops_of(g));
    const bool cut_rows = p.in_place();
    const idx channels = cut_rows ? rows : columns, unit = cut_rows ? POINTWISE_GRAD_CHUNK<T> : LANES<T>;
    const PointwiseGradCut cut(g.groups, channels, bytes, threads);
    const idx buffers = cut.pixels ? cut.parts : transposed ? 1 : 0, buffer = size + g.k;
    Workspace sums(buffers * padded_bytes<T>(buffer), 1), workspace(PointwiseGradScratch<T>::bytes(), threads);
    T* parts = (T*)sums.of(0);
    const idx part_size = padded_bytes<T>(buffer) / sizeof(T);
    if (db) std::fill(db, db + g.k, T(0));
    parallel_for(g.groups * cut.parts, threads, [&](idx i, int thread) {
        PointwiseGradScratch<T> scratch(workspace.of(thread));
        const idx part = i % cut.parts;
        PointwiseGradJob<T> job{i / cut.parts, 0, rows, 0, columns, 0, pixels, buffers ? parts : dw, ld, db};
        if (cut.pixels) {
            job.first = pixels * part / cut.parts, job.last = pixels * (part + 1) / cut.parts;
            job.to += part * part_size;
            if (db) job.db = job.to + size, std::fill_n(job.db, g.k, T(0));
        } else {
            const idx units = ceil_div(channels, unit), first = units * part / cut.parts * unit;
            const idx count = std::min(channels, units * (part + 1) / cut.parts * unit) - first;
            (cut_rows ? job.row : job.column) = first, (cut_rows ? job.rows : job.columns) = count;
        }
        job.to += job.group * group_step + job.row * ld + job.column;
        run_pointwise_grad_job(p, job, scratch);
    });
    if (cut.pixels) add_parts(parts, part_size, cut.parts, buffer, threads);
    if (cut.pixels && db) copy_run(db, parts + size, g.k);
    if (transposed)
        for (idx group = 0; group < g.groups; group++)
            transpose(parts + group * group_step, columns, rows, columns,
                      dw + group * (last ? rows : rows * columns), last ? g.k : rows);
    else if (cut.pixels)
        copy_run(dw, parts, size);
}

}  // namespace fastconv

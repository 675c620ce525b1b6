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

// A block's rows take up to 512 KB of L2; where they are few, columns are read in place by each tile.
constexpr idx POINTWISE_GRAD_PIXELS = 256, POINTWISE_GRAD_ROWS = 512, POINTWISE_GRAD_IN_PLACE_ROWS = 4 * MR;
// Rows or columns that make a job, each of which reads all of the other operand: 64 took 3% longer than 128.
constexpr idx POINTWISE_GRAD_JOB = 128;
// Pixels a thread from which each sums its own (at 256 adding up takes what it saves, at 392 it wins 5%), and channels a
// thread below which it always does.
constexpr idx POINTWISE_GRAD_THREAD_PIXELS = 3 * POINTWISE_GRAD_PIXELS / 2, POINTWISE_GRAD_LEAST = 64;

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
};

// Pixels that are evenly spaced in both operands: their places in these, and in the block.
struct PixelPiece {
    idx rows, columns, length, at;
};

template <class T> struct PointwiseGrad {
    const View& view;
    PixelMatrix<T> rows, columns;
    bool dy_is_rows;
    // Whether columns are, where one step leads from each pixel to the next and parts of vectors load at once.
    bool in_place() const {
        const Axis* a = view.axis;
        return columns.channel == 1 && (VECTOR_BYTES == 64 || columns.channels % LANES<T> == 0) &&
               columns.step[1] == a[2].out * columns.step[2] && columns.step[0] == a[1].out * columns.step[1] &&
               columns.image == a[0].out * columns.step[0];
    }
    bool packs(idx rows, idx columns) const {
        return !in_place() || rows > POINTWISE_GRAD_IN_PLACE_ROWS || columns % LANES<T>;
    }
    void pieces(idx first, idx last, std::vector<PixelRun>& runs, std::vector<PixelPiece>& found) const {
        pixel_runs(view, first, last, runs);
        found.clear();
        for (const PixelRun& r : runs) {
            const PixelPiece next{rows.of(r), columns.of(r), r.length, r.at};
            PixelPiece* p = found.empty() ? nullptr : &found.back();
            if (p && p->rows + p->length * rows.pixel() == next.rows &&
                p->columns + p->length * columns.pixel() == next.columns)
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
    T *panel, *planes;
    std::vector<PixelRun> runs;
    std::vector<PixelPiece> pieces;
    std::vector<Segment> segments;
    static idx bytes() { return 2 * padded_bytes<T>(POINTWISE_GRAD_PIXELS * NR<T>); }
    explicit PointwiseGradScratch(char* memory) {
        Arena arena(memory);
        panel = arena.take<T>(POINTWISE_GRAD_PIXELS * NR<T>);
        planes = arena.take<T>(POINTWISE_GRAD_PIXELS * NR<T>);
    }
};

// Columns [0, count) of the pieces' pixels at `from` -> panel (pixels, ld). Planes of strided or short pieces are copied
// side by side first.
template <class T>
void pack_pixels(const PixelMatrix<T>& m, const T* from, const std::vector<PixelPiece>& pieces, idx count, T* panel, idx ld,
                 T* planes) {
    constexpr idx AHEAD = 4;
    const idx pixels = pieces.back().at + pieces.back().length;
    if (m.channel == 1) {
        for (const PixelPiece& p : pieces) copy_rows(from + p.columns, m.pixel(), p.length, count, panel + p.at * ld, ld);
    } else if (m.pixel() == 1 && pixels >= LANES<T> * (idx)pieces.size()) {
        for (const PixelPiece& p : pieces) transpose(from + p.columns, m.channel, count, p.length, panel + p.at * ld, ld);
    } else {
        for (idx c = 0; c < count; c++)
            for (const PixelPiece& p : pieces) {
                const T* row = from + c * m.channel + p.columns;
                for (idx i = 0; i < p.length * m.pixel(); i += 64 / sizeof(T))
                    __builtin_prefetch(row + AHEAD * m.channel + i);
                copy_strided(planes + c * POINTWISE_GRAD_PIXELS + p.at, row, p.length, m.pixel());
            }
        transpose((const T*)planes, POINTWISE_GRAD_PIXELS, count, pixels, panel, ld);
    }
    for (idx i = 0; count < ld && i < pixels; i++) clear_run(panel + i * ld + count, ld - count);
}

// What tiles prefetch, where a pixel's channels lie together, a line of each pixel: at the start of a panel the columns
// of the next, which its first tile packs, and at the end of a block the rows of the next one.
template <class T> struct Ahead {
    static constexpr idx LINE = 64 / sizeof(T);
    const T* at;  // none after the last
    idx step, lines;
    Ahead(const PixelMatrix<T>& m, const T* at, idx channels)
        : at(at), step(m.pixel()), lines(at && m.channel == 1 ? ceil_div(channels, LINE) : 0) {}
    bool set(idx line, EvenRows<T>* even) const {
        if (line < lines) even->ahead = at + line * LINE, even->ahead_step = step;
        return line < lines;
    }
};

// Adds a block of pixels to a job's sums, or starts them.
template <class T>
void add_pixel_block(const PointwiseGrad<T>& p, const PointwiseGradJob<T>& job, idx begin, idx end,
                     PointwiseGradScratch<T>& s) {
    constexpr idx L = LANES<T>;
    const Panels<T> panels(job.columns);
    const T* x = p.rows.at + job.group * p.rows.group + job.row * p.rows.channel;
    const T* y = p.columns.at + job.group * p.columns.group + job.column * p.columns.channel;
    const bool in_place = p.in_place(), pack = p.packs(job.rows, job.columns);
    p.pieces(begin, end, s.runs, s.pieces);
    s.segments.clear();
    for (const PixelPiece& piece : s.pieces) s.segments.push_back({piece.length, piece.rows, piece.at});
    const PixelRun next = pixel_run(p.view, end);
    const bool more = end < job.last;
    const Ahead<T> ahead_rows(p.rows, more ? x + p.rows.of(next) : nullptr, job.rows);
    const T* const columns = y + s.pieces[0].columns;
    for (idx first = 0; first < job.rows; first += POINTWISE_GRAD_ROWS) {
        const idx last = std::min(first + POINTWISE_GRAD_ROWS, job.rows);
        for (idx j = 0; j < panels.count; j++) {
            const int width = panels.width(j), lanes = (int)(panels.filled(j) - (width - 1) * L);
            const T* from = y + panels.first(j) * p.columns.channel;
            if (!in_place) pack_pixels(p.columns, from, s.pieces, panels.filled(j), s.panel, width * L, s.planes);
            const idx then = j + 1 < panels.count ? j + 1 : 0;
            const bool here = then > 0 || last < job.rows;
            const Ahead<T> ahead(p.columns, here ? columns + panels.first(then) : more ? y + p.columns.of(next) : nullptr,
                                 panels.filled(then));
            for (idx row = first, n = 0; row < last; row += MR, n++) {
                const int m = (int)std::min<idx>(MR, last - row);
                EvenRows<T> even{x + row * p.rows.channel, p.rows.channel, p.rows.pixel(),
                                 job.to + row * job.ld + panels.first(j), job.ld};
                even.ahead = even.a;
                const idx left = (panels.count - 1 - j) * ceil_div(last - first, (idx)MR) + (last - 1 - row) / MR;
                if (pack && !ahead.set(n, &even) && last == job.rows) ahead_rows.set(left, &even);
                const bool there = in_place && (!pack || row == first);
                if (there && pack) even.packed = s.panel;
                even_tile_of<T, true>(m, width)(s.segments.data(), (idx)s.segments.size(), even,
                                                there ? from + s.pieces[0].columns : s.panel,
                                                there ? p.columns.pixel() : width * L, begin > job.first, lanes);
            }
        }
    }
}

// db += dy of the block, if the job is the one of those with these filters that does.
template <class T>
void add_bias_block(const PointwiseGrad<T>& p, const PointwiseGradJob<T>& job, const std::vector<PixelPiece>& pieces) {
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
    for (idx b = 0; b < blocks; b++) {
        const idx first = job.first + pixels * b / blocks, last = job.first + pixels * (b + 1) / blocks;
        add_pixel_block(p, job, first, last, s);
        add_bias_block(p, job, s.pieces);
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

// Cycles a pixel with AVX-512, more or less: two products of vectors a cycle; of the columns, 4 to pack a vector, 5 to
// transpose it and 8 more if that is every other pixel; 5 for a vector of the result if it is transposed.
template <class T> double pointwise_grad_cost(const Geometry& g, const PointwiseGrad<T>& p, bool transposed) {
    const idx rows = p.rows.channels, columns = p.columns.channels;
    double vector = p.packs(rows, columns) ? 4 : 1;
    if (p.columns.channel > 1) vector = p.columns.pixel() > 1 ? 13 : 5;
    return rows * ceil_div<idx>(columns, LANES<T>) / 2.0 + vector * columns / LANES<T> +
           (transposed ? 5.0 * rows * columns / LANES<T> / (g.n * g.out_pixels()) : 0);
}

// How the work is cut: some pixels of all rows and columns, whose sums are then added in the order of the parts, or all
// pixels of some rows or columns, where pixels are few or sums large.
struct PointwiseGradCut {
    idx parts;
    bool pixels;
    PointwiseGradCut(idx groups, idx channels, idx pixel_count, idx bytes, int threads) : parts(1), pixels(false) {
        if (threads == 1 || groups % threads == 0) return;
        const idx jobs = std::min<idx>(channels / POINTWISE_GRAD_JOB, ceil_div<idx>(4 * threads, groups)) / threads * threads;
        pixels = bytes <= PRIVATE_GRAD_BYTES && (channels < threads * POINTWISE_GRAD_LEAST ||
                                                 pixel_count >= threads * POINTWISE_GRAD_THREAD_PIXELS);
        parts = pixels || jobs == 0 ? threads : jobs;
    }
};

// Adds the other parts of the sums, in order, to the first.
template <class T> void add_parts(T* to, const T* sums, idx part_size, idx parts, idx size, int threads) {
    constexpr idx PIECE = 4096;
    parallel_for(ceil_div(size, PIECE), threads, [&](idx piece, int) {
        const idx end = std::min(size, (piece + 1) * PIECE);
        for (idx part = 1; part < parts; part++)
            for (idx i = piece * PIECE; i < end; i++) to[i] += sums[part * part_size + i];
    });
}

template <class T>
void pointwise_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    constexpr idx one[3] = {1, 1, 1};
    const bool last = g.channels_last;
    const View view = forward_view(g);
    const PixelMatrix<T> from_x(x, g.n, g.c, g.groups, g.size, g.stride, last);
    const PixelMatrix<T> from_dy(dy, g.n, g.k, g.groups, g.out, one, last);
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
    const idx channels = cut_rows ? rows : columns, unit = cut_rows ? (idx)MR : LANES<T>;
    const PointwiseGradCut cut(g.groups, channels, pixels, bytes, threads);
    const idx buffers = cut.pixels ? cut.parts : transposed ? 1 : 0, buffer = size + g.k;
    Workspace memory(buffers * padded_bytes<T>(buffer), 1), workspace(PointwiseGradScratch<T>::bytes(), threads);
    const idx part_size = padded_bytes<T>(buffer) / sizeof(T);
    T *const parts = (T*)memory.of(0), *const sums = transposed ? parts : dw;
    if (db) std::fill(db, db + g.k, T(0));
    parallel_for(g.groups * cut.parts, threads, [&](idx i, int thread) {
        PointwiseGradScratch<T> scratch(workspace.of(thread));
        const idx part = i % cut.parts;
        PointwiseGradJob<T> job{i / cut.parts, 0, rows, 0, columns, 0, pixels, sums, ld, db};
        if (cut.pixels) {
            job.first = pixels * part / cut.parts, job.last = pixels * (part + 1) / cut.parts;
            if (part > 0) {
                job.to = parts + part * part_size;
                if (db) job.db = job.to + size, std::fill_n(job.db + job.group * g.k_group(), g.k_group(), T(0));
            }
        } else {
            const idx units = ceil_div(channels, unit), first = units * part / cut.parts * unit;
            const idx count = std::min(channels, units * (part + 1) / cut.parts * unit) - first;
            (cut_rows ? job.row : job.column) = first, (cut_rows ? job.rows : job.columns) = count;
        }
        job.to += job.group * group_step + job.row * ld + job.column;
        run_pointwise_grad_job(p, job, scratch);
    });
    if (cut.pixels) {
        add_parts(sums, parts, part_size, cut.parts, size, threads);
        if (db) add_parts(db, parts + size, part_size, cut.parts, g.k, 1);
    }
    if (transposed)
        for (idx group = 0; group < g.groups; group++)
            transpose(sums + group * group_step, columns, rows, columns,
                      dw + group * (last ? rows : rows * columns), last ? g.k : rows);
}

}  // namespace fastconv

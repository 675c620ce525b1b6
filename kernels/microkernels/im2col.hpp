// im2col and GEMM, a block of the column matrix X^ at a time (Chellapilla, Puri, Simard 2006).
//
// The forward pass: Y = W X^ channels-first, Y = X^ W channels-last. Jobs own what they write, so that results do not
// depend on which thread takes which.
#pragma once
#include "columns.hpp"
#include "epilogue.hpp"
#include "gemm.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

// A block of X^, 512 weights by 192 pixels, takes 384 KB in float32 and shares a level 2 cache with the panels that
// meet it. Sums of 512 also keep the rounding error small.
constexpr idx WEIGHTS = 512, PIXELS = 192;
// Rows of a channels-last block are a line apart from a multiple of 4096 bytes: they would share a few cache sets.
constexpr idx LINE = 16;
inline double im2col_flops(const Geometry& g) { return 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels(); }

// Jobs for an even load, where the problem gives as many.
inline idx wanted_jobs(const Geometry& g, int threads) {
    threads = useful_threads(threads, threads, im2col_flops(g));
    return threads > 1 ? 3 * threads : 1;
}

// `size` cut into as many blocks as `most` demands or as are `wanted`, of equal length and whole multiples of `unit`.
struct Blocks {
    idx size, length, count;
    Blocks(idx size, idx most, idx wanted, idx unit) : size(size) {
        const idx blocks = std::max<idx>({ceil_div(size, most), wanted, 1});
        length = std::max(ceil_div(ceil_div(size, blocks), unit) * unit, unit);
        count = ceil_div(size, length);
    }
    idx first(idx i) const { return i * length; }
    idx end(idx i) const { return std::min(size, (i + 1) * length); }
};

template <class T> struct Scratch {
    T *columns, *panel, *temp;
    static idx bytes(idx columns, idx panel) {
        return padded_bytes<T>(columns) + padded_bytes<T>(panel) + padded_bytes<T>(MR * NR<T>);
    }
    Scratch(char* memory, idx columns_size, idx panel_size) {
        Arena arena(memory);
        columns = arena.take<T>(columns_size), panel = arena.take<T>(panel_size), temp = arena.take<T>(MR * NR<T>);
    }
};

// Pixels [p0, p1) of the batch as pieces of a row of y (N, K, pixels).
inline std::vector<Piece> image_pieces(const Geometry& g, idx p0, idx p1) {
    std::vector<Piece> pieces;
    const idx plane = g.out_pixels();
    for (idx p = p0, length; p < p1; p += length) {
        length = std::min(plane - p % plane, p1 - p);
        pieces.push_back({p - p0, length, p / plane * g.k * plane + p % plane});
    }
    return pieces;
}

template <class T> struct Forward {
    const Geometry* g;
    const T *x, *w, *bias;
    Activation activation;
    T* y;
};

// Y (k, pixels) = W (k, weights) @ X^ (weights, pixels)
template <class T>
void forward_first(const Forward<T>& f, const Columns& x, idx group, ColumnBlock b, idx depth, Scratch<T>& s) {
    const Geometry& g = *f.g;
    const idx rows = g.k_group(), weights = x.rows(), k = group * rows;
    const Product<T> y{f.y + k * g.out_pixels(), g.out_pixels(), image_pieces(g, b.p0, b.p1)};
    do {
        b.q1 = std::min(b.q0 + depth, weights);
        im2col(x, b, f.x, s.columns);
        const Matrix<const T> filters{f.w + k * weights + b.q0, weights, 1};
        gemm(rows, b.p1 - b.p0, b.q1 - b.q0, filters, s.columns, b.ld, y, b.q0 > 0, s.temp);
        b.q0 = b.q1;
    } while (b.q0 < weights);
    if (f.bias || f.activation != LINEAR)
        for (idx i = 0; i < rows; i++)
            for (const Piece& piece : y.pieces)
                finish_row(y.at + i * y.row + piece.at, piece.length, f.bias ? f.bias[k + i] : T(0), f.activation);
}

// Y (pixels, k) = X^ (pixels, weights) @ W (weights, k)
template <class T>
void forward_last(const Forward<T>& f, const Columns& x, idx group, ColumnBlock b, idx depth, Scratch<T>& s) {
    const Geometry& g = *f.g;
    const idx weights = x.rows(), k = group * g.k_group(), pixels = b.p1 - b.p0;
    const Panels<T> panels(g.k_group());
    T* y = f.y + b.p0 * g.k + k;
    do {
        b.q1 = std::min(b.q0 + depth, weights);
        im2col(x, b, f.x, s.columns);
        for (idx panel = 0; panel < panels.count; panel++) {
            const idx first = panels.first(panel), filled = panels.filled(panel);
            pack<T>({f.w + b.q0 * g.k + k + first, g.k, 1}, b.q1 - b.q0, filled, s.panel, NR<T>);
            gemm(pixels, filled, b.q1 - b.q0, {s.columns, b.ld, 1}, s.panel, NR<T>,
                 Product<T>{y + first, g.k, {{0, filled, 0}}}, b.q0 > 0, s.temp);
        }
        b.q0 = b.q1;
    } while (b.q0 < weights);
    if (f.bias || f.activation != LINEAR)
        for (idx p = 0; p < pixels; p++)
            finish_pixel(y + p * g.k, g.k_group(), f.bias ? f.bias + k : nullptr, f.activation);
}

// A job is a block of pixels of the batch, and all filters of a group.
template <class T>
void im2col_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y,
                    int threads) {
    const Forward<T> f{&g, x, w, bias, activation, y};
    const idx weights = g.c_group() * g.taps(), depth = Blocks(weights, WEIGHTS, 1, 1).length;
    const Blocks pixels(g.n * g.out_pixels(), PIXELS, ceil_div(wanted_jobs(g, threads), g.groups), LANES<T>);
    const idx ld = g.channels_last ? depth + LINE : pixels.length, jobs = g.groups * pixels.count;
    const idx columns = ld * (g.channels_last ? pixels.length : depth), panel = g.channels_last ? depth * NR<T> : 0;
    threads = useful_threads(threads, jobs, im2col_flops(g));
    Workspace workspace(Scratch<T>::bytes(columns, panel), threads);
    parallel_for(jobs, threads, [&](idx job, int thread) {
        Scratch<T> scratch(workspace.of(thread), columns, panel);
        const idx group = job / pixels.count, block = job % pixels.count;
        const Columns from{&g, forward_view(g), group * g.c_group(), g.c_group()};
        const ColumnBlock b{0, 0, pixels.first(block), pixels.end(block), ld};
        if (g.channels_last)
            forward_last(f, from, group, b, depth, scratch);
        else
            forward_first(f, from, group, b, depth, scratch);
    });
}

}  // namespace fastconv

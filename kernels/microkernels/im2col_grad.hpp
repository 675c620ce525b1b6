// The gradients by im2col and GEMM; X^ and its blocks are those of the forward pass.
//
//                 channels-first     channels-last
//   input_grad    X^ = W' dY         X^ = dY W'         and X^ is added to dx (col2im)
//   filter_grad   dW' = X^ dY'       dW = X^' dY        X^ filled from x (im2col)
#pragma once
#include "bias_grad.hpp"
#include "im2col.hpp"

namespace fastconv {

template <class T> struct InputGrad {
    const Geometry* g;
    const T *dy, *w;  // w channels-first: (groups, C/groups x taps, K/groups)
    T* dx;
    idx weights, filters, pixels, ld;  // the largest block of X^, and the filters that one product sums over
};

// (groups, K/groups, weights) -> (groups, weights, K/groups)
template <class T> void transpose_filters(const Geometry& g, const T* w, T* to, int threads) {
    const idx kg = g.k_group(), weights = g.c_group() * g.taps();
    const Blocks blocks(weights, WEIGHTS, 1, LANES<T>);
    threads = useful_threads(threads, g.groups * blocks.count, 20.0 * g.k * weights);
    parallel_for(g.groups * blocks.count, threads, [&](idx job, int) {
        const idx group = job / blocks.count, q0 = blocks.first(job % blocks.count);
        const idx count = blocks.end(job % blocks.count) - q0;
        transpose(w + group * kg * weights + q0, weights, kg, count, to + (group * weights + q0) * kg, kg);
    });
}

// X^ (weights, pixels) = W' (weights, k) @ dY (k, pixels), for filters [k0, k1) of the group
template <class T>
void multiply_first(const InputGrad<T>& f, const Columns& x, const ColumnBlock& b, idx k0, idx k1, Scratch<T>& s) {
    const Geometry& g = *f.g;
    const idx plane = g.out_pixels(), kg = g.k_group(), k = x.channel / g.c_group() * kg + k0, pixels = b.p1 - b.p0;
    pack<T>({f.dy + (b.p0 / plane * g.k + k) * plane + b.p0 % plane, plane, 1}, k1 - k0, pixels, s.panel, b.ld);
    gemm(b.q1 - b.q0, pixels, k1 - k0, {f.w + (x.channel * g.taps() + b.q0) * kg + k0, kg, 1}, s.panel, b.ld,
         Product<T>{s.columns, b.ld, {{0, b.ld, 0}}}, k0 > 0, s.temp);
}

// Columns [q, q + columns) of W' and filters [k, k + filters) -> panel (filters, NR)
template <class T>
void pack_transposed(const InputGrad<T>& f, const Columns& x, idx q, idx columns, idx k, idx filters, T* panel) {
    const Geometry& g = *f.g;
    const idx cg = g.c_group();
    for (idx j = 0, run; j < columns; j += run) {
        const idx tap = (q + j) / x.channels, c = (q + j) % x.channels;
        run = x.channels == cg ? columns : std::min(x.channels - c, columns - j);
        transpose(f.w + (tap * cg + x.channel % cg + c) * g.k + k, g.k, run, filters, panel + j, NR<T>);
    }
    for (idx i = 0; i < filters && columns < NR<T>; i++) clear_run(panel + i * NR<T> + columns, NR<T> - columns);
}

// X^ (pixels, weights) = dY (pixels, k) @ W' (k, weights), for filters [k0, k1) of the group
template <class T>
void multiply_last(const InputGrad<T>& f, const Columns& x, const ColumnBlock& b, idx k0, idx k1, Scratch<T>& s) {
    const Geometry& g = *f.g;
    const Panels<T> panels(b.q1 - b.q0);
    const idx k = x.channel / g.c_group() * g.k_group() + k0;
    for (idx panel = 0; panel < panels.count; panel++) {
        const idx first = panels.first(panel), filled = panels.filled(panel);
        pack_transposed(f, x, b.q0 + first, filled, k, k1 - k0, s.panel);
        gemm(b.p1 - b.p0, filled, k1 - k0, {f.dy + b.p0 * g.k + k, g.k, 1}, s.panel, NR<T>,
             Product<T>{s.columns + first, b.ld, {{0, NR<T>, 0}}}, k0 > 0, s.temp);
    }
}

template <class T> void clear_channels(const Geometry& g, const Columns& x, idx image, T* dx) {
    const idx plane = g.pixels();
    if (!g.channels_last)
        clear_run(dx + (image * g.c + x.channel) * plane, x.channels * plane);
    else
        for (idx p = image * plane; p < (image + 1) * plane; p++) clear_run(dx + p * g.c + x.channel, x.channels);
}

template <class T> void add_input_grad(const InputGrad<T>& f, const Columns& x, idx image, Scratch<T>& s) {
    const Geometry& g = *f.g;
    const idx end = (image + 1) * g.out_pixels();
    clear_channels(g, x, image, f.dx);
    ColumnBlock b{0, 0, 0, 0, f.ld};
    for (b.p0 = image * g.out_pixels(); b.p0 < end; b.p0 = b.p1) {
        b.p1 = std::min(b.p0 + f.pixels, end);
        for (b.q0 = 0; b.q0 < x.rows(); b.q0 = b.q1) {
            b.q1 = std::min(b.q0 + f.weights, x.rows());
            for (idx k0 = 0; k0 < g.k_group(); k0 += f.filters) {
                const idx k1 = std::min(k0 + f.filters, g.k_group());
                if (g.channels_last)
                    multiply_last(f, x, b, k0, k1, s);
                else
                    multiply_first(f, x, b, k0, k1, s);
            }
            col2im(x, b, s.columns, f.dx);
        }
    }
}

// A job is some channels of a group of an image: windows overlap, so it needs all of their pixels.
template <class T> void im2col_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    const bool last = g.channels_last;
    const idx parts = ceil_div(wanted_jobs(g, threads), std::max<idx>(g.n * g.groups, 1));
    const Blocks channels(g.c_group(), std::max<idx>(g.c_group(), 1), parts, last ? LANES<T> : 1);
    const idx jobs = g.n * g.groups * channels.count;
    threads = useful_threads(threads, jobs, im2col_flops(g));
    const idx weights = Blocks(channels.length * g.taps(), WEIGHTS, 1, NR<T>).length;
    const idx filters = Blocks(g.k_group(), WEIGHTS, 1, 1).length;
    const idx pixels = Blocks(g.out_pixels(), PIXELS, 1, LANES<T>).length;
    const idx ld = last ? weights + LINE : pixels;
    const idx columns = ld * (last ? pixels : weights), panel = filters * (last ? NR<T> : ld);
    Workspace workspace(Scratch<T>::bytes(columns, panel), threads);
    Workspace transposed(padded_bytes<T>(last ? 0 : g.k * g.c_group() * g.taps()), 1);
    if (!last) transpose_filters(g, w, (T*)transposed.of(0), threads);
    const InputGrad<T> f{&g, dy, last ? w : (const T*)transposed.of(0), dx, weights, filters, pixels, ld};
    parallel_for(jobs, threads, [&](idx job, int thread) {
        Scratch<T> scratch(workspace.of(thread), columns, panel);
        const idx part = job % channels.count, group = job / channels.count % g.groups;
        const idx image = job / channels.count / g.groups, first = channels.first(part);
        const Columns to{&g, forward_view(g), group * g.c_group() + first, channels.end(part) - first};
        add_input_grad(f, to, image, scratch);
    });
}

// The filter gradient sums over pixels: deep blocks of them write the gradient less often.
constexpr idx GRAD_WEIGHTS = 192, GRAD_PIXELS = 512;
// Shares of the pixels are summed apart where the weights alone make too few jobs: at most this much per thread.
constexpr idx SHARE_BYTES = 1 << 20;

// dW (weights, k) += X^ (weights, pixels) @ dY' (pixels, k)
template <class T>
void add_product(const Geometry& g, const T* x, const T* dy, const Columns& from, const ColumnBlock& b, T* dw,
                 Scratch<T>& s) {
    const bool last = g.channels_last;
    const idx k = from.channel / g.c_group() * g.k_group(), plane = g.out_pixels(), pixels = b.p1 - b.p0;
    const Panels<T> panels(g.k_group());
    const Matrix<const T> columns{s.columns, last ? 1 : b.ld, last ? b.ld : 1};
    im2col(from, b, x, s.columns);
    std::vector<Piece> pieces{{0, pixels, b.p0 * g.k}};
    if (!last) pieces = image_pieces(g, b.p0, b.p1);
    for (idx panel = 0; panel < panels.count; panel++) {
        const idx first = k + panels.first(panel), filled = panels.filled(panel);
        for (const Piece& p : pieces)
            pack<T>({dy + p.at + first * (last ? 1 : plane), last ? g.k : 1, last ? 1 : plane}, p.length, filled,
                    s.panel + p.first * NR<T>, NR<T>);
        gemm(b.q1 - b.q0, filled, pixels, columns, s.panel, NR<T>,
             Product<T>{dw + b.q0 * g.k + first, g.k, {{0, filled, 0}}}, true, s.temp);
    }
}

// shares[0] = the sum of all, in their order.
template <class T> void add_shares(T* const* shares, idx count, idx size, int threads) {
    const Blocks blocks(size, 1 << 14, 1, 1);
    parallel_for(blocks.count, threads, [&](idx job, int) {
        const idx first = blocks.first(job), length = blocks.end(job) - first;
        for (idx share = 1; share < count; share++) add_strided(shares[0] + first, shares[share] + first, length, 1);
    });
}

// (weights, K) -> (K, weights)
template <class T> void write_filters_first(const Geometry& g, const T* from, T* dw, int threads) {
    const idx weights = g.c_group() * g.taps();
    const Blocks filters(g.k, 4 * LANES<T>, 1, 1);
    parallel_for(filters.count, threads, [&](idx job, int) {
        const idx k = filters.first(job);
        transpose(from + k, g.k, weights, filters.end(job) - k, dw + k * weights, weights);
    });
}

// How the work is cut: a job is a block of weights of a group, over a share of the blocks of pixels.
template <class T> struct GradJobs {
    idx shares;
    Blocks pixels, weights;
    GradJobs(const Geometry& g, idx wanted, int threads)
        : pixels(g.n * g.out_pixels(), GRAD_PIXELS, 1, 1), weights(g.c_group() * g.taps(), GRAD_WEIGHTS, 1, MR) {
        const idx bytes = std::max<idx>(weights.size * g.k * sizeof(T), 1);
        const idx most = std::max<idx>(std::min(pixels.count, threads * SHARE_BYTES / bytes), 1);
        shares = std::min(ceil_div(wanted, std::max<idx>(g.groups * weights.count, 1)), most);
        weights = Blocks(weights.size, GRAD_WEIGHTS, ceil_div(wanted, g.groups * shares), MR);
    }
};

template <class T>
void im2col_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const bool last = g.channels_last;
    const GradJobs<T> cut(g, wanted_jobs(g, threads), threads);
    const idx size = cut.weights.size * g.k, jobs = cut.shares * g.groups * cut.weights.count;
    threads = useful_threads(threads, jobs, im2col_flops(g));
    const idx ld = (last ? cut.weights : cut.pixels).length + LINE;
    const idx columns = ld * (last ? cut.pixels : cut.weights).length, panel = cut.pixels.length * NR<T>;
    Workspace workspace(Scratch<T>::bytes(columns, panel), threads);
    Workspace sums(last && cut.shares == 1 ? 0 : padded_bytes<T>(size), (int)cut.shares);
    std::vector<T*> shares(cut.shares);
    for (idx i = 0; i < cut.shares; i++) shares[i] = last && i == 0 ? dw : (T*)sums.of((int)i);
    parallel_for(jobs, threads, [&](idx job, int thread) {
        Scratch<T> scratch(workspace.of(thread), columns, panel);
        const idx part = job % cut.weights.count, group = job / cut.weights.count % g.groups;
        const idx share = job / cut.weights.count / g.groups, blocks = cut.pixels.count;
        const Columns from{&g, forward_view(g), group * g.c_group(), g.c_group()};
        ColumnBlock b{cut.weights.first(part), cut.weights.end(part), 0, 0, ld};
        for (idx q = b.q0; q < b.q1; q++) clear_run(shares[share] + q * g.k + group * g.k_group(), g.k_group());
        for (idx p = blocks * share / cut.shares; p < blocks * (share + 1) / cut.shares; p++) {
            b.p0 = cut.pixels.first(p), b.p1 = cut.pixels.end(p);
            add_product(g, x, dy, from, b, shares[share], scratch);
        }
    });
    add_shares(shares.data(), cut.shares, size, threads);
    if (!last) write_filters_first(g, shares[0], dw, threads);
    if (db) bias_grad(g, dy, db, threads);
}

}  // namespace fastconv

// Direct convolution: every tap is a displacement in a zero-padded strip of the source (direct_strip.hpp).
//
// The input gradient is the forward pass of dy, once for each phase of the stride (view.hpp). Vectors run over a
// row of pixels in channels-first, over the written channels in channels-last.
#pragma once
#include "direct_depthwise.hpp"
#include "direct_strip.hpp"
#include "direct_tile.hpp"
#include "epilogue.hpp"
#include "filters.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

// Products a tile sums before it moves on: their slices of strip and filters stay in level 1, and the float32
// rounding of long sums grows with the square root of this, not of their whole length.
constexpr idx DEPTH = 512;

template <class T> struct Direct {
    Strip<T> strip;
    Axis d, h, w;                // where positions are written
    idx dest_size[3];
    idx groups, depth, columns;  // channels read and written, per group
    Filters<T> filters;
    const T* source;
    T* dest;
    const T* bias;
    Activation activation;

    // Channels-last channels that do not mix: one group of all of them, each of depth 1.
    bool depthwise() const { return strip.channels != depth; }
    idx taps() const { return (idx)strip.tap.size(); }
    idx step() const { return std::max<idx>(DEPTH / std::max<idx>(taps(), 1), 1); }
    // Offset in a plane of dest.
    idx pixel(const Block& b, idx row, idx column) const {
        const idx y = h.first + (b.row + row) * h.stride, x = w.first + (b.column + column) * w.stride;
        return ((d.first + b.depth * d.stride) * dest_size[1] + y) * dest_size[2] + x;
    }
    idx dest_plane() const { return dest_size[0] * dest_size[1] * dest_size[2]; }
};

// A thread's memory.
template <class T> struct DirectScratch {
    T *strip, *panel, *tile;
    Tap* taps;
    static idx panel_size(const Direct<T>& p) {
        const bool packs = p.strip.channels_last && !p.depthwise();
        return packs ? p.taps() * p.depth * std::min<idx>(NR<T>, p.columns + LANES<T>) : 0;
    }
    // Joined lines read up to a tile past the strip's end.
    static idx strip_size(const Direct<T>& p) { return p.strip.elements() + NR<T>; }
    static idx bytes(const Direct<T>& p) {
        return padded_bytes<T>(strip_size(p)) + padded_bytes<T>(panel_size(p)) + padded_bytes<T>(MR * NR<T>) +
               padded_bytes<Tap>(p.taps());
    }
    DirectScratch(const Direct<T>& p, char* memory) {
        Arena arena(memory);
        strip = arena.take<T>(strip_size(p));
        panel = arena.take<T>(panel_size(p));
        tile = arena.take<T>(MR * NR<T>);
        taps = arena.take<Tap>(p.taps());
    }
};

// Positions [first, first + count) of a line whose rows are a strip's row apart: the real ones go to dest.
template <class T>
void write_line(const Direct<T>& p, const Block& b, idx image, idx row, idx first, idx count, idx channel,
                const T* from) {
    const idx pitch = p.strip.row_pitch(), stride = p.w.stride, end = first + count;
    T* plane = p.dest + ((b.image + image) * p.columns * p.groups + channel) * p.dest_plane();
    for (idx q = first; q < end; q += pitch - q % pitch) {
        const idx n = std::min(b.columns - q % pitch, end - q);
        if (n <= 0) continue;
        T* to = plane + p.pixel(b, row + q / pitch, q % pitch);
        if (stride == 1) {
            copy_run(to, from + q - first, n);
            if (p.bias || p.activation != LINEAR) finish_row(to, n, p.bias ? p.bias[channel] : T(0), p.activation);
        } else {
            for (idx j = 0; j < n; j++) to[j * stride] = from[q - first + j];
        }
    }
}

// Channels-first: filters (rows) in place, pixels (vectors) of the strip. A line of pixels is a whole block of rows
// where computing the halo between them costs fewer vectors than the remainder of each row.
template <class T> void direct_first(const Direct<T>& p, const Block& b, idx group, const DirectScratch<T>& s) {
    const Strip<T>& strip = p.strip;
    const Filters<T>& f = p.filters;
    const idx joined = (b.rows - 1) * strip.row_pitch() + b.columns;
    const bool join = ceil_div<idx>(joined, LANES<T>) <= b.rows * ceil_div<idx>(b.columns, LANES<T>);
    const Panels<T> panels(join ? joined : b.columns);
    const idx lines = join ? 1 : b.rows, step = p.step();
    for (idx t = 0; t < p.taps(); t++) s.taps[t] = {strip.tap[t] * f.tap_stride, strip.displacement[t]};
    for (idx k = 0; k < p.columns; k += MR) {
        const int m = (int)std::min<idx>(MR, p.columns - k);
        const T* filters[MR];
        for (int i = 0; i < m; i++) filters[i] = f.at + group * f.group_stride + (k + i) * f.column_stride;
        for (idx line = 0; line < b.images * lines; line++)
            for (idx j = 0; j < panels.count; j++) {
                const idx image = line / lines, row = line % lines, first = panels.first(j);
                const T* pixels = s.strip + strip.position(image, row, first);
                const DirectTile<T> tile = direct_tile_of<T>(m, panels.width(j));
                for (idx c = 0; c == 0 || c < p.depth; c += step)
                    tile({s.taps, p.taps(), std::min(step, p.depth - c), f.depth_stride, strip.channel}, filters,
                         c * f.depth_stride, pixels + c * strip.channel, s.tile, NR<T>, c > 0);
                for (int i = 0; i < m; i++)
                    write_line(p, b, image, row, first, panels.filled(j), group * p.columns + k + i,
                               s.tile + i * NR<T>);
            }
    }
}

// The pixels of a block, in order.
struct PixelCursor {
    const Block& b;
    idx image = 0, row = 0, column = 0;
    bool done() const { return image == b.images; }
    void next() {
        if (++column < b.columns) return;
        column = 0;
        if (++row < b.rows) return;
        row = 0, image++;
    }
};

// Channels-last: pixels (rows) of the strip, filters (vectors) packed a panel at a time.
template <class T> void direct_last(const Direct<T>& p, const Block& b, idx group, const DirectScratch<T>& s) {
    const Panels<T> panels(p.columns);
    const idx step = p.step(), dest_pixel = p.columns * p.groups;
    for (idx j = 0; j < panels.count; j++) {
        const idx ld = panels.width(j) * LANES<T>, filled = panels.filled(j);
        const idx channel = group * p.columns + panels.first(j);
        for (idx t = 0; t < p.taps(); t++) {
            s.taps[t] = {p.strip.displacement[t], t * p.depth * ld};
            pack_filter_panel(p.filters, group, p.strip.tap[t], 0, p.depth, panels.first(j), filled,
                              s.panel + s.taps[t].b, ld);
        }
        for (PixelCursor at{b}; !at.done();) {
            const T* pixels[MR];
            T* dest[MR];
            int m = 0;
            for (; m < MR && !at.done(); m++, at.next()) {
                pixels[m] = s.strip + p.strip.position(at.image, at.row, at.column);
                dest[m] = p.dest + channel +
                          ((b.image + at.image) * p.dest_plane() + p.pixel(b, at.row, at.column)) * dest_pixel;
            }
            const DirectTile<T> tile = direct_tile_of<T>(m, panels.width(j));
            for (idx c = 0; c == 0 || c < p.depth; c += step)
                tile({s.taps, p.taps(), std::min(step, p.depth - c), 1, ld}, pixels, c, s.panel + c * ld, s.tile,
                     NR<T>, c > 0);
            for (int i = 0; i < m; i++) {
                copy_run(dest[i], s.tile + i * NR<T>, filled);
                finish_pixel(dest[i], filled, p.bias ? p.bias + channel : nullptr, p.activation);
            }
        }
    }
}

// Channels-last, depthwise: a vector of channels of M pixels at once.
template <class T, int M = 4> void direct_each(const Direct<T>& p, const Block& b, const DirectScratch<T>& s) {
    const T *pixels[M], *w = p.filters.at;
    T* dest[M];
    int m = 0;
    for (PixelCursor at{b}; !at.done();) {
        pixels[m] = s.strip + p.strip.position(at.image, at.row, at.column);
        dest[m] = p.dest + ((b.image + at.image) * p.dest_plane() + p.pixel(b, at.row, at.column)) * p.columns;
        at.next();
        if (++m < M && !at.done()) continue;
        if (m == M)
            direct_depthwise_pixels<T, M>(p.strip, w, pixels, dest);
        else
            for (int i = 0; i < m; i++) direct_depthwise_pixels<T, 1>(p.strip, w, pixels + i, dest + i);
        for (int i = 0; i < m; i++) finish_pixel(dest[i], p.columns, p.bias, p.activation);
        m = 0;
    }
}

template <class T> void run_direct(Direct<T>& p, int threads) {
    const idx pixels = p.strip.image_count() * p.d.out * p.h.out * p.w.out;
    if (pixels == 0) return;
    const double flops = 2.0 * pixels * p.columns * p.groups * p.depth * p.taps();
    p.strip.split_for(useful_threads(threads, pixels * p.groups, flops), p.groups);
    const idx jobs = p.strip.blocks() * p.groups;
    threads = useful_threads(threads, jobs, flops);
    Workspace workspace(DirectScratch<T>::bytes(p), threads);
    parallel_for(jobs, threads, [&](idx job, int thread) {
        const DirectScratch<T> scratch(p, workspace.of(thread));
        const Block b = p.strip.block(job / p.groups);
        p.strip.pack(scratch.strip, p.source, job % p.groups, b);
        if (p.depthwise())
            direct_each(p, b, scratch);
        else if (p.strip.channels_last)
            direct_last(p, b, job % p.groups, scratch);
        else
            direct_first(p, b, job % p.groups, scratch);
    });
}

// The pass that gathers `source` through view `v` into `dest`.
template <class T>
Direct<T> direct_problem(const Geometry& g, const View& v, bool input_grad, const Filters<T>& filters, const T* source,
                         T* dest) {
    const idx* size = input_grad ? g.size : g.out;
    idx groups = g.groups, depth = g.c_group(), columns = g.k_group(), strip_channels;
    if (input_grad) std::swap(depth, columns);
    strip_channels = depth;
    if (g.channels_last && is_depthwise(g)) strip_channels = columns = groups, groups = 1;
    return {Strip<T>(v, g.n, strip_channels, groups, g.channels_last, g.window), v.axis[0], v.axis[1], v.axis[2],
            {size[0], size[1], size[2]}, groups, depth, columns, filters, source, dest, nullptr, LINEAR};
}

template <class T>
void direct_forward(const Geometry& g, const T* x, const T* w, const T* bias, Activation activation, T* y,
                    int threads) {
    Direct<T> p = direct_problem(g, forward_view(g), false, forward_filters(g, w), x, y);
    p.bias = bias, p.activation = activation;
    run_direct(p, threads);
}

template <class T> void direct_input_grad(const Geometry& g, const T* dy, const T* w, T* dx, int threads) {
    idx phases[3];
    for (int a = 0; a < 3; a++) phases[a] = std::min(g.stride[a], g.size[a]);
    for (idx i = 0; i < phases[0] * phases[1] * phases[2]; i++) {
        const idx d = i / phases[2] / phases[1], h = i / phases[2] % phases[1], w_phase = i % phases[2];
        const View v{{input_grad_axis(g, 0, d), input_grad_axis(g, 1, h), input_grad_axis(g, 2, w_phase)}};
        Direct<T> p = direct_problem(g, v, true, input_grad_filters(g, w), dy, dx);
        run_direct(p, threads);
    }
}

}  // namespace fastconv

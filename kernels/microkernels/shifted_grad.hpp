// Filter gradient of few input channels: every (channel, tap) is a row of the padded volume.
//
//   (channels x taps, positions) @ (positions, k) -> (channels x taps, k)
//
// So that a first layer's 3 channels still fill the tile's rows. Positions between the image's rows are left out, a
// segment a row: a zero of dy there would still turn an infinite x into NaN.
#pragma once
#include "filter_grad.hpp"
#include "shifted_conv.hpp"

namespace fastconv {

template <class T> struct ShiftedGrad {
    const Geometry* g;
    const T *x, *dy;
    idx rows() const { return g->c_group() * g->taps(); }
    idx size() const { return g->groups * rows() * g->k_group(); }
};

// dy of a band as (positions, ld), zero between the rows.
template <class T>
void pack_band(const ShiftedGrad<T>& p, const ShiftedVolume& s, idx image, idx first, idx k, idx columns, T* panel, idx ld) {
    const Geometry& g = *p.g;
    idx start[3] = {0, 0, 0};
    start[s.band_axis] = first;
    std::fill(panel, panel + s.positions() * ld, T(0));
    for (idx d = 0; d < s.out[0]; d++)
        for (idx h = 0; h < s.out[1]; h++) {
            const idx pixel = ((start[0] + d) * g.out[1] + start[1] + h) * g.out[2] + start[2];
            T* to = panel + s.position(d, h) * ld;
            if (!g.channels_last) {
                transpose(p.dy + (image * g.k + k) * g.out_pixels() + pixel, g.out_pixels(), columns, s.out[2], to, ld);
                continue;
            }
            const T* from = p.dy + (image * g.out_pixels() + pixel) * g.k + k;
            for (idx w = 0; w < s.out[2]; w++) copy_run(to + w * ld, from + w * g.k, columns);
        }
}

template <class T> struct ShiftedGradScratch {
    T *volume, *panel, *temp, *dw, *db;
};

// Adds one band of one image to dw (groups, rows, K/groups) and db.
template <class T>
void add_shifted_band(const ShiftedGrad<T>& p, const ShiftedBand& band, idx image, idx first, const Panels<T>& panels,
                      const ShiftedGradScratch<T>& scratch) {
    constexpr int L = LANES<T>;
    const Geometry& g = *p.g;
    const ShiftedVolume& s = band.volume;
    const idx cg = g.c_group(), kg = g.k_group(), rows = p.rows(), pixel = g.channels_last ? g.c : 1;
    std::vector<Segment> segments;
    for (idx group = 0; group < g.groups; group++) {
        for (idx c = 0; c < cg; c++)
            fill_volume(s, first, p.x + image * g.c * g.pixels() + (group * cg + c) * (g.channels_last ? 1 : g.pixels()),
                        pixel, scratch.volume + c * s.size);
        for (idx q = 0; q < panels.count; q++) {
            const idx column = panels.first(q), filled = panels.filled(q), ld = panels.width(q) * L;
            pack_band(p, s, image, first, group * kg + column, filled, scratch.panel, ld);
            segments.clear();
            for (idx d = 0; d < s.out[0]; d++)
                for (idx h = 0; h < s.out[1]; h++)
                    segments.push_back({s.out[2], s.position(d, h), s.position(d, h)});
            if (scratch.db) add_columns(scratch.panel, s.positions(), ld, filled, scratch.db + group * kg + column);
            for (idx row = 0; row < rows; row += MR) {
                const int m = (int)std::min<idx>(MR, rows - row);
                const T* a[MR];
                T *to[MR], *out[MR];
                for (int i = 0; i < m; i++) {
                    to[i] = scratch.dw + (group * rows + row + i) * kg + column;
                    a[i] = scratch.volume + band.row_of[row + i];
                    out[i] = filled == ld ? to[i] : scratch.temp + i * NR<T>;
                    if (filled < ld) copy_run(out[i], to[i], filled);
                }
                tile_of<T>(m, panels.width(q))(segments.data(), (idx)segments.size(), Rows<T>{a, 0, 1},
                                               scratch.panel, ld, out, true);
                for (int i = 0; i < m && filled < ld; i++) copy_run(to[i], out[i], filled);
            }
        }
    }
}

// (groups, C/groups x taps, K/groups) -> the filters' layout.
template <class T> void store_shifted_grad(const ShiftedGrad<T>& p, const T* sums, T* dw) {
    const Geometry& g = *p.g;
    const idx kg = g.k_group(), rows = p.rows(), taps = g.taps();
    for (idx group = 0; group < g.groups; group++, sums += rows * kg)
        if (!g.channels_last)
            transpose(sums, kg, rows, kg, dw + group * kg * rows, rows);
        else
            for (idx row = 0; row < rows; row++)
                copy_run(dw + (row % taps * g.c_group() + row / taps) * g.k + group * kg, sums + row * kg, kg);
}

// Every thread sums its share of the bands; the shares are added in order.
template <class T>
void shifted_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const View view = forward_view(g);
    const ShiftedGrad<T> p{&g, x, dy};
    const Panels<T> panels(g.k_group());
    const int axis = band_axis_of(view);
    const idx out = view.axis[axis].out, pitch = ShiftedVolume(view, axis, 1).positions();
    const idx fit = std::max<idx>(1, std::min(PIXELS_GRAD / pitch, band_length(view, g.c_group(), VOLUME_BYTES / sizeof(T))));
    const idx length = ceil_div(out, ceil_div(out, fit));
    const ShiftedBand whole(view, axis, length, g.c_group());
    const ShiftedBand last(view, axis, out % length ? out % length : length, g.c_group());
    const idx volume = whole.volume.size * g.c_group() + VOLUME_SLACK<T>, panel = whole.volume.positions() * NR<T>;
    const idx bands = ceil_div(out, length), items = g.n * bands, size = p.size();
    threads = useful_threads(threads, items, 2.0 * size * g.n * g.out_pixels());
    Workspace workspace(padded_bytes<T>(volume) + padded_bytes<T>(panel) + padded_bytes<T>(MR * NR<T>) + padded_bytes<T>(size + g.k), threads);
    std::vector<T*> parts(threads, nullptr);
    on_threads(threads, [&](int thread, int count) {
        Arena arena(workspace.of(thread));
        ShiftedGradScratch<T> s{arena.take<T>(volume), arena.take<T>(panel), arena.take<T>(MR * NR<T>),
                                arena.take<T>(size + g.k), nullptr};
        if (db) s.db = s.dw + size;
        parts[thread] = s.dw;
        std::fill(s.dw, s.dw + size + g.k, T(0));
        std::fill(s.volume, s.volume + volume, T(0));
        for (idx item = items * thread / count; item < items * (thread + 1) / count; item++) {
            const idx first = item % bands * length;
            add_shifted_band(p, first + length <= out ? whole : last, item / bands, first, panels, s);
        }
    });
    T* total = parts[0];
    for (size_t t = 1; t < parts.size() && parts[t]; t++)
        for (idx i = 0; i < size + g.k; i++) total[i] += parts[t][i];
    store_shifted_grad(p, total, dw);
    if (db) std::copy(total + size, total + size + g.k, db);
}

}  // namespace fastconv

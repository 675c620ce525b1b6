// Filter gradient of few input channels, channels-first: products of vectors of positions.
//
//   (K, positions) @ (positions, channels x taps) -> (K, channels x taps)
//
// Neither operand is packed: rows of dy are planes as they lie, rows of x shifts of a flat volume. A tile keeps a
// vector of partial sums for each element, which are added up when its positions, of several images, are done.
#pragma once
#include "bias_grad.hpp"
#include "phases.hpp"

namespace fastconv {

// Positions that follow each other in both operands.
struct DotRun {
    idx a, b, length;
};

template <class T, int M, int V>
void dot_tile(const DotRun* runs, idx count, const T* const* a, const T* const* b, T* const* c) {
    constexpr int L = LANES<T>;
    Vec<T> acc[M][V] = {};
    for (idx r = 0; r < count; r++) {
        const T *ra[M], *rb[V];
        for (int i = 0; i < M; i++) ra[i] = a[i] + runs[r].a;
        for (int j = 0; j < V; j++) rb[j] = b[j] + runs[r].b;
        const idx whole = runs[r].length / L * L, rest = runs[r].length - whole;
        for (idx q = 0; q < whole; q += L) {
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = load(rb[j] + q);
            for (int i = 0; i < M; i++) {
                const Vec<T> av = load(ra[i] + q);
                for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
            }
        }
        if (rest) {
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = load_part(rb[j] + whole, rest);
            for (int i = 0; i < M; i++) {
                const Vec<T> av = load_part(ra[i] + whole, rest);
                for (int j = 0; j < V; j++) acc[i][j] += av * bv[j];
            }
        }
    }
    for (int i = 0; i < M; i++)
        for (int j = 0; j < V; j++) c[i][j] += sum_lanes<T>(acc[i][j]);
}

// Shifts of x that meet M planes of dy: as many as leave a register for each, and one for dy.
constexpr int DOT_REGISTERS = VECTOR_BYTES == 64 ? 32 : 16, DOT_MOST = 6;
constexpr int dot_width(int m) { return (DOT_REGISTERS - 1) / (m + 1) < DOT_MOST ? (DOT_REGISTERS - 1) / (m + 1) : DOT_MOST; }

template <class T> using DotTile = void (*)(const DotRun*, idx, const T* const*, const T* const*, T* const*);

template <class T, int M, int V = dot_width(M)> DotTile<T> dot_tile_of_width(int v) {
    if constexpr (V > 1)
        if (v < V) return dot_tile_of_width<T, M, V - 1>(v);
    return &dot_tile<T, M, V>;
}
template <class T, int M = MR> DotTile<T> dot_tile_of(int m, int v) {
    if constexpr (M > 1)
        if (m < M) return dot_tile_of<T, M - 1>(m, v);
    return dot_tile_of_width<T, M>(v);
}

// A lane of a tile sums at most 512 products; one that sums a sixteenth of that spends its time adding up lanes.
template <class T> constexpr idx DOT_POSITIONS = 512 * LANES<T>;
constexpr idx DOT_BYTES = 384 << 10;  // the volumes of a block, in L2 beside its part of dy

// One band of one image and group.
struct DotUnit {
    idx image, group;
    BandStart first;
};

template <class T> struct ShiftedGrad {
    const Geometry* g;
    const T *x, *dy;
    const ShiftedBand<T> *whole, *last;
    idx length, bands;
    DotUnit unit(idx i) const {
        const ShiftedVolume& s = whole->volume;
        return {i / bands % g->n, i / bands / g->n, band_start(*s.view, s.band_axis, length, i % bands)};
    }
    const ShiftedBand<T>& band(const DotUnit& u) const {
        const ShiftedVolume& s = whole->volume;
        return u.first.at[s.band_axis] + length <= s.view->axis[s.band_axis].out ? *whole : *last;
    }
};

template <class T> struct ShiftedGradScratch {
    T *volumes, *staged, *dw;
    ColumnRun* columns;
    std::vector<DotRun> runs;
};

// The volume of a unit, its `slot`-th of the block, and the runs of its positions.
template <class T>
void add_unit(const ShiftedGrad<T>& p, const DotUnit& u, idx slot, ShiftedGradScratch<T>& scratch) {
    const Geometry& g = *p.g;
    const ShiftedVolume& s = p.band(u).volume;
    const idx at = slot * p.whole->volume.size * g.c_group(), plane = g.pixels();
    column_runs(s, u.first, scratch.columns);
    fill_from_planes(s, u.first, scratch.columns, p.x + (u.image * g.c + u.group * g.c_group()) * plane, plane, g.c_group(),
                     scratch.volumes + at, scratch.staged);
    const idx* first = u.first.at;
    for (idx d = 0; d < s.out[0]; d++)
        scratch.runs.push_back({u.image * g.k * g.out_pixels() + ((first[0] + d) * g.out[1] + first[1]) * g.out[2] + first[2],
                                at + s.position(d, 0), s.out[1] * s.out[2]});
}

// All volumes of a block have the same shifts: its units are whole bands, or a single shorter one.
template <class T>
void add_block(const ShiftedGrad<T>& p, const ShiftedBand<T>& band, idx group, ShiftedGradScratch<T>& s) {
    const Geometry& g = *p.g;
    const std::vector<idx>& row_of = band.row_of[0];
    const idx rows = (idx)row_of.size(), kg = g.k_group(), m_tiles = ceil_div<idx>(kg, MR);
    const idx v_tiles = ceil_div<idx>(rows, dot_width((int)ceil_div(kg, m_tiles)));
    for (idx mt = 0; mt < m_tiles; mt++) {
        const idx k = kg * mt / m_tiles;
        const int m = (int)(kg * (mt + 1) / m_tiles - k);
        const T* a[MR];
        for (int i = 0; i < m; i++) a[i] = p.dy + (group * kg + k + i) * g.out_pixels();
        for (idx vt = 0; vt < v_tiles; vt++) {
            const idx row = rows * vt / v_tiles;
            const int v = (int)(rows * (vt + 1) / v_tiles - row);
            const T* b[DOT_MOST];
            T* c[MR];
            for (int j = 0; j < v; j++) b[j] = s.volumes + row_of[row + j];
            for (int i = 0; i < m; i++) c[i] = s.dw + (group * kg + k + i) * rows + row;
            dot_tile_of<T>(m, v)(s.runs.data(), (idx)s.runs.size(), a, b, c);
        }
    }
    s.runs.clear();
}

// Every thread sums its share of the units; the shares are added in order.
template <class T>
void shifted_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, T* db, int threads) {
    const ShiftedView<T> view = shifted_forward_view<T>(g, nullptr);
    const View& v = view.view;
    const idx most = DOT_BYTES / sizeof(T);
    const int axis = band_axis_of(v, true, most);
    const idx out = v.axis[axis].out, line = ShiftedVolume(v, axis, 1, true).positions();
    const idx fit = std::min(std::max<idx>(1, DOT_POSITIONS<T> / line), band_length(v, axis, true, g.c_group(), most));
    const idx length = ceil_div(out, ceil_div(out, fit)), cut = out % length ? out % length : length;
    const ShiftedBand<T> whole(view, axis, length, true, g.c_group()), last(view, axis, cut, true, g.c_group());
    const ShiftedGrad<T> p{&g, x, dy, &whole, &last, length, band_count(v, axis, length)};
    const idx volume = whole.volume.size * g.c_group(), size = g.k * g.c_group() * g.taps();
    const idx slots = std::max<idx>(1, std::min(DOT_POSITIONS<T> / 2 / (length * line), (idx)(DOT_BYTES / sizeof(T)) / volume));
    const idx units = g.groups * g.n * p.bands, staged = staged_size<T>(whole.volume, true);
    threads = useful_threads(threads, units, 2.0 * size * g.n * g.out_pixels());
    Workspace workspace(padded_bytes<T>(slots * volume) + padded_bytes<T>(staged) + padded_bytes<T>(size) +
                            padded_bytes<ColumnRun>(whole.volume.columns), threads);
    std::vector<T*> parts(threads, nullptr);
    on_threads(threads, [&](int thread, int count) {
        Arena arena(workspace.of(thread));
        ShiftedGradScratch<T> s{arena.take<T>(slots * volume), arena.take<T>(staged), arena.take<T>(size),
                                arena.take<ColumnRun>(whole.volume.columns), {}};
        parts[thread] = s.dw;
        std::fill(s.dw, s.dw + size, T(0));
        idx slot = 0;
        const idx end = units * (thread + 1) / count;
        for (idx i = units * thread / count; i < end; i++) {
            const DotUnit u = p.unit(i);
            const ShiftedBand<T>& band = p.band(u);
            add_unit(p, u, slot++, s);
            const bool alone = p.bands > 1 && slots > 1 && cut < length, ends = i + 1 == end || p.unit(i + 1).group != u.group;
            if (slot == slots || ends || alone) add_block(p, band, u.group, s), slot = 0;
        }
    });
    for (idx i = 0; i < size; i++) {
        T sum = 0;
        for (const T* part : parts)
            if (part) sum += part[i];
        dw[i] = sum;
    }
    if (db) bias_grad(g, dy, db, threads);
}

}  // namespace fastconv

// Filter gradient of small groups, as many channels as filters: products of a vector of x and of rotated vectors of dy.
//
// A vector holds whole groups. Rotating dy's lanes within each group of D makes every channel meet every filter of its
// group in D products of whole vectors: sums[tap][rotation][lane], where lane i of a group has channel i and filter
// (i + rotation) % D. The pixels of a few rows are slabs, whatever the layout, with zeros around them.
#pragma once
#include "depthwise.hpp"
#include "parallel.hpp"
#include "tile.hpp"
#include "workspace.hpp"

namespace fastconv {

// Taps of a tile, in up to 3 rows of the window, and those of them that leave registers for four rotations instead of two.
// A rotation takes as long as a product, so that many taps should share it.
constexpr int GROUP_TAPS = 10, GROUP_TAP_ROWS = 3, GROUP_TAP_COLUMNS = 5, GROUP_FEW_TAPS = 4;
// Both slabs, of which every tile reads all; rows that neighbouring bands share are copied twice.
constexpr idx GROUP_SLAB_BYTES = 64 << 10, GROUP_POSITIONS = 112;
// Channels of a group up to which dy, where pixels hold whole vectors, is read in place: once for two of them, which takes
// longer than a copy from 16 on.
constexpr idx GROUP_IN_PLACE = 8;

// Pixels of the slabs to come, prefetched while those here are multiplied.
template <class T> struct RowAhead {
    const T* at;
    idx step;
};

// Rows of a slab of x at the first tap, and of dy, and where sums go; distances in elements. One of `ahead` for each row.
template <class T> struct GroupRows {
    const T *x, *dy;
    idx dy_pixel, dy_row, x_row, x_pixel, tap_row, tap_column, rows, columns;
    const RowAhead<T>* ahead;
    T* sums;
    idx sums_row, sums_column;
};

// sums[r][s][q] += dy rotated by index[q] times x at tap (r, s), a vector each.
template <class T, int Q, int R, int S> void add_rotated(const GroupRows<T>& p, const typename Lane<T>::type* index) {
    constexpr int L = LANES<T>, PIXELS = Q * R * S < 8 ? 2 : 1;  // at a time, to keep enough sums in flight
    typedef typename Lane<T>::type I;
    typedef I Index __attribute__((vector_size(L * sizeof(T))));
    typedef T Full __attribute__((vector_size(L * sizeof(T))));
    Index lanes[Q];
    memcpy(lanes, index, sizeof lanes);
    Vec<T> acc[PIXELS][R][S][Q] = {};
    auto add = [&](int u, const T* x, const T* dy) __attribute__((always_inline)) {
        const Full d = (Full)load(dy);
        Vec<T> rotated[Q];
        FASTCONV_UNROLL
        for (int q = 0; q < Q; q++) rotated[q] = (Vec<T>)__builtin_shuffle(d, lanes[q]);
        FASTCONV_UNROLL
        for (int r = 0; r < R; r++)
            FASTCONV_UNROLL
            for (int s = 0; s < S; s++) {
                Vec<T> at = load(x + r * p.tap_row + s * p.tap_column);
                asm("" : "+v"(at));  // or gcc loads it for each product
                FASTCONV_UNROLL
                for (int q = 0; q < Q; q++) acc[u][r][s][q] += rotated[q] * at;
            }
    };
    for (idx row = 0; row < p.rows; row++) {
        const T *x = p.x + row * p.x_row, *dy = p.dy + row * p.dy_row;
        RowAhead<T> ahead = p.ahead[row];
        idx i = 0;
        for (; i + PIXELS <= p.columns; i += PIXELS, x += PIXELS * p.x_pixel, dy += PIXELS * p.dy_pixel) {
            FASTCONV_UNROLL
            for (int u = 0; u < PIXELS; u++, ahead.at += ahead.step) {
                __builtin_prefetch(ahead.at + L - 1, 0, 2);
                add(u, x + u * p.x_pixel, dy + u * p.dy_pixel);
            }
        }
        if (PIXELS > 1 && i < p.columns) add(0, x, dy);
    }
    FASTCONV_UNROLL
    for (int r = 0; r < R; r++)
        FASTCONV_UNROLL
        for (int s = 0; s < S; s++)
            FASTCONV_UNROLL
            for (int q = 0; q < Q; q++) {
                T* to = p.sums + r * p.sums_row + s * p.sums_column + q * L;
                const Vec<T> sum = PIXELS > 1 ? acc[0][r][s][q] + acc[PIXELS - 1][r][s][q] : acc[0][r][s][q];
                store(to, load(to) + sum);
            }
}

template <class T> using AddRotated = void (*)(const GroupRows<T>&, const typename Lane<T>::type*);

template <class T, int R, int S> AddRotated<T> add_rotated_by(int rotations) {
    if constexpr (R * S <= GROUP_FEW_TAPS)
        if (rotations == 4) return &add_rotated<T, 4, R, S>;
    return rotations == 1 ? &add_rotated<T, 1, R, S> : &add_rotated<T, 2, R, S>;
}
// The tile of q rotations (1, 2 or, of few taps, 4) and r x s taps.
template <class T, int R = GROUP_TAP_ROWS, int S = GROUP_TAP_COLUMNS> AddRotated<T> add_rotated_of(int q, int r, int s) {
    if constexpr (R > 1)
        if (r < R) return add_rotated_of<T, R - 1, S>(q, r, s);
    if constexpr (S > 1)
        if (s < S) return add_rotated_of<T, R, S - 1>(q, r, s);
    if constexpr (PERMUTES && R * S <= GROUP_TAPS) return add_rotated_by<T, R, S>(q);
    return nullptr;  // not asked for
}

// Taps of a window that make tiles: some rows of it by some columns.
struct GroupTaps {
    idx r, rows, s, columns;
    idx rotations() const { return rows * columns <= GROUP_FEW_TAPS ? 4 : 2; }
};
inline std::vector<GroupTaps> group_taps(idx R, idx S) {
    std::vector<GroupTaps> taps;
    const idx parts = ceil_div<idx>(S, GROUP_TAP_COLUMNS);
    for (idx part = 0; part < parts; part++) {
        const idx s = S * part / parts, columns = S * (part + 1) / parts - s;
        const idx bands = ceil_div(R, std::min<idx>(GROUP_TAP_ROWS, GROUP_TAPS / columns));
        for (idx band = 0; band < bands; band++)
            taps.push_back({R * band / bands, R * (band + 1) / bands - R * band / bands, s, columns});
    }
    return taps;
}

// Part of the work: rows [h, h + rows) and columns [w, w + columns) of a plane of dy.
struct GroupBand {
    idx image, d, h, rows, w, columns;
};

template <class T> struct GroupGrad {
    typedef typename Lane<T>::type I;
    const Geometry& g;
    const Image<const T> x, dy;
    const idx depth, block;       // channels of a group, and of the groups in a vector
    idx columns, rows, reach;     // of dy at a time; rows of x that a row of dy meets
    idx x_columns, size;          // of a slab; of a job's sums
    std::vector<GroupBand> bands;
    std::vector<I> rotations;  // [rotation][lane]
    const std::vector<GroupTaps> taps;

    GroupGrad(const Geometry& g, const T* x, const T* dy)
        : g(g), x(plane_of(g, false, x)), dy(plane_of(g, true, dy)), depth(g.c_group()), block(LANES<T> / depth * depth),
          taps(group_taps(g.window[1], g.window[2])) {
        constexpr idx L = LANES<T>;
        const idx parts = ceil_div(g.out[2], GROUP_POSITIONS);
        columns = ceil_div(g.out[2], parts), reach = (g.window[1] - 1) * g.dilation[1] + 1;
        x_columns = (columns - 1) * g.stride[2] + (g.window[2] - 1) * g.dilation[2] + 1;
        size = g.taps() * depth * L;
        const idx shared = std::max<idx>(0, reach - g.stride[1]), a_row = (x_columns * g.stride[1] + columns) * L * sizeof(T);
        const idx fit = (GROUP_SLAB_BYTES - shared * x_columns * L * (idx)sizeof(T)) / a_row;
        rows = std::min(g.out[1], std::max(fit, 1 + reach / 2)), rows = ceil_div(g.out[1], ceil_div(g.out[1], rows));
        for (idx image = 0; image < g.n; image++)
            for (idx d = 0; d < g.out[0]; d++)
                for (idx h = 0; h < g.out[1]; h += rows)
                    for (idx w = 0; w < g.out[2]; w += columns)
                        bands.push_back({image, d, h, std::min(rows, g.out[1] - h), w, std::min(columns, g.out[2] - w)});
        for (idx r = 0; r < depth; r++)
            for (idx l = 0; l < L; l++) rotations.push_back(l < block ? I(l / depth * depth + (l + r) % depth) : I(l));
    }
    idx passes() const { return g.window[0] * (idx)taps.size() * ceil_div<idx>(depth, 2); }
    idx x_slab() const { return ((rows - 1) * g.stride[1] + reach) * x_columns * LANES<T>; }
    idx dy_slab() const { return rows * columns * LANES<T>; }
};

template <class T> struct GroupScratch {
    T *x, *dy;
    std::vector<RowAhead<T>> ahead;  // one for each row and pass over the slabs
    idx filled = 0;
    GroupScratch(T* x, T* dy, idx passes) : x(x), dy(dy), ahead(passes, {dy, 0}) {}
    void clear() {
        while (filled > 0) ahead[--filled].step = 0;
    }
    void add(const T* at, idx step) {
        if (filled < (idx)ahead.size()) ahead[filled++] = {at, step};
    }
};

// Rows of x and dy of a band as prefetches, a line of each pixel; level 2 has what the band before shares with it, so that
// comes last. In channels-first, where a line is of one channel, nothing.
template <class T> void rows_ahead(const GroupGrad<T>& p, const GroupBand& b, idx channel, GroupScratch<T>* to) {
    const Geometry& g = p.g;
    if (!p.x.channels_last) return;
    const idx first = b.h * g.stride[1] - g.before[1], end = first + (b.rows - 1) * g.stride[1] + p.reach;
    const idx left = std::max<idx>(0, b.w * g.stride[2] - g.before[2]), plane = b.d * g.stride[0] - g.before[0];
    const idx image = b.image * p.x.depth + std::min(std::max<idx>(0, plane), p.x.depth - 1);
    for (idx h = std::min(end, p.x.height) - 1; h >= std::max<idx>(0, first); h--)
        for (idx part = 0; part < g.stride[2]; part++)
            to->add(p.x.at + p.x.offset(image, h, std::min(left + part * b.columns, p.x.width), channel), g.c);
    for (idx h = b.h; h < b.h + b.rows; h++)
        to->add(p.dy.at + p.dy.offset(b.image * p.dy.depth + b.d, h, b.w, channel), g.k);
}

// Adds a band of a vector of channels to sums [plane][r][s][rotation][lane].
template <class T> void add_group_band(const GroupGrad<T>& p, const GroupBand& b, idx channel, GroupScratch<T>& scratch, T* sums) {
    constexpr idx L = LANES<T>;
    const Geometry& g = p.g;
    const idx lanes = std::min(p.block, g.k - channel);
    const idx image = b.image * p.dy.depth + b.d;
    const bool in_place = p.dy.channels_last && lanes == L && p.depth <= GROUP_IN_PLACE;
    if (!in_place) load_slab(p.dy, {image, b.h, b.w, 1, 1, b.rows, b.columns, channel, lanes}, scratch.dy);
    const T* dy = in_place ? p.dy.at + p.dy.offset(image, b.h, b.w, channel) : scratch.dy;
    const idx dy_pixel = in_place ? g.k : L, dy_row = dy_pixel * (in_place ? g.out[2] : b.columns);
    Window window{0, b.h * g.stride[1] - g.before[1], b.w * g.stride[2] - g.before[2], 1, 1,
                  (b.rows - 1) * g.stride[1] + p.reach, (b.columns - 1) * g.stride[2] + (g.window[2] - 1) * g.dilation[2] + 1,
                  channel, lanes};
    const idx row = window.columns * L, rotation = p.depth * L;
    GroupRows<T> rows{nullptr, dy, dy_pixel, dy_row, g.stride[1] * row, g.stride[2] * L, g.dilation[1] * row,
                      g.dilation[2] * L, b.rows, b.columns, scratch.ahead.data(), nullptr, g.window[2] * rotation, rotation};
    for (idx t = 0; t < g.window[0]; t++, sums += g.window[1] * rows.sums_row) {
        const idx plane = b.d * g.stride[0] - g.before[0] + t * g.dilation[0];
        if (plane < 0 || plane >= p.x.depth) continue;
        window.image = b.image * p.x.depth + plane;
        load_slab(p.x, window, scratch.x);
        for (const GroupTaps& taps : p.taps) {
            rows.x = scratch.x + taps.r * rows.tap_row + taps.s * rows.tap_column;
            for (idx q = 0, count; q < p.depth; q += count, rows.ahead += b.rows) {
                count = taps.rotations();
                while (count > p.depth - q) count /= 2;
                rows.sums = sums + taps.r * rows.sums_row + taps.s * rotation + q * L;
                add_rotated_of<T>((int)count, (int)taps.rows, (int)taps.columns)(rows, p.rotations.data() + q * L);
            }
        }
    }
}

// The sums of a vector of channels -> dw.
template <class T> void store_group_sums(const GroupGrad<T>& p, idx channel, const T* sums, T* dw) {
    constexpr idx L = LANES<T>;
    const Filters<T> f = forward_filters(p.g, dw);
    const idx taps = p.g.taps(), groups = std::min(p.block, p.g.k - channel) / p.depth;
    for (idx group = 0; group < groups; group++)
        for (idx i = 0; i < p.depth; i++)
            for (idx k = 0; k < p.depth; k++) {
                const T* from = sums + (k - i + (k < i ? p.depth : 0)) * L + group * p.depth + i;
                T* to = dw + (channel / p.depth + group) * f.group_stride + i * f.depth_stride + k * f.column_stride;
                for (idx tap = 0; tap < taps; tap++) to[tap * f.tap_stride] = from[tap * p.depth * L];
            }
}

// Rotations are one instruction each; a vector must hold a group. Beyond 8 channels the other ways fill vectors well, so
// that four fifths of the lanes must be used.
template <class T> bool group_grad_takes(const Geometry& g) {
    const idx depth = g.c_group(), used = depth <= LANES<T> ? LANES<T> / depth * depth : 0;
    return PERMUTES && g.groups > 1 && depth == g.k_group() && depth > 1 && (depth <= 8 ? used > 0 : used * 5 >= LANES<T> * 4);
}

// Products of vectors of positions (shifted_grad.hpp) need no transpose: 1.2 times faster on two threads where few planes of
// dy meet many shifts, and lines are long; with 8 channels half as fast. The same in kernels/cython/rules.py.
template <class T> bool shifts_beat_rotations(const Geometry& g) {
    return !g.channels_last && g.c_group() > 2 && g.c_group() <= 6 && g.taps() > 1 && g.stride[2] == 1 && g.out[2] >= 32;
}

// Sums of a job: all channels of some bands, so that a pixel's lines are read together, as far as sums stay in level 2.
constexpr idx GROUP_SUMS_BYTES = 128 << 10;
// Pixels of a job from which adding up its sums is little beside making them.
constexpr idx GROUP_SHARE_PIXELS = 256;

// The work is cut into parts of the channels and shares of the bands.
struct GroupCut {
    idx parts, shares;
    GroupCut(idx blocks, idx sums_bytes, idx bands, idx pixels, int threads) {
        const idx wanted = threads > 1 ? 4 * threads : 1;
        parts = ceil_div(blocks, std::max<idx>(1, GROUP_SUMS_BYTES / sums_bytes));
        if (parts > 1) parts = std::min(blocks, ceil_div<idx>(parts, threads) * threads);
        shares = std::min({bands, ceil_div(wanted, parts), std::max<idx>(1, pixels / GROUP_SHARE_PIXELS)});
        parts = std::min(blocks, std::max(parts, ceil_div(wanted, shares)));
        if (parts * shares < threads) shares = std::min(bands, ceil_div<idx>(threads, parts));
    }
};

template <class T> void group_filter_grad(const Geometry& g, const T* x, const T* dy, T* dw, int threads) {
    const GroupGrad<T> p(g, x, dy);
    const idx blocks = ceil_div(g.k, p.block), count = (idx)p.bands.size(), step = padded_bytes<T>(p.size) / sizeof(T);
    const GroupCut cut(blocks, step * sizeof(T), count, g.n * g.out_pixels(), threads);
    const idx parts = cut.parts, shares = cut.shares;
    threads = useful_threads(threads, parts * shares, 2.0 * g.n * g.k * g.out_pixels() * (g.taps() * p.depth + 4));
    Workspace workspace(padded_bytes<T>(p.x_slab()) + padded_bytes<T>(p.dy_slab()), threads);
    Workspace memory(blocks * shares * padded_bytes<T>(p.size), 1);
    T* const all = (T*)memory.of(0);  // [share][block]
    parallel_for(parts * shares, threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        GroupScratch<T> scratch(arena.take<T>(p.x_slab()), arena.take<T>(p.dy_slab()), p.passes() * p.rows);
        const idx share = job % shares, part = job / shares, end = blocks * (part + 1) / parts, begin = blocks * part / parts;
        T* sums = all + share * blocks * step;
        std::fill(sums + begin * step, sums + end * step, T(0));
        for (idx i = count * share / shares, last = count * (share + 1) / shares; i < last; i++)
            for (idx block = begin; block < end; block++) {
                scratch.clear();
                if (block + 1 < end)
                    rows_ahead(p, p.bands[i], (block + 1) * p.block, &scratch);
                else if (i + 1 < last)
                    rows_ahead(p, p.bands[i + 1], begin * p.block, &scratch);
                add_group_band(p, p.bands[i], block * p.block, scratch, sums + block * step);
            }
    });
    parallel_for(blocks, threads, [&](idx block, int) {
        T* sums = all + block * step;
        for (idx share = 1; share < shares; share++)
            for (idx i = 0; i < p.size; i++) sums[i] += sums[share * blocks * step + i];
        store_group_sums(p, block * p.block, sums, dw);
    });
}

}  // namespace fastconv

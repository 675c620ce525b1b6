// The column matrix X^: a row for each weight of a filter, a column for each output pixel of the batch.
//
// im2col fills a block of it from x, col2im adds a block back to where its elements came from. Weights are in the
// order of the filters: (c, tap) channels-first; (tap, c) channels-last, where the block is held transposed, so that
// in both layouts runs of x are runs of the block.
#pragma once
#include <algorithm>
#include <vector>

#include "copy_strided.hpp"
#include "view.hpp"

namespace fastconv {

// X^ of some channels of x: [channel, channel + channels).
struct Columns {
    const Geometry* g;
    View view;
    idx channel, channels;
    idx rows() const { return channels * g->taps(); }
};

// Rows [q0, q1) and pixels [p0, p1); `ld` elements between rows, or between pixels in channels-last.
struct ColumnBlock {
    idx q0, q1, p0, p1, ld;
};

// Pixels [at, at + length) of a block that meet x at one tap, from pixel `source` of the image on.
struct Stretch {
    idx at, length, image, source;
};

inline void find_stretches(const View& v, const idx tap[3], idx p0, idx p1, std::vector<Stretch>& found) {
    const Axis *D = &v.axis[0], *H = &v.axis[1], *W = &v.axis[2];
    idx lo, hi;
    W->inside(tap[2], &lo, &hi);
    found.clear();
    for (idx p = p0, length; p < p1; p += length) {
        const idx w = p % W->out, row = p / W->out, image = row / H->out / D->out;
        length = std::min(W->out - w, p1 - p);
        const idx d = row / H->out % D->out * D->step + D->offset[tap[0]];
        const idx h = row % H->out * H->step + H->offset[tap[1]];
        const idx begin = std::max(w, lo), end = std::min(w + length, hi);
        if (d < 0 || d >= D->size || h < 0 || h >= H->size || begin >= end) continue;
        const Stretch s{p - p0 + begin - w, end - begin, image,
                        (d * H->size + h) * W->size + begin * W->step + W->offset[tap[2]]};
        Stretch* last = found.empty() ? nullptr : &found.back();
        if (last && last->image == image && last->at + last->length == s.at &&
            last->source + last->length * W->step == s.source)
            last->length += s.length;
        else
            found.push_back(s);
    }
}

// body(tap, c0, c1, stretches) for each tap that has weights in the block: channels [c0, c1).
template <class Body> void for_each_tap(const Columns& x, const ColumnBlock& b, Body body) {
    const idx taps = x.g->taps();
    std::vector<Stretch> stretches;
    for (idx t = 0; t < taps; t++) {
        idx c0, c1;
        if (x.g->channels_last) {
            c0 = std::max<idx>(b.q0 - t * x.channels, 0), c1 = std::min(b.q1 - t * x.channels, x.channels);
        } else {
            c0 = ceil_div(std::max<idx>(b.q0 - t, 0), taps), c1 = ceil_div(std::max<idx>(b.q1 - t, 0), taps);
        }
        if (c0 >= c1) continue;
        const idx R = x.g->window[1], S = x.g->window[2], tap[3] = {t / S / R, t / S % R, t % S};
        find_stretches(x.view, tap, b.p0, b.p1, stretches);
        body(t, c0, c1, stretches);
    }
}

// Rows are cleared up to whole vectors.
template <class T> void im2col_first(const Columns& x, const ColumnBlock& b, const T* from, T* to) {
    const idx taps = x.g->taps(), plane = x.g->pixels(), image = x.g->c * plane, step = x.view.axis[2].step;
    const idx width = ceil_div<idx>(b.p1 - b.p0, LANES<T>) * LANES<T>;
    for_each_tap(x, b, [&](idx t, idx c0, idx c1, const std::vector<Stretch>& stretches) {
        for (idx c = c0; c < c1; c++) {
            T* row = to + (c * taps + t - b.q0) * b.ld;
            const T* channel = from + (x.channel + c) * plane;
            idx at = 0;
            for (const Stretch& s : stretches) {
                if (s.at > at) clear_run(row + at, s.at - at);
                copy_strided(row + s.at, channel + s.image * image + s.source, s.length, step);
                at = s.at + s.length;
            }
            if (width > at) clear_run(row + at, width - at);
        }
    });
}

template <class T> void im2col_last(const Columns& x, const ColumnBlock& b, const T* from, T* to) {
    const idx C = x.g->c, image = C * x.g->pixels(), step = x.view.axis[2].step * C;
    for_each_tap(x, b, [&](idx t, idx c0, idx c1, const std::vector<Stretch>& stretches) {
        T* column = to + t * x.channels + c0 - b.q0;
        idx at = 0;
        for (const Stretch& s : stretches) {
            const T* pixel = from + s.image * image + s.source * C + x.channel + c0;
            for (; at < s.at; at++) clear_run(column + at * b.ld, c1 - c0);
            for (; at < s.at + s.length; at++, pixel += step) copy_run(column + at * b.ld, pixel, c1 - c0);
        }
        for (; at < b.p1 - b.p0; at++) clear_run(column + at * b.ld, c1 - c0);
    });
}

template <class T> void im2col(const Columns& x, const ColumnBlock& b, const T* from, T* to) {
    x.g->channels_last ? im2col_last(x, b, from, to) : im2col_first(x, b, from, to);
}

template <class T> inline void add_strided(T* to, const T* from, idx n, idx step) {
    constexpr int L = LANES<T>;
    if (step != 1) {
        for (idx i = 0; i < n; i++) to[i * step] += from[i];
        return;
    }
    for (; n >= L; n -= L, to += L, from += L) store(to, load(to) + load(from));
    if (n > 0) store_part(to, load_part(to, n) + load_part(from, n), n);
}

template <class T> void col2im(const Columns& x, const ColumnBlock& b, const T* from, T* to) {
    const idx C = x.g->c, taps = x.g->taps(), plane = x.g->pixels(), step = x.view.axis[2].step;
    const bool last = x.g->channels_last;
    for_each_tap(x, b, [&](idx t, idx c0, idx c1, const std::vector<Stretch>& stretches) {
        if (last) {
            const T* column = from + t * x.channels + c0 - b.q0;
            for (const Stretch& s : stretches) {
                T* pixel = to + (s.image * plane + s.source) * C + x.channel + c0;
                for (idx i = 0; i < s.length; i++)
                    add_strided(pixel + i * step * C, column + (s.at + i) * b.ld, c1 - c0, 1);
            }
            return;
        }
        for (idx c = c0; c < c1; c++) {
            const T* row = from + (c * taps + t - b.q0) * b.ld;
            for (const Stretch& s : stretches)
                add_strided(to + (s.image * C + x.channel + c) * plane + s.source, row + s.at, s.length, step);
        }
    });
}

}  // namespace fastconv

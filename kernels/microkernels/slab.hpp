// A slab: some rows of an image for some vectors of channels, [vector][row][pixel][lane], whatever its layout.
#pragma once
#include <algorithm>

#include "geometry.hpp"
#include "transpose.hpp"

namespace fastconv {

// One spatial plane of an activation (two axes) and its channels. An image of a volume is one of its `depth` planes.
template <class T> struct Image {
    T* at;
    idx height, width, channels;  // channels of the whole array
    bool channels_last;
    idx depth = 1;
    idx plane() const { return depth * height * width; }  // from one channel to the next, channels-first
    idx offset(idx image, idx h, idx w, idx c) const {
        if (channels_last) return ((image * height + h) * width + w) * channels + c;
        if (depth == 1) return ((image * channels + c) * height + h) * width + w;
        return (((image / depth * channels + c) * depth + image % depth) * height + h) * width + w;
    }
};

// A window on an image (of a volume, one of its planes): rows h + step_h * i and columns w + step_w * j, channels [c, c + lanes).
struct Window {
    idx image, h, w, step_h, step_w, rows, columns, c, lanes;
    idx vectors(int lanes_of) const { return ceil_div<idx>(lanes, lanes_of); }
};

// The part [lo, hi) of `count` positions first + step * i that lies in [0, size).
inline void clip(idx first, idx step, idx count, idx size, idx* lo, idx* hi) {
    if (step != 1) return valid_range(first, step, size, count, lo, hi);
    *hi = std::max<idx>(0, std::min(count, size - first));  // without its divisions: a slab may be of one tile
    *lo = std::min(*hi, std::max<idx>(0, -first));
}

// One vector's plane outside rows [top, bottom) and columns [lo, hi).
template <class T> void clear_border(const Window& win, idx top, idx bottom, idx lo, idx hi, T* slab) {
    const idx row = win.columns * LANES<T>;
    std::fill(slab, slab + top * row, T(0));
    for (idx i = top; i < bottom; i++) {
        for (idx j = 0; j < lo; j++) store(slab + i * row + j * LANES<T>, Vec<T>{});
        for (idx j = hi; j < win.columns; j++) store(slab + i * row + j * LANES<T>, Vec<T>{});
    }
    std::fill(slab + bottom * row, slab + win.rows * row, T(0));
}

// Elements outside the image, and lanes beyond `lanes`, are zero.
template <class T> void load_slab(const Image<const T>& x, const Window& win, T* slab) {
    constexpr int L = LANES<T>;
    idx top, bottom, lo, hi;
    clip(win.h, win.step_h, win.rows, x.height, &top, &bottom);
    clip(win.w, win.step_w, win.columns, x.width, &lo, &hi);
    const idx vectors = win.vectors(L), plane = win.rows * win.columns * L, whole = win.lanes / L, rest = win.lanes % L;
    if (rest)
        std::fill(slab, slab + vectors * plane, T(0));
    else
        for (idx v = 0; v < vectors; v++) clear_border<T>(win, top, bottom, lo, hi, slab + v * plane);
    for (idx i = top; i < bottom; i++) {
        T* to = slab + (i * win.columns + lo) * L;
        const T* from = x.at + x.offset(win.image, win.h + i * win.step_h, win.w + lo * win.step_w, win.c);
        if (x.channels_last) {
            const idx step = win.step_w * x.channels;
            for (idx j = lo; j < hi; j++, to += L, from += step) {
                for (idx v = 0; v < whole; v++) store(to + v * plane, load(from + v * L));
                if (rest) store(to + whole * plane, load_part(from + whole * L, rest));
            }
            continue;
        }
        for (idx l = 0; l < win.lanes; l += L, to += plane, from += L * x.plane()) {
            const idx lanes = std::min<idx>(L, win.lanes - l);
            if (win.step_w == 1)
                transpose(from, x.plane(), lanes, hi - lo, to, L);
            else
                for (idx c = 0; c < lanes; c++)
                    for (idx j = 0; j < hi - lo; j++) to[j * L + c] = from[c * x.plane() + j * win.step_w];
        }
    }
}

// The part of the slab that lies in the image is written.
template <class T> void store_slab(const Image<T>& y, const Window& win, const T* slab) {
    constexpr int L = LANES<T>;
    idx top, bottom, lo, hi;
    clip(win.h, win.step_h, win.rows, y.height, &top, &bottom);
    clip(win.w, win.step_w, win.columns, y.width, &lo, &hi);
    const idx plane = win.rows * win.columns * L, whole = win.lanes / L, rest = win.lanes % L;
    for (idx i = top; i < bottom; i++) {
        const T* from = slab + (i * win.columns + lo) * L;
        T* to = y.at + y.offset(win.image, win.h + i * win.step_h, win.w + lo * win.step_w, win.c);
        if (y.channels_last) {
            const idx step = win.step_w * y.channels;
            for (idx j = lo; j < hi; j++, from += L, to += step) {
                for (idx v = 0; v < whole; v++) store(to + v * L, load(from + v * plane));
                if (rest) store_part(to + whole * L, load(from + whole * plane), rest);
            }
            continue;
        }
        for (idx l = 0; l < win.lanes; l += L, from += plane, to += L * y.plane()) {
            const idx lanes = std::min<idx>(L, win.lanes - l);
            if (win.step_w == 1)
                transpose(from, L, hi - lo, lanes, to, y.plane());
            else
                for (idx c = 0; c < lanes; c++)
                    for (idx j = 0; j < hi - lo; j++) to[c * y.plane() + j * win.step_w] = from[j * L + c];
        }
    }
}

}  // namespace fastconv

// A slab: some rows of an image for one vector of channels, [row][pixel][lane], whatever the image's layout.
#pragma once
#include <algorithm>

#include "geometry.hpp"
#include "transpose.hpp"

namespace fastconv {

// One spatial plane of an activation (two axes) and its channels.
template <class T> struct Image {
    T* at;
    idx height, width, channels;  // channels of the whole array
    bool channels_last;
    idx plane() const { return height * width; }
    idx offset(idx image, idx h, idx w, idx c) const {
        return channels_last ? ((image * height + h) * width + w) * channels + c
                             : ((image * channels + c) * height + h) * width + w;
    }
};

// A window on an image: rows h + step_h * i and columns w + step_w * j, channels [c, c + lanes).
struct Window {
    idx image, h, w, step_h, step_w, rows, columns, c, lanes;
};

// The part [lo, hi) of `count` positions first + step * i that lies in [0, size).
inline void clip(idx first, idx step, idx count, idx size, idx* lo, idx* hi) {
    valid_range(first, step, size, count, lo, hi);
}

// Elements outside the image, and lanes beyond `lanes`, are zero.
template <class T> void load_slab(const Image<const T>& x, const Window& win, T* slab) {
    constexpr int L = LANES<T>;
    idx top, bottom, lo, hi;
    clip(win.h, win.step_h, win.rows, x.height, &top, &bottom);
    clip(win.w, win.step_w, win.columns, x.width, &lo, &hi);
    const bool filled = top == 0 && bottom == win.rows && lo == 0 && hi == win.columns && win.lanes == L;
    if (!filled) std::fill(slab, slab + win.rows * win.columns * L, T(0));
    for (idx i = top; i < bottom; i++) {
        T* to = slab + (i * win.columns + lo) * L;
        const T* from = x.at + x.offset(win.image, win.h + i * win.step_h, win.w + lo * win.step_w, win.c);
        if (x.channels_last) {
            const idx step = win.step_w * x.channels;
            if (win.lanes == L)
                for (idx j = lo; j < hi; j++, to += L, from += step) store(to, load(from));
            else
                for (idx j = lo; j < hi; j++, to += L, from += step) store(to, load_part(from, win.lanes));
        } else if (win.step_w == 1) {
            transpose(from, x.plane(), win.lanes, hi - lo, to, L);
        } else {
            for (idx l = 0; l < win.lanes; l++)
                for (idx j = 0; j < hi - lo; j++) to[j * L + l] = from[l * x.plane() + j * win.step_w];
        }
    }
}

// The part of the slab that lies in the image is written; `pitch` is the slab's columns.
template <class T> void store_slab(const Image<T>& y, const Window& win, const T* slab) {
    constexpr int L = LANES<T>;
    idx top, bottom, lo, hi;
    clip(win.h, win.step_h, win.rows, y.height, &top, &bottom);
    clip(win.w, win.step_w, win.columns, y.width, &lo, &hi);
    for (idx i = top; i < bottom; i++) {
        const T* from = slab + (i * win.columns + lo) * L;
        T* to = y.at + y.offset(win.image, win.h + i * win.step_h, win.w + lo * win.step_w, win.c);
        if (y.channels_last) {
            const idx step = win.step_w * y.channels;
            for (idx j = lo; j < hi; j++, from += L, to += step) copy_run(to, from, win.lanes);
        } else if (win.step_w == 1) {
            transpose(from, L, hi - lo, win.lanes, to, y.plane());
        } else {
            for (idx l = 0; l < win.lanes; l++)
                for (idx j = 0; j < hi - lo; j++) to[l * y.plane() + j * win.step_w] = from[j * L + l];
        }
    }
}

}  // namespace fastconv

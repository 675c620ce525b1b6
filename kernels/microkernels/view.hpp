// Forward and input gradient as one thing: each output position gathers taps of a source at fixed offsets.
//
// The forward pass is one such view of x. The input gradient with stride s is a view of dy per phase, the dx
// positions of equal remainder mod s: each phase meets only its own taps, so no inserted zero is multiplied.
#pragma once
#include <vector>

#include "geometry.hpp"

namespace fastconv {

struct Axis {
    idx size;                  // of the source
    idx out;                   // positions
    idx step;                  // source elements between positions
    idx first, stride;         // destination of position i: first + stride * i
    std::vector<idx> offset;   // of each tap from position * step, ascending
    std::vector<idx> tap;      // its index in the filter
    idx taps() const { return (idx)offset.size(); }
    // Positions [lo, hi) at which tap t is inside the source.
    void inside(idx t, idx* lo, idx* hi) const { valid_range(offset[t], step, size, out, lo, hi); }
    // Positions [lo, hi) at which every tap is.
    void inside_all(idx* lo, idx* hi) const {
        *lo = 0, *hi = out;
        for (idx t = 0; t < taps(); t++) {
            idx l, h;
            inside(t, &l, &h);
            *lo = l > *lo ? l : *lo, *hi = h < *hi ? h : *hi;
        }
    }
};

struct View {
    Axis axis[3];
    idx positions() const { return axis[0].out * axis[1].out * axis[2].out; }
    idx taps() const { return axis[0].taps() * axis[1].taps() * axis[2].taps(); }
};

// One tap, which every position finds inside the source.
inline bool one_tap_inside(const View& v) {
    for (const Axis& x : v.axis)
        if (x.taps() != 1 || x.out < 1 || x.offset[0] < 0 || (x.out - 1) * x.step + x.offset[0] >= x.size) return false;
    return true;
}

// Source and destination pixel by pixel the same.
inline bool same_pixels(const View& v) {
    for (const Axis& x : v.axis)
        if (x.offset[0] || x.step != 1 || x.stride != 1 || x.size != x.out) return false;
    return true;
}

inline View forward_view(const Geometry& g) {
    View v;
    for (int a = 0; a < 3; a++) {
        Axis& x = v.axis[a];
        x.size = g.size[a], x.out = g.out[a], x.step = g.stride[a], x.first = 0, x.stride = 1;
        for (idx t = 0; t < g.window[a]; t++) {
            x.offset.push_back(t * g.dilation[a] - g.before[a]);
            x.tap.push_back(t);
        }
    }
    return v;
}

inline Axis input_grad_axis(const Geometry& g, int a, idx phase) {
    Axis x;
    x.size = g.out[a], x.step = 1, x.first = phase, x.stride = g.stride[a];
    x.out = phase < g.size[a] ? (g.size[a] - phase - 1) / g.stride[a] + 1 : 0;
    for (idx t = g.window[a] - 1; t >= 0; t--) {
        idx at = phase + g.before[a] - t * g.dilation[a];
        if (at % g.stride[a]) continue;
        x.offset.push_back(at / g.stride[a]);
        x.tap.push_back(t);
    }
    return x;
}

// The phases of the input gradient that have positions; strides beyond the size leave the later ones empty.
inline std::vector<View> input_grad_views(const Geometry& g) {
    std::vector<View> views;
    idx phases[3];
    for (int a = 0; a < 3; a++) phases[a] = g.stride[a] < g.size[a] ? g.stride[a] : g.size[a];
    for (idx d = 0; d < phases[0]; d++)
        for (idx h = 0; h < phases[1]; h++)
            for (idx w = 0; w < phases[2]; w++)
                views.push_back({{input_grad_axis(g, 0, d), input_grad_axis(g, 1, h), input_grad_axis(g, 2, w)}});
    return views;
}

}  // namespace fastconv

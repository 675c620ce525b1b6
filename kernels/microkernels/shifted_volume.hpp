// A padded copy of some planes in which every tap of a view is the same array, shifted.
//
// Position q = (d * pitch0 + h) * pitch1 + w of the output meets tap t at volume[q + shift[t]]: one offset a tap for
// whole rows of vectors, at the price of computing the few positions between the rows too. Strides are taken out by
// splitting the source into its phases, padding by writing it.
#pragma once
#include <algorithm>

#include "channels_first.hpp"
#include "copy_strided.hpp"

namespace fastconv {

struct ShiftedVolume {
    const View* view;
    int band_axis;
    idx out[3];                // output positions of a band
    idx low[3], extent[3];     // least shift of a tap, and positions held, per axis and phase
    idx phase_size, size;      // elements of a phase, of a channel
    std::vector<idx> shift;    // of each tap of the view, in its order

    ShiftedVolume(const View& v, int band_axis, idx length) : view(&v), band_axis(band_axis) {
        idx low_high[3][2];
        for (int a = 0; a < 3; a++) {
            const Axis& x = v.axis[a];
            out[a] = a == band_axis ? length : x.out;
            low_high[a][0] = 0, low_high[a][1] = 0;
            for (idx t = 0; t < x.taps(); t++) {
                idx s = floor_div(x.offset[t], x.step);
                low_high[a][0] = t ? std::min(low_high[a][0], s) : s;
                low_high[a][1] = t ? std::max(low_high[a][1], s) : s;
            }
            low[a] = low_high[a][0], extent[a] = out[a] + low_high[a][1] - low_high[a][0];
        }
        phase_size = extent[0] * extent[1] * extent[2];
        size = phase_size * v.axis[0].step * v.axis[1].step * v.axis[2].step;
        for (idx d = 0; d < v.axis[0].taps(); d++)
            for (idx h = 0; h < v.axis[1].taps(); h++)
                for (idx w = 0; w < v.axis[2].taps(); w++) shift.push_back(shift_of(d, h, w));
    }

    idx positions() const { return ((out[0] - 1) * extent[1] + out[1] - 1) * extent[2] + out[2]; }
    idx position(idx d, idx h) const { return (d * extent[1] + h) * extent[2]; }

    static idx floor_div(idx a, idx b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

private:
    idx shift_of(idx d, idx h, idx w) const {
        const idx tap[3] = {d, h, w};
        idx phase = 0, at = 0;
        for (int a = 0; a < 3; a++) {
            const Axis& x = view->axis[a];
            const idx s = floor_div(x.offset[tap[a]], x.step);
            phase = phase * x.step + x.offset[tap[a]] - s * x.step;
            at = at * extent[a] + s - low[a];
        }
        return phase * phase_size + at;
    }
};

// One channel's plane (D, H, W), `pixel` elements apart, -> its volume for the band that starts at position `band`.
template <class T> void fill_volume(const ShiftedVolume& s, idx band, const T* plane, idx pixel, T* volume) {
    const Axis *D = &s.view->axis[0], *H = &s.view->axis[1], *W = &s.view->axis[2];
    const idx first[3] = {s.band_axis == 0 ? band : 0, s.band_axis == 1 ? band : 0, s.band_axis == 2 ? band : 0};
    for (idx pd = 0; pd < D->step; pd++)
        for (idx ph = 0; ph < H->step; ph++)
            for (idx pw = 0; pw < W->step; pw++)
                for (idx d = 0; d < s.extent[0]; d++)
                    for (idx h = 0; h < s.extent[1]; h++, volume += s.extent[2]) {
                        const idx sd = (first[0] + d + s.low[0]) * D->step + pd;
                        const idx sh = (first[1] + h + s.low[1]) * H->step + ph;
                        const idx sw = (first[2] + s.low[2]) * W->step + pw;
                        idx lo = 0, hi = 0;
                        if (sd >= 0 && sd < D->size && sh >= 0 && sh < H->size)
                            valid_range(sw, W->step, W->size, s.extent[2], &lo, &hi);
                        clear_run(volume, lo);
                        if (hi > lo)
                            copy_strided(volume + lo, plane + ((sd * H->size + sh) * W->size + sw + lo * W->step) * pixel,
                                         hi - lo, W->step * pixel);
                        clear_run(volume + hi, s.extent[2] - hi);
                    }
}

// The axis along which a volume is cut into bands: the outermost that has any length.
inline int band_axis_of(const View& v) { return v.axis[0].out > 1 ? 0 : v.axis[1].out > 1 ? 1 : 2; }

// Bands of equal length whose volumes are about `elements` for all channels together.
inline idx band_length(const View& v, idx channels, idx elements) {
    const int axis = band_axis_of(v);
    const ShiftedVolume one(v, axis, 1), two(v, axis, std::min<idx>(2, v.axis[axis].out));
    const idx each = std::max<idx>(1, (two.size - one.size) * channels), fixed = one.size * channels - each;
    const idx fit = std::max<idx>(1, (elements - fixed) / each), bands = ceil_div(v.axis[axis].out, fit);
    return ceil_div(v.axis[axis].out, bands);
}

}  // namespace fastconv

// A padded copy of some planes in which every tap of a view is the same array, shifted.
//
// Position q = (d * pitch0 + h) * pitch1 + w of the output meets tap t at volume[q + shift[t]]: one offset a tap for
// whole rows of vectors. Strides are taken out by splitting the source into its phases, padding by writing it.
//
// Columns are held in one of two ways. Shared: one row serves all taps, at the price of the few positions between two
// rows. Flat: a row for each of the window's columns, as wide as the output, so that all positions of a plane follow
// each other (Cho and Brand 2017, memory-efficient convolution).
#pragma once
#include <algorithm>

#include "copy_strided.hpp"
#include "transpose.hpp"
#include "view.hpp"

namespace fastconv {

//
// A volume holds a band: `length` positions along one axis, one along each axis outside it, all of those inside.
struct ShiftedVolume {
    const View* view;
    int band_axis;
    bool flat;
    idx out[3];                // output positions of a band
    idx low[3], extent[3];     // least shift of a tap, and positions held, per axis and phase
    idx columns;               // phases of the columns, or flat, their taps
    idx phase_size, size;      // elements of a phase, of a channel
    std::vector<idx> shift;    // of each tap of the view, in its order

    ShiftedVolume(const View& v, int band_axis, idx length, bool flat) : view(&v), band_axis(band_axis), flat(flat) {
        for (int a = 0; a < 3; a++) {
            const Axis& x = v.axis[a];
            idx high = 0;
            out[a] = a == band_axis ? length : a < band_axis ? 1 : x.out;
            low[a] = 0;
            for (idx t = 0; t < x.taps(); t++) {
                const idx s = floor_div(x.offset[t], x.step);
                low[a] = t ? std::min(low[a], s) : s;
                high = t ? std::max(high, s) : s;
            }
            extent[a] = out[a] + high - low[a];
        }
        if (flat) extent[2] = out[2];
        columns = flat ? v.axis[2].taps() : v.axis[2].step;
        phase_size = extent[0] * extent[1] * extent[2];
        size = phase_size * v.axis[0].step * v.axis[1].step * columns;
        shift.reserve(v.taps());
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
            const bool copy = flat && a == 2;
            phase = copy ? phase * columns + w : phase * x.step + x.offset[tap[a]] - s * x.step;
            at = at * extent[a] + (copy ? 0 : s - low[a]);
        }
        return phase * phase_size + at;
    }
};

// The first position of a band.
struct BandStart {
    idx at[3];
};

inline idx band_count(const View& v, int axis, idx length) {
    idx count = ceil_div(v.axis[axis].out, length);
    for (int a = 0; a < axis; a++) count *= v.axis[a].out;
    return count;
}

inline BandStart band_start(const View& v, int axis, idx length, idx band) {
    BandStart first{{0, 0, 0}};
    const idx bands = ceil_div(v.axis[axis].out, length);
    first.at[axis] = band % bands * length;
    band /= bands;
    for (int a = axis - 1; a >= 0; band /= v.axis[a].out, a--) first.at[a] = band % v.axis[a].out;
    return first;
}

// The source's columns that the volume of a band starting at position `first` of the columns reads.
struct ColumnWindow {
    idx begin, end, pitch;  // pitch: elements of a phase, at the most
    ColumnWindow(const ShiftedVolume& s, idx first) {
        const Axis& W = s.view->axis[2];
        begin = std::max<idx>(0, at(s, first, 0)) / W.step * W.step;
        end = std::max(begin, std::min(W.size, at(s, first, s.columns - 1) + (s.extent[2] - 1) * W.step + 1));
        pitch = ceil_div(end - begin, W.step);
    }
    idx width() const { return end - begin; }
    // The source's column that position 0 of column i of the volume reads.
    static idx at(const ShiftedVolume& s, idx first, idx i) {
        const Axis& W = s.view->axis[2];
        if (s.columns == 0) return 0;
        return s.flat ? first * W.step + W.offset[i] : (first + s.low[2]) * W.step + i;
    }
    static idx longest(const ShiftedVolume& s) {
        const idx read = s.columns ? at(s, 0, s.columns - 1) - at(s, 0, 0) + s.extent[2] * s.view->axis[2].step : 0;
        return std::min(s.view->axis[2].size, read);
    }
};

// How positions of a column (a phase, or a tap) read a row of the window, its phases one after the other: position i
// reads element from + i where lo <= i < hi, and is zero elsewhere.
struct ColumnRun {
    idx from, lo, hi;
};

inline void column_runs(const ShiftedVolume& s, const BandStart& band, ColumnRun* runs) {
    const Axis& W = s.view->axis[2];
    const idx first = band.at[2];
    const ColumnWindow window(s, first);
    for (idx i = 0; i < s.columns; i++) {
        const idx at = ColumnWindow::at(s, first, i);
        const idx whole = ShiftedVolume::floor_div(at - window.begin, W.step);
        runs[i].from = (at - window.begin - whole * W.step) * window.pitch + whole;
        valid_range(at, W.step, W.size, s.extent[2], &runs[i].lo, &runs[i].hi);
    }
}

// Rows of one phase and depth of a volume: rows [lo, hi) of them come from rows `step` apart of the source, from
// row * width on in a channel's plane; the others are outside.
struct VolumeSlab {
    idx row, step, lo, hi, at;
};

template <class Body> inline void volume_slabs(const ShiftedVolume& s, const BandStart& band, Body body) {
    const Axis *D = &s.view->axis[0], *H = &s.view->axis[1];
    const idx first_d = s.low[0] + band.at[0], first_h = s.low[1] + band.at[1];
    for (idx pd = 0; pd < D->step; pd++)
        for (idx ph = 0; ph < H->step; ph++)
            for (idx d = 0; d < s.extent[0]; d++) {
                const idx sd = (first_d + d) * D->step + pd, sh = first_h * H->step + ph;
                VolumeSlab slab{0, H->step, 0, 0, (pd * H->step + ph) * s.columns * s.phase_size + s.position(d, 0)};
                if (sd >= 0 && sd < D->size) valid_range(sh, H->step, H->size, s.extent[1], &slab.lo, &slab.hi);
                slab.row = sd * H->size + sh + slab.lo * H->step;
                body(slab);
            }
}

// Rows [lo, hi) of a channel's slab, `pitch` apart from `rows` on, -> its columns in the volume; the other rows are zero.
template <class T>
void fill_columns(const ShiftedVolume& s, const VolumeSlab& slab, const ColumnRun* runs, const T* rows, idx pitch, T* to, idx ahead) {
    const idx width = s.extent[2];
    for (idx i = 0; i < s.columns; i++, to += s.phase_size) {
        clear_run(to, slab.lo * width);
        copy_rows_padded(to + slab.lo * width, width, rows + runs[i].from, pitch, slab.hi - slab.lo, width, runs[i].lo,
                         runs[i].hi, i ? 0 : ahead);
        clear_run(to + slab.hi * width, (s.extent[1] - slab.hi) * width);
    }
}

// Elements that filling from planes or pixels stages.
template <class T> idx staged_size(const ShiftedVolume& s, bool planes) {
    const idx step = s.view->axis[2].step, width = ceil_div(ColumnWindow::longest(s), step) * step;
    return s.extent[1] * (planes ? step > 1 ? width : 0 : LANES<T> * width);
}

// `count` planes (D, H, W), `channel` elements apart, -> their volumes. Phases of the columns are split in `staged`.
template <class T>
void fill_from_planes(const ShiftedVolume& s, const BandStart& band, const ColumnRun* runs, const T* plane, idx channel,
                      idx count, T* volume, T* staged) {
    const idx width = s.view->axis[2].size, step = s.view->axis[2].step;
    const ColumnWindow window(s, band.at[2]);
    for (idx c = 0; c < count; c++, plane += channel, volume += s.size)
        volume_slabs(s, band, [&](const VolumeSlab& slab) {
            const T* from = plane + slab.row * width + window.begin;
            // the next plane is too far away for the hardware's prefetchers
            if (step == 1)
                return fill_columns(s, slab, runs, from, slab.step * width, volume + slab.at, c + 1 < count ? channel : 0);
            T* to = staged;
            for (idx h = slab.lo; h < slab.hi; h++, from += slab.step * width, to += step * window.pitch)
                for (idx phase = 0; phase < step && phase < window.width(); phase++)
                    copy_strided(to + phase * window.pitch, from + phase, (window.width() - phase - 1) / step + 1, step);
            fill_columns<T>(s, slab, runs, staged, step * window.pitch, volume + slab.at, 0);
        });
}

// `count` channels next to each other in every pixel -> their volumes, at a step of 1. LANES of them are transposed.
template <class T>
void fill_from_pixels(const ShiftedVolume& s, const BandStart& band, const ColumnRun* runs, const T* image, idx pixel,
                      idx count, T* volume, T* staged) {
    constexpr int L = LANES<T>;
    const idx all = s.view->axis[2].size;
    const ColumnWindow window(s, band.at[2]);
    const idx width = window.width(), joined = width == all;  // rows of pixels follow each other
    for (idx c = 0; c < count; c += L, volume += L * s.size) {
        const idx lanes = std::min<idx>(L, count - c);
        volume_slabs(s, band, [&](const VolumeSlab& slab) {
            const idx rows = slab.hi - slab.lo, pixels = rows * width, run = joined ? pixels : width;
            for (idx h = 0; h < (joined ? 1 : rows); h++) {
                const T* from = image + ((slab.row + h) * all + window.begin) * pixel + c;
                for (idx q = 0; q < run; q += L, from += L * pixel) {
                    for (idx i = 0; i < L; i++) __builtin_prefetch(from + (3 * L + i) * pixel);
                    transpose(from, pixel, std::min<idx>(L, run - q), lanes, staged + h * width + q, pixels);
                }
            }
            for (idx i = 0; i < lanes; i++)
                fill_columns<T>(s, slab, runs, staged + i * pixels, width, volume + i * s.size + slab.at, 0);
        });
    }
}

// Planes of which `elements` do not hold two positions of a channel are cut inside: where several channels still have
// bands of rows that repeat few, and in any case where a plane is beyond L2.
inline bool cut_planes(const View& v, bool flat, idx elements) {
    constexpr idx CHANNELS = 8, BEYOND = 8;
    const idx two = ShiftedVolume(v, 0, 2, flat).size;
    if (two <= elements || two > BEYOND * elements) return two > elements;
    const ShiftedVolume row(v, 1, 1, flat), rows(v, 1, 2, flat);
    return elements / CHANNELS / (rows.size - row.size) >= 3 * (row.extent[1] - 1);
}

// The axis along which a volume is cut into bands: the outermost that has any length and is not too large inside.
inline int band_axis_of(const View& v, bool flat, idx elements) {
    if (v.axis[0].out > 1 && !cut_planes(v, flat, elements)) return 0;
    return v.axis[1].out > 1 && ShiftedVolume(v, 1, 2, flat).size <= elements ? 1 : 2;
}

// Bands of equal length along an axis whose volumes are about `elements` for all channels together.
inline idx band_length(const View& v, int axis, bool flat, idx channels, idx elements) {
    const ShiftedVolume one(v, axis, 1, flat), two(v, axis, std::min<idx>(2, v.axis[axis].out), flat);
    const idx each = std::max<idx>(1, (two.size - one.size) * channels), fixed = one.size * channels - each;
    const idx fit = std::max<idx>(1, (elements - fixed) / each), bands = ceil_div(v.axis[axis].out, fit);
    return ceil_div(v.axis[axis].out, bands);
}

}  // namespace fastconv

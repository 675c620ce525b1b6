// Some rows of an image with their padding written out, so that no pixel needs a test for the border.
#pragma once
#include <algorithm>
#include <vector>

#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

// Output rows of one depth, or of one axis, positions. The buffer is (planes, rows, columns, channels of a group) or,
// channels-first, (channels, planes, rows, columns), the planes being those that the window's depth meets.
struct PaddedBand {
    const Geometry* g;
    idx axis;                   // along which bands are cut: 1, or 2 where that has a single row
    idx out[2];                 // rows and columns of output in a band
    idx planes, rows, columns;  // of the buffer
    idx channel, pixel;         // distances in it

    PaddedBand(const Geometry& g, idx length) : g(&g), axis(g.out[1] > 1 ? 1 : 2), planes(g.window[0]) {
        out[0] = axis == 1 ? length : 1, out[1] = axis == 1 ? g.out[2] : length;
        rows = reach(1, out[0]), columns = reach(2, out[1]);
        channel = g.channels_last ? 1 : planes * rows * columns, pixel = g.channels_last ? g.c_group() : 1;
    }
    idx pixels() const { return out[0] * out[1]; }
    idx size() const { return planes * rows * columns * g->c_group(); }
    // Of the buffer, from one output row or column to the next.
    idx row_step() const { return g->stride[1] * columns * pixel; }
    idx pixel_step() const { return g->stride[2] * pixel; }

    // Where tap t of channel c lies from an output's first element on: [t * channels + c], or channels-first [c * taps + t].
    std::vector<idx> offsets() const {
        const idx taps = g->taps(), channels = g->c_group();
        std::vector<idx> at(taps * channels);
        for (idx t = 0; t < taps; t++) {
            const idx w = t % g->window[2], h = t / g->window[2] % g->window[1], d = t / g->window[2] / g->window[1];
            const idx tap = ((d * rows + h * g->dilation[1]) * columns + w * g->dilation[2]) * pixel;
            for (idx c = 0; c < channels; c++) at[g->channels_last ? t * channels + c : c * taps + t] = tap + c * channel;
        }
        return at;
    }

private:
    idx reach(int a, idx length) const { return (length - 1) * g->stride[a] + (g->window[a] - 1) * g->dilation[a] + 1; }
};

// Which output a job computes: row or position `first` of depth `d` of an image, and how many.
struct BandJob {
    idx image, group, d, first, length;
    BandJob(const Geometry& g, const PaddedBand& b, idx job) {
        const idx full = b.out[b.axis - 1], all = g.out[b.axis], bands = ceil_div(all, full);
        first = job % bands * full, length = std::min(full, all - first);
        group = job / bands % g.groups, d = job / bands / g.groups % g.out[0], image = job / bands / g.groups / g.out[0];
    }
    static idx count(const Geometry& g, const PaddedBand& b) {
        return g.n * g.groups * g.out[0] * ceil_div(g.out[b.axis], b.out[b.axis - 1]);
    }
    idx rows(const PaddedBand& b) const { return b.axis == 1 ? length : 1; }
    idx columns(const PaddedBand& b) const { return b.axis == 1 ? b.out[1] : length; }
    // Planes [lo, hi) of the window's depth that lie inside x.
    void planes_inside(const Geometry& g, idx* lo, idx* hi) const {
        const idx first = d * g.stride[0] - g.before[0], last = g.size[0] - first;  // inside: first + plane * dilation
        *hi = std::max<idx>(0, std::min(g.window[0], ceil_div(last, g.dilation[0])));
        *lo = first >= 0 ? 0 : std::min(*hi, ceil_div(-first, g.dilation[0]));
    }
    // Of the first output among all pixels.
    idx pixel(const Geometry& g, const PaddedBand& b) const {
        return (image * g.out[0] + d) * g.out[1] * g.out[2] + first * (b.axis == 1 ? g.out[2] : 1);
    }
};

template <class T> void fill_band(const PaddedBand& b, const BandJob& job, const T* x, T* buffer) {
    const Geometry& g = *b.g;
    const idx cg = g.c_group(), width = g.size[2], row_count = b.rows - (b.axis == 1 ? b.out[0] - job.length : 0) * g.stride[1];
    const idx first_h = (b.axis == 1 ? job.first * g.stride[1] : 0) - g.before[1];
    const idx first_w = (b.axis == 2 ? job.first * g.stride[2] : 0) - g.before[2];
    const idx lo = std::min(std::max<idx>(0, -first_w), b.columns), hi = std::max(lo, std::min(b.columns, width - first_w));
    const bool joined = g.channels_last && cg == g.c;  // a row of pixels is one run
    const idx channels = g.channels_last ? 1 : cg, wide = joined ? cg : 1, x_channel = g.channels_last ? 1 : g.pixels();
    const idx x_pixel = g.channels_last ? g.c : 1;
    x += job.image * g.c * g.pixels() + job.group * cg * x_channel;
    for (idx c = 0; c < channels; c++)
        for (idx i = 0; i < b.planes; i++)
            for (idx r = 0; r < row_count; r++) {
                const idx d = job.d * g.stride[0] - g.before[0] + i * g.dilation[0], h = first_h + r;
                T* to = buffer + c * b.channel + (i * b.rows + r) * b.columns * b.pixel;
                const T* from = x + c * x_channel + ((d * g.size[1] + h) * width + first_w) * x_pixel;
                if (d < 0 || d >= g.size[0] || h < 0 || h >= g.size[1])
                    clear_run(to, b.columns * b.pixel);
                else if (joined || !g.channels_last)
                    copy_padded(to, b.columns * wide, from, lo * wide, hi * wide);
                else
                    for (idx w = 0; w < b.columns; w++)
                        if (w < lo || w >= hi)
                            clear_run(to + w * cg, cg);
                        else
                            copy_run(to + w * cg, from + w * g.c, cg);
            }
}

}  // namespace fastconv

// A strip: zero-padded copy of the source rows that a block of output rows reads, a few hundred KB in level 2.
//
// Strides are split into phases, so that neighbouring outputs read neighbouring elements, and in it every tap is
// one displacement from the output's position: no border case and no stride is left for the inner loops.
//
//     channels-first  (images, channels, phases, rows, columns)
//     channels-last   (images, phases, rows, columns, channels)
#pragma once
#include <algorithm>
#include <vector>

#include "view.hpp"

namespace fastconv {

constexpr idx STRIP_BYTES = 256 << 10;
constexpr idx LEAST_COLUMNS = 64;  // narrower strips would be mostly halo and give short vectors

// An axis of a view without the taps that only ever meet padding.
struct StripAxis {
    idx size, step, out, base = 0;  // output i's first tap is at source position i * step + base
    idx phases = 1, reach = 0;      // the last tap is `reach` steps (of its phase) further
    std::vector<idx> phase, shift, tap;

    explicit StripAxis(const Axis& a) : size(a.size), step(a.step), out(a.out) {
        for (idx t = 0; t < a.taps(); t++) {
            idx lo, hi;
            a.inside(t, &lo, &hi);
            if (lo == hi) continue;
            if (tap.empty()) base = a.offset[t];
            phase.push_back((a.offset[t] - base) % step);
            shift.push_back((a.offset[t] - base) / step);
            tap.push_back(a.tap[t]);
            phases = std::max(phases, phase.back() + 1);
            reach = std::max(reach, shift.back());
        }
    }
    idx taps() const { return (idx)tap.size(); }
};

// Output rows and columns at depth `depth` of some images: first and number of each.
struct Block {
    idx image, images, depth, row, rows, column, columns;
};

template <class T> class Strip {
public:
    StripAxis d, h, w;
    idx channels, total_channels;
    bool channels_last;
    idx images, rows, columns;     // outputs of a full block
    idx pixel, channel;            // elements between columns, between channels
    std::vector<idx> tap;          // flat index in the filter of each tap
    std::vector<idx> displacement; // elements from an output's position to the tap

    Strip(const View& v, idx n, idx channels, idx groups, bool channels_last, const idx* window,
          idx budget = STRIP_BYTES)
        : d(v.axis[0]), h(v.axis[1]), w(v.axis[2]), channels(channels), total_channels(channels * groups),
          channels_last(channels_last), images(1), rows(h.out), columns(w.out), n(n) {
        while (bytes() > budget && shrink()) continue;
        if (rows == h.out && columns == w.out) images = std::clamp<idx>(budget / bytes(), 1, n);
        lay_out();
        for (idx i = 0; i < d.taps(); i++)
            for (idx j = 0; j < h.taps(); j++)
                for (idx k = 0; k < w.taps(); k++)
                    tap.push_back((d.tap[i] * window[1] + h.tap[j]) * window[2] + w.tap[k]);
    }

    // Smaller blocks, until every thread has some.
    void split_for(int threads, idx groups) {
        while (threads > 1 && blocks() * groups < 4 * threads && shrink()) continue;
        lay_out();
    }

    idx blocks() const { return ceil_div(n, images) * d.out * ceil_div(h.out, rows) * ceil_div(w.out, columns); }
    Block block(idx i) const {
        auto next = [&i](idx count) {
            idx digit = i % count;
            i /= count;
            return digit;
        };
        const idx column = next(ceil_div(w.out, columns)) * columns, row = next(ceil_div(h.out, rows)) * rows;
        const idx depth = next(d.out), image = i * images;
        return {image, std::min(images, n - image), depth,
                row, std::min(rows, h.out - row), column, std::min(columns, w.out - column)};
    }
    idx image_count() const { return n; }
    idx elements() const { return images * image_pitch(); }
    idx position(idx image, idx row, idx column) const {
        return image * image_pitch() + (row * pitch() + column) * pixel;
    }
    idx row_pitch() const { return pitch() * pixel; }

    void pack(T* strip, const T* source, idx group, const Block& b) const {
        const idx plane = d.size * h.size * w.size, copies = channels_last ? 1 : channels;
        for (idx i = 0; i < b.images; i++)
            for (idx c = 0; c < copies; c++) {
                const idx first = group * channels + c;
                const T* from = source + (b.image + i) * plane * total_channels + first * (channels_last ? 1 : plane);
                pack_planes(strip + i * image_pitch() + c * channel, from, b);
            }
    }

private:
    idx n;

    idx pitch() const { return columns + w.reach; }
    idx lines() const { return rows + h.reach; }
    idx planes() const { return d.phases * (1 + d.reach) * h.phases * w.phases; }
    idx image_pitch() const { return channels * planes() * lines() * pitch(); }
    idx bytes() const { return elements() * (idx)sizeof(T); }

    bool shrink() {
        idx& longest = images > 1 ? images : rows > 1 ? rows : columns;
        if (images * rows == 1 && columns <= LEAST_COLUMNS) return false;
        longest = (longest + 1) / 2;
        return true;
    }

    void lay_out() {
        pixel = channels_last ? channels : 1;
        channel = channels_last ? 1 : planes() * lines() * pitch();
        displacement.clear();
        for (idx i = 0; i < d.taps(); i++)
            for (idx j = 0; j < h.taps(); j++)
                for (idx k = 0; k < w.taps(); k++) {
                    idx slice = d.phase[i] * (1 + d.reach) + d.shift[i];
                    idx plane = (slice * h.phases + h.phase[j]) * w.phases + w.phase[k];
                    displacement.push_back(((plane * lines() + h.shift[j]) * pitch() + w.shift[k]) * pixel);
                }
    }

    void pack_planes(T* to, const T* from, const Block& b) const {
        const idx source_pixel = channels_last ? total_channels : 1;
        for (idx pd = 0; pd < d.phases; pd++)
            for (idx jd = 0; jd <= d.reach; jd++)
                for (idx ph = 0; ph < h.phases; ph++)
                    for (idx pw = 0; pw < w.phases; pw++)
                        for (idx jh = 0; jh < lines(); jh++, to += row_pitch()) {
                            const idx z = (b.depth + jd) * d.step + d.base + pd;
                            const idx y = (b.row + jh) * h.step + h.base + ph;
                            const bool inside = z >= 0 && z < d.size && y >= 0 && y < h.size;
                            if (inside)
                                pack_row(to, from + (z * h.size + y) * w.size * source_pixel,
                                         b.column * w.step + w.base + pw);
                            else
                                std::fill_n(to, row_pitch(), T(0));
                        }
    }

    // Columns j of one row: source column first + j * step.
    void pack_row(T* to, const T* from, idx first) const {
        idx lo, hi;
        valid_range(first, w.step, w.size, pitch(), &lo, &hi);
        std::fill_n(to, lo * pixel, T(0));
        std::fill_n(to + hi * pixel, (pitch() - hi) * pixel, T(0));
        if (w.step == 1 && (!channels_last || channels == total_channels)) {
            std::copy_n(from + (first + lo) * pixel, (hi - lo) * pixel, to + lo * pixel);
        } else if (!channels_last) {
            for (idx j = lo; j < hi; j++) to[j] = from[first + j * w.step];
        } else {
            for (idx j = lo; j < hi; j++)
                std::copy_n(from + (first + j * w.step) * total_channels, channels, to + j * channels);
        }
    }
};

}  // namespace fastconv

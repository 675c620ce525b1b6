// Forward and input gradient of few channels, channels-first, without packing: depthwise, grouped, first layers.
//
//   (rows, depth x taps) @ (depth x taps, positions) -> (rows, positions), B being shifts of a padded volume
#pragma once
#include "shifted_volume.hpp"

namespace fastconv {

// The volumes of a job's channels and the rows being computed share L2 with room to spare.
constexpr idx VOLUME_BYTES = 192 << 10;

// A band of a view: its volume, and where row k = (channel, tap) of B starts in it.
struct ShiftedBand {
    ShiftedVolume volume;
    std::vector<idx> row_of;
    ShiftedBand(const View& v, int axis, idx length, idx depth) : volume(v, axis, length) {
        row_of.reserve(depth * volume.shift.size());
        for (idx c = 0; c < depth; c++)
            for (idx shift : volume.shift) row_of.push_back(c * volume.size + shift);
    }
};

template <class T> struct ShiftedJob {
    const ShiftedBand* band;
    const FilterRows<T>* filters;
    idx image, group, first;  // first position of the band
};

template <class T> constexpr idx VOLUME_SLACK = 16 * LANES<T>;  // the last tile of positions reads past the end

// Positions of one row, from the computed line to dest: bias, activation, and the gaps between rows left out.
template <class T>
void finish_line(const ChannelsFirst<T>& p, const ShiftedJob<T>& job, idx row, T* line) {
    const ShiftedVolume& s = job.band->volume;
    const Axis* axis = s.view->axis;
    idx first[3] = {0, 0, 0};
    first[s.band_axis] = job.first;
    const idx channel = job.group * p.rows + row;
    T* plane = p.dest + job.image * p.dest_image + channel * p.dest_plane;
    for (idx d = 0; d < s.out[0]; d++)
        for (idx h = 0; h < s.out[1]; h++) {
            T* from = line + s.position(d, h);
            const idx td = axis[0].first + (first[0] + d) * axis[0].stride;
            const idx th = axis[1].first + (first[1] + h) * axis[1].stride;
            const idx tw = axis[2].first + first[2] * axis[2].stride;
            T* to = plane + (td * p.dest_size[1] + th) * p.dest_size[2] + tw;
            if (p.bias || p.activation != LINEAR)
                finish_row(from, s.out[2], p.bias ? p.bias[channel] : T(0), p.activation);
            if (axis[2].stride == 1)
                copy_run(to, from, s.out[2]);
            else
                for (idx w = 0; w < s.out[2]; w++) to[w * axis[2].stride] = from[w];
        }
}

// Rows of pixels straight into dest where whole vectors of a row waste no more than the gaps between rows do.
template <class T> bool rows_direct(const ShiftedVolume& s) {
    const idx vectors = ceil_div<idx>(s.out[2], LANES<T>);
    return s.view->axis[2].stride == 1 && vectors * LANES<T> * 8 <= s.extent[2] * 9;
}

template <class T> struct ShiftedRows {
    idx row;  // channels [row, row + m) of the group
    int m;
    const T* filters[MR];
};

template <class T>
void shifted_rows_direct(const ChannelsFirst<T>& p, const ShiftedJob<T>& job, const ShiftedRows<T>& r, const T* volume) {
    constexpr int L = LANES<T>;
    const ShiftedVolume& s = job.band->volume;
    const Axis* axis = s.view->axis;
    const idx channel = job.group * p.rows + r.row, vectors = ceil_div<idx>(s.out[2], L);
    const idx parts = ceil_div<idx>(vectors, SHIFTED_VECTORS[r.m]);
    idx first[3] = {0, 0, 0};
    first[s.band_axis] = job.first;
    T* plane = p.dest + job.image * p.dest_image + channel * p.dest_plane;
    for (idx d = 0; d < s.out[0]; d++)
        for (idx h = 0; h < s.out[1]; h++) {
            const idx td = axis[0].first + (first[0] + d) * axis[0].stride, th = axis[1].first + (first[1] + h) * axis[1].stride;
            T* to = plane + (td * p.dest_size[1] + th) * p.dest_size[2] + axis[2].first + first[2];
            for (idx part = 0; part < parts; part++) {
                const idx v = vectors * part / parts, end = vectors * (part + 1) / parts;
                const int lanes = (int)(end == vectors ? s.out[2] - (vectors - 1) * L : L);
                T* c[MR];
                for (int i = 0; i < r.m; i++) c[i] = to + i * p.dest_plane + v * L;
                shifted_tile_of<T>(r.m, (int)(end - v))((idx)job.band->row_of.size(), r.filters, job.band->row_of.data(),
                                                        volume + s.position(d, h) + v * L, c, lanes);
            }
            if (p.bias || p.activation != LINEAR)
                for (int i = 0; i < r.m; i++)
                    finish_row(to + i * p.dest_plane, s.out[2], p.bias ? p.bias[channel + i] : T(0), p.activation);
        }
}

// All positions as one line, the gaps between the rows included.
template <class T>
void shifted_rows_as_line(const ChannelsFirst<T>& p, const ShiftedJob<T>& job, const ShiftedRows<T>& r, idx line_length,
                          const T* volume, T* lines) {
    constexpr int L = LANES<T>;
    const ShiftedVolume& s = job.band->volume;
    const int vectors = SHIFTED_VECTORS[r.m];
    const ShiftedTile<T> tile = shifted_tile_of<T>(r.m, vectors);
    for (idx q = 0; q < s.positions(); q += vectors * L) {
        T* c[MR];
        for (int i = 0; i < r.m; i++) c[i] = lines + i * line_length + q;
        tile((idx)job.band->row_of.size(), r.filters, job.band->row_of.data(), volume + q, c, L);
    }
    for (int i = 0; i < r.m; i++) finish_line(p, job, r.row + i, lines + i * line_length);
}

template <class T>
void run_shifted_job(const ChannelsFirst<T>& p, const ShiftedJob<T>& job, idx line_length, T* volume, T* lines) {
    const ShiftedVolume& s = job.band->volume;
    for (idx c = 0; c < p.depth; c++)
        fill_volume(s, job.first, p.source + job.image * p.source_image + (job.group * p.depth + c) * p.source_plane,
                    1, volume + c * s.size);
    std::fill(volume + p.depth * s.size, volume + p.depth * s.size + VOLUME_SLACK<T>, T(0));
    const bool direct = rows_direct<T>(s);
    for (idx row = 0; row < p.rows; row += MR) {
        ShiftedRows<T> r{row, (int)std::min<idx>(MR, p.rows - row), {}};
        for (int i = 0; i < r.m; i++)
            r.filters[i] = job.filters->at + job.group * job.filters->group + (row + i) * job.filters->row;
        if (direct)
            shifted_rows_direct(p, job, r, volume);
        else
            shifted_rows_as_line(p, job, r, line_length, volume, lines);
    }
}

template <class T>
void shifted_conv(const Geometry& g, const std::vector<View>& views, const std::vector<FilterRows<T>>& filters,
                  const ChannelsFirst<T>& p, int threads) {
    std::vector<ShiftedBand> bands;
    std::vector<ShiftedJob<T>> jobs;
    bands.reserve(2 * views.size());
    idx volume_size = 0, line_length = 0;
    for (size_t i = 0; i < views.size(); i++) {
        const View& v = views[i];
        const int axis = band_axis_of(v);
        const idx out = v.axis[axis].out;
        if (v.positions() == 0) continue;
        idx length = band_length(v, p.depth, VOLUME_BYTES / sizeof(T));
        while (length > 4 && g.n * p.groups * (idx)views.size() * ceil_div(out, length) < 3 * threads)
            length = ceil_div<idx>(length, 2);
        bands.emplace_back(v, axis, length, p.depth);
        const ShiftedBand* band = &bands.back();
        volume_size = std::max(volume_size, band->volume.size * p.depth);
        line_length = std::max(line_length, band->volume.positions() + VOLUME_SLACK<T>);
        const ShiftedBand* last = band;
        if (out % length) bands.emplace_back(v, axis, out % length, p.depth), last = &bands.back();
        for (idx image = 0; image < g.n; image++)
            for (idx group = 0; group < p.groups; group++)
                for (idx first = 0; first < out; first += length)
                    jobs.push_back({first + length <= out ? band : last, &filters[i], image, group, first});
    }
    threads = useful_threads(threads, (idx)jobs.size(), 2.0 * g.n * g.k * g.c_group() * g.taps() * g.out_pixels());
    const idx volume_bytes = padded_bytes<T>(volume_size + VOLUME_SLACK<T>);
    Workspace workspace(volume_bytes + padded_bytes<T>(MR * line_length), threads);
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        char* memory = workspace.of(thread);
        run_shifted_job(p, jobs[job], line_length, (T*)memory, (T*)(memory + volume_bytes));
    });
}

}  // namespace fastconv

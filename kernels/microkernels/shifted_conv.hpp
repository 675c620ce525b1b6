// Forward and input gradient of few channels without packing: depthwise, grouped, first layers.
//
//   (rows, depth x taps) @ (depth x taps, positions) -> (rows, positions), B being shifts of a padded volume
//
// Rows are the channels written; in a strided input gradient also the phases of the columns, which share B. Where
// some phases lack a tap, the taps of equal phases form a part with its own rows and filters: no zero is multiplied.
#pragma once
#include "epilogue.hpp"
#include "parallel.hpp"
#include "shifted_tile.hpp"
#include "shifted_volume.hpp"
#include "workspace.hpp"

namespace fastconv {

// The volumes of a band, of some channels at a time, stay in L2 beside the rows written. Few rows meet a vector of
// them too rarely for L2's bandwidth: then what one row of positions reads of those channels stays in L1.
constexpr idx VOLUME_BYTES = 192 << 10, ROW_BYTES = 24 << 10;
// Sums of at most 512 keep rounding small.
constexpr idx SHIFTED_DEPTH = 512;
template <class T> constexpr idx VOLUME_SLACK = 16 * LANES<T>;  // the last tile of positions reads past the end

// Taps (indices into the view's) that make rows [first, first + rows) of a group: filters (rows, depth, taps).
template <class T> struct RowPart {
    idx first, rows;
    std::vector<idx> taps;
    const T* filters;
    idx row, group;  // strides of the filters
};

// `phases` of the destination's columns, next to each other, are rows: (phase, channel), channel fastest.
template <class T> struct ShiftedView {
    View view;
    idx phases;
    std::vector<RowPart<T>> parts;
};

template <class T> struct ShiftedConv {
    idx images, groups, depth, channels;  // read and written, per group
    const T* source;
    idx source_image, source_channel, source_pixel;
    T* dest;
    idx dest_image, dest_channel, dest_pixel, dest_size[3];
    const T* bias;
    Activation activation;
};

// A band of a view: its volume, and where row (channel, tap) of each part's B starts in it.
template <class T> struct ShiftedBand {
    const ShiftedView<T>* view;
    ShiftedVolume volume;
    std::vector<std::vector<idx>> row_of;
    ShiftedBand(const ShiftedView<T>& v, int axis, idx length, bool flat, idx channels)
        : view(&v), volume(v.view, axis, length, flat), row_of(v.parts.size()) {
        for (size_t i = 0; i < v.parts.size(); i++) {
            row_of[i].reserve(channels * v.parts[i].taps.size());
            for (idx c = 0; c < channels; c++)
                for (idx tap : v.parts[i].taps) row_of[i].push_back(c * volume.size + volume.shift[tap]);
        }
    }
};

template <class T> struct ShiftedJob {
    const ShiftedBand<T>* band;
    idx image, group;
    BandStart first;
};

// Where the rows computed go: straight into the destination, or to lines that are moved there when complete.
template <class T> struct ShiftedRows {
    T* at;
    idx channel;  // distance of channels
    bool direct;
};

// Whole vectors of a row may waste no more than the gaps between the rows would.
template <class T> bool rows_in_place(const ShiftedConv<T>& p, const ShiftedView<T>& v, const ShiftedVolume& s) {
    const idx computed = ceil_div<idx>(s.out[2], LANES<T>) * LANES<T>;
    const Axis* axis = v.view.axis;
    if (p.dest_pixel > 1 || axis[2].stride > 1) return false;
    return s.flat ? axis[1].stride == 1 || s.out[1] == 1 : computed * 8 <= s.extent[2] * 9;
}

// Calls body(d, h, length) for the runs of positions, from row (d, h) on, that are computed in one go.
template <class Body> inline void position_runs(const ShiftedVolume& s, bool direct, Body body) {
    if (!s.flat && !direct) return body(0, 0, s.positions());
    for (idx d = 0; d < s.out[0]; d++)
        if (s.flat)
            body(d, 0, s.out[1] * s.out[2]);
        else
            for (idx h = 0; h < s.out[1]; h++) body(d, h, s.out[2]);
}

// First element in the destination's plane of row (d, h) of a job's positions.
template <class T> idx dest_row(const ShiftedConv<T>& p, const ShiftedJob<T>& job, idx d, idx h) {
    const ShiftedVolume& s = job.band->volume;
    const Axis* axis = s.view->axis;
    const idx* first = job.first.at;
    const idx td = axis[0].first + (first[0] + d) * axis[0].stride, th = axis[1].first + (first[1] + h) * axis[1].stride;
    return ((td * p.dest_size[1] + th) * p.dest_size[2] + axis[2].first + first[2] * axis[2].stride) * p.dest_pixel;
}

// One row of positions of all rows of the lines -> the destination.
template <class T>
void store_line(const ShiftedConv<T>& p, const ShiftedJob<T>& job, T* to, const T* from, idx pitch) {
    const ShiftedVolume& s = job.band->volume;
    const idx phases = job.band->view->phases, stride = s.view->axis[2].stride, step = stride * p.dest_pixel;
    const idx width = p.dest_size[2] - s.view->axis[2].first - job.first.at[2] * stride;
    if (p.dest_channel == 1 && phases == stride && p.channels * phases >= LANES<T> / 2 && p.groups == 1) {
        const idx whole = std::min(s.out[2], width / stride), rest = width - whole * stride;
        transpose(from, pitch, phases * p.channels, whole, to, step);
        if (whole < s.out[2] && rest > 0)
            for (idx r = 0; r < rest * p.channels; r++) to[whole * step + r] = from[r * pitch + whole];
        return;
    }
    for (idx phase = 0; phase < phases && phase < width; phase++)
        for (idx c = 0; c < p.channels; c++, from += pitch) {
            T* line = to + phase * p.dest_pixel + c * p.dest_channel;
            const idx count = std::min(s.out[2], (width - phase - 1) / stride + 1);
            if (step == 1)
                copy_run(line, from, count);
            else
                for (idx w = 0; w < count; w++) line[w * step] = from[w];
        }
}

template <class T>
void finish_lines(const ShiftedConv<T>& p, const ShiftedJob<T>& job, T* lines, idx pitch) {
    const ShiftedVolume& s = job.band->volume;
    T* dest = p.dest + job.image * p.dest_image + job.group * p.channels * p.dest_channel;
    if (p.bias || p.activation != LINEAR)
        for (idx r = 0; r < job.band->view->phases * p.channels; r++)
            finish_row(lines + r * pitch, s.positions(), p.bias ? p.bias[job.group * p.channels + r % p.channels] : T(0),
                       p.activation);
    for (idx d = 0; d < s.out[0]; d++)
        for (idx h = 0; h < s.out[1]; h++)
            store_line(p, job, dest + dest_row(p, job, d, h), lines + s.position(d, h), pitch);
}

// Channels [first, last) of the volume times one part's filters, added to the rows or (not `add`) written.
template <class T>
void run_part(const ShiftedConv<T>& p, const ShiftedJob<T>& job, size_t part, idx first, idx last, const T* volume,
              const ShiftedRows<T>& to, bool add) {
    const RowPart<T>& r = job.band->view->parts[part];
    const ShiftedVolume& s = job.band->volume;
    const idx taps = (idx)r.taps.size(), tiles = ceil_div<idx>(r.rows, MR), *row_of = job.band->row_of[part].data();
    for (idx t = 0; t < tiles; t++) {
        const idx row = r.rows * t / tiles, m = r.rows * (t + 1) / tiles - row;
        const ShiftedRun<T> run = shifted_run_of<T>((int)m);
        const T* a[MR];
        for (idx i = 0; i < m; i++) a[i] = r.filters + job.group * r.group + (row + i) * r.row + first * taps;
        position_runs(s, to.direct, [&](idx d, idx h, idx length) {
            T* c[MR];
            const idx position = s.position(d, h), at = to.direct ? dest_row(p, job, d, h) : position;
            for (idx i = 0; i < m; i++) c[i] = to.at + (r.first + row + i) * to.channel + at;
            run((last - first) * taps, a, row_of, volume + position, c, length, add);
        });
    }
}

template <class T> struct ShiftedScratch {
    T *volume, *lines, *rows;
    ColumnRun* runs;
};

// Channels [first, last) of a job's source -> their volumes.
template <class T>
void fill_channels(const ShiftedConv<T>& p, const ShiftedJob<T>& job, idx first, idx last, const ShiftedScratch<T>& scratch) {
    const ShiftedVolume& s = job.band->volume;
    const T* source = p.source + job.image * p.source_image + (job.group * p.depth + first) * p.source_channel;
    if (p.source_pixel == 1)
        fill_from_planes(s, job.first, scratch.runs, source, p.source_channel, last - first, scratch.volume, scratch.rows);
    else
        fill_from_pixels(s, job.first, scratch.runs, source, p.source_pixel, last - first, scratch.volume, scratch.rows);
    T* end = scratch.volume + (last - first) * s.size;
    std::fill(end, end + VOLUME_SLACK<T>, T(0));
}

template <class T>
void run_shifted_job(const ShiftedConv<T>& p, const ShiftedJob<T>& job, idx chunk, idx pitch, const ShiftedScratch<T>& scratch) {
    const ShiftedView<T>& v = *job.band->view;
    const ShiftedVolume& s = job.band->volume;
    ShiftedRows<T> to{scratch.lines, pitch, rows_in_place(p, v, s)};
    if (to.direct)
        to.at = p.dest + job.image * p.dest_image + job.group * p.channels * p.dest_channel, to.channel = p.dest_channel;
    const bool taps = v.view.taps() > 0;  // strides beyond the window leave pixels that no tap meets
    const bool cleared = !taps || v.parts[0].rows < v.phases * p.channels || p.depth == 0;
    if (cleared)
        position_runs(s, to.direct, [&](idx d, idx h, idx length) {
            T* at = to.at + (to.direct ? dest_row(p, job, d, h) : s.position(d, h));
            for (idx r = 0; r < v.phases * p.channels; r++) clear_run(at + r * to.channel, length);
        });
    if (taps) column_runs(s, job.first, scratch.runs);
    for (idx c = 0; c < p.depth && taps; c += chunk) {
        const idx end = std::min(c + chunk, p.depth);
        fill_channels(p, job, c, end, scratch);
        for (size_t part = 0; part < v.parts.size(); part++)
            run_part(p, job, part, c, end, scratch.volume, to, c > 0 || part > 0 || cleared);
    }
    if (!to.direct)
        finish_lines(p, job, scratch.lines, pitch);
    else if (p.bias || p.activation != LINEAR)
        position_runs(s, true, [&](idx d, idx h, idx length) {
            T* at = to.at + dest_row(p, job, d, h);
            for (idx r = 0; r < p.channels; r++)
                finish_row(at + r * to.channel, length, p.bias ? p.bias[job.group * p.channels + r] : T(0), p.activation);
        });
}

// Whether copies of the columns cost less than what shared columns waste: cycles of one row of positions.
template <class T> bool flat_pays(const ShiftedConv<T>& p, const ShiftedView<T>& v) {
    constexpr int L = LANES<T>;
    const Axis *H = &v.view.axis[1], *W = &v.view.axis[2];
    const idx rows = v.phases * p.channels, spread = W->taps() ? (W->offset.back() - W->offset[0]) / W->step : 0;
    const double fma = 0.5 * rows * v.view.taps(), copy = 1.5 * H->step * v.view.axis[0].step;
    const double whole = ceil_div<idx>(W->out, L), joined = (double)(W->out + spread) / L;
    const double flat = fma * W->out / L + copy * W->taps() * whole;
    const double call = 30.0 * ceil_div<idx>(rows, MR) / std::max<idx>(1, p.depth);
    return flat < std::min(fma * whole + call, fma * joined + rows * whole / std::max<idx>(1, p.depth)) + copy * W->step * joined;
}

// Channels whose volumes a job fills at a time.
template <class T> idx chunk_of(const ShiftedConv<T>& p, const ShiftedView<T>& v, int axis, bool flat) {
    const ShiftedVolume one(v.view, axis, 1, flat);
    const idx rows = v.phases * p.channels, taps = std::max<idx>(1, v.view.taps());
    const idx most = rows < 6 ? ROW_BYTES : VOLUME_BYTES / 2;
    idx fit = std::max<idx>(1, std::min<idx>(most / sizeof(T) / std::max<idx>(1, one.size), SHIFTED_DEPTH / taps));
    if (p.source_pixel > 1) fit = std::max<idx>(1, fit / LANES<T>) * LANES<T>;  // as many as are transposed together
    return p.depth == 0 ? 1 : ceil_div(p.depth, ceil_div(p.depth, fit));
}

template <class T>
void shifted_conv(const ShiftedConv<T>& p, const std::vector<ShiftedView<T>>& views, double flops, int threads) {
    std::vector<ShiftedBand<T>> bands;
    std::vector<ShiftedJob<T>> jobs;
    bands.reserve(2 * views.size());
    idx volume_size = 0, line_length = 0, rows = 1, staged = 0, columns = 1, chunk = 1;
    int axis = 2;  // of all views, whose chunks are alike
    for (const ShiftedView<T>& v : views)
        if (v.view.positions() > 0)
            axis = std::min(axis, band_axis_of(v.view, flat_pays(p, v), VOLUME_BYTES / sizeof(T)));
    for (const ShiftedView<T>& v : views) chunk = std::max(chunk, chunk_of(p, v, axis, flat_pays(p, v)));
    for (const ShiftedView<T>& view : views) {
        const View& v = view.view;
        if (v.positions() == 0) continue;
        const bool flat = flat_pays(p, view);
        const idx out = v.axis[axis].out;
        idx length = band_length(v, axis, flat, chunk, VOLUME_BYTES / sizeof(T));
        while (length > 4 && p.images * p.groups * (idx)views.size() * band_count(v, axis, length) < 3 * threads)
            length = ceil_div<idx>(length, 2);
        bands.emplace_back(view, axis, length, flat, chunk);
        const ShiftedBand<T>* band = &bands.back();
        volume_size = std::max(volume_size, band->volume.size * chunk);
        line_length = std::max(line_length, band->volume.positions() + VOLUME_SLACK<T>);
        rows = std::max(rows, view.phases * p.channels), columns = std::max(columns, band->volume.columns);
        staged = std::max(staged, staged_size<T>(band->volume, p.source_pixel == 1));
        const ShiftedBand<T>* last = band;
        if (out % length) bands.emplace_back(view, axis, out % length, flat, chunk), last = &bands.back();
        for (idx image = 0; image < p.images; image++)
            for (idx group = 0; group < p.groups; group++)
                for (idx i = 0; i < band_count(v, axis, length); i++) {
                    const BandStart first = band_start(v, axis, length, i);
                    jobs.push_back({first.at[axis] + length <= out ? band : last, image, group, first});
                }
    }
    threads = useful_threads(threads, (idx)jobs.size(), flops);
    Workspace workspace(padded_bytes<T>(volume_size + VOLUME_SLACK<T>) + padded_bytes<T>(rows * line_length) +
                            padded_bytes<T>(staged) + padded_bytes<ColumnRun>(columns), threads);
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T* volume = arena.take<T>(volume_size + VOLUME_SLACK<T>);
        T* lines = arena.take<T>(rows * line_length);
        T* row = arena.take<T>(staged);
        run_shifted_job(p, jobs[job], chunk, line_length, {volume, lines, row, arena.take<ColumnRun>(columns)});
    });
}

}  // namespace fastconv

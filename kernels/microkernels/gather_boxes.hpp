// The implicit GEMM on channels-first arrays, through transposed boxes.
//
// A job is a box of the destination in one or several images. It transposes the part of the source that the box
// meets once, channels innermost, whatever the number of taps; runs the core (gather.hpp) on it; and transposes the
// result into the planes. All phases of a strided input gradient share a box, so that its rows are written whole.
#pragma once
#include "channels_first.hpp"
#include "gather.hpp"
#include "parallel.hpp"

namespace fastconv {

// A job's transposed source, and its result: with the filters of a depth block they fill about three quarters of L2.
constexpr idx SOURCE_BYTES = 288 << 10, RESULT_BYTES = 192 << 10;

struct BoxJob {
    idx image, images, group;
    Positions box;  // of the destination
    idx panel, panels;
};

// The positions of a view whose destinations lie in a box.
inline Positions positions_in(const View& v, const Positions& box) {
    Positions p;
    for (int a = 0; a < 3; a++) {
        const Axis& x = v.axis[a];
        auto from = [&](idx at) { return at <= x.first ? 0 : std::min(x.out, ceil_div(at - x.first, x.stride)); };
        p.lo[a] = from(box.lo[a]), p.hi[a] = from(box.hi[a]);
    }
    return p;
}

// The source elements that a box of the destination meets, over all views.
inline Positions source_of(const std::vector<View>& views, const Positions& box) {
    Positions s;
    for (int a = 0; a < 3; a++) s.lo[a] = views[0].axis[a].size, s.hi[a] = 0;
    for (const View& v : views) {
        const Positions p = positions_in(v, box);
        if (p.count() == 0 || v.taps() == 0) continue;
        for (int a = 0; a < 3; a++) {
            const Axis& x = v.axis[a];
            s.lo[a] = std::min(s.lo[a], std::max<idx>(0, p.lo[a] * x.step + x.offset.front()));
            s.hi[a] = std::max(s.hi[a], std::min(x.size, (p.hi[a] - 1) * x.step + x.offset.back() + 1));
        }
    }
    for (int a = 0; a < 3; a++) s.lo[a] = std::min(s.lo[a], s.hi[a]);
    return s;
}

// Sizes of the boxes of a problem.
struct Boxes {
    idx box[3], images;    // of the destination
    idx source[3];         // the most that one of them meets
    idx pixels() const { return images * box[0] * box[1] * box[2]; }
    idx source_pixels() const { return images * source[0] * source[1] * source[2]; }
};

// The most source elements along an axis that `length` destinations meet.
inline idx source_length(const std::vector<View>& views, int a, idx length) {
    idx most = 1;
    for (const View& v : views) {
        const Axis& x = v.axis[a];
        if (x.taps() == 0) continue;
        const idx positions = std::min(x.out, (length - 1) / x.stride + 1);
        most = std::max(most, std::min(x.size, (positions - 1) * x.step + x.offset.back() - x.offset.front() + 1));
    }
    // phases start at different elements
    return std::min(views[0].axis[a].size, most + (views.size() > 1));
}

// Grows a box row by row, then plane by plane, then image by image, while source and result fit their parts of L2
// and every thread keeps several jobs.
template <class T>
Boxes choose_boxes(const std::vector<View>& views, const ChannelsFirst<T>& p, int threads) {
    Boxes b{{1, 1, 1}, 1, {1, 1, 1}};
    auto measure = [&] {
        for (int a = 0; a < 3; a++) b.source[a] = source_length(views, a, b.box[a]);
    };
    auto fits = [&](idx jobs) {
        measure();
        return b.source_pixels() * p.depth * (idx)sizeof(T) <= SOURCE_BYTES && b.pixels() <= 4 * GATHER_PIXELS && jobs >= 3 * threads;
    };
    auto jobs = [&] {
        idx count = p.groups * ceil_div(p.images, b.images);
        for (int a = 0; a < 3; a++) count *= ceil_div(p.dest_size[a], b.box[a]);
        return count;
    };
    const idx unit[3] = {views.back().axis[0].stride, views.back().axis[1].stride, LANES<T> * views.back().axis[2].stride};
    for (int a = 2; a >= 0; a--) {
        b.box[a] = std::min(p.dest_size[a], unit[a]);
        while (b.box[a] < p.dest_size[a]) {
            const idx before = b.box[a];
            b.box[a] = std::min(p.dest_size[a], before + unit[a]);
            if (!fits(jobs())) {
                b.box[a] = before;
                break;
            }
        }
        if (b.box[a] < p.dest_size[a]) break;
    }
    for (int a = 0; a < 3; a++) {  // boxes of about equal size
        const idx count = ceil_div(p.dest_size[a], b.box[a]);
        b.box[a] = std::min(p.dest_size[a], ceil_div(ceil_div(p.dest_size[a], count), unit[a]) * unit[a]);
    }
    if (b.box[0] == p.dest_size[0] && b.box[1] == p.dest_size[1] && b.box[2] == p.dest_size[2])
        while (b.images < p.images) {
            b.images++;
            if (!fits(jobs())) {
                b.images--;
                break;
            }
        }
    measure();
    return b;
}

// A window of one row passes over all but every step-th, if the box's first is one of its own.
inline idx row_step(const std::vector<View>& views, const Positions& box, const Positions& source) {
    const Axis& x = views[0].axis[1];
    const bool own = views.size() == 1 && x.taps() == 1 && source.lo[1] == box.lo[1] * x.step + x.offset[0];
    return own ? x.step : 1;
}

// Every step-th row of the planes of the source -> (images, d, h, w, depth).
template <class T>
void fill_box(const ChannelsFirst<T>& p, const BoxJob& job, const Positions& s, const idx source_size[3], idx step,
              const PixelBox<T>& to) {
    const bool joined = step == 1 && s.size(2) == source_size[2] && to.size[2] == source_size[2];  // rows follow each other
    for (idx i = 0; i < job.images; i++)
        for (idx d = s.lo[0]; d < s.hi[0]; d++)
            for (idx h = s.lo[1]; h < s.hi[1]; h += joined ? s.size(1) : step) {
                const T* from = p.source + (job.image + i) * p.source_image + job.group * p.depth * p.source_plane +
                                (d * source_size[1] + h) * source_size[2] + s.lo[2];
                transpose(from, p.source_plane, p.depth, (joined ? s.size(1) : 1) * s.size(2),
                          to.at + to.pixel(i, d, h, s.lo[2]) * to.channels, to.channels);
            }
}

// (images, d, h, w, columns) -> planes of the destination, from channel `row` of the group on.
template <class T>
void drain_box(const ChannelsFirst<T>& p, const BoxJob& job, const PixelBox<T>& from, idx row, idx columns) {
    const Positions& box = job.box;
    const bool joined = box.size(2) == p.dest_size[2] && from.size[2] == p.dest_size[2];
    for (idx i = 0; i < job.images; i++)
        for (idx d = box.lo[0]; d < box.hi[0]; d++)
            for (idx h = box.lo[1]; h < box.hi[1]; h += joined ? box.size(1) : 1) {
                T* to = p.dest + (job.image + i) * p.dest_image + (job.group * p.rows + row) * p.dest_plane +
                        (d * p.dest_size[1] + h) * p.dest_size[2] + box.lo[2];
                transpose_to_streams(from.at + from.pixel(i, d, h, box.lo[2]) * from.channels, from.channels,
                                     (joined ? box.size(1) : 1) * box.size(2), columns, to, p.dest_plane);
            }
}

template <class T> struct BoxProblem {
    const ChannelsFirst<T>& p;
    const std::vector<View>& views;
    const std::vector<GatherView<T>>& gathers;
    const Boxes& boxes;
    idx panels_at_once;
};

template <class T>
void run_box_job(const BoxProblem<T>& b, const BoxJob& job, T* source_memory, T* result_memory, GatherScratch<T>& s) {
    const ChannelsFirst<T>& p = b.p;
    const Positions from = source_of(b.views, job.box);
    PixelBox<T> source{source_memory, {}, {}, p.depth}, dest{result_memory, {}, {}, 0};
    idx source_size[3];
    for (int a = 0; a < 3; a++) {
        source.size[a] = b.boxes.source[a], source.origin[a] = from.lo[a];
        dest.size[a] = job.box.size(a), dest.origin[a] = job.box.lo[a];
        source_size[a] = b.views[0].axis[a].size;
    }
    fill_box(p, job, from, source_size, row_step(b.views, job.box, from), source);
    const PixelBox<const T> read{source.at, {source.size[0], source.size[1], source.size[2]},
                                 {source.origin[0], source.origin[1], source.origin[2]}, p.depth};
    for (idx panel = job.panel; panel < job.panel + job.panels; panel += b.panels_at_once) {
        const Panels<T>& panels = b.gathers[0].filters.panels;
        const PanelRange<T> columns(panels, job.group, panel, std::min(b.panels_at_once, job.panel + job.panels - panel),
                                    p.bias, p.activation);
        dest.channels = ceil_div<idx>(columns.count, LANES<T>) * LANES<T>;
        for (const GatherView<T>& v : b.gathers) {
            const Positions at = positions_in(*v.view, job.box);
            if (v.view->taps() == 0)
                clear_pixels(*v.view, at, dest, columns.count, 0, job.images * at.count());
            else
                gather_pixels(v, at, read, dest, columns, job.images, 0, job.images * at.count(), s);
        }
        drain_box(p, job, dest, panels.first(panel), columns.count);
    }
}

template <class T>
std::vector<BoxJob> box_jobs(const ChannelsFirst<T>& p, const Boxes& b, idx panels, int threads) {
    std::vector<BoxJob> jobs;
    idx count[3], pieces = p.groups * ceil_div(p.images, b.images);
    for (int a = 0; a < 3; a++) pieces *= count[a] = ceil_div(p.dest_size[a], b.box[a]);
    const idx split = std::min(panels, ceil_div<idx>(3 * threads, pieces)), per_job = ceil_div(panels, split);
    for (idx i = 0; i < p.images; i += b.images)
        for (idx group = 0; group < p.groups; group++)
            for (idx q = 0; q < count[0] * count[1] * count[2]; q++) {
                const idx at[3] = {q / count[2] / count[1], q / count[2] % count[1], q % count[2]};
                BoxJob job{i, std::min(b.images, p.images - i), group, {}, 0, 0};
                for (int a = 0; a < 3; a++) {
                    job.box.lo[a] = at[a] * b.box[a];
                    job.box.hi[a] = std::min(p.dest_size[a], job.box.lo[a] + b.box[a]);
                }
                for (job.panel = 0; job.panel < panels; job.panel += per_job) {
                    job.panels = std::min(per_job, panels - job.panel);
                    jobs.push_back(job);
                }
            }
    return jobs;
}

template <class T>
void gather_boxes(const Geometry& g, const std::vector<View>& views, const Filters<T>& filters, const ChannelsFirst<T>& p,
                  int threads) {
    threads = useful_threads(threads, p.images * p.groups * p.dest_size[0] * p.dest_size[1] * p.dest_size[2], flops_of(g));
    const Boxes boxes = choose_boxes(views, p, threads);
    PixelBox<const T> source{nullptr, {boxes.source[0], boxes.source[1], boxes.source[2]}, {}, p.depth};
    std::vector<GatherView<T>> gathers;
    idx kc = 1, runs = 1, filter_elements = 0;
    for (const View& v : views) {
        gathers.emplace_back(v, PackedFilters<T>(g, v, filters, p.groups, p.depth, p.rows), source);
        PackedFilters<T>& packed = gathers.back().filters;
        if (filters.packed)
            packed.packed = filters.packed + filter_elements;
        else
            packed.pack(threads);
        filter_elements += packed.elements();
        kc = std::max(kc, packed.kc), runs = std::max(runs, packed.runs());
    }
    const idx panels = gathers[0].filters.panels.count;
    const std::vector<BoxJob> jobs = box_jobs(p, boxes, panels, threads);
    const idx fit = std::min<idx>(FILTER_BYTES / kc, RESULT_BYTES / boxes.pixels()) / (NR<T> * (idx)sizeof(T));
    const BoxProblem<T> problem{p, views, gathers, boxes, std::max<idx>(1, std::min(fit, jobs.empty() ? 1 : jobs[0].panels))};
    const idx source_count = boxes.source_pixels() * p.depth, result_count = boxes.pixels() * problem.panels_at_once * NR<T>;
    Workspace workspace(
        GatherScratch<T>::bytes(runs, 0) + padded_bytes<T>(source_count) + padded_bytes<T>(result_count), threads);
    const std::vector<T> zeros(kc, T(0));
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        T* source_memory = arena.take<T>(source_count);
        T* result_memory = arena.take<T>(result_count);
        GatherScratch<T> scratch(arena, zeros.data(), runs, 0);
        run_box_job(problem, jobs[job], source_memory, result_memory, scratch);
    });
}

}  // namespace fastconv

// The implicit GEMM on channels-last arrays: a job is a block of pixels of a view and some column panels.
#pragma once
#include "gather.hpp"
#include "parallel.hpp"

namespace fastconv {

template <class T> struct ChannelsLast {
    idx images, groups, depth, columns;  // depth and columns per group
    PixelBox<const T> source;
    PixelBox<T> dest;
    const T* bias;
    Activation activation;
};

struct LastJob {
    idx view, group, pixel, pixels, panel, panels;
};

// Pixels a job and panels a job: filters of a depth block fit their part of L2, and every thread has several jobs.
template <class T>
void split_last(idx images, idx groups, const GatherView<T>& v, int threads, idx* per_job, idx* panels_per_job) {
    const Tiling tiling(v, v.view->axis[2].out, images);
    const idx pixels = images * v.view->positions();
    const idx wanted = 3 * threads, panels = v.filters.panels.count;
    *panels_per_job = ceil_div(panels, ceil_div(panels, v.panels_that_fit()));
    const idx column_jobs = groups * ceil_div(panels, *panels_per_job), jobs = ceil_div(pixels, tiling.block());
    idx units = ceil_div(ceil_div(pixels, tiling.unit), std::max<idx>(1, jobs));
    while (units > 1 && units * tiling.unit > 6 * MR && column_jobs * ceil_div(pixels, units * tiling.unit) < wanted)
        units = ceil_div<idx>(units, 2);
    *per_job = units * tiling.unit;
    const idx row_jobs = groups * ceil_div(pixels, *per_job);
    if (row_jobs < wanted) *panels_per_job = std::min(*panels_per_job, ceil_div(panels, ceil_div(wanted, row_jobs)));
}

template <class T>
void run_last_job(const ChannelsLast<T>& p, const GatherView<T>& v, const LastJob& job, GatherScratch<T>& s) {
    Positions all;
    for (int a = 0; a < 3; a++) all.lo[a] = 0, all.hi[a] = v.view->axis[a].out;
    PixelBox<const T> source = p.source;
    PixelBox<T> dest = p.dest;
    source.at += job.group * p.depth;
    dest.at += job.group * p.columns + v.filters.panels.first(job.panel);
    const PanelRange<T> columns(v.filters.panels, job.group, job.panel, job.panels, p.bias, p.activation);
    if (v.view->taps() == 0)
        clear_pixels(*v.view, all, dest, columns.count, job.pixel, job.pixels);
    else
        gather_pixels(v, all, source, dest, columns, p.images, job.pixel, job.pixels, s);
}

template <class T>
void gather_channels_last(const Geometry& g, const std::vector<View>& views, const Filters<T>& filters,
                          const ChannelsLast<T>& p, int threads) {
    threads = useful_threads(threads, p.images * p.groups * views[0].positions(), flops_of(g));
    std::vector<GatherView<T>> gathers;
    std::vector<LastJob> jobs;
    idx longest = 1, runs = 1, own_filters = 0, filter_elements = 0;
    for (size_t i = 0; i < views.size(); i++) {
        const View& v = views[i];
        gathers.emplace_back(v, PackedFilters<T>(g, v, filters, p.groups, p.depth, p.columns), p.source);
        PackedFilters<T>& packed = gathers[i].filters;
        longest = std::max(longest, packed.kc), runs = std::max(runs, packed.runs());
        const idx pixels = p.images * v.positions(), panels = packed.panels.count;
        idx per_job, panels_per_job;
        split_last(p.images, p.groups, gathers[i], threads, &per_job, &panels_per_job);
        if (filters.packed)
            packed.packed = filters.packed + filter_elements;
        else if (pixels > per_job)
            packed.pack(threads);
        else  // no other job needs them
            own_filters = std::max(own_filters, packed.kc * panels_per_job * NR<T>);
        filter_elements += packed.elements();
        for (idx group = 0; group < p.groups; group++)
            for (idx q = 0; q < pixels; q += per_job)
                for (idx panel = 0; panel < panels; panel += panels_per_job)
                    jobs.push_back({(idx)i, group, q, std::min(per_job, pixels - q), panel,
                                    std::min(panels_per_job, panels - panel)});
    }
    // The phases of a block of pixels after one another, while the block is in L2, where their filters are too.
    if (views.size() > 1 && filter_elements / p.groups * (idx)sizeof(T) <= 2 * FILTER_BYTES)
        std::stable_sort(jobs.begin(), jobs.end(), [](const LastJob& a, const LastJob& b) { return a.pixel < b.pixel; });
    Workspace workspace(GatherScratch<T>::bytes(runs, own_filters), threads);
    const std::vector<T> zeros(longest, T(0));
    parallel_for((idx)jobs.size(), threads, [&](idx job, int thread) {
        Arena arena(workspace.of(thread));
        GatherScratch<T> scratch(arena, zeros.data(), runs, own_filters);
        run_last_job(p, gathers[jobs[job].view], jobs[job], scratch);
    });
}

}  // namespace fastconv

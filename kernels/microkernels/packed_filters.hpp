// The filters of a view as panels for the register tile, packed once a call (or once for a plan).
//
// Depth is taps x channels, channels fastest, cut into blocks of at most KC; a block holds for each panel of columns
// (length, width) elements. The layout is [group][block][panel][depth][column].
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "filters.hpp"
#include "parallel.hpp"
#include "tile.hpp"
#include "view.hpp"
#include "workspace.hpp"

namespace fastconv {

// Sums of 512 products keep the rounding error of float32 within its bound (docs/performance.md).
constexpr idx KC_PACKED = 512;

// A run of channels at one tap of a view: `length` depths, the `at`-th of its block.
struct TapRun {
    idx d, h, w;  // tap numbers of the view's axes
    idx filter_tap, depth, length, at;
};

struct DepthBlock {
    std::vector<TapRun> runs;
    idx first, length;
};

// The depth of a view cut into blocks of equal length, at most KC.
inline std::vector<DepthBlock> depth_blocks(const Geometry& g, const View& v, idx depth) {
    const idx total = v.taps() * depth, count = std::max<idx>(1, ceil_div(total, KC_PACKED));
    const idx kc = std::max<idx>(1, ceil_div(total, count));
    std::vector<DepthBlock> blocks(1);
    blocks.back().first = blocks.back().length = 0;
    for (idx d = 0; d < v.axis[0].taps(); d++)
        for (idx h = 0; h < v.axis[1].taps(); h++)
            for (idx w = 0; w < v.axis[2].taps(); w++)
                for (idx c = 0; c < depth;) {
                    if (blocks.back().length == kc) blocks.push_back({{}, blocks.back().first + kc, 0});
                    DepthBlock& b = blocks.back();
                    const idx length = std::min(depth - c, kc - b.length);
                    const idx tap = (v.axis[0].tap[d] * g.window[1] + v.axis[1].tap[h]) * g.window[2] + v.axis[2].tap[w];
                    b.runs.push_back({d, h, w, tap, c, length, b.length});
                    b.length += length;
                    c += length;
                }
    return blocks;
}

template <class T> struct PackedFilters {
    Filters<T> filters;
    idx groups, depth, kc;  // depth: channels of a group
    Panels<T> panels;
    std::vector<DepthBlock> blocks;
    const T* packed = nullptr;  // null where each job packs the panels it needs
    idx taps_of_filter;
    std::vector<idx> tap_number;  // of each tap of the filter in the view's order, or -1
    std::vector<int> block_of;    // of each depth

    PackedFilters(const Geometry& g, const View& v, const Filters<T>& filters, idx groups, idx depth, idx columns)
        : filters(filters), groups(groups), depth(depth), kc(1), panels(columns), blocks(depth_blocks(g, v, depth)) {
        for (const DepthBlock& b : blocks) kc = std::max(kc, b.length);
        for (size_t b = 0; b < blocks.size(); b++) block_of.insert(block_of.end(), blocks[b].length, (int)b);
        taps_of_filter = g.taps();
        tap_number.assign(taps_of_filter, -1);
        idx number = 0;
        for (idx d : v.axis[0].tap)
            for (idx h : v.axis[1].tap)
                for (idx w : v.axis[2].tap) tap_number[(d * g.window[1] + h) * g.window[2] + w] = number++;
    }

    idx row() const { return panels.vectors * LANES<T>; }
    idx total() const { return blocks.back().first + blocks.back().length; }
    idx runs() const {
        size_t most = 0;
        for (const DepthBlock& b : blocks) most = std::max(most, b.runs.size());
        return (idx)most;
    }
    idx elements() const { return groups * total() * row(); }
    // Where panels from `panel` on of a block start.
    const T* at(idx group, size_t block, idx panel) const { return packed + offset(group, block, panels.first(panel)); }
    // Of the panel that starts at `column`, in elements.
    idx offset(idx group, size_t block, idx column) const {
        const DepthBlock& b = blocks[block];
        return (group * total() + b.first) * row() + b.length * column;
    }
    void pack_panel(idx group, size_t block, idx panel, T* to) const {
        const idx ld = panels.width(panel) * LANES<T>;
        for (const TapRun& r : blocks[block].runs)
            pack_filter_panel(filters, group, r.filter_tap, r.depth, r.length, panels.first(panel), panels.filled(panel),
                              to + r.at * ld, ld);
    }
    void pack(int threads) {
        memory.reset(new Workspace(elements() * sizeof(T), 1));
        pack_into((T*)memory->of(0), threads);
        packed = (T*)memory->of(0);
    }
    void pack_into(T* to, int threads) const {
        if (filters.tap_stride == 1 && taps_of_filter > 1) {
            const idx chunks = ceil_div(depth, DEPTHS_AT_ONCE);
            parallel_for(groups * panels.count * chunks, threads, [&](idx job, int) {
                const idx first = job % chunks * DEPTHS_AT_ONCE;
                transpose_panel(job / chunks / panels.count, job / chunks % panels.count, first,
                                std::min(DEPTHS_AT_ONCE, depth - first), to);
            });
            return;
        }
        const idx count = (idx)blocks.size();
        parallel_for(groups * count * panels.count, threads, [&](idx job, int) {
            const idx panel = job % panels.count, block = job / panels.count % count, group = job / panels.count / count;
            pack_panel(group, block, panel, to + offset(group, block, panels.first(panel)));
        });
    }

private:
    static constexpr idx DEPTHS_AT_ONCE = 64;
    std::unique_ptr<Workspace> memory;

    // Filters whose taps lie together: vectors along taps (and channels, where those follow), transposed.
    void transpose_panel(idx group, idx panel, idx first, idx depths, T* to) const {
        constexpr int L = LANES<T>;
        const idx taps = taps_of_filter, column = panels.first(panel), filled = panels.filled(panel);
        const idx ld = panels.width(panel) * L;
        const bool joined = filters.depth_stride == taps;
        const idx length = joined ? depths * taps : taps;
        std::vector<T*> start;  // of depth 0, were each block the first
        for (size_t b = 0; b < blocks.size(); b++) start.push_back(to + offset(group, b, column) - blocks[b].first * ld);
        for (idx line = 0; line < (joined ? 1 : depths); line++) {
            const T* w = filters.at + group * filters.group_stride + (first + line) * filters.depth_stride +
                         column * filters.column_stride;
            idx tap = 0, channel = first + line;
            for (idx e = 0; e < length; e += L) {
                const idx n = std::min<idx>(L, length - e);
                T* rows[L];
                for (idx i = 0; i < n; i++) {
                    const idx d = tap_number[tap] * depth + channel;
                    rows[i] = tap_number[tap] < 0 ? nullptr : start[block_of[d]] + d * ld;
                    if (++tap == taps) tap = 0, channel++;
                }
                for (idx j = 0; j < filled; j += L) {
                    Vec<T> v[L];
                    for (idx i = 0; i < L; i++) {
                        const T* from = w + (j + i) * filters.column_stride + e;
                        __builtin_prefetch(from + 8 * L);
                        v[i] = j + i < filled ? load_part(from, n) : Vec<T>{};
                    }
                    transpose_rounds<T, L / 2>(v);
                    for (idx i = 0; i < n; i++)
                        if (rows[i]) store(rows[i] + j, v[i]);
                }
            }
        }
    }
};

}  // namespace fastconv

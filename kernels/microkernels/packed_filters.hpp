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
    idx groups, kc;
    Panels<T> panels;
    std::vector<DepthBlock> blocks;
    std::unique_ptr<Workspace> memory;

    PackedFilters(const Geometry& g, const View& v, const Filters<T>& filters, idx groups, idx depth, idx columns)
        : filters(filters), groups(groups), kc(1), panels(columns), blocks(depth_blocks(g, v, depth)) {
        for (const DepthBlock& b : blocks) kc = std::max(kc, b.length);
    }

    idx row() const { return panels.vectors * LANES<T>; }
    idx depth() const { return blocks.back().first + blocks.back().length; }
    // Where panels from `panel` on of a block start.
    T* at(idx group, size_t block, idx panel) const {
        const DepthBlock& b = blocks[block];
        return (T*)memory->of(0) + (group * depth() + b.first) * row() + b.length * panels.first(panel);
    }
    void pack_panel(idx group, size_t block, idx panel, T* to) const {
        const idx ld = panels.width(panel) * LANES<T>;
        for (const TapRun& r : blocks[block].runs)
            pack_filter_panel(filters, group, r.filter_tap, r.depth, r.length, panels.first(panel), panels.filled(panel),
                              to + r.at * ld, ld);
    }
    void pack(int threads) {
        memory.reset(new Workspace(groups * depth() * row() * sizeof(T), 1));
        const idx count = (idx)blocks.size();
        parallel_for(groups * count * panels.count, threads, [&](idx job, int) {
            const idx panel = job % panels.count, block = job / panels.count % count, group = job / panels.count / count;
            pack_panel(group, block, panel, at(group, block, panel));
        });
    }
};

}  // namespace fastconv

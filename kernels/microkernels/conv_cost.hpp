// What each way of `blocked` to compute a forward pass or an input gradient takes, so that the cheapest is taken.
//
// A cost is a sum of what is counted (products, loads, copies) times nanoseconds, fitted to random problems on a Zen 5
// (docs/performance.md). The ratios hold for other vector widths, since all ways are vector code alike.
#pragma once
#include <algorithm>

#include "gather_boxes.hpp"
#include "image_conv.hpp"
#include "lanes.hpp"
#include "padded_conv.hpp"
#include "pointwise_last.hpp"
#include "view.hpp"

namespace fastconv {

enum ConvWay { GATHER, SHIFTED, PADDED, IMAGES };

// Nanoseconds, channels-first and channels-last.
struct ConvPrices {
    struct { double product, broadcast, border, pixel, filter, moved, call; } gather;
    struct { double product, load, fill, strided, run, filter, moved, call; } shifted;
    struct { double product, broadcast, fill, pixel, filter, moved, call; } padded;
    struct { double product, run, position, read, written, filter, call; } images;
};
constexpr ConvPrices CONV_PRICES[2] = {{{0.114, 0.038, 1.1, 4.1, 0.26, 0.14, 5200},
                                        {0.093, 0.27, 0.98, 0.24, 4.7, 0.54, 0.44, 6600},
                                        {0.108, 0.074, 0.23, 0.28, 0.22, 0.081, 3700},
                                        {0.121, 3.3, 5.2, 0.1, 0.17, 0.76, 2900}},
                                       {{0.125, 0.028, 0.97, 4.6, 0.086, 0, 6000},
                                        {0.094, 0.23, 0.91, 0.057, 8.6, 0.55, 0.117, 6100},
                                        {0.123, 0.031, 0.075, 1.4, 0.11, 0, 3700},
                                        {0.122, 3.2, 7.1, 0.07, 0.14, 0.61, 3100}}};

// A tile of fewer vectors waits for its sums: 4 cycles for a product, two of which start in a cycle.
constexpr double WAITING_PRODUCTS = 8;

// Taps at which the source has an element, summed over an axis' positions.
inline double taps_met(const Axis& x) {
    double met = 0;
    for (idx t = 0; t < x.taps(); t++) {
        idx lo, hi;
        x.inside(t, &lo, &hi);
        met += hi > lo ? hi - lo : 0;
    }
    return met;
}

inline double reach_of(const Axis& x) {
    return x.out * x.step + (x.taps() ? x.offset.back() - x.offset.front() : 0);
}

// Where each position of the destination reads one pixel.
inline bool pointwise(const std::vector<View>& views) { return views.size() == 1 && one_tap_inside(views[0]); }

template <class T> struct ConvCost {
    const Geometry& g;
    const std::vector<View>& views;
    bool input_grad;
    double depth, columns, vectors, each, source, dest, filters;

    ConvCost(const Geometry& g, const std::vector<View>& views, bool input_grad) : g(g), views(views), input_grad(input_grad) {
        depth = input_grad ? g.k_group() : g.c_group(), columns = input_grad ? g.c_group() : g.k_group();
        vectors = ceil_div<idx>((idx)columns, LANES<T>), each = (double)g.n * g.groups;
        source = each * depth * (input_grad ? g.out_pixels() : g.pixels());
        dest = each * columns * (input_grad ? g.pixels() : g.out_pixels());
        filters = (double)g.groups * g.taps() * depth * columns;
    }
    const ConvPrices& price() const { return CONV_PRICES[g.channels_last != 0]; }

    // Channels-first, a box transposes all it reads: rows that several boxes read are moved as often.
    double boxes_overlap() const {
        const Axis *H = &views[0].axis[1], *W = &views[0].axis[2];
        if (g.channels_last || H->taps() == 0) return 1;
        const double rows = H->out * H->step, spread = reach_of(*H) - rows;
        const double own = std::min(rows, std::max(1.0, SOURCE_BYTES / (sizeof(T) * depth * W->size) - spread));
        return std::max(1.0, std::min((double)H->size, own + spread) / own * rows / H->size);
    }

    double gather() const {
        const auto& p = price().gather;
        double met = 0, tapped = 0, positions = 0;
        bool border = false;
        for (const View& v : views) {
            const Axis *D = v.axis, *H = D + 1, *W = D + 2;
            const double taps = (double)v.taps() * v.positions(), rows = taps_met(*D) * taps_met(*H);
            met += rows * W->out * W->taps();  // tiles along rows leave out the rows outside
            tapped += taps, positions += v.positions(), border = border || rows * taps_met(*W) < taps;
        }
        const double pixel = g.channels_last && pointwise(views) ? 1 : p.pixel;  // a plain product
        return each * (met * depth * (p.product * vectors + p.broadcast) + (border ? p.border * tapped : 0) + pixel * positions) +
               p.filter * filters + p.moved * (source * boxes_overlap() + dest) + p.call;
    }

    double shifted() const {
        const auto& p = price().shifted;
        constexpr idx L = LANES<T>;
        const double phases = input_grad ? std::min(g.stride[2], g.size[2]) : 1, rows = columns * phases;
        double products = 0, lines = 0, runs = 0;
        for (const View& v : views) {
            const Axis *D = v.axis, *H = D + 1, *W = D + 2;
            const double spread = (reach_of(*W) - W->out * W->step) / W->step;
            products += (double)D->out * H->out * v.taps() * std::min<double>(ceil_div<idx>(W->out, L), (W->out + spread) / L);
            lines += reach_of(*D) * reach_of(*H) / phases, runs += D->out * H->out / phases;
        }
        const Axis& W = views[0].axis[2];
        const double width = reach_of(W), tiles = ceil_div<idx>((idx)rows, MR);
        const double fill = p.fill * (ceil_div<idx>((idx)width, L) + 1) + (W.step > 1 ? p.strided * width : 0);
        const double moved = (g.channels_last ? source + dest : input_grad && g.stride[2] > 1 ? dest : 0);
        return each * (depth * (products * (p.product * columns + p.load * tiles / phases) + fill * lines) + p.run * tiles * runs) +
               (input_grad || g.channels_last ? p.filter * filters : 0) + p.moved * moved + p.call;
    }

    double padded() const {
        const auto& p = price().padded;
        const View& v = views[0];
        const double positions = v.positions(), volume = reach_of(v.axis[0]) * reach_of(v.axis[1]) * reach_of(v.axis[2]);
        return each * (positions * v.taps() * depth * (p.product * vectors + p.broadcast) + p.fill * depth * volume +
                       p.pixel * positions * ceil_div<idx>((idx)vectors, PIXEL_VECTORS)) +
               p.filter * filters + p.moved * dest + p.call;
    }

    double images() const {
        const auto& p = price().images;
        const View& v = views[0];
        const ImageBlocks<T> blocks(g.n, (idx)(source / g.n + LANES<T> * columns), PIXEL_VECTORS, 1);
        const double met = taps_met(v.axis[0]) * taps_met(v.axis[1]) * taps_met(v.axis[2]);
        const double tiles = ceil_div<idx>((idx)columns, PIXEL_ROWS[blocks.vectors]), runs = v.taps() / v.axis[2].taps();
        const double products = std::max<double>(WAITING_PRODUCTS, columns / tiles * blocks.vectors);
        return blocks.count * (tiles * (p.product * products * met * depth + p.run * runs * v.positions()) + p.position * v.positions()) +
               p.read * source + p.written * dest + p.filter * filters + p.call;
    }
};

// Rows of positions in vectors of images must stay in L2, and sums below 512 products.
template <class T> bool images_possible(const Geometry& g, const View& v, double depth, double columns) {
    const double rows = v.axis[0].size * v.axis[1].size * v.axis[2].size * depth + LANES<T> * columns;
    return g.groups == 1 && g.n >= LANES<T> / 2 && v.taps() > 0 && v.positions() > 0 && v.taps() * depth <= PADDED_DEPTH &&
           rows * VECTOR_BYTES <= IMAGE_BLOCK_BYTES;
}

// Volumes are filled from channels-last pixels without steps between positions.
inline bool shifted_possible(const Geometry& g, const View& v) {
    for (const Axis& x : v.axis)
        if (g.channels_last && x.step > 1) return false;
    return true;
}

// Taps far apart would have bands larger than their pixels' columns of im2col.
template <class T> bool padded_possible(const Geometry& g) {
    const PaddedBand band = forward_band<T>(g, 1);
    return band.size() <= band.pixels() * g.taps() * g.c_group();
}

struct ConvChoice {
    ConvWay way;
    double nanoseconds;
};

// Decided for one thread: what a plan packs, and the order of the sums, shall not depend on the count of threads.
template <class T> ConvChoice conv_choice(const Geometry& g, const std::vector<View>& views, bool input_grad) {
    const ConvCost<T> cost(g, views, input_grad);
    ConvChoice best{GATHER, cost.gather()};
    // Plans pack the filters of this way once, and must take the same way as plain calls: a fifth of it counts.
    double once = 0.8 * cost.price().gather.filter * cost.filters;
    auto offer = [&](ConvWay way, double nanoseconds) {
        if (nanoseconds < best.nanoseconds - once) best = {way, nanoseconds}, once = 0;
    };
    if (!g.channels_last && pointwise(views)) return best;  // a plain product
    if (shifted_possible(g, views[0])) offer(SHIFTED, cost.shifted());
    if (!input_grad && padded_possible<T>(g)) offer(PADDED, cost.padded());
    if (views.size() == 1 && images_possible<T>(g, views[0], cost.depth, cost.columns)) offer(IMAGES, cost.images());
    return best;
}

}  // namespace fastconv

// Winograd at stride 2: forward and input gradient of 3x3, 4x4 and 5x5 windows.
//
// Even and odd taps of an axis are two classes, each a stride-1 convolution of every other pixel with half the taps.
// A class pair (rows, columns) is thus F(5x5, 2x2) or F(4x4, 3x3) on the 6-point tiles of winograd_transforms.hpp. In the
// forward pass the four class pairs add up before the transform back, as four times the depth; in the input gradient
// they share the transformed dy and write the four phases of dx. A class that lacks the last tap has no product at
// infinity: 11 x 11 products, for 3x3 of 225 (5x5: of 400 on 4x4 outputs; 4x4: 12 x 12 of 400).
#pragma once
#include "parallel.hpp"
#include "winograd_filters.hpp"
#include "winograd_output.hpp"

namespace fastconv {

constexpr idx STRIDED_RUN = 7;              // tiles whose slab of both column classes (28 KB) stays in level 1
constexpr idx STRIDED_KC = 128;             // longer sums would break the error bound on positive data
constexpr idx STRIDED_SUM_BYTES = 3 << 18;  // of as many panels as share a transformed tile's way through L1

// The two classes of an axis.
struct TapClasses {
    idx window, before, first, count;  // positions of tiles: [first, first + count)
    bool input_grad;

    TapClasses(const Geometry& g, int axis, bool input_grad)
        : window(g.window[axis]), before(g.before[axis]), first(0), count(g.out[axis]), input_grad(input_grad) {
        if (!input_grad) return;
        const idx a = offset(0), b = offset(1);  // of destinations 2 * position + offset; they cover [0, size)
        first = floor_half(1 - std::max(a, b));
        count = floor_half(g.size[axis] - 1 - std::min(a, b)) - first + 1;
    }
    bool is_short(idx k) const { return k == 1 && window % 2; }
    idx taps() const { return (window + 1) / 2; }
    // Class k meets pixel 2 * position + offset(k) of x: its tile's first in the forward pass. In the input gradient
    // it writes that pixel of dx, a short class one position later, so that its missing tap is the last.
    idx offset(idx k) const { return k - before - (input_grad && is_short(k) ? 2 : 0); }
    idx least_offset() const { return std::min(offset(0), offset(1)); }

private:
    static idx floor_half(idx a) { return a >= 0 ? a / 2 : -((1 - a) / 2); }
};

template <class T> struct StridedConv {
    const Geometry* g;
    bool input_grad;
    TapClasses rows, columns;
    TileGrid grid;
    Image<const T> source;
    Image<T> dest;
    WinogradFilters<T> filters;
    const T* bias;
    Activation activation;

    bool lacks(int product, idx kh, idx kw) const {
        return (product / POINTS == POINTS - 1 && rows.is_short(kh)) || (product % POINTS == POINTS - 1 && columns.is_short(kw));
    }
};

// Transformed filters: [group][class written][panel][product][class read, depth][column]; a depth is padded to whole
// vectors. Classes read go around, so that those a product meets follow each other.
template <class T> struct StridedLayout {
    Panels<T> panels;
    idx groups, pitch, read, written;
    StridedLayout(const WinogradFilters<T>& f, bool input_grad)
        : panels(f.columns), groups(f.groups), pitch(ceil_div<idx>(f.depth, LANES<T>) * LANES<T>),
          read(input_grad ? 1 : 4), written(input_grad ? 4 : 1) {}
    static idx place(idx kh, idx kw) { return kh ? 2 + kw : 1 - kw; }  // (0, 1), (0, 0), (1, 0), (1, 1)
    idx depth() const { return read * pitch; }
    idx product(int width) const { return odd_lines<T>(depth() * width * LANES<T>); }
    idx panel() const { return PRODUCTS * product((int)ceil_div(panels.vectors, panels.count)); }
    idx elements() const { return groups * written * panels.count * panel(); }
    idx offset(idx group, idx n, idx place) const {
        return ((group * written + (written > 1 ? place : 0)) * panels.count + n) * panel();
    }
};

template <class T, int TAPS> class StridedRun {
public:
    StridedRun(const StridedConv<T>& p, double flops, int threads)
        : p(p), f(p.filters), layout(f, p.input_grad), tiles(p.grid.tiles()), row(layout.depth() + LANES<T>),
          threads(useful_threads(threads, tiles * f.groups, flops)) {}

    void run() {
        const idx tile_bytes = PRODUCTS * row * sizeof(T), wanted = threads == 1 ? 1 : 3 * threads;
        const idx most = std::max<idx>(MR, WINOGRAD_V_BYTES / tile_bytes / MR * MR);
        const idx longest = std::min({most, WINOGRAD_SUB_BLOCK, std::max<idx>(2 * MR, ceil_div(tiles * f.groups, wanted))});
        const idx blocks = ceil_div(tiles, longest), block = ceil_div(ceil_div(tiles, blocks), (idx)MR) * MR;
        stride = odd_lines<T>(block * row), sums = odd_lines<T>(block * NR<T>);
        const idx panels = layout.panels.count, classes = p.input_grad ? 2 : 1, panel_sums = classes * PRODUCTS * sums;
        const idx fit = std::max<idx>(1, STRIDED_SUM_BYTES / (panel_sums * (idx)sizeof(T)));
        const idx at_once = ceil_div(panels, ceil_div(panels, fit));
        ThreadFilters<T> filters(layout.elements(), threads);
        if (!filters.own) transform_all(filters.all(), threads);
        const idx slab = POINTS * 2 * (POINTS * STRIDED_RUN + POINTS) * LANES<T>;
        Workspace workspace(padded_bytes<T>(slab) + padded_bytes<T>(at_once * panel_sums) + padded_bytes<T>(PRODUCTS * stride),
                            threads);
        parallel_for(f.groups * blocks, threads, [&](idx job, int thread) {
            Arena arena(workspace.of(thread));
            Scratch s{arena.take<T>(slab), arena.take<T>(at_once * panel_sums), arena.take<T>(PRODUCTS * stride), nullptr, {}};
            const idx group = job / blocks, first = job % blocks * block, count = std::min(block, tiles - first);
            if (count <= 0) return;
            s.u = filters.of(thread, [&](T* to) { transform_all(to, 1); });
            tile_runs(p.grid, first, count, STRIDED_RUN, s.runs);
            transform_source(group, s);
            for (idx panel = 0; panel < panels; panel += at_once) {
                const idx end = std::min(panels, panel + at_once);
                p.input_grad ? write_phases(group, panel, end, count, s) : write_outputs(group, panel, end, count, s);
            }
        });
    }

private:
    struct Scratch {
        T *slab, *sums, *v;
        const T* u;
        std::vector<TileRun> runs;
    };
    static constexpr int OUT = 7 - TAPS, L = LANES<T>;
    const StridedConv<T>& p;
    const WinogradFilters<T>& f;
    const StridedLayout<T> layout;
    idx tiles, row, stride, sums;  // elements: of a tile in v, between products of v, between products of the sums
    int threads;

    void transform_all(T* u, int threads) const {
        const idx chunks = ceil_div(f.depth, FILTER_CHUNK), window = p.rows.window;
        parallel_for(f.groups * layout.panels.count * chunks, threads, [&](idx job, int) {
            const idx first = job % chunks * FILTER_CHUNK, panel = job / chunks % layout.panels.count;
            const idx group = job / chunks / layout.panels.count, ld = layout.panels.width(panel) * L;
            std::vector<T> taps(window * window * FILTER_CHUNK * ld);
            const idx depths = std::min(FILTER_CHUNK, f.depth - first);
            pack_filter_taps(f.at, window * window, group, first, depths, layout.panels.first(panel), layout.panels.filled(panel),
                             taps.data(), ld);
            for (idx kh = 0; kh < 2; kh++)
                for (idx kw = 0; kw < 2; kw++) {
                    const idx place = layout.place(kh, kw);
                    T* to = u + layout.offset(group, panel, place) + ((p.input_grad ? 0 : place * layout.pitch) + first) * ld;
                    transform_class(kh, kw, taps.data(), depths, panel, to);
                    if (first + depths == f.depth)  // beyond it the tiles are zero
                        for (int n = 0; n < PRODUCTS; n++)
                            clear_run(to + n * layout.product((int)(ld / L)) + depths * ld, (layout.pitch - f.depth) * ld);
                }
        });
    }

    void transform_class(idx kh, idx kw, const T* taps, idx depths, idx panel, T* to) const {
        const bool h = p.rows.is_short(kh), w = p.columns.is_short(kw);
        if (h)
            w ? transform_taps<TAPS - 1, TAPS - 1>(kh, kw, taps, depths, panel, to)
              : transform_taps<TAPS - 1, TAPS>(kh, kw, taps, depths, panel, to);
        else
            w ? transform_taps<TAPS, TAPS - 1>(kh, kw, taps, depths, panel, to)
              : transform_taps<TAPS, TAPS>(kh, kw, taps, depths, panel, to);
    }

    template <int HIGH, int WIDE>
    void transform_taps(idx kh, idx kw, const T* taps, idx depths, idx panel, T* to) const {
        const int width = layout.panels.width(panel);
        const idx ld = width * L, window = p.rows.window, step = p.input_grad ? -2 * ld : 2 * ld;
        const idx h = p.input_grad ? kh + 2 * (HIGH - 1) : kh, w = p.input_grad ? kw + 2 * (WIDE - 1) : kw;
        for (idx d = 0; d < depths; d++)
            for (int j = 0; j < width; j++)
                filter_transform_2d<T, HIGH, WIDE>(taps + ((d * window + h) * window + w) * ld + j * L, window * step, step,
                                                   to + d * ld + j * L, layout.product(width));
    }

    // What a run of tiles reads: every row, or those of one class; of columns always all.
    Window source_window(const TileRun& run, idx group, idx c, idx kh) const {
        const idx lanes = std::min<idx>(L, f.depth - c), channel = group * f.depth + c, pixels = OUT * (run.count - 1) + POINTS;
        if (p.input_grad)
            return {run.image, p.rows.first + run.h - (TAPS - 1), p.columns.first + run.w - (TAPS - 1), 1, 1, POINTS, pixels,
                    channel, lanes};
        return {run.image, 2 * run.h + p.rows.offset(kh), 2 * run.w + p.columns.offset(0), 2, 1, POINTS, 2 * pixels, channel,
                lanes};
    }

    void transform_source(idx group, Scratch& s) {
        const idx classes = p.input_grad ? 1 : 2;
        for (size_t n = 0; n < s.runs.size(); n++)
            for (idx c = 0; c < f.depth; c += L)
                for (idx kh = 0; kh < classes; kh++) {
                    const TileRun& run = s.runs[n];
                    const Window window = source_window(run, group, c, kh);
                    const bool last_class = kh == classes - 1, last_vector = c + L >= f.depth;
                    const TileRun& next = last_class && last_vector ? s.runs[std::min(n + 1, s.runs.size() - 1)] : run;
                    const PrefetchWindow<const T> ahead(
                        p.source, source_window(next, group, !last_class ? c : last_vector ? 0 : c + L, last_class ? 0 : kh + 1),
                        classes * run.count);
                    load_slab(p.source, window, s.slab);
                    for (idx kw = 0; kw < classes; kw++)
                        for (idx t = 0; t < run.count; t++) {
                            ahead.part(kw * run.count + t);
                            const idx at = (run.at + t) * row + (p.input_grad ? 0 : layout.place(kh, kw) * layout.pitch) + c;
                            input_transform_2d<T>(s.slab + (classes * OUT * t + kw) * L, window.columns * L, classes * L, s.v + at,
                                                  stride);
                        }
                }
    }

    // The depths [*lo, *hi) that a product meets.
    void depths_of(int product, idx* lo, idx* hi) const {
        *lo = layout.depth(), *hi = 0;
        for (idx k = 0; k < 4; k++) {
            if (p.lacks(product, k / 2, k % 2)) continue;
            const idx place = layout.place(k / 2, k % 2);
            *lo = std::min(*lo, place * layout.pitch), *hi = std::max(*hi, (place + 1) * layout.pitch);
        }
    }

    void multiply(int product, idx lo, idx hi, idx count, int width, const T* filters, T* to, Scratch& s) {
        const idx ld = width * L;
        for (idx d = lo; d < hi; d += STRIDED_KC)
            multiply_panel<T>(count, {s.v + product * stride + d, row, 1}, filters + product * layout.product(width) + d * ld,
                              std::min(STRIDED_KC, hi - d), width, to + product * sums, ld, d > lo);
    }

    void write_outputs(idx group, idx first, idx end, idx count, Scratch& s) {
        for (int product = 0; product < PRODUCTS; product++) {
            idx lo, hi;
            depths_of(product, &lo, &hi);
            for (idx n = first; n < end; n++)
                multiply(product, lo, hi, count, layout.panels.width(n), s.u + layout.offset(group, n, 0),
                         s.sums + (n - first) * PRODUCTS * sums, s);
        }
        for (idx n = first; n < end; n++)
            store_tiles<T, OUT>(p.grid, s.runs, s.sums + (n - first) * PRODUCTS * sums, sums, layout.panels, n,
                                group * f.columns + layout.panels.first(n), p.bias, p.activation, p.dest, s.slab);
    }

    // Both column classes together, so that rows of dx are written whole.
    void write_phases(idx group, idx first, idx end, idx count, Scratch& s) {
        for (idx kh = 0; kh < 2; kh++) {
            for (int product = 0; product < PRODUCTS; product++)
                for (idx n = 2 * first; n < 2 * end; n++) {
                    const idx panel = n / 2, kw = n % 2;
                    const int width = layout.panels.width(panel);
                    T* to = s.sums + (n - 2 * first) * PRODUCTS * sums;
                    if (p.lacks(product, kh, kw))
                        clear_run(to + product * sums, count * width * L);
                    else
                        multiply(product, 0, layout.pitch, count, width, s.u + layout.offset(group, panel, layout.place(kh, kw)), to, s);
                }
            for (idx n = first; n < end; n++) finish_phases(group, n, kh, s.sums + (n - first) * 2 * PRODUCTS * sums, s);
        }
    }

    void finish_phases(idx group, idx panel, idx kh, const T* from, Scratch& s) {
        const int width = layout.panels.width(panel);
        const idx channel = group * f.columns + layout.panels.first(panel), filled = layout.panels.filled(panel);
        for (int j = 0; j < width; j++)
            for (const TileRun& run : s.runs) {
                const Window window{run.image, 2 * (p.rows.first + run.h) + p.rows.offset(kh),
                                    2 * (p.columns.first + run.w) + p.columns.least_offset(), 2, 1, OUT, 2 * OUT * run.count,
                                    channel + j * L, std::min<idx>(L, filled - j * L)};
                for (idx kw = 0; kw < 2; kw++) {
                    T* to = s.slab + (p.columns.offset(kw) - p.columns.least_offset()) * L;
                    for (idx t = 0; t < run.count; t++)
                        output_transform_2d<T, OUT>(from + kw * PRODUCTS * sums + ((run.at + t) * width + j) * L, sums,
                                                    to + 2 * OUT * t * L, window.columns * L, 2 * L, Vec<T>{});
                }
                store_slab(p.dest, window, s.slab);
            }
    }
};

}  // namespace fastconv

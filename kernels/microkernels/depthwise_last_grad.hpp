// Depthwise filter gradient of channels-last images in place: the sums of a few taps stay in registers over a line.
#pragma once
#include "depthwise_last.hpp"

namespace fastconv {

// Rows of taps and pixels at a time: with 32 registers 21 sums, 4 gradients and up to 7 pixels are live, with 16 a
// third of that.
#if defined(__AVX512F__)
constexpr int GRAD_POINTS = 4, GRAD_LINES = 2;
constexpr int grad_tap_rows(int taps) { return taps <= 5 ? 3 : 2; }
#else
constexpr int GRAD_POINTS = 2, GRAD_LINES = 1;
constexpr int grad_tap_rows(int taps) { return taps <= 3 ? 3 : 1; }
#endif

// `lines` lines of n positions: dy[j * dy_pitch + i * dy_step] against the pixels from table row j * step_h and
// column i * step_w on.
template <class T> struct GradLine {
    PixelTable<T> pixels;
    const T* dy;
    idx lines, dy_pitch, n, dy_step, step_h, step_w;
};

// PIXELS positions of LINES lines, which share the pixels that both meet (two lines: STEP is the rows' step too).
template <class T, int LINES, int ROWS, int TAPS, int STEP, int PIXELS>
inline __attribute__((always_inline)) void add_gradients(const GradLine<T>& line, idx j, idx i, idx row, idx c,
                                                         Vec<T> (&sums)[ROWS][TAPS]) {
    constexpr int SPAN = STEP ? (PIXELS - 1) * STEP + TAPS : PIXELS, M = STEP ? STEP : 1;
    Vec<T> d[LINES][PIXELS];
    for (int l = 0; l < LINES; l++)
        for (int o = 0; o < PIXELS; o++) d[l][o] = load(line.dy + (j + l) * line.dy_pitch + (i + o) * line.dy_step + c);
#pragma GCC unroll 8
    for (int k = 0; k < (LINES - 1) * STEP + ROWS; k++) {
        const T* const* pixels = line.pixels.row(j * line.step_h + row + k) + i * line.step_w;
        Vec<T> v[SPAN];
        for (int n = 0; n < SPAN; n++) v[n] = load(pixels[STEP ? n : n * line.step_w] + c);
        for (int l = 0; l < LINES; l++) {
            const int r = k - l * STEP;
            if (r >= 0 && r < ROWS)
                for (int o = 0; o < PIXELS; o++)
                    for (int t = 0; t < TAPS; t++) sums[r][t] += d[l][o] * v[o * M + t];
        }
    }
}

template <class T, int LINES, int ROWS, int TAPS, int STEP>
inline __attribute__((always_inline)) void add_positions(const GradLine<T>& line, idx j, idx row, idx c,
                                                         Vec<T> (&sums)[ROWS][TAPS]) {
    idx i = 0;
    for (; i + GRAD_POINTS <= line.n; i += GRAD_POINTS)
        add_gradients<T, LINES, ROWS, TAPS, STEP, GRAD_POINTS>(line, j, i, row, c, sums);
    for (; i < line.n; i++) add_gradients<T, LINES, ROWS, TAPS, STEP, 1>(line, j, i, row, c, sums);
}

// total[r * pitch + t * L] += the sums of taps [0, TAPS) of ROWS rows from `row` on.
template <class T, int ROWS, int TAPS, int STEP>
void add_line(const GradLine<T>& at, idx row, idx c, T* total, idx pitch) {
    constexpr int L = LANES<T>;
    const GradLine<T> line = at;
    Vec<T> sums[ROWS][TAPS] = {};
    idx j = 0;
    if constexpr (GRAD_LINES == 2 && ROWS == 3 && TAPS == 3)  // two lines share what three rows of taps meet
        if (line.step_h == STEP)
            for (; j + 2 <= line.lines; j += 2) add_positions<T, 2, ROWS, TAPS, STEP>(line, j, row, c, sums);
    for (; j < line.lines; j++) add_positions<T, 1, ROWS, TAPS, STEP>(line, j, row, c, sums);
    for (int r = 0; r < ROWS; r++)
        for (int t = 0; t < TAPS; t++) {
            T* to = total + r * pitch + t * L;
            store(to, load(to) + sums[r][t]);
        }
}

template <class T, int TAPS, int STEP> void add_rows(const GradLine<T>& line, idx rows, idx c, T* total, idx pitch) {
    constexpr int ROWS = grad_tap_rows(TAPS);
    idx r = 0;
    for (; r + ROWS <= rows; r += ROWS) add_line<T, ROWS, TAPS, STEP>(line, r, c, total + r * pitch, pitch);
    for (; r < rows; r++) add_line<T, 1, TAPS, STEP>(line, r, c, total + r * pitch, pitch);
}

template <class T> using AddRows = void (*)(const GradLine<T>&, idx, idx, T*, idx);
template <class T> AddRows<T> add_rows_of(idx taps, idx step) {
    if (taps == 1) return &add_rows<T, 1, 0>;
    if (step == 2)
        return taps == 2   ? &add_rows<T, 2, 2>
               : taps == 3 ? &add_rows<T, 3, 2>
               : taps == 4 ? &add_rows<T, 4, 2>
                           : &add_rows<T, 5, 2>;
    switch (taps) {
        case 2: return &add_rows<T, 2, 1>;
        case 3: return &add_rows<T, 3, 1>;
        case 4: return &add_rows<T, 4, 1>;
        case 5: return &add_rows<T, 5, 1>;
        default: return &add_rows<T, 7, 1>;
    }
}

// Lines of dy whose sums stay in registers together: about this many positions.
constexpr idx GRAD_POSITIONS = 64;

// Some lines of dy of a row phase, all columns.
struct GradLines {
    idx image, d, h_phase, h, lines;
};

// A job into total [vector][plane][r][s][lane].
template <class T>
void add_job(const DepthwiseLast<T>& p, const LastView<T>& view, const GradLines& job, const std::vector<RowRun>& runs,
             const T* dy, const T** pixels, T* total) {
    constexpr int L = LANES<T>;
    const idx rows = view.D.taps * view.H.taps, *size = p.dest_size;
    for (idx phase = 0; phase < view.W.phases; phase++)
        for (idx w = 0, end = view.W.positions(phase); w < end; w += LINE_COLUMNS) {
            const LastLine<T> line{&view, job.image, job.d % view.D.phases, job.d / view.D.phases, job.h_phase, job.h,
                                   job.lines, phase, w, std::min(LINE_COLUMNS, end - w)};
            const idx count = view.W.reach(line.columns);
            look_up_pixels(p, line, job.lines, count, pixels);
            const idx h = (job.image * size[0] + job.d) * size[1] + view.H.dest(job.h_phase, job.h);
            GradLine<T> at{{pixels, count}, dy + (h * size[2] + view.W.dest(phase, w)) * p.channels, job.lines,
                           view.H.dest_step() * size[2] * p.channels, line.columns, view.W.dest_step() * p.channels,
                           view.H.step, view.W.step};
            for (idx v = 0; v < p.vectors.count; v++)
                for (const RowRun& run : runs) {
                    at.pixels.at = pixels + run.first;
                    add_rows_of<T>(run.count, view.W.step)(at, rows, p.vectors.start(v),
                                                           total + (v * view.taps() + run.first) * L, view.W.taps * L);
                }
        }
}

// The jobs of a filter gradient, and what it needs.
template <class T> struct LastGradPlan {
    LastView<T> view;
    std::vector<GradLines> jobs;
    idx table, size;  // pointers to pixels, sums
    int threads;

    LastGradPlan(const Geometry& g, const View& forward, const ChannelVectors<T>& vectors, int most_threads)
        : view(forward) {
        // several planes of taps: the lines of a job are not neighbours in the table
        const idx most = std::min(std::max<idx>(GRAD_LINES, GRAD_POSITIONS / g.out[2]), g.n * g.out[1] / most_threads);
        const idx lines = view.D.taps > 1 ? 1 : std::max<idx>(1, most);
        for (idx image = 0; image < g.n; image++)
            for (idx d = 0; d < g.out[0]; d++)
                for (idx phase = 0; phase < view.H.phases; phase++)
                    for (idx h = 0, end = view.H.positions(phase); h < end; h += lines)
                        jobs.push_back({image, d, phase, h, std::min(lines, end - h)});
        size = vectors.count * LANES<T> * g.taps();
        table = view.D.taps * view.H.reach(lines) * view.W.reach(std::min(LINE_COLUMNS, g.out[2]));
        const double flops = 2.0 * g.n * g.c * g.out_pixels() * (g.taps() + 4);
        threads = useful_threads(most_threads, (idx)jobs.size(), flops);
    }
    LastGradPlan(const LastGradPlan&) = delete;
    idx bytes() const { return padded_bytes<const T*>(table) + padded_bytes<T>(size); }
};

// Each thread sums its share of the jobs; the shares are added in order.
template <class T>
void depthwise_filter_grad_last(const Geometry& g, const View& forward, const T* x, const T* dy, T* dw, int threads) {
    constexpr int L = LANES<T>;
    const std::vector<T> zeros(g.c, T(0));
    const ChannelVectors<T> vectors(g.c, x);
    const DepthwiseLast<T> p{g.c, vectors, {g.size[0], g.size[1], g.size[2]}, {g.out[0], g.out[1], g.out[2]}, x, nullptr,
                             nullptr, LINEAR, zeros.data(), false};
    const LastGradPlan<T> plan(g, forward, vectors, threads);
    const std::vector<RowRun> runs = row_runs(false, plan.view.W.taps, plan.view.W.step);
    Workspace workspace(plan.bytes(), plan.threads);
    std::vector<T*> parts(plan.threads, nullptr);
    on_threads(plan.threads, [&](int thread, int count) {
        Arena arena(workspace.of(thread));
        const T** pixels = arena.take<const T*>(plan.table);
        T* total = parts[thread] = arena.take<T>(plan.size);
        std::fill(total, total + plan.size, T(0));
        const size_t jobs = plan.jobs.size();
        for (size_t q = jobs * thread / count, last = jobs * (thread + 1) / count; q < last; q++)
            add_job(p, plan.view, plan.jobs[q], runs, dy, pixels, total);
    });
    for (idx v = 0; v < vectors.count; v++)
        for (idx tap = 0; tap < g.taps(); tap++) {
            Vec<T> sum = {};
            for (const T* part : parts)
                if (part) sum += load(part + (v * g.taps() + tap) * L);
            store(dw + tap * g.c + vectors.start(v), sum);
        }
}

}  // namespace fastconv

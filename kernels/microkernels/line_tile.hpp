// The register tile of rows of A that lie side by side, in a few lines: for one or two vectors of columns.
//
// With eight rows of one vector a tile waits for its own sums, which take four cycles; more rows read B less often. A
// pointer for each of them would not fit the registers.
#pragma once
#include "tile.hpp"

namespace fastconv {

#if defined(__AVX512F__)
constexpr int LINE_SUMS = 24, LINE_WIDTH = 16;
#else
constexpr int LINE_SUMS = 12, LINE_WIDTH = 12;
#endif
constexpr int MOST_LINES = 4, LINE_VECTORS = 2;
constexpr int line_width(int v) { return LINE_SUMS / v < LINE_WIDTH ? LINE_SUMS / v : LINE_WIDTH; }
constexpr int lines_of_width(int w, int v) {
    return LINE_SUMS / v < 2 * w ? 1 : LINE_SUMS / v / w < MOST_LINES ? LINE_SUMS / v / w : MOST_LINES;
}

// Lines of A, the rows of C that they give, and an element that is prefetched at each step of the depth.
template <class T> struct Lines {
    const T* a[MOST_LINES];
    T* c[MOST_LINES];
    idx step, c_row;
    const T* ahead;
    idx ahead_step;
};

// c[g] + i c_row += the sum over depth of line g, element i, times the row of b.
template <class T, int G, int W, int V>
void line_tile(const Segment* segments, idx count, const Lines<T>& lines, const T* b, idx ldb) {
    constexpr int L = LANES<T>;
    const idx step = lines.step, ahead_step = lines.ahead_step;
    const T* ahead = lines.ahead;
    Vec<T> acc[G][W][V] = {};
    for (idx s = 0; s < count; s++) {
        const T* line[G];
        for (int g = 0; g < G; g++) line[g] = lines.a[g] + segments[s].a;
        const T* panel = b + segments[s].b * ldb;
        const idx end = segments[s].length * step;
        for (idx k = 0; k < end; k += step, panel += ldb, ahead += ahead_step) {
            __builtin_prefetch(ahead, 0, 2);
            Vec<T> bv[V];
            for (int j = 0; j < V; j++) bv[j] = load(panel + j * L);
            FASTCONV_UNROLL
            for (int g = 0; g < G; g++)
                FASTCONV_UNROLL
                for (int i = 0; i < W; i++) {
                    const Vec<T> av = broadcast(line[g][k + i]);
                    FASTCONV_UNROLL
                    for (int j = 0; j < V; j++) acc[g][i][j] += av * bv[j];
                }
        }
    }
    FASTCONV_UNROLL
    for (int g = 0; g < G; g++) {
        T* c = lines.c[g];
        FASTCONV_UNROLL
        for (int i = 0; i < W; i++, c += lines.c_row)
            FASTCONV_UNROLL
            for (int j = 0; j < V; j++) store(c + j * L, load(c + j * L) + acc[g][i][j]);
    }
}

template <class T> using LineTile = void (*)(const Segment*, idx, const Lines<T>&, const T*, idx);

template <class T, int V, int W, int G = lines_of_width(W, V)> LineTile<T> line_tile_of_width(int lines) {
    if constexpr (G > 1)
        if (lines < G) return line_tile_of_width<T, V, W, G - 1>(lines);
    return &line_tile<T, G, W, V>;
}
// Of 1 to lines_of_width(width, V) lines, 1 to line_width(V) wide.
template <class T, int V, int W = line_width(V)> LineTile<T> line_tile_of(int lines, int width) {
    if constexpr (W > 1)
        if (width < W) return line_tile_of<T, V, W - 1>(lines, width);
    return line_tile_of_width<T, V, W>(lines);
}
template <class T> LineTile<T> line_tile_of(int lines, int width, int v) {
    return v == 1 ? line_tile_of<T, 1>(lines, width) : line_tile_of<T, 2>(lines, width);
}

// Rows [row, row + width) and those `pitch` further, `lines` times.
struct LineRows {
    idx row;
    int width, lines;
};

// With 16 registers the general tile's 4 x 3 sums fill them as well as 6 x 2.
constexpr bool lines_pay(idx vectors) { return VECTOR_BYTES == 64 || vectors <= LINE_VECTORS; }

// Rows at `offsets` cut into tiles of v vectors: as many lines as their offsets have runs, all of `pitch` rows; none
// where that gives no more rows than the general tile has.
inline std::vector<LineRows> cut_lines(const std::vector<idx>& offsets, int v, idx* pitch) {
    const idx rows = (idx)offsets.size();
    idx run = 1;
    while (run < rows && offsets[run] == offsets[run - 1] + 1) run++;
    *pitch = run;
    std::vector<LineRows> tiles;
    const idx count = rows / run, pieces = ceil_div<idx>(run, line_width(v));
    if (run / pieces * std::min<idx>(count, lines_of_width((int)(run / pieces), v)) <= MR) return tiles;
    for (idx piece = 0; piece < pieces; piece++) {
        const idx first = run * piece / pieces, width = run * (piece + 1) / pieces - first;
        const idx groups = ceil_div<idx>(count, lines_of_width((int)width, v));
        for (idx i = 0; i < groups; i++)
            tiles.push_back({count * i / groups * run + first, (int)width, (int)(count * (i + 1) / groups - count * i / groups)});
    }
    return tiles;
}

}  // namespace fastconv

// The register tile for a single vector of columns: rows of A lie side by side, in a few lines.
//
// With eight rows a tile waits for its own sums, which take four cycles; with more, a pointer for each row would not
// fit the registers.
#pragma once
#include "tile.hpp"

namespace fastconv {

#if defined(__AVX512F__)
constexpr int LINE_SUMS = 24, LINE_WIDTH = 16;
#else
constexpr int LINE_SUMS = 12, LINE_WIDTH = 12;
#endif
constexpr int MOST_LINES = 4;
constexpr int lines_of_width(int w) { return LINE_SUMS / w < 1 ? 1 : LINE_SUMS / w < MOST_LINES ? LINE_SUMS / w : MOST_LINES; }

// c[g] + i ldc += the sum over depth of line g, element i, times the row of b.
template <class T, int G, int W>
void line_tile(const Segment* segments, idx count, const T* const* a, idx step, const T* b, idx ldb, T* const* c, idx ldc) {
    Vec<T> acc[G][W] = {};
    for (idx s = 0; s < count; s++) {
        const T* line[G];
        for (int g = 0; g < G; g++) line[g] = a[g] + segments[s].a;
        const T* panel = b + segments[s].b * ldb;
        const idx end = segments[s].length * step;
        for (idx k = 0; k < end; k += step, panel += ldb) {
            const Vec<T> bv = load(panel);
            FASTCONV_UNROLL
            for (int g = 0; g < G; g++)
                FASTCONV_UNROLL
                for (int i = 0; i < W; i++) acc[g][i] += broadcast(line[g][k + i]) * bv;
        }
    }
    FASTCONV_UNROLL
    for (int g = 0; g < G; g++)
        FASTCONV_UNROLL
        for (int i = 0; i < W; i++) store(c[g] + i * ldc, load(c[g] + i * ldc) + acc[g][i]);
}

template <class T> using LineTile = void (*)(const Segment*, idx, const T* const*, idx, const T*, idx, T* const*, idx);

template <class T, int W, int G = lines_of_width(W)> LineTile<T> line_tile_of_width(int lines) {
    if constexpr (G > 1)
        if (lines < G) return line_tile_of_width<T, W, G - 1>(lines);
    return &line_tile<T, G, W>;
}
// Of 1 to lines_of_width(width) lines, 1 to LINE_WIDTH wide.
template <class T, int W = LINE_WIDTH> LineTile<T> line_tile_of(int lines, int width) {
    if constexpr (W > 1)
        if (width < W) return line_tile_of<T, W - 1>(lines, width);
    return line_tile_of_width<T, W>(lines);
}

// Rows [row, row + width) and those `pitch` further, `lines` times.
struct LineRows {
    idx row;
    int width, lines;
};

// Rows at `offsets` cut into tiles: as many lines as their offsets have runs, all of `pitch` rows; none where that gives
// no more rows than the general tile has.
inline std::vector<LineRows> cut_lines(const std::vector<idx>& offsets, idx* pitch) {
    const idx rows = (idx)offsets.size();
    idx run = 1;
    while (run < rows && offsets[run] == offsets[run - 1] + 1) run++;
    *pitch = run;
    std::vector<LineRows> tiles;
    const idx count = rows / run, pieces = ceil_div<idx>(run, LINE_WIDTH);
    if (run / pieces * std::min<idx>(count, lines_of_width((int)(run / pieces))) <= MR) return tiles;
    for (idx piece = 0; piece < pieces; piece++) {
        const idx first = run * piece / pieces, width = run * (piece + 1) / pieces - first;
        const idx groups = ceil_div<idx>(count, lines_of_width((int)width));
        for (idx i = 0; i < groups; i++)
            tiles.push_back({count * i / groups * run + first, (int)width, (int)(count * (i + 1) / groups - count * i / groups)});
    }
    return tiles;
}

}  // namespace fastconv

// A product of matrices on the register tile: C (rows, columns) = or += A (rows, depth) @ B (depth, columns).
//
// A is read in place, whatever its strides; B has contiguous rows, readable up to whole vectors. The caller blocks:
// B should stay in the level 2 cache while the rows of A stream by.
#pragma once
#include <algorithm>
#include <vector>

#include "tile.hpp"
#include "transpose.hpp"

namespace fastconv {

// Element (i, j) is at[i * row + j * column].
template <class T> struct Matrix {
    T* at;
    idx row, column;
};

// Columns [first, first + length) of a product lie together, `at` elements into each row of C.
struct Piece {
    idx first, length, at;
};

template <class T> struct Product {
    T* at;
    idx row;
    std::vector<Piece> pieces;  // of all columns, in order
};

// temp (m rows, NR) <-> columns [first, last) of C.
template <class T>
void move_pieces(const Product<T>& c, const Piece* piece, idx row, int m, idx first, idx last, T* temp, bool to_temp) {
    for (; piece < c.pieces.data() + c.pieces.size() && piece->first < last; piece++) {
        const idx begin = std::max(first, piece->first), end = std::min(last, piece->first + piece->length);
        for (int i = 0; i < m; i++) {
            T* there = c.at + (row + i) * c.row + piece->at + begin - piece->first;
            T* here = temp + i * NR<T> + begin - first;
            if (to_temp)
                copy_run(here, there, end - begin);
            else
                copy_run(there, here, end - begin);
        }
    }
}

// A tile that is not of one piece goes through `temp` (MR x NR). Rows of A that lie side by side (a.row == 1), with
// depths far apart, are copied to `copied` (depth x MR) by the first tile that meets them, where it is not null.
template <class T>
void gemm(idx rows, idx columns, idx depth, Matrix<const T> a, const T* b, idx ldb, const Product<T>& c, bool add,
          T* temp, T* copied = nullptr) {
    constexpr int L = LANES<T>;
    const Panels<T> panels(columns);
    const Segment segment{depth, 0, 0};
    for (idx row = 0; row < rows; row += MR) {
        const int m = (int)std::min<idx>(MR, rows - row);
        const Piece* piece = c.pieces.data();
        EvenRows<T> even{a.at + row * a.row, a.row, a.column, temp, NR<T>};
        for (idx panel = 0; panel < panels.count; panel++) {
            const idx first = panels.first(panel), last = first + panels.filled(panel);
            const int width = panels.width(panel), lanes = (int)(panels.filled(panel) - (width - 1) * L);
            while (piece->first + piece->length <= first) piece++;
            const bool direct = last <= piece->first + piece->length;
            even.c = temp, even.c_row = NR<T>;
            if (direct) even.c = c.at + row * c.row + piece->at + first - piece->first, even.c_row = c.row;
            if (!direct && add) move_pieces(c, piece, row, m, first, last, temp, true);
            if (copied && panel == 0 && m == MR && lanes == L) {
                even_packing_tile_of<T, PACK_A>(width)(depth, even, b, ldb, copied, add);
                even.a = copied, even.step = MR;
            } else {
                even_tile_of<T>(m, width)(&segment, 1, even, b + first, ldb, add, lanes);
            }
            if (!direct) move_pieces(c, piece, row, m, first, last, temp, false);
        }
    }
}

// A part of a matrix as rows of B: contiguous, zero from `columns` to the next whole vector.
template <class T> void pack(Matrix<const T> a, idx rows, idx columns, T* to, idx ld) {
    if (a.column == 1)
        for (idx i = 0; i < rows; i++) copy_run(to + i * ld, a.at + i * a.row, columns);
    else  // rows are contiguous the other way
        transpose(a.at, a.column, columns, rows, to, ld);
    const idx padding = ceil_div<idx>(columns, LANES<T>) * LANES<T> - columns;
    if (padding)
        for (idx i = 0; i < rows; i++) clear_run(to + i * ld + columns, padding);
}

}  // namespace fastconv

// Winograd's minimal filtering F(m, r) with 6-point tiles: m outputs of r taps by 6 products (m + r = 7).
//
// Interpolation points 0, +-3/4, +-3/2, infinity: by measurement about a third of the error of 0, +-1, +-2 (Barabasz et
// al. 2018 on why), with +-5/8 half of it; their squares are exact in float32. All three transforms use the symmetry of +-p.
// Lavin, Gray 2015; one transform serves F(4, 3) and F(2, 5), and the filter gradient's F(3, 4) and F(5, 2).
#pragma once
#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

constexpr int POINTS = 6;
constexpr double PA = 3.0 / 4, PB = 3.0 / 2, PA2 = PA * PA, PB2 = PB * PB;

// B^T d: rows are the products of (x - p) over the other points.
template <class T>
inline __attribute__((always_inline)) void input_transform(const Vec<T> d[POINTS], Vec<T> t[POINTS]) {
    Vec<T> even_a = d[4] - T(PB2) * d[2], odd_a = T(PA) * (d[3] - T(PB2) * d[1]);
    Vec<T> even_b = d[4] - T(PA2) * d[2], odd_b = T(PB) * (d[3] - T(PA2) * d[1]);
    t[0] = d[4] + T(PA2 * PB2) * d[0] - T(PA2 + PB2) * d[2];
    t[1] = even_a + odd_a;
    t[2] = even_a - odd_a;
    t[3] = even_b + odd_b;
    t[4] = even_b - odd_b;
    t[5] = d[5] + T(PA2 * PB2) * d[1] - T(PA2 + PB2) * d[3];
}

// G g: the filter's polynomial at each point over the product of that point's differences.
template <class T, int TAPS>
inline __attribute__((always_inline)) void filter_transform(const Vec<T> g[TAPS], Vec<T> u[POINTS]) {
    constexpr double na = 1 / (2 * PA2 * (PA2 - PB2)), nb = 1 / (2 * PB2 * (PB2 - PA2));
    Vec<T> even_a = {}, odd_a = {}, even_b = {}, odd_b = {};
    double pa = na, pb = nb;
    for (int i = 0; i < TAPS; i++, pa *= PA, pb *= PB) {
        (i % 2 ? odd_a : even_a) += T(pa) * g[i];
        (i % 2 ? odd_b : even_b) += T(pb) * g[i];
    }
    u[0] = T(1 / (PA2 * PB2)) * g[0];
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[TAPS - 1];
}

// A^T m: sums of the products times powers of the points.
template <class T, int OUT>
inline __attribute__((always_inline)) void output_transform(const Vec<T> m[POINTS], Vec<T> y[OUT]) {
    Vec<T> even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    double pa = PA, pb = PB;
    for (int i = 1; i < OUT; i++, pa *= PA, pb *= PB)
        y[i] = T(pa) * (i % 2 ? odd_a : even_a) + T(pb) * (i % 2 ? odd_b : even_b);
    y[OUT - 1] += m[5];
}

// Both axes. Element (i, j) of the source is at from + i * row + j * column; result (i, j) at to + (6 i + j) * ld.
template <class T>
inline __attribute__((always_inline)) void input_transform_2d(const T* from, idx row, idx column, T* to, idx ld) {
    Vec<T> z[POINTS][POINTS];
    for (int j = 0; j < POINTS; j++) {
        Vec<T> d[POINTS], t[POINTS];
        for (int i = 0; i < POINTS; i++) d[i] = load(from + i * row + j * column);
        input_transform<T>(d, t);
        for (int i = 0; i < POINTS; i++) z[i][j] = t[i];
    }
    for (int i = 0; i < POINTS; i++) {
        Vec<T> t[POINTS];
        input_transform<T>(z[i], t);
        for (int j = 0; j < POINTS; j++) store(to + (i * POINTS + j) * ld, t[j]);
    }
}

template <class T, int TAPS, int WIDE = TAPS>
inline __attribute__((always_inline)) void filter_transform_2d(const T* from, idx row, idx column, T* to, idx ld) {
    Vec<T> z[POINTS][WIDE];
    for (int j = 0; j < WIDE; j++) {
        Vec<T> g[TAPS], u[POINTS];
        for (int i = 0; i < TAPS; i++) g[i] = load(from + i * row + j * column);
        filter_transform<T, TAPS>(g, u);
        for (int i = 0; i < POINTS; i++) z[i][j] = u[i];
    }
    for (int i = 0; i < POINTS; i++) {
        Vec<T> u[POINTS];
        filter_transform<T, WIDE>(z[i], u);
        for (int j = 0; j < POINTS; j++) store(to + (i * POINTS + j) * ld, u[j]);
    }
}

// Products (i, j) at from + (6 i + j) * ld; put(to + i * row + j * column, output (i, j)).
template <class T, int OUT, class Put>
inline __attribute__((always_inline)) void output_transform_2d_to(const T* from, idx ld, T* to, idx row,
                                                                  idx column, Put put) {
    Vec<T> z[OUT][POINTS];
    for (int j = 0; j < POINTS; j++) {
        Vec<T> m[POINTS], y[OUT];
        for (int i = 0; i < POINTS; i++) m[i] = load(from + (i * POINTS + j) * ld);
        output_transform<T, OUT>(m, y);
        for (int i = 0; i < OUT; i++) z[i][j] = y[i];
    }
    for (int i = 0; i < OUT; i++) {
        Vec<T> y[OUT];
        output_transform<T, OUT>(z[i], y);
        for (int j = 0; j < OUT; j++) put(to + i * row + j * column, y[j]);
    }
}

template <class T, int OUT>
inline __attribute__((always_inline)) void output_transform_2d(const T* from, idx ld, T* to, idx row, idx column,
                                                               Vec<T> bias) {
    output_transform_2d_to<T, OUT>(from, ld, to, row, column, [bias](T* at, Vec<T> y) { store(at, y + bias); });
}

}  // namespace fastconv

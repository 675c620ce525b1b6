// Toom-Cook's F(4, 4): four outputs of four taps by seven products, for depthwise filters cut into blocks of 4 x 4.
//
// Points +-1/4, +-7/8, +-15/8 and infinity: of all multiples of 1/8 those with the least error (docs/performance.md).
// A pair of points +-p shares its even and its odd part.
#pragma once
#include "geometry.hpp"
#include "vec.hpp"

namespace fastconv {

constexpr int BLOCK = 4;                      // taps of a block, outputs of a tile, and the distance between tiles
constexpr int SPAN = 2 * BLOCK - 1;           // pixels of a tile, and products
constexpr int PAIRS = 3;                      // products 2 k and 2 k + 1 belong to +-point k, the last to infinity
constexpr double POINT[PAIRS] = {1.0 / 4, 7.0 / 8, 15.0 / 8};

constexpr double square(double p) { return p * p; }
// x^4 + linear x^2 + constant: the product of (x^2 - p^2) over the two pairs other than k.
constexpr double constant(int k) { return square(POINT[(k + 1) % 3] * POINT[(k + 2) % 3]); }
constexpr double linear(int k) { return -square(POINT[(k + 1) % 3]) - square(POINT[(k + 2) % 3]); }

// B^T d for +-point K: coefficients of the product of (x - p) over the other finite points.
template <class T, int K, class Pixel>
inline __attribute__((always_inline)) void input_pair(Pixel d, Vec<T>& plus, Vec<T>& minus) {
    const Vec<T> even = d(4) + T(linear(K)) * d(2) + T(constant(K)) * d(0);
    const Vec<T> odd = d(5) + T(linear(K)) * d(3) + T(constant(K)) * d(1);
    plus = odd + T(POINT[K]) * even;
    minus = odd - T(POINT[K]) * even;
}

// For infinity: of the product over all finite points.
template <class T, class Pixel> inline __attribute__((always_inline)) Vec<T> input_infinity(Pixel d) {
    constexpr double a = square(POINT[0]), b = square(POINT[1]), c = square(POINT[2]);
    return d(6) - T(a + b + c) * d(4) + T(a * b + b * c + c * a) * d(2) - T(a * b * c) * d(0);
}

// All seven, to + product * ld.
template <class T> inline __attribute__((always_inline)) void input_points(const Vec<T>* pixels, T* to, idx ld) {
    const auto d = [=](int i) { return pixels[i]; };
    Vec<T> t[SPAN];
    input_pair<T, 0>(d, t[0], t[1]);
    input_pair<T, 1>(d, t[2], t[3]);
    input_pair<T, 2>(d, t[4], t[5]);
    t[6] = input_infinity<T>(d);
    for (int i = 0; i < SPAN; i++) store(to + i * ld, t[i]);
}

// G g: the taps' polynomial at each point, over the product of its differences to the other finite points.
template <class T> inline __attribute__((always_inline)) void filter_points(const Vec<T>* g, Vec<T>* u) {
    for (int k = 0; k < PAIRS; k++) {
        const double p = POINT[k], p2 = square(p), scale = 1 / (2 * p * (square(p2) + linear(k) * p2 + constant(k)));
        const Vec<T> even = T(scale) * g[0] + T(scale * p2) * g[2], odd = T(scale * p) * g[1] + T(scale * p * p2) * g[3];
        // the differences of -p have the opposite sign
        u[2 * k] = odd + even;
        u[2 * k + 1] = odd - even;
    }
    u[2 * PAIRS] = g[3];
}

// A^T m: sums of the products at m + product * ld times powers of their points.
template <class T> inline __attribute__((always_inline)) void output_points(const T* m, idx ld, Vec<T>* y) {
    y[0] = y[1] = y[2] = Vec<T>{};
    y[3] = load(m + 2 * PAIRS * ld);
    for (int k = 0; k < PAIRS; k++) {
        const Vec<T> plus = load(m + 2 * k * ld), minus = load(m + (2 * k + 1) * ld);
        const Vec<T> even = plus + minus, odd = plus - minus;
        const double p = POINT[k];
        y[0] += even;
        y[1] += T(p) * odd;
        y[2] += T(p * p) * even;
        y[3] += T(p * p * p) * odd;
    }
}

}  // namespace fastconv

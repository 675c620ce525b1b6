// Products of a few tiles of few channels, while their sums stay in level 1.
#pragma once
#include "winograd_tiles.hpp"

namespace fastconv {

// Elements from product to product of transformed tiles, a constant so that products are displacements: an odd number
// of cache lines (winograd_products.hpp).
template <class T> constexpr idx SHALLOW_PITCH = 71 * 64 / sizeof(T);

// J products x TILES tiles x V vectors of filters are summed in registers (24 of 32, 12 of 16): as many loads as
// multiply-adds at the most.
constexpr int SHALLOW_J = 3;
template <int V> constexpr int SHALLOW_TILES = V == 1 || VECTOR_BYTES == 64 ? 4 : 2;
constexpr int SHALLOW_VECTORS = 2;

// Filters u[triple of products][depth][product][vector]; tiles at[tile][product * SHALLOW_PITCH + offset[depth]].
// m[product][tile][vector].
template <class T, int V>
void shallow_products(const T* u, const T* const (&at)[SHALLOW_TILES<V>], const idx* offset, idx depth, T* m) {
    constexpr int L = LANES<T>, J = SHALLOW_J, TILES = SHALLOW_TILES<V>;
    const T* v[TILES];
    for (int t = 0; t < TILES; t++) v[t] = at[t];
    for (int first = 0; first < PRODUCTS; first += J, m += J * TILES * V * L) {
        Vec<T> sum[J][TILES][V] = {};
        for (idx d = 0; d < depth; d++, u += J * V * L) {
            const idx o = offset[d];
            FASTCONV_UNROLL
            for (int j = 0; j < J; j++) {
                Vec<T> filter[V];
                FASTCONV_UNROLL
                for (int n = 0; n < V; n++) filter[n] = load(u + (j * V + n) * L);
                FASTCONV_UNROLL
                for (int t = 0; t < TILES; t++) {
                    const Vec<T> tile = broadcast(v[t][o + j * SHALLOW_PITCH<T>]);
                    FASTCONV_UNROLL
                    for (int n = 0; n < V; n++) sum[j][t][n] += tile * filter[n];
                }
            }
        }
        FASTCONV_UNROLL
        for (int j = 0; j < J; j++)
            FASTCONV_UNROLL
            for (int t = 0; t < TILES; t++)
                FASTCONV_UNROLL
                for (int n = 0; n < V; n++) store(m + ((j * TILES + t) * V + n) * L, sum[j][t][n]);
        FASTCONV_UNROLL
        for (int t = 0; t < TILES; t++) v[t] += J * SHALLOW_PITCH<T>;
    }
}

// One tile's products of one vector of filters, `ld` apart, to its outputs in y or in a slab.
template <class T, int OUT, bool ACTIVE, bool STREAM>
void shallow_output(const T* m, idx ld, T* to, idx row, idx column, Vec<T> bias) {
    output_transform_2d_to<T, OUT>(m, ld, to, row, column, [bias](T* at, Vec<T> y) {
        y += bias;
        if (ACTIVE) y = y < T(0) ? Vec<T>{} : y;
        STREAM ? stream(at, y) : store(at, y);
    });
}

template <class T> using ShallowOutput = void (*)(const T*, idx, T*, idx, idx, Vec<T>);

template <class T, int OUT> ShallowOutput<T> shallow_output_of(bool relu, bool streams) {
    if (relu) return streams ? &shallow_output<T, OUT, true, true> : &shallow_output<T, OUT, true, false>;
    return streams ? &shallow_output<T, OUT, false, true> : &shallow_output<T, OUT, false, false>;
}

}  // namespace fastconv

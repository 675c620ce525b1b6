// Vectors of images: a block of images transposed so that each element of a pixel is a row of lanes.
//
// Small maps cut vectors of positions short and pad a large share of them; across images nothing is cut, and a tap
// outside the source is left out instead of multiplied (the CHWN layout of cuda-convnet, Krizhevsky 2012).
#pragma once
#include <algorithm>
#include <vector>

#include "parallel.hpp"
#include "transpose.hpp"
#include "view.hpp"

namespace fastconv {

// One side of a convolution, in either layout.
template <class T> struct ImageArray {
    T* at;
    idx pixels, channels, channels_last;
    idx elements() const { return pixels * channels; }
};

template <class T> ImageArray<T> input_images(const Geometry& g, T* x) { return {x, g.pixels(), g.c, g.channels_last}; }
template <class T> ImageArray<T> output_images(const Geometry& g, T* y) { return {y, g.out_pixels(), g.k, g.channels_last}; }

// Images [first, first + images) -> rows (pixel, channel) of `lanes`; lanes without an image are zero.
template <class T>
void load_images(const ImageArray<const T>& a, idx first, idx images, T* rows, idx lanes) {
    constexpr int L = LANES<T>;
    const idx image = a.elements();
    if (images < lanes) std::fill_n(rows, image * lanes, T(0));
    for (idx n = 0; n < images; n += L) {
        const idx count = std::min<idx>(L, images - n);
        const T* from = a.at + (first + n) * image;
        if (a.channels_last) {
            transpose_to_streams(from, image, count, image, rows + n, lanes);
            continue;
        }
        for (idx q = 0; q < a.pixels; q += L)
            for (idx c = 0; c < a.channels; c++)
                transpose_square(from + c * a.pixels + q, image, count, std::min<idx>(L, a.pixels - q),
                                 rows + (q * a.channels + c) * lanes + n, a.channels * lanes);
    }
}

// The reverse, for pixels [pixel, pixel + count), whose rows come one after the other.
template <class T>
void store_images(const ImageArray<T>& a, idx first, idx images, idx pixel, idx count, const T* rows, idx lanes) {
    constexpr int L = LANES<T>;
    const idx image = a.elements();
    for (idx n = 0; n < images; n += L) {
        const idx some = std::min<idx>(L, images - n);
        T* to = a.at + (first + n) * image;
        if (a.channels_last)
            transpose(rows + n, lanes, count * a.channels, some, to + pixel * a.channels, image);
        else
            for (idx c = 0; c < a.channels; c++)
                transpose(rows + c * lanes + n, a.channels * lanes, count, some, to + c * a.pixels + pixel, image);
    }
}

// How images are cut into blocks of `vectors` vectors: at most `most`, enough blocks for all threads where there are
// images for them, and no more `rows` of lanes than stay in the level 2 cache.
constexpr idx IMAGE_BLOCK_BYTES = 640 << 10;
template <class T> struct ImageBlocks {
    idx vectors, count;
    ImageBlocks(idx images, idx rows, idx most, int threads) {
        const idx all = std::max<idx>(1, ceil_div<idx>(images, LANES<T>));
        most = std::max<idx>(1, std::min<idx>(most, IMAGE_BLOCK_BYTES / VECTOR_BYTES / std::max<idx>(1, rows)));
        count = std::max(ceil_div(all, most), std::min<idx>(all, threads));
        vectors = ceil_div(all, count);
        count = ceil_div(all, vectors);
    }
    idx lanes() const { return vectors * LANES<T>; }
};

}  // namespace fastconv

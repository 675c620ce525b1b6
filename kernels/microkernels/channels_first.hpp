// A channels-first forward or input-gradient problem: planes in, planes out.
#pragma once
#include "geometry.hpp"

namespace fastconv {

template <class T> struct ChannelsFirst {
    idx images, groups, depth, rows;  // depth and rows per group
    idx source_image, source_plane, dest_image, dest_plane;  // elements
    idx dest_size[3];
    const T* source;
    T* dest;
    const T* bias;
    Activation activation;
};

}  // namespace fastconv

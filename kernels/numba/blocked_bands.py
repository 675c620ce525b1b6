"""Implicit GEMM for few input channels: products with bands of the padded input, channels-last.

    forward:          (pixels, taps x channels) @ (taps x channels, filters)
    filter gradient:  (taps x channels, pixels) @ (pixels, filters)

With 3 channels a tap is too short a depth for a tile, and a pixel at the border has as much to copy as to
multiply. So a job first copies the rows of x that its rows of y meet, zeros around them: then a row of the
window at any pixel is one run of window x channels elements.
"""

from __future__ import annotations

from fastconv.kernels.numba.epilogue import finish
from fastconv.kernels.numba.geometry import (
    DILATION,
    LAST,
    OUT,
    SIZE,
    STRIDE,
    WINDOW,
    C,
    K,
    N,
    clear_run,
    copy_run,
    end_inside,
    first_inside,
    product,
    tap_offset,
    transpose,
)  # fmt: skip
from fastconv.kernels.numba.jit import inline, jit, unpack
from fastconv.kernels.numba.tile import MR, SEGMENT, panel_width, tile, tile_rows
from fastconv.kernels.numba.vector import at, lanes, put

# Channels up to which bands win, and the most products in a sum before it is added to others: the rounding
# error of float32 then stays within its bound.
MOST_CHANNELS, MOST_DEPTH = 8, 512
# Pixels of a job, whole rows: rows of x that two jobs share are then few.
PIXELS = 1024
ACTIVATION, ROWS, BLOCKS, THREADS, PARTS = range(5)


def rows_of_job(spec):
    """Rows of y in a job."""
    height, width = spec.out_size
    return max(1, min(height, PIXELS // width))


def rows_of_sum(spec):
    """Rows of y that one tile of the filter gradient sums over."""
    height, width = spec.out_size
    return max(1, min(height, MOST_DEPTH // width))


def band_size(spec, rows):
    """Elements of the band for some rows of y."""
    (r, s), (stride, stride_w), (dilation, dilation_w) = spec.window, spec.stride, spec.dilation
    height = (rows - 1) * stride + (r - 1) * dilation + 1
    return height * ((spec.out_size[1] - 1) * stride_w + (s - 1) * dilation_w + 1) * spec.c


def takes(spec, most_pixels):
    """Whether a problem is one for bands: images with few channels, rows not too long, a band in L2."""
    return (
        spec.ndim == 2
        and spec.groups == 1
        and spec.c <= MOST_CHANNELS
        and spec.c * spec.window[0] * spec.window[1] <= MOST_DEPTH
        and spec.out_size[1] <= most_pixels
        and band_size(spec, rows_of_job(spec)) <= 1 << 17
    )


@inline
def band_width(g):
    """Pixels in a row of the band."""
    return (g[OUT + 2] - 1) * g[STRIDE + 2] + (g[WINDOW + 2] - 1) * g[DILATION + 2] + 1


@jit
def copy_band(g, x, n, h0, h1, band, to):
    """The rows of x that rows [h0, h1) of y meet, (row, pixel, channel), zeros where there is no x."""
    H, W, channels, width = g[SIZE + 1], g[SIZE + 2], g[C], band_width(g)
    first = h0 * g[STRIDE + 1] + tap_offset(g, 1, 0)
    last = (h1 - 1) * g[STRIDE + 1] + tap_offset(g, 1, g[WINDOW + 1] - 1)
    left = tap_offset(g, 2, 0)
    low, high = first_inside(left, 1), min(width, end_inside(left, 1, W))
    for h in range(first, last + 1):
        row = to + (h - first) * width * channels
        if h < 0 or h >= H or low >= high:
            clear_run(band, row, 1, width * channels)
            continue
        clear_run(band, row, 1, low * channels)
        clear_run(band, row + high * channels, 1, (width - high) * channels)
        if g[LAST]:
            source = ((n * H + h) * W + left + low) * channels
            copy_run(band, row + low * channels, 1, x, source, 1, (high - low) * channels)
        else:
            for c in range(channels):
                source = ((n * channels + c) * H + h) * W + left + low
                for i in range(high - low):
                    put(band, row + (low + i) * channels + c, at(x, source + i))


@inline
def tap_in_band(g, tap):
    """Where a tap lies in the band, from the pixel's first."""
    r, s = tap // g[WINDOW + 2], tap % g[WINDOW + 2]
    return (r * g[DILATION + 1] * band_width(g) + s * g[DILATION + 2]) * g[C]


@jit
def list_window(g, index, segments_at):
    """The window as segments for `tile`, taps that follow each other joined; returns how many."""
    count = 0
    for tap in range(product(g, WINDOW)):
        offset, i = tap_in_band(g, tap), segments_at + SEGMENT * (count - 1)
        if count > 0 and index[i + 1] + index[i] == offset:
            index[i] += g[C]
        else:
            index[i + 3], index[i + 4], index[i + 5] = g[C], offset, tap * g[C]
            count += 1
    return count


@inline
def forward_index(taps, width):
    """Integers of scratch: segments, and where the pixels of a row are read and written."""
    return SEGMENT * (taps + 1 + width)


def forward_job(begin, end, thread, arguments):
    """A job: some rows of an image of y."""
    g, o, x, packed, bias, y, bands, sums, index = unpack(arguments)
    L = lanes(x)
    height, pixels, filters, taps = g[OUT + 1], g[OUT + 2], g[K], product(g, WINDOW)
    width = panel_width(filters, L)
    size, depth = bands.size // o[THREADS], taps * g[C]
    band, sums_at = thread * size, thread * (sums.size // o[THREADS])
    segment = thread * (index.size // o[THREADS] // SEGMENT)
    rows_at = SEGMENT * (segment + taps)
    to_at = rows_at + pixels
    window = list_window(g, index, SEGMENT * segment)
    to_row = filters if g[LAST] else width
    for q in range(pixels):
        index[rows_at + q] = q * g[STRIDE + 2] * g[C]
        index[to_at + q] = q * to_row
    down = g[STRIDE + 1] * band_width(g) * g[C]
    for job in range(begin, end):
        n, h0 = job // o[BLOCKS], job % o[BLOCKS] * o[ROWS]
        h1 = min(height, h0 + o[ROWS])
        copy_band(g, x, n, h0, h1, bands, band)
        for s in range(segment, segment + window):
            index[SEGMENT * s + 1] += band
        for h in range(h0, h1):
            for k in range(0, filters, width):
                count = min(width, filters - k)
                if g[LAST]:
                    tile_rows(
                        pixels, bands, index, rows_at, 1, index, segment, segment + window, packed, k * depth,
                        width, y, index, to_at, (n * height + h) * pixels * filters + k, count,
                    )  # fmt: skip
                else:
                    tile_rows(
                        pixels, bands, index, rows_at, 1, index, segment, segment + window, packed, k * depth,
                        width, sums, index, to_at, sums_at, count,
                    )  # fmt: skip
                if not g[LAST]:
                    to = ((n * filters + k) * height + h) * pixels
                    transpose(y, to, height * pixels, sums, sums_at, width, pixels, count)
                    if bias.size > 0 or o[ACTIVATION] > 0:
                        for j in range(count):
                            finish(y, to + j * height * pixels, pixels, bias, k + j, 0, o[ACTIVATION])
            if g[LAST] and (bias.size > 0 or o[ACTIVATION] > 0):
                for q in range(pixels):
                    to = ((n * height + h) * pixels + q) * filters
                    finish(y, to, filters, bias, 0, 1, o[ACTIVATION])
            for s in range(segment, segment + window):
                index[SEGMENT * s + 1] += down
        for s in range(segment, segment + window):
            index[SEGMENT * s + 1] -= band + (h1 - h0) * down


@inline
def grad_index(taps_and_channels, rows):
    """Integers of scratch: a segment for each row of y, and where each depth is read and summed."""
    return SEGMENT * (rows + 1 + taps_and_channels)


def filter_grad_job(begin, end, thread, arguments):
    """A job: one of the parts of y's blocks of rows, summed apart as (part, tap, channel, filter)."""
    g, o, x, dy, sums, bands, panels, index = unpack(arguments)
    L = lanes(x)
    height, pixels, filters, depth = g[OUT + 1], g[OUT + 2], g[K], product(g, WINDOW) * g[C]
    width = panel_width(filters, L)
    band, panel = thread * (bands.size // o[THREADS]), thread * (panels.size // o[THREADS])
    segment = thread * (index.size // o[THREADS] // SEGMENT)
    rows_at = SEGMENT * (segment + o[ROWS])
    to_at = rows_at + depth
    down = g[STRIDE + 1] * band_width(g) * g[C]
    for row in range(o[ROWS]):
        i = SEGMENT * (segment + row)
        index[i], index[i + 1], index[i + 2] = pixels, band + row * down, row * pixels
    for u in range(depth):
        index[rows_at + u] = tap_in_band(g, u // g[C]) + u % g[C]
        index[to_at + u] = u * filters
    for part in range(begin, end):
        first, last = g[N] * o[BLOCKS] * part // o[PARTS], g[N] * o[BLOCKS] * (part + 1) // o[PARTS]
        for block in range(first, last):
            n, h0 = block // o[BLOCKS], block % o[BLOCKS] * o[ROWS]
            h1 = min(height, h0 + o[ROWS])
            copy_band(g, x, n, h0, h1, bands, band)
            for k in range(0, filters, width):
                count, to = min(width, filters - k), part * depth * filters + k
                in_place = g[LAST] and k + width <= filters
                if not in_place:
                    pack_gradients(g, dy, n, k, count, h0, h1, panels, panel, width)
                for u in range(0, depth, MR):
                    m = min(MR, depth - u)
                    if in_place:
                        tile(
                            m, bands, index, rows_at + u, g[STRIDE + 2] * g[C], index, segment,
                            segment + h1 - h0, dy, (n * height + h0) * pixels * filters + k, filters,
                            sums, index, to_at + u, to, count, block > first,
                        )  # fmt: skip
                    else:
                        tile(
                            m, bands, index, rows_at + u, g[STRIDE + 2] * g[C], index, segment,
                            segment + h1 - h0, panels, panel, width,
                            sums, index, to_at + u, to, count, block > first,
                        )  # fmt: skip


@jit
def pack_gradients(g, dy, n, k, count, h0, h1, panels, panel, width):
    """dy of rows [h0, h1) and some filters as (pixels, width); columns without a filter hold zeros."""
    height, pixels, filters = g[OUT + 1], g[OUT + 2], g[K]
    run = (h1 - h0) * pixels
    if g[LAST]:
        source = (n * height + h0) * pixels * filters + k
        for i in range(run):
            copy_run(panels, panel + i * width, 1, dy, source + i * filters, 1, count)
    else:
        source = ((n * filters + k) * height + h0) * pixels
        transpose(panels, panel, width, dy, source, height * pixels, count, run)
    if count < width:
        for i in range(run):
            clear_run(panels, panel + i * width + count, 1, width - count)

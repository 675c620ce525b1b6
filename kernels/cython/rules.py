"""What each compiled algorithm cannot do, and where dispatch should pass over it.

A threshold says where it was measured; docs/performance.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastconv.kernels.kernel import winograd_grad_refusal

# What `cython.blocked` expects a forward pass or an input gradient to take.
Nanoseconds = Callable[[str, Any], float]


def takes_all(*problem: Any) -> None:
    """No restriction."""


def winograd_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim == 1:
        return "it takes two or three spatial axes"
    if shallow(pass_name, spec):
        return None
    if spec.stride == (2, 2):
        return strided_unsupported(pass_name, spec)
    if spec.window[-2:] not in ((3, 3), (5, 5)):
        return f"the window is {spec.window}, not (3, 3) or (5, 5) on the last two axes"
    if set(spec.stride) != {1}:
        return f"the stride is {spec.stride}, not 1"
    return winograd_grad_refusal(pass_name, spec)


def shallow(pass_name: str, spec: Any) -> bool:
    """Whether it goes by space to depth, as for few input channels (winograd_shallow.hpp)."""
    if pass_name != "forward" or spec.ndim != 2 or spec.groups > 1 or set(spec.dilation) != {1}:
        return False
    depth = spec.c * math.prod(spec.stride)
    taps = {math.ceil(f / s) for f, s in zip(spec.window, spec.stride, strict=True)}
    if not spec.channels_last and (set(spec.stride) == {1} or spec.c > SHALLOW_FIRST_CHANNELS):
        return False
    few = 1 < depth <= SHALLOW_DEPTH and 36 * depth * spec.k * spec.dtype.itemsize <= SHALLOW_FILTER_BYTES
    return few and taps in SHALLOW_TAPS


# A class of two taps rounds too much, by outputs of 5 x 5 or with a third tap of zero: 24 eps of the plane's
# largest at worst of millions of planes; of three to five taps 13 (16 for one channel, which is not taken).
SHALLOW_TAPS = ({3}, {4}, {5})
SHALLOW_DEPTH, SHALLOW_FILTER_BYTES = 48, 1 << 20  # of filters, read again for each block of tiles
SHALLOW_FIRST_CHANNELS = 7  # channels-first; with more, or at stride 1, the other ways are faster
# In multiply-adds of vectors, 8.3 a nanosecond. A product, channel and vector of filters; a vector of
# filters of a tile, and of one of its outputs; a vector of a tile's input; transforming a channel of a vector
# of filters; a tile; a call. Of blocked: a tap and vector of filters, whole and filled; a tap; a vector of
# outputs; a pixel; a call. By layout (last, first), fitted to 863 measurements of random problems.
SHALLOW_COST = {True: (1.24, 61, 6, 393, 686, 155, 35e3), False: (1.28, 47, 16, 378, 662, 82, 36e3)}
SHALLOW_BLOCKED = {True: (0.48, 0.52, 0.2, 2.2, 7.6, 43e3), False: (0, 1, 0.2, 7.6, 0, 68e3)}
# A result of so many bytes goes past the caches, at 37 bytes a nanosecond on two threads (28 where others use
# the memory), which then wait.
SHALLOW_STREAMED, SHALLOW_WRITTEN = 8 << 20, 8.3 / 37


def shallow_avoid(spec: Any, threads: int) -> str | None:
    """Whether few channels take longer with transforms than the paths that `blocked` has for them."""
    if spec.k < FEW_CHANNELS:
        return f"with {spec.k} filters most of a vector is empty"
    (high, wide), last = spec.stride, spec.channels_last
    lanes, depth = VECTOR_BYTES // spec.dtype.itemsize, spec.c * high * wide
    vectors, out = math.ceil(spec.k / lanes), 7 - math.ceil(spec.window[0] / high)
    pixels = spec.n * math.prod(spec.out_size)
    tiles: int = spec.n * math.prod(math.ceil(size / out) for size in spec.out_size)
    span, rows = (wide * spec.c, high) if last else (wide, high * spec.c)
    source = rows * min(math.ceil(span / lanes), out * span / lanes)
    a_vector = (36 * depth, 1, out * out)  # of filters, for a tile
    units = (*(vectors * tiles * u for u in a_vector), source * tiles, depth * vectors, tiles, 1)
    cost: float = sum(a * b for a, b in zip(SHALLOW_COST[last], units, strict=True))
    written = pixels * spec.k * spec.dtype.itemsize
    if written >= SHALLOW_STREAMED:
        cost = max(cost, SHALLOW_WRITTEN * written * threads)
    taps = math.prod(spec.window) * spec.c * pixels
    direct = (taps * vectors, taps * spec.k / lanes, taps, pixels * vectors, pixels, 1)
    blocked: float = sum(a * b for a, b in zip(SHALLOW_BLOCKED[last], direct, strict=True))
    if cost > blocked:
        return (
            f"with its transforms it would take {cost / blocked:.2g} times what plain sums of products take"
        )
    return None


def strided_unsupported(pass_name: str, spec: Any) -> str | None:
    """Winograd at stride 2, by even and odd taps."""
    if pass_name == "filter_grad":
        return "at stride 2 it has no filter gradient"
    if spec.window not in ((3, 3), (4, 4), (5, 5)):
        return f"the window is {spec.window}, not (3, 3), (4, 4) or (5, 5) at stride 2"
    if spec.dilation != (1, 1):
        return f"the dilation is {spec.dilation}, not 1 at stride 2"
    if math.prod(spec.out_size) < STRIDED_POSITIONS:
        return f"{math.prod(spec.out_size)} positions are too few for its rounding at stride 2"
    return None


# On smaller maps one tile is all there is: 12.5 eps of the plane's largest at worst in 2000 trials.
STRIDED_POSITIONS = 32
# Nanoseconds of a product's vector at stride 2; of the transforms of a tile: the four classes of x and the
# output, dy and the four phases of dx; of the filters, all classes; of a call. From 130 random problems a
# pass. Beyond 12 MB of transformed filters, read again for each block of tiles, it is 3 to 6 times slower.
STRIDED_PRODUCT = 0.12
STRIDED_COST = {"forward": (470, 310, 150, 1100), "input_grad": (100, 510, 230, 5000)}
STRIDED_FILTER_BYTES = 12 << 20


def strided_avoid(plain: Nanoseconds, pass_name: str, spec: Any) -> str | None:
    """The same decision at stride 2."""
    depth, columns, lanes = _channels(pass_name, spec)
    vectors, taps = math.ceil(columns / lanes), spec.window[0]
    padded = math.ceil(depth / lanes) * lanes * vectors * lanes
    if 144 * spec.groups * padded * spec.dtype.itemsize > STRIDED_FILTER_BYTES:
        return "its transformed filters would not stay in the caches"
    out, products = 7 - (taps + 1) // 2, 121 if taps % 2 else 144
    tiles: int = spec.n * math.prod(math.ceil(size / out) for size in spec.out_size)
    source, dest, filters, call = STRIDED_COST[pass_name]
    cost = (tiles * products * STRIDED_PRODUCT + filters) * depth * vectors
    cost += tiles * (source * math.ceil(depth / lanes) + dest * vectors)
    return _avoided(spec.groups * cost + call, plain(pass_name, spec))


# What Winograd costs, in nanoseconds: the 36 products for a tile, a channel of the one side and a vector of
# the other; the transforms of a tile for a vector of channels of each side; of the filters for a channel
# and a vector. Forward and input gradient: fitted to 1250 measurements on random problems, beside the
# prices of conv_cost.hpp; the filter gradient earlier, to its own 970 (docs/performance.md). The ratios
# hold for every vector width, since all of it is vector code.
WINOGRAD_COST = {"forward": (4.4, 103, 43), "input_grad": (4.4, 103, 43), "filter_grad": (5.4, 72, 38)}
FILTER_TRANSFORM = {"forward": 57, "input_grad": 57, "filter_grad": 14}
# Up to so many tiles the two passes have a path of their own (winograd_few.hpp), with these prices of the
# products and the filters: measured 24 ns a channel and vector for one tile, 45 for four, where the path
# above took 54 and 59 and is priced 61 and 75.
FEW_TILES, FEW_COST = 4, (8, 20)
# Of an element that is transposed, channels-first; of a call.
WINOGRAD_MOVED, WINOGRAD_CALL = 0.078, 3800
# Sums of products of the filter gradient on a pixel: for a tap, a channel and a vector; a tap and a
# channel; itself.
PLAIN_FILTER_GRAD = (0.12, 0.036, 2.4)
VECTOR_BYTES = 64
# Below it, on either side, sums of products are at least as fast (filter gradients of 3 channels take 0.5
# to 0.75 of Winograd's time, of 6 and 16 filters 0.75 to 0.9, of 8 and 32 filters 0.9 to 1.3), and exact
# where they can be.
FEW_CHANNELS = 8


def winograd_avoid(plain: Nanoseconds, pass_name: str, spec: Any, threads: int) -> str | None:
    """Whether transforms, and the parts of tiles beyond the map, cost more than fewer products save."""
    if winograd_unsupported(pass_name, spec) is not None:
        return None
    if shallow(pass_name, spec):
        return shallow_avoid(spec, threads)
    c = min(spec.c, spec.k) // spec.groups
    if c < FEW_CHANNELS:
        return f"with {c} channels a group, sums of products have a path of their own"
    if spec.stride == (2, 2):
        return strided_avoid(plain, pass_name, spec)
    filter_grad = pass_name == "filter_grad"
    blocked = plain_filter_grad_cost(spec) if filter_grad else plain(pass_name, spec)
    return _avoided(winograd_cost(pass_name, spec), blocked)


def _avoided(winograd: float, plain: float) -> str | None:
    if winograd <= plain:
        return None
    return f"with its transforms it would take {winograd / plain:.2g} times what plain sums of products take"


def winograd_cost(pass_name: str, spec: Any) -> float:
    """Nanoseconds by Winograd."""
    depth, columns, lanes = _channels(pass_name, spec)
    vectors = math.ceil(columns / lanes)
    out = 7 - spec.window[-1]
    *planes, height, width = _positions(pass_name, spec)
    tiles: int = spec.n * math.prod(planes)
    for pixels, step in zip((height, width), spec.dilation[-2:], strict=True):
        tiles *= step * math.ceil(math.ceil(pixels / step) / out)
    # each plane that an output plane meets is transformed for it; dy, of filter gradients, for each tap
    taps = math.prod(spec.window[:-2])
    products, source, dest = WINOGRAD_COST[pass_name]
    filters: float = FILTER_TRANSFORM[pass_name]
    if pass_name != "filter_grad" and taps == 1 and tiles <= FEW_TILES:
        products, filters = FEW_COST
    dest *= taps if pass_name == "filter_grad" else 1
    transforms = tiles * (taps * source * math.ceil(depth / lanes) + dest * vectors)
    total: float = taps * (tiles * products + filters) * depth * vectors + transforms
    cost: float = spec.groups * total + _winograd_call(pass_name, spec)
    return cost


def _winograd_call(pass_name: str, spec: Any) -> float:
    """What does not depend on tiles (filter gradient: part of the figures above)."""
    if pass_name == "filter_grad":
        return 0
    moved = spec.n * (spec.c * math.prod(spec.size) + spec.k * math.prod(spec.out_size))
    return WINOGRAD_CALL + (0 if spec.channels_last else WINOGRAD_MOVED * moved)


def plain_filter_grad_cost(spec: Any) -> float:
    """Nanoseconds of the filter gradient by sums of products."""
    depth, columns, lanes = _channels("filter_grad", spec)
    vector, tap, pixel = PLAIN_FILTER_GRAD
    pixels: int = spec.n * math.prod(spec.out_size)
    products = math.prod(spec.window) * depth * (vector * math.ceil(columns / lanes) + tap)
    cost: float = spec.groups * pixels * (products + pixel)
    return cost


def _positions(pass_name: str, spec: Any) -> tuple[int, ...]:
    """The map that a pass writes (filter gradient: the map of dy)."""
    size: tuple[int, ...] = spec.size if pass_name == "input_grad" else spec.out_size
    return size


def _channels(pass_name: str, spec: Any) -> tuple[int, int, int]:
    """Channels read and channels written (filter gradient: of dy) in a group, and a vector's lanes."""
    c, k = spec.c // spec.groups, spec.k // spec.groups
    depth, columns = (k, c) if pass_name == "input_grad" else (c, k)
    return depth, columns, VECTOR_BYTES // spec.dtype.itemsize


# Nested Winograd cuts filters into blocks of 4 x 4 taps. In thousands of draws of normal and positive data
# its error was at worst 9.5 eps of the plane's largest for windows of 5 x 5 and 4.3 for 7 x 7 and more, but
# 15.5 for a single block; the documented bound is 16 (docs/performance.md).
WINOGRAD_BLOCK = 4


def winograd_depthwise_unsupported(pass_name: str, spec: Any) -> str | None:
    if spec.ndim != 2:
        return "it takes two spatial axes"
    c, k = spec.c // spec.groups, spec.k // spec.groups
    if c > 1 or k > 1:
        return f"it takes one channel and one filter a group, not {c} and {k}"
    if spec.stride != (1, 1):
        return f"the stride is {spec.stride}, not 1"
    if min(spec.window) <= WINOGRAD_BLOCK:
        return (
            f"the window {spec.window} is not larger than a block of {WINOGRAD_BLOCK} x {WINOGRAD_BLOCK} taps"
        )
    return None


# Nanoseconds a vector of channels, from 220 random problems on a Zen 5: an output tile, a tile and block of
# taps, a transformed tile of the input, a block of the filter; of plain sums, a tap and output, channels-last
# or first.
NESTED_COST = (62, 6.6, 99, 67)
DEPTHWISE_COST = {True: 0.15, False: 0.22}


def winograd_depthwise_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    """Whether the transforms cost more than fewer products save."""
    if winograd_depthwise_unsupported(pass_name, spec) is not None:
        return None
    if spec.groups < 4:
        return f"{spec.groups} channels leave most of a vector empty"
    size, source = (spec.out_size, spec.size) if pass_name == "forward" else (spec.size, spec.out_size)
    blocks = [math.ceil(f / WINOGRAD_BLOCK) for f in spec.window]
    phases = math.prod(spec.dilation)  # of a dilated filter: images of their own
    tiles = [math.ceil(o / d / WINOGRAD_BLOCK) for o, d in zip(size, spec.dilation, strict=True)]
    tile, product, transform, filter_block = NESTED_COST
    inside = [math.ceil(s / d / WINOGRAD_BLOCK) + 1 for s, d in zip(source, spec.dilation, strict=True)]
    grid = math.prod(min(t + b - 1, i) for t, b, i in zip(tiles, blocks, inside, strict=True))
    image = phases * (math.prod(tiles) * (tile + product * math.prod(blocks)) + transform * grid)
    cost = spec.n * image + filter_block * math.prod(blocks)
    plain = spec.n * math.prod(size) * math.prod(spec.window) * DEPTHWISE_COST[spec.channels_last]
    if cost > plain:
        return f"with its transforms it would take {cost / plain:.2g} times what plain sums take"
    return None


DEPTHWISE_GROUP = 16  # channels or filters a group; from there on they fill vectors of their own


def depthwise_unsupported(pass_name: str, spec: Any) -> str | None:
    c, k = spec.c // spec.groups, spec.k // spec.groups
    if spec.groups == 1 and max(c, k) > 1:
        return "it takes channels in groups, not in one"
    if max(c, k) > DEPTHWISE_GROUP:
        return f"it takes up to {DEPTHWISE_GROUP} channels and filters a group, not {c} and {k}"
    return None


def depthwise_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    """Few groups leave most of a vector empty (one channel: 12 times slower).

    Groups of several inputs and outputs: blocked takes over at 16 of them, channels-first (where it shifts
    padded planes) at 4, except for filter gradients (docs/performance.md).
    """
    if spec.groups == 1 or min(spec.c, spec.k) < 4:
        return f"{min(spec.c, spec.k)} channels in {spec.groups} groups leave most of a vector empty"
    c, k = spec.c // spec.groups, spec.k // spec.groups
    if pass_name == "filter_grad" and not spec.channels_last and _long_lines(spec, c, k):
        return f"in groups of {c} channels, lines of {spec.out_size[-1]} positions fill vectors"
    if max(c, k) > 8 or (min(c, k) > 2 and not spec.channels_last and pass_name != "filter_grad"):
        return f"groups of {c} channels and {k} filters are dense enough for sums over channels"
    return None


def _long_lines(spec: Any, c: int, k: int) -> bool:
    """Where vectors of positions beat those of channels (shifts_beat_rotations in group_grad.hpp)."""
    taps: int = math.prod(spec.window)
    return 2 < c == k <= 6 and taps > 1 and spec.stride[-1] == 1 and spec.out_size[-1] >= 32

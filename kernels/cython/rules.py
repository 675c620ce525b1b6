"""What each compiled algorithm cannot do, and where dispatch should pass over it.

A threshold says where it was measured; docs/performance.md has the figures.
"""

from __future__ import annotations

import math
from typing import Any

from fastconv.kernels.kernel import winograd_grad_refusal


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


def shallow_avoid(spec: Any) -> str | None:
    """Whether few channels take longer with transforms than the paths that `blocked` has for them."""
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
# Transforms of a tile at stride 2: the four classes of x and the output; dy and the four phases of dx. Of the
# filters, all classes. Beyond 12 MB of transformed filters, read again for each block of tiles, it is 3 to 6
# times slower.
STRIDED_COST = {"forward": (1800, 200), "input_grad": (450, 1000)}
STRIDED_FILTERS, STRIDED_FILTER_BYTES = 360, 12 << 20
STRIDED_MARGIN = 1.1  # 32 channels on 64x64 maps, where the costs say 1.12, are a draw


def strided_avoid(pass_name: str, spec: Any) -> str | None:
    """The same decision at stride 2."""
    depth, columns, lanes = _channels(pass_name, spec)
    if min(depth, columns) < FEW_CHANNELS:
        return f"with {min(depth, columns)} channels a group, sums of products have a path of their own"
    vectors, taps = math.ceil(columns / lanes), spec.window[0]
    padded = math.ceil(depth / lanes) * lanes * vectors * lanes
    if 144 * spec.groups * padded * spec.dtype.itemsize > STRIDED_FILTER_BYTES:
        return "its transformed filters would not stay in the caches"
    out, products = 7 - (taps + 1) // 2, 121 if taps % 2 else 144
    tiles: int = spec.n * math.prod(math.ceil(size / out) for size in spec.out_size)
    source, dest = STRIDED_COST[pass_name]
    cost = (tiles * products + STRIDED_FILTERS) * depth * vectors
    cost += tiles * (source * math.ceil(depth / lanes) + dest * vectors)
    vector, tap, pixel = BLOCKED_LAST
    blocked = spec.n * math.prod(spec.out_size) * (taps * taps * depth * (vector * vectors + tap) + pixel)
    if cost * STRIDED_MARGIN > blocked:
        return (
            f"with its transforms it would take {cost / blocked:.2g} times what plain sums of products take"
        )
    return None


# What Winograd costs, in multiply-adds of vectors: the 36 products for a tile, a channel of the one side and
# a vector of the other; the transforms of a tile for a vector of channels of each side; of the filters for a
# channel and a vector. And the blocked kernel on a pixel: for a tap, a channel and a vector; for a tap and
# a channel; itself. Fitted to 2900 measurements on random shapes (docs/performance.md); the ratios hold for
# every vector width, since transforms and products are vector code alike.
WINOGRAD_COST = {"forward": (36, 450, 200), "input_grad": (36, 450, 200), "filter_grad": (45, 600, 320)}
FILTER_TRANSFORM = 120
BLOCKED_LAST = (0.85, 0.25, 75)
BLOCKED_FIRST = (1.1, 0, 0)
BLOCKED_FILTER_GRAD = (1, 0.3, 20)
VECTOR_BYTES = 64
# Below it, `blocked` works on padded bands and volumes, whose cost the model does not know: on 3 channels it
# takes 0.5 to 0.75 of Winograd's time, on 6 and 16 filters 0.75 to 0.9, on 8 and 32 filters 0.9 to 1.3.
FEW_CHANNELS = 8


def winograd_avoid(pass_name: str, spec: Any, threads: int) -> str | None:
    """Whether transforms, and the parts of tiles beyond the map, cost more than fewer products save."""
    if winograd_unsupported(pass_name, spec) is not None:
        return None
    if shallow(pass_name, spec):
        return shallow_avoid(spec)
    if spec.stride == (2, 2):
        return strided_avoid(pass_name, spec)
    c = spec.c // spec.groups
    if c < FEW_CHANNELS:
        return f"with {c} channels a group, sums of products have a path of their own"
    winograd, blocked = winograd_cost(pass_name, spec), blocked_cost(pass_name, spec)
    if winograd > blocked:
        times = winograd / blocked
        return f"with its transforms it would take {times:.2g} times what plain sums of products take"
    return None


def winograd_cost(pass_name: str, spec: Any) -> float:
    """Multiply-adds of vectors in a group, by Winograd."""
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
    dest *= taps if pass_name == "filter_grad" else 1
    transforms = tiles * (taps * source * math.ceil(depth / lanes) + dest * vectors)
    total: float = taps * (tiles * products + FILTER_TRANSFORM) * depth * vectors + transforms
    return total


def blocked_cost(pass_name: str, spec: Any) -> float:
    """The same by sums of products."""
    depth, columns, lanes = _channels(pass_name, spec)
    cost: tuple[float, float, float] = BLOCKED_LAST if spec.channels_last else BLOCKED_FIRST
    vector, tap, pixel = BLOCKED_FILTER_GRAD if pass_name == "filter_grad" else cost
    size, taps = _positions(pass_name, spec), math.prod(spec.window)
    vectors: float
    if pass_name == "filter_grad" or spec.channels_last:
        vectors = math.ceil(columns / lanes)
    else:  # vectors of pixels: all lanes are filled, but the positions between two rows are computed too
        vectors = columns / lanes * (size[-1] + spec.dilation[-1] * (spec.window[-1] - 1)) / size[-1]
    pixels: int = spec.n * math.prod(size)
    total: float = pixels * (taps * depth * (vector * vectors + tap) + pixel)
    return total


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
    if max(c, k) > 8 or (min(c, k) > 2 and not spec.channels_last and pass_name != "filter_grad"):
        return f"groups of {c} channels and {k} filters are dense enough for sums over channels"
    return None

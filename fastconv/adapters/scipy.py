"""SciPy's direct filters of images on fastconv, for whole batches: `correlate2d` and `convolve2d` of
scipy.signal, `correlate` and `convolve` of scipy.ndimage.

The functions here take images (..., H, W) and filter each; flip, mode, boundary and origin are SciPy's.
`install` puts them behind SciPy's own names, for single images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.adapters import HOSTS
from fastconv.adapters.base import Adapter, Patch, or_else, require
from fastconv.ops.arrays import Array, checked_float
from fastconv.ops.errors import bad_type, bad_value, shown

require(HOSTS["scipy"])

from scipy import ndimage, signal  # noqa: E402

Ends = tuple[tuple[int, int], ...]
TINY = np.finfo(np.float64).eps
# SciPy's names of what lies beyond the image -> numpy.pad's
BOUNDARY = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}
EXTENSION = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "constant": "constant",
    "grid-constant": "constant",
    "nearest": "edge",
    "mirror": "reflect",
    "wrap": "wrap",
    "grid-wrap": "wrap",
}


def correlate2d(
    in1: Array, in2: Array, mode: str = "full", boundary: str = "fill", fillvalue: float = 0
) -> Array:
    """`scipy.signal.correlate2d` of every image of a batch with one filter.

    Parameters
    ----------
    in1 : ndarray (..., H, W)
    in2 : ndarray (R, S)
        The type that both have in common must be float32 or float64.
    mode : {"full", "valid", "same"}, default "full"
    boundary : {"fill", "wrap", "symm"}, default "fill"
    fillvalue : float, default 0

    Returns
    -------
    ndarray (..., OH, OW)
        OH is H+R-1 in mode "full", H in "same", |H-R|+1 in "valid", where a filter larger than the images
        changes places with them, as in SciPy.

    Raises
    ------
    ValueError, TypeError
        An unknown mode or boundary; "valid" where neither is at least as large as the other on both axes;
        other types.

    Examples
    --------
    >>> import numpy as np
    >>> correlate2d(np.arange(9.0).reshape(1, 3, 3), np.array([[1.0, 2.0]]), mode="valid")
    array([[[ 2.,  5.],
            [11., 14.],
            [20., 23.]]])
    """
    return _filtered("correlate2d", in1, in2, mode, boundary, fillvalue, flip=False)


def convolve2d(
    in1: Array, in2: Array, mode: str = "full", boundary: str = "fill", fillvalue: float = 0
) -> Array:
    """`scipy.signal.convolve2d` of every image of a batch with one filter, which is flipped.

    Parameters, result and errors are those of `correlate2d`.

    Examples
    --------
    >>> import numpy as np
    >>> convolve2d(np.arange(9.0).reshape(1, 3, 3), np.array([[1.0, 2.0]]), mode="valid")
    array([[[ 1.,  4.],
            [10., 13.],
            [19., 22.]]])
    """
    return _filtered("convolve2d", in1, in2, mode, boundary, fillvalue, flip=True)


def correlate(
    input: Array,
    weights: Array,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
) -> Array:
    """`scipy.ndimage.correlate` of every image of a batch with one filter.

    Parameters
    ----------
    input : ndarray (..., H, W), float32 or float64
    weights : ndarray (R, S)
        Sums are in float64, as in SciPy.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"} or a "grid-" name, default "reflect"
    cval : float, default 0.0
        Beyond the image in mode "constant".
    origin : int or (int, int), default 0
        Moves the filter.

    Returns
    -------
    ndarray of input's shape and dtype

    Raises
    ------
    ValueError, TypeError
        An unknown mode, an origin outside the filter, other types; weights of 0 over pixels that are not
        finite, which SciPy leaves out of the sum.

    Examples
    --------
    >>> import numpy as np
    >>> correlate(np.arange(4.0).reshape(1, 1, 4), np.array([[1.0, 0.0, 1.0]]))
    array([[[1., 2., 4., 5.]]])
    """
    return _extended("correlate", input, weights, mode, cval, origin, flip=False)


def convolve(
    input: Array,
    weights: Array,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
) -> Array:
    """`scipy.ndimage.convolve` of every image of a batch with one filter, which is flipped.

    Parameters, result and errors are those of `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> convolve(np.arange(4.0).reshape(1, 1, 4), np.array([[1.0, 0.0, 0.0]]))
    array([[[1., 2., 3., 3.]]])
    """
    return _extended("convolve", input, weights, mode, cval, origin, flip=True)


def _filtered(
    op: str, in1: Array, in2: Array, mode: str, boundary: str, fillvalue: float, flip: bool
) -> Array:
    """scipy.signal's rules: the place of the output by `mode`."""
    _check_images(op, "in1", in1, "in2", in2)
    _check_name(op, "mode", mode, ("full", "valid", "same"))
    _check_name(op, "boundary", boundary, tuple(BOUNDARY))
    dtype = np.result_type(in1, in2)
    x, w = (checked_float(op, "the common type", a.astype(dtype, copy=False)) for a in (in1, in2))
    sizes = list(zip(x.shape[-2:], w.shape, strict=True))
    if mode == "valid" and any(i < r for i, r in sizes):
        if any(i > r for i, r in sizes):
            bad_value(op, f"images of {x.shape[-2:]} and a filter of {w.shape}", "one must hold the other")
        return _changed_places(x, w, flip)
    after = [{"valid": 0, "full": r - 1, "same": (r - 1) // 2 if flip else r // 2}[mode] for r in w.shape]
    ends = tuple((r - 1 - a if mode == "same" else a, a) for r, a in zip(w.shape, after, strict=True))
    return _correlated(x, w[::-1, ::-1] if flip else w, ends, BOUNDARY[boundary], fillvalue)


def _changed_places(x: Array, w: Array, flip: bool) -> Array:
    """The images (..., H, W) slide over the larger filter."""
    filters = x.reshape(math.prod(x.shape[:-2]), 1, *x.shape[-2:])
    y = fc.conv2d(w[None, None], np.flip(filters, (2, 3)) if flip else filters)
    y = y.reshape(*x.shape[:-2], *y.shape[2:])
    return y if flip else np.flip(y, (-2, -1))


def _extended(
    op: str, x: Array, w: Array, mode: str, cval: float, origin: int | Sequence[int], flip: bool
) -> Array:
    """scipy.ndimage's rules: an output of the input's size, sums in float64."""
    _check_images(op, "input", x, "weights", w)
    _check_name(op, "mode", mode, tuple(EXTENSION))
    dtype = checked_float(op, "input", x).dtype
    if w.dtype.kind not in "fiub":
        bad_value(op, f"weights have dtype {w.dtype}", "they must be real")
    w = w.astype(np.float64)
    tiny = np.abs(w) <= TINY
    if tiny.any():
        w[tiny] = 0  # as SciPy, which leaves them out of the sum
        if not (np.isfinite(cval) and np.isfinite(x).all()):
            bad_value(op, "weights of 0 meet pixels that are not finite", "all must be finite")
    ends: list[tuple[int, int]] = []
    origins = origin if isinstance(origin, Sequence) else (origin, origin)
    for r, moved in zip(w.shape, origins, strict=True):
        before = r // 2 + moved
        before = r - 1 - before if flip else before
        if not 0 <= before < r:
            bad_value(
                op, f"origin is {shown(origin)}", f"it must leave the filter of {w.shape} over its pixel"
            )
        ends.append((before, r - 1 - before))
    w = w[::-1, ::-1] if flip else w
    y = _correlated(x.astype(np.float64, copy=False), w, tuple(ends), EXTENSION[mode], cval)
    return y.astype(dtype, copy=False)


def _correlated(x: Array, w: Array, ends: Ends, beyond: str, value: float) -> Array:
    """x (..., H, W) with w (R, S), after padding as numpy.pad does in mode `beyond`."""
    images = x.reshape(math.prod(x.shape[:-2]), 1, *x.shape[-2:])
    if beyond == "constant" and value == 0:
        y = fc.conv2d(images, w[None, None], padding=ends)
    elif beyond == "constant":
        y = fc.conv2d(np.pad(images, [(0, 0), (0, 0), *ends], constant_values=value), w[None, None])
    else:
        rows, columns = (_pixels(i, *end, beyond) for i, end in zip(x.shape[-2:], ends, strict=True))
        y = fc.conv2d(images.take(rows, 2).take(columns, 3), w[None, None])
    return y.reshape(*x.shape[:-2], *y.shape[2:])


@lru_cache(maxsize=256)
def _pixels(size: int, before: int, after: int, beyond: str) -> Array:
    """Which pixels of a row lie on a padded row: numpy.pad itself takes longer than a small image's sums."""
    return np.pad(np.arange(size), (before, after), beyond)  # type: ignore[call-overload, no-any-return]


def _check_images(op: str, name: str, x: Array, w_name: str, w: Array) -> None:
    for what, a in ((name, x), (w_name, w)):
        if not isinstance(a, np.ndarray):
            bad_type(op, f"{what} is {shown(type(a).__name__)}", "it must be a NumPy array")
    if x.ndim < 2 or w.ndim != 2:
        bad_value(
            op, f"{name} has {x.ndim} dimensions, {w_name} {w.ndim}", "images (..., H, W), a filter (R, S)"
        )


def _check_name(op: str, name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        bad_value(op, f"{name} is {shown(value)}", f"it must be one of {', '.join(known)}")


def _single(fast: Callable[..., Array]) -> Callable[..., Any]:
    """`fast` behind SciPy's name: one image, and SciPy's own code for the rest."""

    def call(image: Array, filter: Array, *args: Any, **options: Any) -> Array:
        if not (type(image) is type(filter) is np.ndarray and image.ndim == filter.ndim == 2):
            raise TypeError("SciPy reads lists, masked arrays and arrays of other ranks")
        return fast(image, filter, *args, **options)

    return partial(or_else, call)


def _ndimage(fast: Callable[..., Array]) -> Callable[..., Array]:
    """`fast` with scipy.ndimage's parameters: `output` and `axes` are SciPy's alone."""

    def call(
        input: Array,
        weights: Array,
        output: Any = None,
        mode: str = "reflect",
        cval: float = 0.0,
        origin: int | Sequence[int] = 0,
        *,
        axes: Any = None,
    ) -> Array:
        if output is not None or axes is not None:
            raise TypeError("SciPy has its own")
        return fast(input, weights, mode, cval, origin)

    return call


def _patches() -> list[Patch]:
    return [
        Patch(signal, "correlate2d", _single(correlate2d)),
        Patch(signal, "convolve2d", _single(convolve2d)),
        Patch(ndimage, "correlate", _single(_ndimage(correlate))),
        Patch(ndimage, "convolve", _single(_ndimage(convolve))),
    ]


_adapter = Adapter(HOSTS["scipy"], _patches)
install, uninstall, installed = _adapter.install, _adapter.uninstall, _adapter.installed

"""A conformance suite: any NumPy convolution against the cases that fastconv's own kernels pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastconv.kernels.reference import KERNEL as REFERENCE
from fastconv.ops.arrays import Array
from fastconv.ops.errors import bad_value, shown
from fastconv.ops.parse import LAYOUTS, parse_flag, parse_int, parse_sequence
from fastconv.ops.spec import ConvSpec, conv_spec

OPTIONS = ("bias", "stride", "padding", "dilation", "groups")
Function = Callable[..., Any]


class CheckResult(NamedTuple):
    """One check: its name, whether it passed, and what was wrong."""

    check: str
    passed: bool
    message: str


class Case(NamedTuple):
    """A problem over the last `ndim` axes; every tuple is cut to them."""

    name: str
    n: int = 2
    c: int = 3
    k: int = 4
    size: tuple[int, int, int] = (5, 7, 8)
    window: tuple[int, int, int] = (2, 3, 3)
    stride: tuple[int, int, int] = (1, 1, 1)
    padding: tuple[tuple[int, int], ...] = ((0, 0),) * 3
    dilation: tuple[int, int, int] = (1, 1, 1)
    groups: int = 1
    bias: bool = False


PAD1 = ((1, 1),) * 3
CASES = (
    Case("plain"),
    Case("one pixel", n=1, c=1, k=1, size=(1, 1, 1), window=(1, 1, 1)),
    Case("1x1", window=(1, 1, 1), c=8),
    Case("filter as large as the image", size=(3, 3, 4), window=(3, 3, 4)),
    Case("many channels", c=37, k=19),
    Case("wide image", n=1, c=2, k=3, size=(2, 5, 70)),
    Case("empty batch", n=0),
    Case("bias", bias=True),
    Case("stride", stride=(2, 2, 2)),
    Case("stride longer than the filter", window=(1, 2, 2), stride=(2, 3, 4)),
    Case("a stride for each axis", stride=(1, 2, 3), size=(4, 9, 10)),
    Case("padding", padding=PAD1),
    Case("padding wider than the image", size=(2, 2, 2), padding=((3, 3),) * 3),
    Case("padding for each side", padding=((0, 1), (2, 0), (1, 3))),
    Case("dilation", dilation=(2, 2, 2)),
    Case("groups", c=6, k=4, groups=2),
    Case("depthwise", c=5, k=5, groups=5),
    Case("depthwise, two filters a channel", c=5, k=10, groups=5),
    Case("stride and padding", stride=(2, 2, 2), padding=PAD1),
    Case(
        "everything",
        c=6,
        k=9,
        groups=3,
        stride=(2, 1, 2),
        padding=((1, 0), (0, 2), (3, 1)),
        dilation=(1, 2, 3),
        size=(6, 9, 11),
        bias=True,
    ),
)


@dataclass(frozen=True)
class Backend:
    """The functions under test and what they take."""

    forward: Function
    input_grad: Function | None
    filter_grad: Function | None
    ndim: int
    layout: str
    options: tuple[str, ...]
    error_factor: float
    exact: bool


def check_conv_backend(
    fn: Function,
    *,
    input_grad: Function | None = None,
    filter_grad: Function | None = None,
    ndim: int = 2,
    layout: str | None = None,
    dtypes: Sequence[str] = ("float32", "float64"),
    options: Sequence[str] = OPTIONS,
    error_factor: float = 16.0,
    exact: bool = False,
    raise_on_failure: bool = True,
) -> list[CheckResult]:
    """Check that a function computes convolutions as fastconv defines them.

    Values and gradients over many geometries, dtypes and shapes of results, memory orders, read-only inputs
    that stay as they were, repeated and concurrent calls, and errors where shapes do not fit.

    Parameters
    ----------
    fn : callable
        Called as ``fn(x, w, **keywords)``, where keywords are those of `conv2d` that a case needs: "bias"
        (an array), "stride", "padding" ((before, after) pairs), "dilation", "groups".
    input_grad : callable, optional
        Called as ``input_grad(dy, w, x_shape, **keywords)``.
    filter_grad : callable, optional
        Called as ``filter_grad(x, dy, w_shape, **keywords)``.
    ndim : {1, 2, 3}, default 2
        Number of spatial axes.
    layout : str, optional
        The layout that the functions take, channels-first by default; it is not passed to them.
    dtypes : sequence of {"float32", "float64"}
    options : sequence of str
        The keywords that the functions know; cases that need others are left out.
    error_factor : float, default 16
        Results may be off by this times eps times the sum of the products' magnitudes.
    exact : bool, default False
        Also demand that sums of small whole numbers come out exact: true of every sum of products, not of
        Winograd's or Fourier's algorithms.
    raise_on_failure : bool, default True
        Raise at the first failure; False only lists it.

    Returns
    -------
    list of CheckResult
        (check, passed, message) of every check, in order.

    Raises
    ------
    AssertionError
        Where a check fails, with the check's name and what was wrong.
    ValueError, TypeError
        For arguments that do not fit.

    References
    ----------
    scikit-learn's ``check_estimator``, for the idea.

    Examples
    --------
    >>> import fastconv as fc
    >>> with fc.use(precision="highest"):  # Winograd rounds more than a sum of products
    ...     results = fc.testing.check_conv_backend(fc.conv2d, input_grad=fc.conv2d_input_grad)
    >>> all(result.passed for result in results)
    True
    """
    op = "check_conv_backend"
    if parse_int(op, "ndim", ndim, least=1) not in LAYOUTS:
        bad_value(op, f"ndim is {ndim}", "it must be 1, 2 or 3")
    layout = LAYOUTS[ndim][0] if layout is None else layout
    if layout not in LAYOUTS[ndim]:
        bad_value(op, f"layout is {shown(layout)}", f"it must be one of {', '.join(LAYOUTS[ndim])}")
    options = tuple(parse_sequence(op, "options", options, f"it must be some of {', '.join(OPTIONS)}"))
    for unknown in set(options) - set(OPTIONS):
        bad_value(op, f"options has {shown(unknown)}", f"it must be some of {', '.join(OPTIONS)}")
    exact, raising = parse_flag(op, "exact", exact), parse_flag(op, "raise_on_failure", raise_on_failure)
    backend = Backend(fn, input_grad, filter_grad, ndim, layout, options, error_factor, exact)
    results = []
    for dtype in dtypes:
        for name, check in checks(backend, np.dtype(dtype)):
            message = outcome(check)
            if message and raising:
                raise AssertionError(f"{op}: {dtype}: {name}: {message}")
            results.append(CheckResult(f"{dtype}: {name}", not message, message))
    return results


def outcome(check: Callable[[], None]) -> str:
    """What was wrong, or nothing."""
    try:
        check()
    except Exception as error:  # whatever a backend raises is its failure
        return (
            f"{type(error).__name__}: {error}".strip()
            if not isinstance(error, AssertionError)
            else str(error)
        )
    return ""


def checks(backend: Backend, dtype: np.dtype[Any]) -> Iterator[tuple[str, Callable[[], None]]]:
    """(name, check) of everything that the backend's options allow."""
    for case in CASES:
        problem = Problem(backend, case, dtype)
        if problem.keywords.keys() <= set(backend.options):
            yield case.name, problem.check_forward
            if backend.input_grad is not None:
                yield f"{case.name}: input gradient", problem.check_input_grad
            if backend.filter_grad is not None:
                yield f"{case.name}: filter gradient", problem.check_filter_grad
    plain = Problem(backend, CASES[0], dtype)
    yield "memory order", plain.check_memory_order
    yield "inputs stay as they were", plain.check_inputs_are_not_written
    yield "the same call gives the same bits", plain.check_repeatable
    yield "calls from several threads", plain.check_threads
    yield "channels that do not fit are refused", plain.check_refuses_other_channels


class Problem:
    """One case with its arrays, and what the reference makes of them."""

    def __init__(self, backend: Backend, case: Case, dtype: np.dtype[Any]) -> None:
        self.backend, self.dtype = backend, dtype
        self.spec = spec_of(backend, case, dtype)
        first = 3 - backend.ndim
        given: dict[str, Any] = {
            "stride": case.stride[first:],
            "padding": case.padding[first:],
            "dilation": case.dilation[first:],
            "groups": case.groups,
        }
        plain = {"stride": (1,) * 3, "padding": ((0, 0),) * 3, "dilation": (1,) * 3}
        self.geometry = {
            name: value
            for name, value in given.items()
            if value != (1 if name == "groups" else plain[name][first:])
        }
        self.keywords = dict(self.geometry)
        if case.bias:
            self.keywords["bias"] = self.draw((self.spec.k,), 3)
        self.x, self.w = self.draw(self.spec.x_shape, 0), self.draw(self.spec.w_shape, 1)
        self.dy = self.draw(self.spec.y_shape, 2)

    def draw(self, shape: tuple[int, ...], seed: int) -> Array:
        rng = np.random.default_rng(seed)
        if self.backend.exact:
            return rng.integers(-4, 5, shape).astype(self.dtype)
        return rng.standard_normal(shape).astype(self.dtype)

    def call(self, x: Array, w: Array) -> Array:
        return np.asarray(self.backend.forward(x, w, **self.keywords))

    def expected(self, pass_name: str, a: Array, b: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """(result, largest allowed error) in float64."""
        run = REFERENCE.passes[pass_name]
        result, size = np.empty(shape), np.empty(shape)
        bias = self.keywords.get("bias")
        for out, widen in ((result, np.asarray), (size, np.abs)):
            left, right = widen(a.astype(np.float64)), widen(b.astype(np.float64))
            if pass_name == "forward":
                run(self.spec, left, right, None if bias is None else widen(bias), out, None, 1)
            elif pass_name == "input_grad":
                run(self.spec, left, right, out, 1)
            else:
                run(self.spec, left, right, out, None, 1)
        return result, size * (
            0 if self.backend.exact else self.backend.error_factor * np.finfo(self.dtype).eps
        )

    def compare(self, got: Any, expected: Array, allowed: Array) -> None:
        got = np.asarray(got)
        assert got.dtype == self.dtype, f"the result is {got.dtype}: it must be {self.dtype}"
        assert got.shape == expected.shape, f"the result has shape {got.shape}: it must be {expected.shape}"
        off = np.abs(got - expected)
        wrong = ~(off <= allowed)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{wrong.sum()} of {wrong.size} elements are off; at {at}: {got[at]!r}, not {expected[at]!r} "
                f"(x {self.spec.x_shape}, w {self.spec.w_shape}, {self.keywords})"
            )

    def check_forward(self) -> None:
        expected = self.expected("forward", self.x, self.w, self.spec.y_shape)
        self.compare(self.call(self.x, self.w), *expected)

    def check_input_grad(self) -> None:
        assert self.backend.input_grad is not None
        expected = self.expected("input_grad", self.dy, self.w, self.spec.x_shape)
        self.compare(self.backend.input_grad(self.dy, self.w, self.spec.x_shape, **self.geometry), *expected)

    def check_filter_grad(self) -> None:
        assert self.backend.filter_grad is not None
        expected = self.expected("filter_grad", self.x, self.dy, self.spec.w_shape)
        self.compare(self.backend.filter_grad(self.x, self.dy, self.spec.w_shape, **self.geometry), *expected)

    def check_memory_order(self) -> None:
        expected = self.expected("forward", self.x, self.w, self.spec.y_shape)
        sliced = np.repeat(self.x, 2, axis=-1)[..., ::2]
        backwards = np.flip(np.ascontiguousarray(np.flip(self.x)))
        for x in (np.asfortranarray(self.x), sliced, backwards):
            self.compare(self.call(x, np.asfortranarray(self.w)), *expected)

    def check_inputs_are_not_written(self) -> None:
        x, w = self.x.copy(), self.w.copy()
        x.flags.writeable = w.flags.writeable = False
        self.call(x, w)
        assert np.array_equal(x, self.x) and np.array_equal(w, self.w), "an input was written"

    def check_repeatable(self) -> None:
        first, second = self.call(self.x, self.w), self.call(self.x, self.w)
        assert first.tobytes() == second.tobytes(), "two equal calls differ"

    def check_threads(self) -> None:
        alone = self.call(self.x, self.w).copy()
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda _: self.call(self.x, self.w).copy(), range(16)))
        assert all(np.array_equal(alone, y) for y in together), "concurrent calls differ from one alone"

    def check_refuses_other_channels(self) -> None:
        w = np.concatenate([self.w, self.w], axis=-2 if self.spec.channels_last else 1)
        try:
            self.call(self.x, w)
        except Exception:  # any refusal will do: which error is the backend's own contract
            return
        raise AssertionError(f"x {self.x.shape} with w {w.shape} must raise an error")


def spec_of(backend: Backend, case: Case, dtype: np.dtype[Any]) -> ConvSpec:
    """The case's geometry in the backend's rank and layout."""
    first = 3 - backend.ndim
    size, window = case.size[first:], case.window[first:]
    last = backend.layout == LAYOUTS[backend.ndim][1]
    c_group = case.c // case.groups
    return conv_spec(
        f"conv{backend.ndim}d",
        (case.n, *size, case.c) if last else (case.n, case.c, *size),
        (*window, c_group, case.k) if last else (case.k, c_group, *window),
        dtype,
        stride=case.stride[first:],
        padding=case.padding[first:],
        dilation=case.dilation[first:],
        groups=case.groups,
        layout=backend.layout,
    )

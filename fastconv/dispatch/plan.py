"""A convolution planned once and run often: checked arguments, chosen kernels, kept filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from fastconv.dispatch import runtime, settings
from fastconv.dispatch.problem import parse_dtype, seen_by_kernel
from fastconv.dispatch.select import select
from fastconv.kernels.kernel import CONV_PASSES, Kernel
from fastconv.ops.activation import check_activation
from fastconv.ops.arrays import Array, check_out, check_shape, checked_float, contiguous, result, writable
from fastconv.ops.errors import bad_type, bad_value
from fastconv.ops.padding import around
from fastconv.ops.parse import PaddingLike, PerAxis, Size, parse_flag
from fastconv.ops.spec import ConvSpec, conv_spec


def plan_conv2d(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    dtype: Any = "float32",
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    activation: str | None = None,
    layout: str = "NCHW",
    kernel: str | None = None,
    threads: int | None = None,
) -> ConvPlan:
    """Plan a convolution that is to run many times on arrays of the same shape.

    Everything but the arrays is checked, and a kernel chosen for each pass, once. The plan keeps the filters:
    a copy, packed or transformed in advance where the kernel can use that.

    Parameters
    ----------
    x_shape, w_shape : sequence of 4 ints
        Shapes of the input and of the filters, as in `conv2d`.
    dtype : {"float32", "float64"}, default "float32"
        Of every array.
    stride, padding, dilation, groups, padding_mode, activation, layout
        As in `conv2d`.
    kernel : str, optional
        Forces "backend.algorithm" for every pass; None chooses, as `tune`, `use` and FASTCONV_KERNEL say now.
    threads : int, optional
        Most threads a call may use; by default as `use` or the environment says now.

    Returns
    -------
    ConvPlan
        Call its `forward`, `input_grad` and `filter_grad`; see `ConvPlan`.

    Raises
    ------
    ValueError, TypeError
        For every argument that does not fit. `UnsupportedProblem` (a ValueError) where a forced kernel cannot
        do one of the passes.

    References
    ----------
    Frigo, Johnson: The design and implementation of FFTW3 (2005), for plans.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> plan = fc.plan_conv2d((1, 1, 3, 3), (1, 1, 2, 2), "float64")
    >>> plan.y_shape
    (1, 1, 2, 2)
    >>> plan.set_filters(np.ones((1, 1, 2, 2)))
    >>> plan.forward(np.arange(9.0).reshape(1, 1, 3, 3))
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    op = "plan_conv2d"
    spec = conv_spec(
        op,
        x_shape,
        w_shape,
        parse_dtype(op, dtype),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=padding_mode,
        layout=layout,
    )
    if activation is not None:
        check_activation(op, activation)
    current = settings.current()
    if threads is not None:
        current = current._replace(threads=settings.checked_threads(op, threads))
    inner = seen_by_kernel(spec)
    chosen = {p: select(op, p, inner, current, kernel) for p in CONV_PASSES}
    steps = {p: step(p, spec, inner, chosen[p]) for p in CONV_PASSES}
    workspace = max(chosen[p].workspace(p, inner, current.threads) for p in CONV_PASSES)
    names = {p: chosen[p].name for p in CONV_PASSES}
    return ConvPlan(spec, activation, current.threads, names, workspace, steps)


class Step(NamedTuple):
    """One pass of a plan: the kernel's function, and what makes its filters of w."""

    run: Callable[..., None]
    prepare: Callable[[Array], Any] | None


def step(pass_name: str, spec: ConvSpec, inner: ConvSpec, kernel: Kernel) -> Step:
    if inner is not spec:  # padded band by band, and the bands' geometries differ: no filters fit them all
        return Step(around(pass_name, kernel.passes[pass_name]), None)
    if pass_name in kernel.prepared:
        return Step(kernel.prepared[pass_name], lambda w: kernel.prepare(pass_name, spec, w))
    return Step(kernel.passes[pass_name], None)


class Filters:
    """Filters and bias that a plan keeps: copies, prepared for a pass when it first asks."""

    def __init__(self, w: Array, bias: Array | None) -> None:
        self.w = w.copy()
        self.bias = None if bias is None else bias.copy()
        self.prepared: dict[Callable[[Array], Any], Any] = {}

    def of(self, pass_: Step) -> Any:
        if pass_.prepare is None:
            return self.w
        if pass_.prepare not in self.prepared:  # two threads may both do it: the results are the same
            self.prepared[pass_.prepare] = pass_.prepare(self.w)
        return self.prepared[pass_.prepare]


@dataclass(eq=False)
class ConvPlan:
    """A planned convolution; made by `plan_conv2d`.

    The methods may be called from any number of threads at once.

    Attributes
    ----------
    spec : ConvSpec
        The geometry: n, c, k, groups, size, window, out_size, stride, dilation, padding, dtype.
    activation : str or None
        Fused into the forward pass.
    threads : int
        Most threads a call may use.
    kernel : dict of str to str
        The kernel of each pass.
    workspace : int
        The most bytes that a pass allocates during a call, as its kernel tells it.
    """

    spec: ConvSpec
    activation: str | None
    threads: int
    kernel: dict[str, str]
    workspace: int
    _steps: dict[str, Step] = field(repr=False)
    _filters: Filters | None = field(default=None, init=False, repr=False)

    @property
    def x_shape(self) -> Size:
        return self.spec.x_shape

    @property
    def w_shape(self) -> Size:
        return self.spec.w_shape

    @property
    def y_shape(self) -> Size:
        return self.spec.y_shape

    def set_filters(self, w: Array, bias: Array | None = None) -> None:
        """Keep a copy of the filters for the calls that follow.

        Parameters
        ----------
        w : ndarray of shape `w_shape` and the plan's dtype
        bias : ndarray (K,), optional

        Raises
        ------
        ValueError, TypeError
            Where a shape or dtype is not the plan's.
        """
        self._filters = self._checked_filters("plan.set_filters", w, bias)

    def forward(
        self, x: Array, w: Array | None = None, bias: Array | None = None, *, out: Array | None = None
    ) -> Array:
        """The convolution of x, with bias and activation, as `conv2d`.

        Parameters
        ----------
        x : ndarray of shape `x_shape` and the plan's dtype
        w, bias : ndarray, optional
            New filters, kept from now on as by `set_filters`; by default those kept already.
        out : ndarray, optional
            Receives the result.

        Returns
        -------
        ndarray of shape `y_shape`

        Raises
        ------
        ValueError, TypeError
            For every array that does not fit the plan, and where there are no filters.
        """
        op = "plan.forward"
        x = self._checked(op, "x", x, self.x_shape)
        if w is not None:
            filters = self._checked_filters(op, w, bias)
        elif bias is not None:
            bad_value(op, "bias comes without w", "they are set together")
        else:
            filters = self._kept(op)
        y = self._result(op, out, self.y_shape, x, w, bias)
        if w is not None:
            self._filters = filters
        pass_ = self._steps["forward"]
        pass_.run(
            self.spec, contiguous(x), filters.of(pass_), filters.bias, y, self.activation, self._threads()
        )
        return result(y, out)

    def input_grad(self, dy: Array, *, out: Array | None = None) -> Array:
        """Gradient with respect to the input, with the filters kept, as `conv2d_input_grad`.

        Parameters
        ----------
        dy : ndarray of shape `y_shape` and the plan's dtype
            Gradient of the sum before the activation (see `activation_grad`).
        out : ndarray, optional
            Receives the result.

        Returns
        -------
        ndarray of shape `x_shape`

        Raises
        ------
        ValueError, TypeError
            For every array that does not fit the plan, and where there are no filters.
        """
        op = "plan.input_grad"
        dy = self._checked(op, "dy", dy, self.y_shape)
        filters = self._kept(op)
        dx = self._result(op, out, self.x_shape, dy)
        pass_ = self._steps["input_grad"]
        pass_.run(self.spec, contiguous(dy), filters.of(pass_), dx, self._threads())
        return result(dx, out)

    @overload
    def filter_grad(
        self, x: Array, dy: Array, *, bias_grad: Literal[False] = ..., out: Array | None = ...
    ) -> Array: ...
    @overload
    def filter_grad(
        self, x: Array, dy: Array, *, bias_grad: Literal[True], out: Array | None = ...
    ) -> tuple[Array, Array]: ...
    def filter_grad(
        self, x: Array, dy: Array, *, bias_grad: bool = False, out: Array | None = None
    ) -> Array | tuple[Array, Array]:
        """Gradient with respect to the filters, and to the bias, as `conv2d_filter_grad`.

        Parameters
        ----------
        x : ndarray of shape `x_shape` and the plan's dtype
        dy : ndarray of shape `y_shape` and the plan's dtype
            Gradient of the sum before the activation (see `activation_grad`).
        bias_grad : bool, default False
            Also return the gradient of the bias.
        out : ndarray, optional
            Receives the gradient of the filters.

        Returns
        -------
        dw : ndarray of shape `w_shape`
        db : ndarray (K,), only with `bias_grad`

        Raises
        ------
        ValueError, TypeError
            For every array that does not fit the plan.
        """
        op = "plan.filter_grad"
        x = self._checked(op, "x", x, self.x_shape)
        dy = self._checked(op, "dy", dy, self.y_shape)
        db = np.empty(self.spec.k, self.spec.dtype) if parse_flag(op, "bias_grad", bias_grad) else None
        dw = self._result(op, out, self.w_shape, x, dy)
        self._steps["filter_grad"].run(self.spec, contiguous(x), contiguous(dy), dw, db, self._threads())
        dw = result(dw, out)
        return dw if db is None else (dw, db)

    def _threads(self) -> int:
        return runtime.threads_allowed(self.threads)

    def _checked(self, op: str, name: str, a: Array, shape: Size) -> Array:
        a = checked_float(op, name, a)
        if a.dtype != self.spec.dtype:
            dtype = self.spec.dtype
            bad_type(op, f"{name} is {a.dtype}, the plan {dtype}", f"cast it: {name}.astype(np.{dtype})")
        check_shape(op, name, a, shape)
        return a

    def _checked_filters(self, op: str, w: Array, bias: Array | None) -> Filters:
        w = self._checked(op, "w", w, self.w_shape)
        if bias is not None:
            bias = self._checked(op, "bias", bias, (self.spec.k,))
        return Filters(w, bias)

    def _kept(self, op: str) -> Filters:
        if self._filters is None:
            bad_value(op, "the plan has no filters", "call plan.set_filters first")
        return self._filters

    def _result(self, op: str, out: Array | None, shape: Size, *inputs: Array | None) -> Array:
        if out is None:
            return np.empty(shape, self.spec.dtype)
        check_out(op, out, shape, self.spec.dtype, *inputs)
        return writable(out)

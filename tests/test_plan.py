"""Plans: the same bits as the functions, the filters kept, what is checked, kernels that prepare filters."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import run_python

import fastconv as fc
from fastconv.dispatch import registry, settings
from fastconv.dispatch.plan import ConvPlan
from fastconv.kernels import reference
from fastconv.kernels.kernel import CONV_PASSES, Kernel

X_SHAPE, W_SHAPE, Y_SHAPE = (2, 4, 9, 10), (6, 2, 3, 3), (2, 6, 5, 5)
OPTIONS = dict(stride=2, padding=1, groups=2)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def plan(**options: Any) -> ConvPlan:
    return fc.plan_conv2d(X_SHAPE, W_SHAPE, **{**OPTIONS, **options})


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_computes_what_the_functions_compute(dtype: str, layout: str, mode: str) -> None:
    options = dict(stride=2, padding=((1, 0), (2, 1)), groups=2, padding_mode=mode, layout=layout)
    last = layout == "NHWC"
    x_shape, w_shape = ((2, 9, 10, 4), (3, 3, 2, 6)) if last else (X_SHAPE, W_SHAPE)
    planned = fc.plan_conv2d(x_shape, w_shape, dtype, activation="tanh", **options)
    x, w, bias = normal(*x_shape, dtype=dtype), normal(*w_shape, dtype=dtype, seed=1), normal(6, dtype=dtype)
    planned.set_filters(w, bias)
    y = planned.forward(x)
    np.testing.assert_array_equal(y, fc.conv2d(x, w, bias, activation="tanh", **options))
    dy = normal(*planned.y_shape, dtype=dtype, seed=2)
    np.testing.assert_array_equal(planned.input_grad(dy), fc.conv2d_input_grad(dy, w, x_shape, **options))
    want = fc.conv2d_filter_grad(x, dy, w_shape, bias_grad=True, **options)
    for got, wanted in zip(planned.filter_grad(x, dy, bias_grad=True), want, strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(planned.filter_grad(x, dy), want[0])


def test_tells_its_choices() -> None:
    planned = plan(threads=1)
    assert (planned.x_shape, planned.w_shape, planned.y_shape) == (X_SHAPE, W_SHAPE, Y_SHAPE)
    assert (planned.spec.stride, planned.spec.out_size, planned.threads) == ((2, 2), (5, 5), 1)
    with fc.use(threads=1):
        told = {p: fc.explain(p, X_SHAPE, W_SHAPE, measure=False, **OPTIONS) for p in CONV_PASSES}
    assert planned.kernel == {p: told[p].kernel for p in CONV_PASSES}
    assert planned.workspace == max(t.workspace for t in told.values())
    assert "cython" in repr(planned) or "numba" in repr(planned) or "reference" in repr(planned)


def test_workspace_is_the_largest_of_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"forward": 10, "input_grad": 300, "filter_grad": 20}
    force(
        monkeypatch,
        Kernel("hungry", reference.KERNEL.passes, workspace=lambda p, spec, threads: sizes[p] * threads),
    )
    assert plan(kernel="hungry", threads=2).workspace == 600


@pytest.mark.parametrize("name", ["reference", "cython.direct", "cython.blocked@baseline"])
def test_a_forced_kernel_does_every_pass(name: str) -> None:
    x, w = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 1, 3, 3), np.float32)
    planned = fc.plan_conv2d(x.shape, w.shape, groups=4, kernel=name)
    assert set(planned.kernel.values()) == {registry.find_kernel("test", name).name}
    assert (planned.forward(x, w) == 9).all()
    assert planned.input_grad(np.ones((1, 4, 4, 4), np.float32)).max() == 9


def test_settings_count_when_the_plan_is_made() -> None:
    with fc.use(kernel="reference", threads=3):
        planned = plan()
    assert set(planned.kernel.values()) == {"reference"}
    assert planned.threads == 3
    with fc.use(precision="highest"):
        exact = fc.plan_conv2d((2, 64, 32, 32), (64, 64, 3, 3), padding=1)
    assert all(registry.find_kernel("test", name).sums_products for name in exact.kernel.values())


def test_the_filters_are_a_copy() -> None:
    planned = plan()
    x, w, bias = normal(*X_SHAPE), normal(*W_SHAPE), normal(6)
    want = fc.conv2d(x, w, bias, **OPTIONS)
    planned.set_filters(w, bias)
    w[...], bias[...] = 0, 0
    np.testing.assert_array_equal(planned.forward(x), want)


def test_filters_given_to_forward_are_kept() -> None:
    planned = plan()
    x, first, second, bias = normal(*X_SHAPE), normal(*W_SHAPE), normal(*W_SHAPE, seed=3), normal(6)
    planned.forward(x, first, bias)
    np.testing.assert_array_equal(planned.forward(x), fc.conv2d(x, first, bias, **OPTIONS))
    planned.forward(x, second)
    np.testing.assert_array_equal(planned.forward(x), fc.conv2d(x, second, **OPTIONS))
    dy = normal(*Y_SHAPE)
    np.testing.assert_array_equal(
        planned.input_grad(dy), fc.conv2d_input_grad(dy, second, X_SHAPE, **OPTIONS)
    )


def test_out_receives_the_results_in_any_memory_order() -> None:
    planned = plan()
    x, w, dy = normal(*X_SHAPE), normal(*W_SHAPE), normal(*Y_SHAPE)
    planned.set_filters(w)
    calls = {
        Y_SHAPE: lambda out: planned.forward(x, out=out),
        X_SHAPE: lambda out: planned.input_grad(dy, out=out),
    }
    calls[W_SHAPE] = lambda out: planned.filter_grad(x, dy, out=out)
    for shape, call in calls.items():
        want = call(None)
        for order in "CF":
            out = np.full(shape, np.nan, np.float32, order)  # type: ignore[call-overload]
            assert call(out) is out
            np.testing.assert_array_equal(out, want)
    out = np.empty(W_SHAPE, np.float32)
    dw, db = planned.filter_grad(x, dy, bias_grad=True, out=out)
    assert dw is out and db.shape == (6,)


def test_any_memory_order_of_the_arguments() -> None:
    planned = plan()
    x, w, dy = normal(*X_SHAPE), normal(*W_SHAPE), normal(*Y_SHAPE)
    want = planned.forward(x, w), planned.input_grad(dy), planned.filter_grad(x, dy)
    x, w, dy = (np.asfortranarray(a) for a in (x, w, dy))
    for a in (x, w, dy):
        a.flags.writeable = False
    for got, wanted in zip(
        (planned.forward(x, w), planned.input_grad(dy), planned.filter_grad(x, dy)), want, strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_an_empty_batch_and_no_channels() -> None:
    planned = fc.plan_conv2d((0, 4, 9, 10), W_SHAPE, **OPTIONS)
    assert planned.forward(normal(0, 4, 9, 10), normal(*W_SHAPE)).shape == (0, 6, 5, 5)
    assert (planned.filter_grad(normal(0, 4, 9, 10), normal(0, 6, 5, 5)) == 0).all()
    planned = fc.plan_conv2d((1, 0, 3, 3), (2, 0, 3, 3))
    bias = np.array([1, 2], np.float32)
    assert planned.forward(normal(1, 0, 3, 3), normal(2, 0, 3, 3), bias).ravel().tolist() == [1, 2]


WRONG_PLANS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"dtype": "float16"}, ValueError, "plan_conv2d: dtype is float16: it must be float32 or float64"),
    ({"dtype": int | None}, TypeError, "plan_conv2d: dtype is int | None"),
    ({"groups": 3}, ValueError, "plan_conv2d: x has 4 channels in 3 groups"),
    ({"activation": "gelu"}, ValueError, "plan_conv2d: activation is 'gelu'"),
    ({"layout": "NCW"}, ValueError, "plan_conv2d: layout is 'NCW'"),
    ({"kernel": "fast"}, ValueError, "plan_conv2d: kernel is 'fast'"),
    ({"kernel": 3}, TypeError, "plan_conv2d: kernel is 3"),
    ({"threads": 0}, ValueError, "plan_conv2d: threads is 0"),
    ({"threads": True}, TypeError, "plan_conv2d: threads is True"),
    ({"kernel": "cython.winograd"}, fc.UnsupportedProblem, "plan_conv2d: kernel cython.winograd cannot do"),
]


@pytest.mark.parametrize("options, error, message", WRONG_PLANS, ids=[str(case[0]) for case in WRONG_PLANS])
def test_wrong_plans(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**options)


def test_a_plan_takes_two_spatial_axes() -> None:
    with pytest.raises(ValueError, match="plan_conv2d: x has 3 dimensions"):
        fc.plan_conv2d((2, 4, 9), (6, 4, 3))


X, W, DY, BIAS = normal(*X_SHAPE), normal(*W_SHAPE), normal(*Y_SHAPE), normal(6)
WRONG_CALLS: dict[str, tuple[Any, type[Exception], str]] = {
    "x list": (lambda p: p.forward(X.tolist()), TypeError, "plan.forward: x is 'list'"),
    "x dtype": (
        lambda p: p.forward(X.astype("d")),
        TypeError,
        "plan.forward: x is float64, the plan float32",
    ),
    "x int": (lambda p: p.forward(X.astype(int)), TypeError, "plan.forward: x has dtype int64"),
    "x shape": (
        lambda p: p.forward(X[:1]),
        ValueError,
        r"plan.forward: x has shape \(1, 4, 9, 10\): it must be",
    ),
    "w shape": (lambda p: p.forward(X, W[:1]), ValueError, r"plan.forward: w has shape \(1, 2, 3, 3\)"),
    "w of set": (lambda p: p.set_filters(W[:1]), ValueError, "plan.set_filters: w has shape"),
    "bias dtype": (
        lambda p: p.set_filters(W, BIAS.astype("d")),
        TypeError,
        "plan.set_filters: bias is float64",
    ),
    "bias shape": (lambda p: p.forward(X, W, BIAS[:1]), ValueError, r"plan.forward: bias has shape \(1,\)"),
    "bias alone": (lambda p: p.forward(X, bias=BIAS), ValueError, "plan.forward: bias comes without w"),
    "out shape": (lambda p: p.forward(X, out=X), ValueError, "plan.forward: out has shape"),
    "out of grad": (lambda p: p.input_grad(DY, out=DY), ValueError, "plan.input_grad: out has shape"),
    "out dtype": (
        lambda p: p.filter_grad(X, DY, out=W.astype("d")),
        TypeError,
        "plan.filter_grad: out has dtype",
    ),
    "dy shape": (lambda p: p.input_grad(DY[:1]), ValueError, "plan.input_grad: dy has shape"),
    "dy of filters": (lambda p: p.filter_grad(X, X), ValueError, "plan.filter_grad: dy has shape"),
    "bias_grad": (lambda p: p.filter_grad(X, DY, bias_grad=1), TypeError, "plan.filter_grad: bias_grad is 1"),
}


@pytest.mark.parametrize("call, error, message", WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_calls(call: Any, error: Any, message: str) -> None:
    planned = plan()
    planned.set_filters(W)
    with pytest.raises(error, match=message):
        call(planned)
    np.testing.assert_array_equal(
        planned.forward(X), fc.conv2d(X, W, **OPTIONS), "a wrong call changed the plan"
    )


def test_out_may_not_share_memory_with_an_input() -> None:
    planned = fc.plan_conv2d((1, 1, 4, 4), (1, 1, 1, 1))
    x = normal(1, 1, 4, 4)
    with pytest.raises(ValueError, match="out shares memory"):
        planned.forward(x, normal(1, 1, 1, 1), out=x)


def test_without_filters() -> None:
    for call in (lambda: plan().forward(X), lambda: plan().input_grad(DY)):
        with pytest.raises(ValueError, match="the plan has no filters: call plan"):
            call()
    assert plan().filter_grad(X, DY).shape == W_SHAPE


def force(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> None:
    """Make a kernel known by its name."""
    named = {**registry.kernels_by_name(), kernel.name: kernel}
    monkeypatch.setattr(registry, "kernels_by_name", lambda: named)


@pytest.fixture
def preparing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A kernel "packs" whose prepared filters are marked lists; the passes it prepared for."""
    made: list[str] = []

    def prepare(pass_name: str, spec: Any, w: Any) -> Any:
        made.append(pass_name)
        return [pass_name, w * 2]

    def forward(spec: Any, x: Any, packed: Any, bias: Any, y: Any, activation: Any, threads: int) -> None:
        assert packed[0] == "forward"
        reference.KERNEL.passes["forward"](spec, x, packed[1], bias, y, activation, threads)

    def input_grad(spec: Any, dy: Any, packed: Any, dx: Any, threads: int) -> None:
        assert packed[0] == "input_grad"
        reference.KERNEL.passes["input_grad"](spec, dy, packed[1], dx, threads)

    prepared = {"forward": forward, "input_grad": input_grad}
    force(monkeypatch, Kernel("packs", reference.KERNEL.passes, prepared=prepared, prepare=prepare))
    yield made


def test_filters_are_prepared_once_for_each_pass_that_runs(preparing: list[str]) -> None:
    planned = plan(kernel="packs")
    planned.set_filters(W)
    assert preparing == []
    want = 2 * fc.conv2d(X, W, kernel="reference", **OPTIONS)  # the fake's mark: it doubles them
    for _ in range(3):
        np.testing.assert_allclose(planned.forward(X), want, rtol=1e-6)
    assert preparing == ["forward"]
    planned.input_grad(DY)
    planned.input_grad(DY)
    assert preparing == ["forward", "input_grad"]
    planned.filter_grad(X, DY)
    planned.set_filters(2 * W)
    np.testing.assert_allclose(planned.forward(X), 2 * want, rtol=1e-6)
    assert preparing == ["forward", "input_grad", "forward"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pass_name", ["forward", "input_grad"])
@pytest.mark.parametrize(("name", "stride"), [("cython.blocked", 2), ("cython.winograd", 1)])
def test_compiled_kernels_prepare_filters_of_many_channels(
    name: str, stride: int, pass_name: str, layout: str
) -> None:
    """They could give back w, and would compute the same."""
    kernel = registry.kernels_by_name()[name]
    if kernel.missing:
        pytest.skip(kernel.missing)
    x_shape, w_shape = (
        ((1, 128, 9, 9), (128, 128, 3, 3)) if layout == "NCHW" else ((1, 9, 9, 128), (3, 3, 128, 128))
    )
    spec = fc.plan_conv2d(x_shape, w_shape, stride=stride, padding=1, layout=layout).spec
    w = normal(*w_shape)
    prepared = kernel.prepare(pass_name, spec, w)
    assert prepared is not w and prepared.size >= w.size


def test_prepared_filters_are_for_zero_padding(preparing: list[str]) -> None:
    """Other modes compute band by band, each with a geometry of its own."""
    planned = plan(kernel="packs", padding_mode="reflect")
    want = fc.conv2d(X, W, padding_mode="reflect", kernel="reference", **OPTIONS)
    np.testing.assert_array_equal(planned.forward(X, W), want)
    assert preparing == []


def test_from_many_threads() -> None:
    """Threads that bring their own filters get their own results."""
    planned = plan()
    filters = [normal(*W_SHAPE, seed=i) for i in range(6)]
    want = [fc.conv2d(X, w, **OPTIONS) for w in filters]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(planned.forward(X, filters[i]), want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert any(np.array_equal(planned.forward(X), y) for y in want)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_plan_made_before_a_fork_works_in_the_child(tmp_path: Path) -> None:
    code = """import os, numpy as np, fastconv as fc
plan = fc.plan_conv2d((4, 32, 32, 32), (32, 32, 3, 3), threads=2)
x = np.ones((4, 32, 32, 32), np.float32)
y = plan.forward(x, np.ones((32, 32, 3, 3), np.float32))
child = os.fork()
if child == 0:
    os._exit(7 if np.allclose(plan.forward(x), y) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"""
    done = run_python(code, tmp_path, timeout=60)
    assert done.stdout.strip() == "7", done.stderr


def test_threads_of_the_plan_reach_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def forward(*arguments: Any) -> None:
        seen.append(arguments[-1])

    force(monkeypatch, Kernel("spy", {**reference.KERNEL.passes, "forward": forward}))
    for threads in (1, 5, None):
        plan(kernel="spy", threads=threads).forward(X, W)
    assert seen == [1, 5, settings.current().threads]

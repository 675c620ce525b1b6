"""The choice of a kernel: order, refusals, `use`, the table of kernels, and the environment's variables."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import KERNELS, run_python
from hypothesis import given
from hypothesis import strategies as st
from strategies import conv_specs, pool_specs

import fastconv as fc
from fastconv.dispatch import runtime, settings
from fastconv.dispatch.registry import ORDER, find_kernel, kernels_by_name, kernels_in_order
from fastconv.dispatch.select import refusal, select, walk
from fastconv.kernels.kernel import CONV_PASSES, POOL_PASSES, Kernel
from fastconv.ops.spec import ConvSpec, PoolSpec, conv_spec

CONV = """import numpy as np, fastconv as fc
print(fc.conv2d(np.ones((1, 1, 4, 4), 'f'), np.ones((1, 1, 3, 3), 'f')).sum())"""


def test_the_kernels_this_installation_must_have() -> None:
    """All of them: a test run on a broken build must not pass by testing less."""
    missing = {k.name: k.missing for k in kernels_in_order() if k.missing is not None}
    assert missing == {}
    assert {"cython.direct", "cython.im2col", "numba.direct", "numba.im2col", "reference"} <= set(
        kernels_by_name()
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets are told apart on x86-64 only")
def test_every_instruction_set_of_this_cpu_is_tested() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    expected = {"baseline"}
    expected |= {"avx2"} if {"avx2", "fma"} <= set(flags) else set()
    expected |= {"avx512"} if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= set(flags) else set()
    assert set(runtime.supported_isas()) == expected
    tested = {name.split("@")[1] for name in KERNELS if "@" in name and name.startswith("cython.direct")}
    assert tested == expected


def test_kernels_table() -> None:
    table = fc.kernels()
    assert [row["kernel"] for row in table] == [name for name in ORDER if name in kernels_by_name()]
    assert table[-1]["kernel"] == "reference"
    text = repr(table)
    for row in table:
        assert set(row) == {"kernel", "passes", "dtypes", "layouts", "isa", "available"}
        assert row["kernel"] in text
    assert len(text.splitlines()) == len(table) + 1


@given(
    spec=conv_specs(), pass_name=st.sampled_from(CONV_PASSES), precision=st.sampled_from(settings.PRECISIONS)
)
def test_the_first_kernel_without_a_reason_against_it_is_chosen(
    spec: ConvSpec, pass_name: str, precision: str
) -> None:
    now = settings.Settings(None, 2, precision)
    chosen, passed_over = walk(pass_name, spec, now)
    order = [k.name for k in kernels_in_order()]
    assert [name for name, _ in passed_over] == order[: order.index(chosen.name)]
    assert all(reason for _, reason in passed_over)
    assert refusal(chosen, pass_name, spec, precision) is None
    assert chosen.sums_products or precision == "high"
    assert select("conv", pass_name, spec, now, None) is chosen


@given(spec=conv_specs() | pool_specs() | pool_specs(needs_input=False), data=st.data())
def test_what_a_kernel_says_of_a_problem(spec: ConvSpec | PoolSpec, data: st.DataObject) -> None:
    passes = CONV_PASSES if isinstance(spec, ConvSpec) else POOL_PASSES
    for name, kernel in KERNELS.items():
        for pass_name in set(passes) & set(kernel.passes):
            for reason in (kernel.unsupported(pass_name, spec), kernel.avoid(pass_name, spec, 2)):
                assert reason is None or (isinstance(reason, str) and reason), name


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pass_name", CONV_PASSES)
def test_winograd_is_avoided_where_transforms_cost_more_than_they_save(pass_name: str, layout: str) -> None:
    def avoid(n: int, c: int, k: int, size: int) -> str | None:
        x, w = (n, c, size, size), (k, c, 3, 3)
        if layout == "NHWC":
            x, w = (n, size, size, c), (3, 3, c, k)
        spec = conv_spec("conv2d", x, w, np.dtype(np.float32), padding=1, layout=layout)
        return find_kernel("test", "cython.winograd").avoid(pass_name, spec, 2)

    for n, c, k, size in ((1, 64, 64, 56), (4, 512, 512, 7), (64, 32, 64, 32), (2, 48, 200, 28)):
        assert avoid(n, c, k, size) is None
    for n, c, k, size in ((40, 512, 512, 1), (33, 48, 96, 1)):
        assert "times what plain sums of products take" in (avoid(n, c, k, size) or "")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("pass_name", ["forward", "input_grad"])
def test_large_depthwise_filters_are_cut_into_blocks(pass_name: str, layout: str) -> None:
    def chosen(n: int, c: int, size: int, window: int, precision: str = "high", **options: Any) -> str:
        x, w = (n, c, size, size), (c, 1, window, window)
        if layout == "NHWC":
            x, w = (n, size, size, c), (window, window, 1, c)
        options = {"padding": "same", "groups": c, "layout": layout} | options
        spec = conv_spec("conv2d", x, w, np.dtype(np.float32), **options)
        return select("conv2d", pass_name, spec, settings.Settings(None, 2, precision), None).name

    assert chosen(1, 128, 56, 31) == chosen(2, 40, 60, 21) == "cython.winograd_depthwise"
    sums = {chosen(1, 128, 56, 31, "highest"), chosen(1, 128, 56, 3), chosen(1, 128, 56, 31, stride=2)}
    assert sums == {"cython.depthwise"}


@pytest.mark.parametrize(
    ("w", "options", "reason"),
    [
        ((8, 1, 9, 4), {"groups": 8}, "is not larger than a block of 4 x 4 taps"),
        ((8, 1, 9, 9), {"groups": 8, "stride": 2}, "the stride is"),
        ((8, 2, 9, 9), {"groups": 4}, "one channel and one filter a group, not 2 and 2"),
        ((16, 1, 9, 9), {"groups": 8}, "one channel and one filter a group, not 1 and 2"),
    ],
)
def test_nested_winograd_says_what_it_does_not_take(w: Any, options: Any, reason: str) -> None:
    x = np.ones((1, 8, 32, 32), np.float32)
    with pytest.raises(fc.UnsupportedProblem, match=reason):
        fc.conv2d(x, np.ones(w, np.float32), kernel="cython.winograd_depthwise", **options)


def arrays() -> tuple[Any, Any]:
    return np.ones((1, 2, 8, 8), np.float32), np.ones((2, 2, 3, 3), np.float32)


def test_a_forced_kernel_that_cannot_says_which_property_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    picky = Kernel("picky", {"forward": lambda *a: None}, unsupported=lambda p, s: "stride is not 3")
    named = {**kernels_by_name(), "picky": picky}
    monkeypatch.setattr("fastconv.dispatch.registry.kernels_by_name", lambda: named)
    x, w = arrays()
    with pytest.raises(
        fc.UnsupportedProblem, match="conv2d: kernel picky cannot do this problem: stride is not 3"
    ):
        fc.conv2d(x, w, kernel="picky")
    with pytest.raises(
        fc.UnsupportedProblem, match="picky cannot do this problem: it has no input_grad pass"
    ):
        fc.conv2d_input_grad(np.ones((1, 2, 6, 6), np.float32), w, x.shape, kernel="picky")


def test_highest_precision_refuses_kernels_that_do_more_than_sum_products() -> None:
    x, w = arrays()
    for name, kernel in KERNELS.items():
        if kernel.sums_products or "forward" not in kernel.passes:
            continue
        with fc.use(precision="highest"), pytest.raises(fc.UnsupportedProblem, match="sums of products"):
            fc.conv2d(x, w, padding=1, kernel=name)


def test_missing_kernels_are_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {**kernels_by_name(), "gone": Kernel("gone", {}, missing="it is not installed")}
    monkeypatch.setattr("fastconv.dispatch.registry.kernels_by_name", lambda: named)
    with pytest.raises(ValueError, match="kernel is 'gone': it is not available here: it is not installed"):
        fc.conv2d(*arrays(), kernel="gone")


def test_use_nests_and_restores() -> None:
    before = settings.current()
    with fc.use(kernel="reference", threads=3) as outer:
        assert outer == settings.current() == before._replace(kernel="reference", threads=3)
        with fc.use(kernel="auto", precision="highest"):
            assert settings.current() == before._replace(threads=3, precision="highest")
        with pytest.raises(RuntimeError), fc.use(threads=1):
            raise RuntimeError
        assert settings.current() == outer
    assert settings.current() == before


@pytest.mark.parametrize("isa", runtime.supported_isas())
def test_use_keeps_the_instruction_set(isa: str) -> None:
    with fc.use(kernel=f"cython.direct@{isa}") as setting:
        assert setting.kernel == f"cython.direct@{isa}"
        spec = conv_spec("conv2d", (1, 1, 4, 4), (1, 1, 3, 3), np.dtype("f4"))
        assert select("conv2d", "forward", spec, settings.current(), None).isa == isa


def test_use_applies_to_the_passes_its_kernel_has(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def forward(spec: Any, x: Any, w: Any, bias: Any, y: Any, activation: Any, threads: int) -> None:
        called.append(threads)
        y[...] = 5

    named = {**kernels_by_name(), "mine": Kernel("mine", {"forward": forward})}
    monkeypatch.setattr("fastconv.dispatch.registry.kernels_by_name", lambda: named)
    x, w = arrays()
    with fc.use(kernel="mine", threads=3):
        y = fc.conv2d(x, w)
        fc.conv2d_input_grad(y, w, x.shape)
        assert fc.conv2d(x, w, kernel="reference").max() == 18
    assert (y == 5).all() and called == [3]
    assert fc.conv2d(x, w).max() < 19


@pytest.mark.parametrize("isa", runtime.ISAS)
def test_fastconv_isa(isa: str, tmp_path: Path) -> None:
    done = run_python(f"{CONV}\nprint({{row['isa'] for row in fc.kernels()}})", tmp_path, FASTCONV_ISA=isa)
    assert done.returncode == 0, done.stderr
    if isa in runtime.supported_isas():
        assert isa in done.stdout and not done.stderr
    else:
        assert f"FASTCONV_ISA={isa} is not supported here" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "FASTCONV_ISA",
            "sse9",
            "ValueError: FASTCONV_ISA is 'sse9': it must be one of avx512, avx2, baseline",
        ),
        (
            "FASTCONV_NUM_THREADS",
            "0",
            "ValueError: FASTCONV_NUM_THREADS is '0': it must be a whole number of at least 1",
        ),
        (
            "FASTCONV_NUM_THREADS",
            "two",
            "ValueError: FASTCONV_NUM_THREADS is 'two': it must be a whole number",
        ),
        ("OMP_NUM_THREADS", "-1", "ValueError: OMP_NUM_THREADS is '-1': it must be a whole number"),
        ("FASTCONV_KERNEL", "fast", "ValueError: FASTCONV_KERNEL: kernel is 'fast': it must be one of "),
    ],
)
def test_wrong_environment(variable: str, value: str, message: str, tmp_path: Path) -> None:
    done = run_python(CONV, tmp_path, **{variable: value})
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"FASTCONV_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"OMP_NUM_THREADS": "5,2"}, 5),
        ({"FASTCONV_NUM_THREADS": "9999"}, 1024),
    ],
)
def test_number_of_threads(environment: dict[str, str], threads: int, tmp_path: Path) -> None:
    code = f"{CONV}\nfrom fastconv.dispatch import settings; print(settings.current().threads)"
    done = run_python(code, tmp_path, **environment)
    assert done.stdout.split() == ["36.0", str(threads)], done.stderr


def test_default_threads_are_the_cpus_this_process_may_use(tmp_path: Path) -> None:
    code = """import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import fastconv; from fastconv.dispatch import runtime; print(runtime.default_threads())"""
    environment = {"OMP_NUM_THREADS": "", "FASTCONV_NUM_THREADS": ""}
    assert run_python(code, tmp_path, **environment).stdout.split() == ["1"]


def test_fastconv_kernel(tmp_path: Path) -> None:
    code = f"{CONV}\nfrom fastconv.dispatch import settings; print(settings.current().kernel)"
    done = run_python(code, tmp_path, FASTCONV_KERNEL="reference")
    assert done.stdout.split() == ["36.0", "reference"], done.stderr


def test_import_needs_numpy_only(tmp_path: Path) -> None:
    """No optional package is imported, or needed, before something asks for it."""
    optional = (
        "numba",
        "llvmlite",
        "sklearn",
        "matplotlib",
        "tqdm",
        "scipy",
        "threadpoolctl",
        "torch",
        "pytest",
    )
    code = f"""import sys
for name in {optional}: sys.modules[name] = None
import fastconv as fc
{CONV}
print(*[row["available"] for row in fc.kernels() if row["kernel"].startswith("numba")], sep="; ")"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "36.0" in done.stdout and "numba" in done.stdout.lower()
    assert os.environ.get("FASTCONV_KERNEL") is None


@pytest.mark.parametrize("name", ["cython.winograd", "numba.winograd"])
def test_winograd_leaves_gradients_over_few_positions_to_others(name: str) -> None:
    x, dy = np.ones((2, 16, 4, 4), np.float32), np.ones((2, 16, 4, 3), np.float32)
    options: Any = {"padding": ((1, 1), (1, 0)), "kernel": name}
    with pytest.raises(fc.UnsupportedProblem, match="over 24 positions rounds too much"):
        fc.conv2d_filter_grad(x, dy, (16, 16, 3, 3), **options)
    fc.conv2d_filter_grad(np.repeat(x, 2, 0), np.repeat(dy, 2, 0), (16, 16, 3, 3), **options)

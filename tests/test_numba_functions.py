"""The Numba functions that a user's own compiled code may call, and how machine code is kept and run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="Numba is an optional extra")

import fastconv as fc  # noqa: E402
from fastconv.kernels import numba as kernels  # noqa: E402

OPTIONS: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 1), (2, 2)), "dilation": (1, 2), "groups": 2}
SHAPES = {"NCHW": ((2, 6, 9, 21), (10, 3, 3, 3)), "NHWC": ((2, 9, 21, 6), (3, 3, 3, 10))}


def integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    return rng.integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize(("layout", "dtype"), [("NCHW", np.float32), ("NHWC", np.float64)])
def test_three_passes_inside_compiled_code(layout: str, dtype: Any) -> None:
    forward = getattr(kernels, f"conv2d_{layout.lower()}")
    input_grad = getattr(kernels, f"conv2d_{layout.lower()}_input_grad")
    filter_grad = getattr(kernels, f"conv2d_{layout.lower()}_filter_grad")

    @numba.njit
    def step(x, w, y, dx, dw):  # type: ignore[no-untyped-def]
        forward(x, w, y, (2, 1), (1, 2), (1, 2), 2)
        input_grad(y, w, dx, (2, 1), (1, 2), (1, 2), 2)
        filter_grad(x, y, dw, (2, 1), (1, 2), (1, 2), 2)

    rng = np.random.default_rng(0)
    x, w = (integers(rng, shape, dtype) for shape in SHAPES[layout])
    options = {**OPTIONS, "layout": layout, "kernel": "reference"}
    y = fc.conv2d(x, w, **options)
    got = [np.full(shape, np.nan, dtype) for shape in (y.shape, x.shape, w.shape)]
    step(x, w, *got)
    expected = (
        y,
        fc.conv2d_input_grad(y, w, x.shape, **options),
        fc.conv2d_filter_grad(x, y, w.shape, **options),
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_max_pool_inside_compiled_code() -> None:
    @numba.njit
    def pooled(x, y, argmax):  # type: ignore[no-untyped-def]
        kernels_max_pool(x, y, argmax, (3, 2), (2, 2), (1, 0))

    kernels_max_pool = kernels.max_pool2d_nchw
    x = integers(np.random.default_rng(1), (2, 3, 8, 9), np.float32)
    y, argmax = fc.max_pool2d(
        x, (3, 2), stride=2, padding=((1, 1), (0, 0)), return_argmax=True, kernel="reference"
    )
    got, places = np.empty_like(y), np.empty_like(argmax)
    pooled(x, got, places)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(places, argmax)


@pytest.mark.parametrize(
    ("w_shape", "stride", "message"),
    [((4, 5, 3, 3), (1, 1), "shapes"), ((4, 3, 3, 3), (0, 1), "at least 1"), ((4, 3, 0, 3), (1, 1), "size")],
)
def test_wrong_arguments_raise(w_shape: tuple[int, ...], stride: tuple[int, int], message: str) -> None:
    x, y = np.ones((1, 3, 8, 8), np.float32), np.ones((1, 4, 8, 8), np.float32)
    with pytest.raises(ValueError, match=message):
        kernels.conv2d_nchw(x, np.ones(w_shape, np.float32), y, stride, (1, 1), (1, 1), 1)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute"):
        kernels.conv2d_chwn  # noqa: B018


def test_import_does_not_import_numba() -> None:
    code = "import sys, fastconv; fastconv.kernels(); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


COMPILED_OR_CACHED = """
import numpy as np, fastconv as fc
from fastconv.kernels.numba import jit
x, w = np.ones((1, 3, 6, 6), np.float32), np.ones((4, 3, 3, 3), np.float32)
assert fc.conv2d(x, w, kernel="numba.direct")[0, 0, 0, 0] == 27
from fastconv.kernels.numba.direct import gather_first_job
sizes = (np.int64, np.int64, *[np.float32] * 5)
function = jit.native(gather_first_job, "".join(np.dtype(d).char for d in sizes))
print(function.cache_hits)
"""


@pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="there is no machine code with the JIT off"
)
def test_second_process_loads_machine_code(tmp_path: Any) -> None:
    """From the cache on disk, and not what another vector width left there."""

    def hits(**environment: str) -> str:
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
        return subprocess.run(
            [sys.executable, "-c", COMPILED_OR_CACHED], env=env, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert [hits(), hits()] == ["0", "1"]
    assert hits(FASTCONV_ISA="baseline") == "0"


@pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="there is no machine code with the JIT off"
)
@pytest.mark.parametrize("kernel", ["blocked", "direct"])
def test_without_compiled_package_a_thread_pool_gives_the_same_bits(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastconv.kernels.numba import jit

    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, 16, 30, 30)).astype(np.float32)
    w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    options = {"padding": 1, "kernel": f"numba.{kernel}"}
    with fc.use(threads=3):
        expected = fc.conv2d(x, w, **options)
        monkeypatch.setattr(jit, "run_jobs_on", lambda: jit.pool_for)
        np.testing.assert_array_equal(fc.conv2d(x, w, **options), expected)

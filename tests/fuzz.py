"""Random and hostile calls of the public functions: `make fuzz`, `python tests/fuzz.py --cases N --seed S`.

A case is a random problem, in random layouts and memory orders, whose result every kernel must share with
the reference; or a call with some of its arguments replaced by hostile values, which must raise ValueError,
TypeError or MemoryError, or return. Each case has its own seed: a failure prints what repeats it.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import KERNELS
from numpy.typing import NDArray
from strategies import MEMORY_ORDERS, in_memory_order
from tqdm import tqdm

import fastconv as fc
from fastconv.ops.spec import LAYOUTS

Array = NDArray[Any]

ALLOWED = (ValueError, TypeError, MemoryError)
CHANNELS = [*range(1, 10), 15, 16, 17, 31, 32, 33, 48, 49, 64, 65]
LONGEST = {1: 90, 2: 20, 3: 8}
# What a hostile caller passes for a number, a shape, a string or an array.
HOSTILE: list[Any] = [
    *(0, -1, 1, 2, 7, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30),
    *(0.0, 1.0, 1.5, math.nan, math.inf, 1j, None, True, False, "", "same", "NHWC", b"same", "x" * 1000),
    *((), (0,), (1, 1), (1, 1, 1), (2, 2, 2, 2), (-1, 1), (1.0, 1.0), (2**31, 2**31), (2**62, 1), [1, [2]]),
    *(((0, 0), (0, 0)), ((-1, 0), (0, 0)), ((2**62, 2**62),) * 2, ((1,), (1,)), {}, {1: 2}, object(), int),
    *(np.int8(3), np.uint64(2**63), np.float32(1), np.array([1, 1]), np.array([]), np.array([[1], [2]])),
    *(np.ones((1, 1, 3, 3), np.float32), np.ones((0, 0, 0, 0), np.float32), np.ones((2, 3), "O")),
    *(np.ones((1, 1, 3, 3), ">f4"), np.ones((1, 1, 3, 3), "e"), np.ma.ones((1, 1, 3, 3)), np.zeros((), "f")),
    np.broadcast_to(np.float32(1), (1, 1, 2**20, 2**20)),
    np.broadcast_to(np.float32(1), (2**40, 1, 1, 1)),
    np.full((1, 1, 3, 3), np.nan, np.float32),
]  # fmt: skip


class Problem:
    """A random convolution and pooling of the same input, as arguments of the public functions."""

    def __init__(self, rng: random.Random) -> None:
        self.ndim = ndim = rng.choice([1, 2, 2, 2, 3])
        self.last = rng.random() < 0.5
        self.layout = LAYOUTS[ndim][self.last]
        self.dtype = rng.choice([np.float32, np.float64])
        self.numbers = np.random.default_rng(rng.getrandbits(32))
        n, groups = rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 1, 2, 3])
        c, k = rng.choice(CHANNELS), rng.choice(CHANNELS)
        if rng.random() < 0.2:  # depthwise
            groups, c, k = c, 1, rng.choice([1, 1, 2])
        budget = min(LONGEST[ndim], max(3, int((60_000 / (n * groups * c * k)) ** (1 / ndim))))
        size = [rng.randint(1, budget) for _ in range(ndim)]
        window = (
            [rng.randint(1, 4)] * ndim if rng.random() < 0.6 else [rng.randint(1, 5) for _ in range(ndim)]
        )
        self.conv: dict[str, Any] = {"layout": self.layout, "groups": groups}
        self.conv["stride"], self.conv["dilation"] = rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 1, 2])
        if rng.random() < 0.3:
            self.conv["stride"] = tuple(rng.choice([1, 2, 3, 4, 2**31, 2**61]) for _ in range(ndim))
        self.conv["padding"] = rng.choice(
            [
                "same",
                "same_lower",
                rng.randint(0, 4),
                tuple((rng.randint(0, 4), rng.randint(0, 4)) for _ in size),
            ]
        )
        self.conv["padding_mode"] = rng.choice(["zeros"] * 5 + ["reflect", "replicate", "circular"])
        self.x = self.array((n, *size, groups * c) if self.last else (n, groups * c, *size), rng)
        self.w = self.array((*window, c, groups * k) if self.last else (groups * k, c, *window), rng)
        self.bias = self.array((groups * k,), rng)
        self.activation = rng.choice([None, None, "relu"])
        self.window = window[0] if len(set(window)) == 1 else tuple(window)
        self.pool: dict[str, Any] = {"layout": self.layout, "stride": rng.choice([None, 1, 2, 3])}
        self.pool["padding"] = rng.choice([0, 0, 1, "same", 2])
        self.pool["ceil_mode"] = rng.random() < 0.3

    def array(self, shape: tuple[int, ...], rng: random.Random) -> Array:
        """Whole numbers, exact in any order of summation, in a random memory order."""
        return in_memory_order(
            rng.choice(MEMORY_ORDERS), self.numbers.integers(-3, 4, shape).astype(self.dtype)
        )

    def function(self, name: str) -> Callable[..., Any]:
        return getattr(fc, name.format(n=self.ndim))  # type: ignore[no-any-return]


def conv_case(p: Problem, rng: random.Random) -> str:
    """Every kernel's three passes against the reference's."""
    forward, input_grad = p.function("conv{n}d"), p.function("conv{n}d_input_grad")
    filter_grad = p.function("conv{n}d_filter_grad")
    try:
        y = forward(p.x, p.w, p.bias, activation=p.activation, kernel="reference", **p.conv)
    except ValueError as error:
        return "refused: " + str(error).split(":")[-1][:40]
    dy = p.array(y.shape, rng)
    dx = input_grad(dy, p.w, p.x.shape, kernel="reference", **p.conv)
    dw, db = filter_grad(p.x, dy, p.w.shape, bias_grad=True, kernel="reference", **p.conv)
    magnitude = forward(abs(p.x), abs(p.w), abs(p.bias), kernel="reference", **p.conv).max(initial=1)
    for name, kernel in KERNELS.items():
        loose = None if kernel.sums_products else 1e3 * np.finfo(p.dtype).eps * magnitude
        compare(
            name, y, loose, lambda k: forward(p.x, p.w, p.bias, activation=p.activation, kernel=k, **p.conv)
        )
        loose = (
            loose and loose + 1e3 * np.finfo(p.dtype).eps * max(abs(a).max(initial=1) for a in (dx, dw)) * 100
        )
        compare(name, dx, loose, lambda k: input_grad(dy, p.w, p.x.shape, kernel=k, **p.conv))
        compare(name, dw, loose, lambda k: filter_grad(p.x, dy, p.w.shape, kernel=k, **p.conv))
        compare(
            name, db, loose, lambda k: filter_grad(p.x, dy, p.w.shape, bias_grad=True, kernel=k, **p.conv)[1]
        )
    return "convolution"


def pool_case(p: Problem, rng: random.Random) -> str:
    """Every kernel's poolings against the reference's."""
    max_pool, max_grad = p.function("max_pool{n}d"), p.function("max_pool{n}d_grad")
    avg_pool, avg_grad = p.function("avg_pool{n}d"), p.function("avg_pool{n}d_grad")
    x = np.array(p.x)
    if rng.random() < 0.3:
        x.flat[rng.randrange(x.size)] = rng.choice([np.nan, np.inf, -np.inf])
    try:
        y, argmax = max_pool(x, p.window, return_argmax=True, kernel="reference", **p.pool)
    except ValueError as error:
        return "refused: " + str(error).split(":")[-1][:40]
    mean, dy = avg_pool(p.x, p.window, kernel="reference", **p.pool), p.array(y.shape, rng)
    dx = max_grad(dy, argmax, x.shape, layout=p.layout, kernel="reference")
    share = avg_grad(dy, x.shape, p.window, kernel="reference", **p.pool)
    loose = 64 * np.finfo(p.dtype).eps * 100
    for name in KERNELS:
        compare(name, y, None, lambda k: max_pool(x, p.window, kernel=k, **p.pool))
        compare(
            name, argmax, None, lambda k: max_pool(x, p.window, return_argmax=True, kernel=k, **p.pool)[1]
        )
        compare(name, dx, None, lambda k: max_grad(dy, argmax, x.shape, layout=p.layout, kernel=k))
        compare(name, mean, loose, lambda k: avg_pool(p.x, p.window, kernel=k, **p.pool))
        compare(name, share, loose, lambda k: avg_grad(dy, x.shape, p.window, kernel=k, **p.pool))
    return "pooling"


def compare(name: str, expected: Array, loose: float | None, call: Callable[[str], Array]) -> None:
    """The kernel's result is the reference's, exactly or within `loose`; a kernel may refuse by name."""
    try:
        got = call(name)
    except fc.UnsupportedProblem:
        return
    if loose is None:
        np.testing.assert_array_equal(got, expected, err_msg=name, strict=True)
    else:
        np.testing.assert_allclose(got, expected, rtol=0, atol=loose, err_msg=name, strict=True)


def hostile_case(p: Problem, rng: random.Random) -> str:
    """Some arguments of a good call replaced; an error of the right kind, or a result."""
    x, w, window = np.array(p.x), np.array(p.w), p.window
    pooled, at = np.ones(x.shape, p.dtype), np.zeros(x.shape, int)
    layout = {"layout": p.layout}
    transposed = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1, **layout}
    calls: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("conv{n}d", [x, w, p.bias], {**p.conv, "activation": None, "out": None, "kernel": None}),
        ("conv{n}d_input_grad", [x, w, x.shape], {**p.conv, "out": None, "kernel": None}),
        ("conv{n}d_filter_grad", [x, x, w.shape], {**p.conv, "bias_grad": True, "out": None, "kernel": None}),
        ("conv_transpose{n}d", [x, w, None], transposed),
        ("conv_transpose{n}d_input_grad", [x, w, x.shape], transposed),
        ("conv_transpose{n}d_filter_grad", [x, x, w.shape], {**transposed, "bias_grad": True}),
        ("max_pool{n}d", [x, window], {**p.pool, "dilation": 1, "return_argmax": True, "out": None}),
        ("max_pool{n}d_grad", [x, at, x.shape], {**layout, "out": None}),
        ("avg_pool{n}d", [x, window], {**p.pool, "count_include_pad": True, "divisor_override": None}),
        ("avg_pool{n}d_grad", [pooled, x.shape, window], {**p.pool, "divisor_override": None, "out": None}),
        ("max_unpool{n}d", [x, at, x.shape], {**layout, "out": None}),
        ("max_unpool{n}d_grad", [x, at], {**layout, "out": None}),
        ("adaptive_avg_pool{n}d", [x, 2], {**layout, "out": None}),
        ("adaptive_avg_pool{n}d_grad", [x, x.shape], {**layout, "out": None}),
        ("adaptive_max_pool{n}d", [x, 2], {**layout, "return_argmax": True, "out": None}),
        ("adaptive_max_pool{n}d_grad", [x, at, x.shape], {**layout, "out": None}),
        ("lp_pool{n}d", [x, window, 2], {"stride": None, "dilation": 1, "ceil_mode": False, **layout}),
        ("lp_pool{n}d_grad", [x, x, x, 1, 2], {"stride": None, "padding": 0, "dilation": 1, **layout}),
        ("global_avg_pool", [x], {**layout, "out": None}),
        ("global_max_pool", [x], {**layout, "return_argmax": True, "out": None}),
        ("global_avg_pool_grad", [x, x.shape], layout),
        ("global_max_pool_grad", [x, at, x.shape], layout),
        ("argmax_to_onnx", [at, x.shape], {**layout, "storage_order": 0}),
        ("argmax_from_onnx", [at, x.shape], {**layout, "storage_order": 0}),
        ("argmax_to_window", [at, x.shape, 1], {**layout, "stride": None, "padding": 0, "dilation": 1}),
        ("argmax_from_window", [at, x.shape, 1], {**layout, "stride": None, "padding": 0, "dilation": 1}),
        ("activation_grad", [x, x, "relu"], {"out": None}),
        ("plan_conv2d", [x.shape, w.shape, "float32"], {**p.conv, "activation": None, "threads": None}),
        ("explain", ["forward", x.shape, w.shape], {**p.conv, "dtype": "float32", "kernel": None}),
    ]
    name, positional, keywords = rng.choice(calls)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        value = hostile_value(rng)
        if rng.random() < len(positional) / (len(positional) + len(keywords)):
            positional[rng.randrange(len(positional))] = value
        else:
            keywords[rng.choice(list(keywords))] = value
    try:
        with np.errstate(all="ignore"):
            p.function(name)(*positional, **keywords)
    except ALLOWED as error:
        assert len(str(error)) < 1000, "the message is flooded by an argument"
        return type(error).__name__
    return "hostile, answered"


def hostile_value(rng: random.Random) -> Any:
    """Any of `HOSTILE`, often an integer; or some of them as a tuple."""
    if rng.random() < 0.2:
        return tuple(rng.choice(HOSTILE[:20]) for _ in range(rng.randint(0, 5)))
    return rng.choice(HOSTILE[:15] if rng.random() < 0.4 else HOSTILE)


def limit_memory(more: int = 1 << 30) -> None:
    """Let the process grow by no more: a hostile size is then a MemoryError, not the machine's end."""
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + more, resource.RLIM_INFINITY))


CASES = (conv_case, pool_case, hostile_case, hostile_case)


def run_case(seed: str) -> str:
    rng = random.Random(seed)
    return rng.choice(CASES)(Problem(rng), rng)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", default="0", help="of the run")
    parser.add_argument("--case", help="repeat one case, as a failure names it")
    options = parser.parse_args()
    # Starts every thread and compiles what Numba compiles: LLVM ends a process that gives it no memory.
    for seed in range(20):
        for case in (conv_case, pool_case):
            case(Problem(random.Random(seed)), random.Random(seed))
    limit_memory()
    if options.case:
        print(run_case(options.case))
        return 0
    outcomes: Counter[str] = Counter()
    for number in tqdm(range(options.cases), mininterval=10):
        seed = f"{options.seed}/{number}"
        try:
            outcomes[run_case(seed)] += 1
        except Exception:
            traceback.print_exc()
            print(f"repeat with: python tests/fuzz.py --case {seed}")
            return 1
    for outcome, times in outcomes.most_common():
        print(f"{times:8d}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

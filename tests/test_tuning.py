"""Tuning: who takes part, who wins, what is chosen then, and the file; all with an invented clock."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import run_python

import fastconv as fc
from fastconv.dispatch import registry, runtime, settings, tuning, winners
from fastconv.kernels import reference
from fastconv.kernels.kernel import CONV_PASSES, Kernel
from fastconv.ops import launch
from fastconv.tools import cli

SHAPES = (2, 4, 9, 9), (6, 4, 3, 3)


@pytest.fixture(autouse=True)
def nothing_tuned() -> Iterator[None]:
    winners.clear()
    launch.forget()
    yield
    winners.clear()
    launch.forget()


class Clock:
    """Time passes only where a fake kernel says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fake(
    clock: Clock, name: str, seconds: float | Callable[[str], float], ran: list[str], **properties: Any
) -> Kernel:
    """The reference under another name, that takes this long on the clock."""

    def timed(pass_name: str) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            clock.now += seconds if isinstance(seconds, float) else seconds(pass_name)
            ran.append(name)
            reference.KERNEL.passes[pass_name](*arguments)

        return run

    return Kernel(name, {p: timed(p) for p in CONV_PASSES}, **properties)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Replace all kernels by fakes of given seconds a call; returns the names of those that ran."""

    def install(**kernels: Any) -> list[str]:
        clock, ran = Clock(), []
        made = []
        for name, how in kernels.items():
            seconds, properties = how if isinstance(how, tuple) else (how, {})
            made.append(fake(clock, name, seconds, ran, **properties))
        order = (*made, reference.KERNEL)
        monkeypatch.setattr(registry, "kernels_in_order", lambda: order)
        monkeypatch.setattr("fastconv.dispatch.select.kernels_in_order", lambda: order)
        monkeypatch.setattr(tuning, "kernels_in_order", lambda: made)
        for module in ("registry", "select", "tuning_file"):
            monkeypatch.setattr(
                f"fastconv.dispatch.{module}.kernels_by_name", lambda: {k.name: k for k in order}
            )
        compete = tuning.compete
        monkeypatch.setattr(tuning, "compete", lambda calls, seconds: compete(calls, seconds, clock))
        return ran

    return install


def run_once(ran: list[str], pass_name: str, **options: Any) -> list[str]:
    """The kernel that a plain call runs."""
    x_shape, w_shape = SHAPES
    x, w, dy = (np.ones(s, np.float32) for s in (x_shape, w_shape, (2, 6, 7, 7)))
    ran.clear()
    if pass_name == "forward":
        fc.conv2d(x, w, **options)
    elif pass_name == "input_grad":
        fc.conv2d_input_grad(dy, w, x_shape, **options)
    else:
        fc.conv2d_filter_grad(x, dy, w_shape, **options)
    return ran


def test_the_fastest_is_remembered_for_each_pass(install: Any) -> None:
    times = {"forward": 3e-3, "input_grad": 1e-3, "filter_grad": 3e-3}
    ran = install(first=2e-3, second=times.__getitem__)
    for pass_name in CONV_PASSES:
        assert run_once(ran, pass_name) == ["first"]
    measured = fc.tune(*SHAPES, seconds=0.05)
    best = {m.pass_name: (m.kernel, m.seconds) for m in measured if m.winner}
    assert best == {
        "forward": ("first", pytest.approx(2e-3)),
        "input_grad": ("second", pytest.approx(1e-3)),
        "filter_grad": ("first", pytest.approx(2e-3)),
    }
    assert {m.kernel for m in measured if m.default} == {"first"}
    assert [m.kernel for m in measured] == ["first", "second", "second", "first", "first", "second"]
    for pass_name in CONV_PASSES:
        assert run_once(ran, pass_name) == [best[pass_name][0]]
    told = fc.explain("input_grad", *SHAPES, measure=False)
    assert (told.kernel, told.passed_over) == ("second", ())
    assert told.why == "tuned: the fastest measured here, 1 ms"
    assert "forward      first" in repr(measured) and "* default" in repr(measured)


def test_only_the_same_problem_threads_and_precision_are_decided(install: Any) -> None:
    ran = install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, threads=2, passes=["forward"], seconds=0)

    def chosen(*shapes: Any, **options: Any) -> str:
        return fc.explain("forward", *(shapes or SHAPES), measure=False, **options).kernel

    with fc.use(threads=2):
        assert chosen() == "second"
        assert run_once(ran, "forward") == ["second"]
        assert run_once(ran, "forward", padding=1) == ["first"]
        assert run_once(ran, "input_grad") == ["first"]
        assert chosen((3, 4, 9, 9), SHAPES[1]) == "first"
        assert chosen(dtype="float64") == "first"
        assert chosen((2, 9, 9, 4), (3, 3, 4, 6), layout="NHWC") == "first"
        with fc.use(precision="highest"):
            assert chosen() == "first"
    with fc.use(threads=1):
        assert chosen() == "first"


def test_highest_precision_leaves_fast_algorithms_out(install: Any) -> None:
    install(sums=2e-3, winograd=(1e-3, {"sums_products": False}))
    with fc.use(precision="highest"):
        assert [m.kernel for m in fc.tune(*SHAPES, passes=["forward"], seconds=0)] == ["sums"]
    fc.tune(*SHAPES, passes=["forward"], seconds=0)
    assert fc.explain("forward", *SHAPES, measure=False).kernel == "winograd"
    with fc.use(precision="highest"):
        assert fc.explain("forward", *SHAPES, measure=False).kernel == "sums"


def test_a_forced_kernel_comes_first(install: Any) -> None:
    ran = install(first=2e-3, second=1e-3, third=5e-3)
    fc.tune(*SHAPES, seconds=0)
    assert run_once(ran, "forward", kernel="third") == ["third"]
    with fc.use(kernel="third"):
        assert run_once(ran, "forward") == ["third"]
        fc.tune(*SHAPES, passes=["forward"], seconds=0)
        assert run_once(ran, "forward") == ["third"]
    assert run_once(ran, "forward") == ["second"]


def test_who_takes_part(install: Any) -> None:
    install(
        refuses=(1e-3, {"unsupported": lambda p, s: "the stride is 1"}),
        gone=(1e-3, {"missing": "it is not installed"}),
        avoided=(1e-3, {"avoid": lambda p, s, t: "slow, it says"}),
        plain=2e-3,
    )
    measured = fc.tune(*SHAPES, passes=["forward"], seconds=0)
    assert [(m.kernel, m.default) for m in measured] == [("avoided", False), ("plain", True)]
    assert [m.kernel for m in fc.tune(*SHAPES, passes=["forward"], kernels=["plain"], seconds=0)] == ["plain"]
    with pytest.raises(ValueError, match=r"tune: none of the kernels can do .* \(refuses: the stride is 1\)"):
        fc.tune(*SHAPES, kernels=["refuses"])


def test_the_quickest_call_counts_not_the_first(install: Any) -> None:
    """One contestant is held up in all but one of its calls, and wins."""
    calls = iter([1.0, 9e-3, 9e-3, 9e-3, 9e-3, 1e-3] + [9e-3] * 100)
    install(steady=4e-3, held_up=lambda p: next(calls))
    measured = fc.tune(*SHAPES, passes=["forward"], seconds=0.1)
    assert [(m.kernel, m.seconds) for m in measured] == [
        ("held_up", pytest.approx(1e-3)),
        ("steady", pytest.approx(4e-3)),
    ]


def test_contestants_take_turns_and_stragglers_drop_out(install: Any) -> None:
    ran = install(a=1e-3, b=2e-3, slow=5e-3, hopeless=1.0)
    fc.tune(*SHAPES, passes=["forward"], seconds=0.5)
    assert ran.count("hopeless") == 2
    assert ran.count("slow") == 2 + 2 * tuning.LEAST_ROUNDS
    assert ran.count("a") == ran.count("b") > 100
    assert "aabbbbaa" in "".join(ran[-40:]), "two calls a turn, and the order turns around"


def test_padding_modes_are_tuned_as_kernels_see_them(install: Any) -> None:
    ran = install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, padding=1, padding_mode="reflect", passes=["forward"], seconds=0)
    assert run_once(ran, "forward", padding=1, padding_mode="reflect") == ["second"]
    assert run_once(ran, "forward", padding=1) == ["first"]


@pytest.mark.parametrize("x_shape, w_shape", [((2, 3, 9), (4, 3, 3)), ((1, 2, 4, 5, 6), (3, 2, 3, 3, 3))])
def test_other_ranks(install: Any, x_shape: Any, w_shape: Any) -> None:
    install(first=2e-3, second=1e-3)
    fc.tune(x_shape, w_shape, passes=["forward"], seconds=0)
    assert fc.explain("forward", x_shape, w_shape, measure=False).kernel == "second"


def test_a_winner_that_is_gone_is_passed_over(install: Any) -> None:
    install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, passes=["forward"], seconds=0)
    install(first=2e-3)
    assert fc.explain("forward", *SHAPES, measure=False).kernel == "first"
    install(first=2e-3, second=(1e-3, {"missing": "it is not installed"}))
    assert fc.explain("forward", *SHAPES, measure=False).kernel == "first"


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"dtype": "int8"}, ValueError, "tune: dtype is int8: it must be float32 or float64"),
        ({"dtype": "float"}, None, ""),
        ({"dtype": "nonsense"}, TypeError, "tune: dtype is 'nonsense'"),
        ({"padding": -1}, ValueError, "tune: padding is -1"),
        ({"layout": "NWC"}, ValueError, "tune: layout is 'NWC'"),
        ({"passes": "forward"}, TypeError, "tune: passes is 'forward': it must be some of forward, "),
        ({"passes": []}, ValueError, r"tune: passes is \[\]"),
        ({"passes": ["max_pool"]}, ValueError, "tune: passes is .*max_pool"),
        ({"kernels": "reference"}, TypeError, "tune: kernels is 'reference'"),
        ({"kernels": ["fast"]}, ValueError, "tune: kernel is 'fast'"),
        ({"threads": 0}, ValueError, "tune: threads is 0: it must be from 1 to 1024"),
        ({"threads": 1.0}, TypeError, "tune: threads is 1.0"),
        ({"seconds": -1}, ValueError, "tune: seconds is -1"),
        ({"seconds": float("nan")}, ValueError, "tune: seconds is nan"),
        ({"seconds": "1"}, TypeError, "tune: seconds is '1'"),
    ],
)
def test_bad_arguments(install: Any, options: Any, error: Any, message: str) -> None:
    install(only=1e-3)
    options = {"seconds": 0} | options
    if error is None:
        fc.tune(*SHAPES, **options)
        return
    with pytest.raises(error, match=message):
        fc.tune(*SHAPES, **options)
    assert winners.recorded() == {}


def test_an_empty_batch_is_nothing_to_tune() -> None:
    with pytest.raises(ValueError, match=r"tune: x .* sums nothing"):
        fc.tune((0, 4, 9, 9), (6, 4, 3, 3))


def test_the_file_gives_the_same_choices(install: Any, tmp_path: Path) -> None:
    install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, seconds=0)
    fc.tune((1, 8, 6, 2), (3, 3, 2, 4), "float64", padding=[(0, 1), (2, 1)], layout="NHWC", seconds=0)
    fc.tune((1, 2, 30), (2, 2, 3), dilation=2, threads=1, seconds=0)
    before = winners.recorded()
    path = tmp_path / "tuning.json"
    assert fc.save_tuning(path) == len(before) == 9
    assert [p.name for p in tmp_path.iterdir()] == ["tuning.json"]
    winners.clear()
    launch.forget()
    assert fc.load_tuning(str(path)) == 9
    assert winners.recorded() == before
    assert fc.explain("forward", *SHAPES, measure=False).kernel == "second"


def test_loading_counts_for_problems_met_before(install: Any, tmp_path: Path) -> None:
    ran = install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, passes=["forward"], seconds=0)
    fc.save_tuning(tmp_path / "t")
    winners.clear()
    launch.forget()
    assert run_once(ran, "forward") == ["first"]
    fc.load_tuning(tmp_path / "t")
    assert run_once(ran, "forward") == ["second"]


@pytest.mark.parametrize(
    "name, value", [("cpu", "Another CPU"), ("isa", "avx1024"), ("fastconv", "0.0.1"), ("isa", None)]
)
def test_a_file_from_elsewhere_is_ignored_with_a_warning(
    install: Any, tmp_path: Path, name: str, value: Any
) -> None:
    install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, seconds=0)
    path = tmp_path / "t.json"
    fc.save_tuning(path)
    told = json.loads(path.read_text())
    assert (told["cpu"], told["isa"], told["fastconv"]) == (
        runtime.cpu_name(),
        runtime.chosen_isa(),
        fc.__version__,
    )
    path.write_text(json.dumps(told | {name: value}))
    winners.clear()
    with pytest.warns(UserWarning, match=f"t.json is ignored: it was measured with {name} {value!r}, here"):
        assert fc.load_tuning(path) == 0
    assert winners.recorded() == {}


def damaged(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        report = json.loads(path.read_text())
        change(report)
        path.write_text(json.dumps(report))

    return damage


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut off": lambda p: p.write_bytes(p.read_bytes()[:-40]),
    "empty": lambda p: p.write_text(""),
    "binary": lambda p: p.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda p: p.write_text("[" * 100_000),
    "a list": lambda p: p.write_text("[]"),
    "another JSON": lambda p: p.write_text("{}"),
    "another format": damaged(lambda r: r.update(format=99)),
    "no winners": damaged(lambda r: r.pop("winners")),
    "winners is a number": damaged(lambda r: r.update(winners=3)),
    "a winner is a string": damaged(lambda r: r["winners"].append("x")),
    "no kernel": damaged(lambda r: r["winners"][1].pop("kernel")),
    "unknown kernel": damaged(lambda r: r["winners"][1].update(kernel="warp")),
    "unhashable kernel": damaged(lambda r: r["winners"][1].update(kernel=["x"])),
    "unknown pass": damaged(lambda r: r["winners"][1].update({"pass": "max_pool"})),
    "unknown precision": damaged(lambda r: r["winners"][1].update(precision="low")),
    "unknown dtype": damaged(lambda r: r["winners"][1].update(dtype="int8")),
    "unknown padding mode": damaged(lambda r: r["winners"][1].update(padding_mode="x")),
    "channels_last is 1": damaged(lambda r: r["winners"][1].update(channels_last=1)),
    "n is a float": damaged(lambda r: r["winners"][1].update(n=2.0)),
    "size is a number": damaged(lambda r: r["winners"][1].update(size=9)),
    "padding of three": damaged(lambda r: r["winners"][1].update(padding=[[1, 1, 1]])),
    "no threads": damaged(lambda r: r["winners"][1].update(threads=0)),
    "NaN seconds": damaged(lambda r: r["winners"][1].update(seconds=float("nan"))),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_loads_nothing(install: Any, tmp_path: Path, damage: Any) -> None:
    install(first=2e-3, second=1e-3)
    fc.tune(*SHAPES, seconds=0)
    path = tmp_path / "t.json"
    fc.save_tuning(path)
    winners.clear()
    damage(path)
    message = r"load_tuning: .*t.json is damaged \(.+\): it must be a file that save_tuning wrote"
    with pytest.raises(ValueError, match=message) as caught:
        fc.load_tuning(path)
    assert "\n" not in str(caught.value)
    assert winners.recorded() == {}


def test_paths(tmp_path: Path) -> None:
    for function in (fc.save_tuning, fc.load_tuning):
        with pytest.raises(TypeError, match="path is 3: it must be a path"):
            function(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        fc.load_tuning(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        fc.save_tuning(tmp_path / "none" / "t")


def test_from_many_threads(install: Any) -> None:
    """Tuning, loading and calling at once: contests take turns, and every call is right."""
    ran = install(first=2e-3, second=1e-3)
    x, w = (np.ones(shape, np.float32) for shape in SHAPES)
    want, failures = fc.conv2d(x, w, kernel="reference"), []

    def work(i: int) -> None:
        try:
            for _ in range(5):
                fc.tune((2 + i, 4, 9, 9), SHAPES[1], passes=["forward"], seconds=0)
                fc.tune(*SHAPES, passes=["forward"], seconds=0)
                np.testing.assert_array_equal(fc.conv2d(x, w), want)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(winners.recorded()) == 6
    assert run_once(ran, "forward") == ["second"]


def test_a_launch_chosen_before_and_remembered_after_is_not_found(install: Any) -> None:
    """`forget` runs while another call is between choosing its kernel and remembering the choice."""

    def meanwhile(pass_name: str, spec: Any) -> None:
        if not winners.recorded():
            contest = winners.race("forward", spec, settings.current())
            winners.record({contest: winners.Winner("second", 1.0)})
            launch.forget()

    ran = install(first=(2e-3, {"unsupported": meanwhile}), second=1e-3)
    assert run_once(ran, "forward") == ["first"]
    assert run_once(ran, "forward") == ["second"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_in_a_forked_child(tmp_path: Path) -> None:
    """Also where another thread of the parent is in the middle of a contest."""
    code = """import os, sys, threading, fastconv as fc
from fastconv.dispatch import tuning
held = threading.Event()
def hold():
    with tuning._one_at_a_time:
        held.set(); threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    fc.tune((1, 2, 8, 8), (2, 2, 3, 3), passes=["forward"], kernels=["reference"], seconds=0)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"""
    done = run_python(code, tmp_path, timeout=60)
    assert done.stdout.strip() == "7", done.stderr


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.json"
    words = ["tune", "--kernels", "reference", "cython.direct", "--seconds", "0", "--save", str(path)]
    assert cli.main([*words, "--problems", "digits_c1", "--passes", "forward"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:3] for row in rows[3:5]] == [["digits_c1", "forward", n] for n in ("NCHW", "NHWC")]
    winners.clear()
    # a transposed problem is tuned as what its functions compute, and the winners in FILE are kept
    assert cli.main([*words, "--problems", "dcgan_g1", "--passes", "forward", "--layouts", "NCHW"]) == 0
    capsys.readouterr()
    winners.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fc.load_tuning(path) == 3
    assert {race.pass_name for race in winners.recorded()} == {"forward", "input_grad"}
    assert fc.explain("forward", (64, 1, 8, 8), (16, 1, 3, 3), padding=1, measure=False).why.startswith(
        "tuned"
    )


def test_command_counts_gains(
    install: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(first=2e-3, second=1e-3)
    words = [
        "tune",
        "--problems",
        "lenet_c3",
        "--passes",
        "filter_grad",
        "--layouts",
        "NHWC",
        "--seconds",
        "0",
    ]
    assert cli.main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[3].split() == ["lenet_c3", "filter_grad", "NHWC", "first", "2", "second", "1", "2.00"]
    assert out[-1] == "geometric mean of the gains: 2.00"


def test_command_refuses_a_damaged_file_before_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t").write_text("{")
    assert cli.main(["tune", "--problems", "digits_c1", "--save", str(tmp_path / "t")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "is damaged" in told.err and len(told.err.splitlines()) == 1

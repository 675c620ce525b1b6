"""The named problems, `fastconv bench`, and side_by_side without peers."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.ops.spec import conv_spec
from fastconv.tools import bench, cli, measure, workload
from fastconv.tools.measure import Bench, Row, mark_winners
from fastconv.tools.problems import CONV1D, CONV2D, CONV3D, CONV_TRANSPOSE2D, GROUPS, PASSES, PROBLEMS, select
from fastconv.tools.workload import Workload, to_first

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_counts_of_the_lists():
    assert [len(problems) for problems in (CONV2D, CONV1D, CONV3D, CONV_TRANSPOSE2D)] == [28, 10, 10, 10]
    assert len(PROBLEMS) == 58
    assert all(problem.source for problem in PROBLEMS.values())


@pytest.mark.parametrize(
    "name, mflop",
    [
        ("digits_c1", 1.18),
        ("alex_c1", 562.2),
        ("r50_stem", 944.1),
        ("mbv2_dw_s2", 21.68),
        ("replk_dw31", 771.5),
    ],
)
def test_operations_are_those_of_the_published_table(name, mflop):
    assert PROBLEMS[name].flops / 1e6 == pytest.approx(mflop, rel=5e-3)


@pytest.mark.parametrize("layout", [0, 1], ids=["first", "last"])
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_shapes_are_those_of_the_functions(problem, layout):
    layout = problem.layouts[layout]
    x_shape, y_shape = problem.x_shape(layout), problem.dy_shape(layout)
    if problem.transposed:  # the convolution whose input gradient it is
        x_shape, y_shape = y_shape, x_shape
    options = {name: value for name, value in problem.options.items() if name != "output_padding"}
    spec = conv_spec("problem", x_shape, problem.w_shape(layout), np.dtype("f4"), layout=layout, **options)
    assert spec.y_shape == y_shape
    assert spec.flops == problem.flops


def test_select_takes_names_globs_and_groups_in_list_order():
    assert [p.name for p in select(["mbv2_dw*", "digits_c1", "grouped"])] == [
        *("digits_c1", "mbv2_dw_s2", "mbv2_dw", "mbv2_dw14", "resnext_g32")
    ]
    assert len(select(["*"])) == len(PROBLEMS)
    assert all(select([group]) for group in GROUPS)


def test_select_refuses_what_matches_nothing():
    with pytest.raises(ValueError, match=r"'nothing' matches nothing: it must be a group \(conv2d"):
        select(["digits_c1", "nothing"])


def small(name):
    """A listed problem shrunk to a size the reference takes at once."""
    problem = PROBLEMS[name]
    size = tuple(min(i, 9) for i in problem.size)
    return replace(
        problem, n=1, size=size, padding=tuple(f // 2 for f in problem.window), dilation=(1,) * problem.ndim
    )


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("name", ["lenet_c3", "kws_s2", "x3d_dw", "dcgan_g5"])
def test_workload_computes_the_same_in_both_layouts(name, pass_name):
    work = Workload(small(name), "float64")
    first, last = (
        to_first(pass_name, layout, work.problem, work.call(pass_name, layout)())
        for layout in work.problem.layouts
    )
    assert work.error(last, first, work.magnitude(pass_name, work.problem.layouts[1])) <= 1
    wrong = first.copy()
    wrong.flat[0] *= 1 + 1e-9
    assert work.error(wrong, first, work.magnitude(pass_name, work.problem.layouts[0])) > 1


def run(*argv):
    return cli.main(["bench", "--seconds", "0.001", *map(str, argv)])


def test_bench_writes_table_json_and_chart(tmp_path, capsys):
    files = tmp_path / "bench.json", tmp_path / "bench.png"
    assert run("--problems", "digits_c1", "--json", files[0], "--plot", files[1]) == 0
    out = capsys.readouterr().out
    report = json.loads(files[0].read_text())
    assert {row["pass_name"] for row in report["rows"]} == set(PASSES)
    assert {row["layout"] for row in report["rows"]} == {"NCHW", "NHWC"}
    for row in report["rows"]:
        assert row["kernel"] in out
        assert row["seconds"] is None or row["error"] <= 1
    assert sum(row["winner"] for row in report["rows"]) == 6
    assert report["peak"]["gflops"] > 0
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_bench_refuses_the_cpu_clock_for_several_threads(capsys):
    assert run("--problems", "digits_c1", "--clock", "cpu", "--threads", "2") == 2
    assert "it needs --threads 1" in capsys.readouterr().err


def test_bench_exits_with_1_on_wrong_values(monkeypatch, capsys):
    monkeypatch.setattr(measure.Workload, "error", lambda *_: 3.0)
    assert run("--problems", "digits_c1", "--kernels", "reference", "--passes", "forward") == 1
    assert "wrong values: reference on digits_c1 forward NCHW" in capsys.readouterr().out


def test_bench_says_why_a_kernel_did_not_run(monkeypatch):
    rows = list(Bench(["reference"], "float32", 1, 0.001).rows(small("lenet_c3"), "forward", ["NCHW"]))
    assert rows[0].note == ""

    def refuse(*_, **__):
        raise fc.UnsupportedProblem("conv2d: kernel x cannot do this problem: it has no forward pass")

    monkeypatch.setattr(workload.fastconv, "conv2d", refuse)
    row = Row("lenet_c3", "forward", "NCHW", "reference")
    assert Bench(["reference"], "float32", 1, 0.001).measure(row, Workload(small("lenet_c3"))) is None
    assert row.note == "refused: it has no forward pass"
    assert row.seconds is None


def test_bench_leaves_out_what_would_take_too_long():
    patient = Bench(["reference"], "float32", 1, 0.001)
    patient.rates["reference", "forward"] = 1e6
    row = Row("vgg_3_2", "forward", "NCHW", "reference")
    assert patient.measure(row, Workload(PROBLEMS["vgg_3_2"])) is None
    assert row.note.startswith("left out")


def test_the_winner_is_the_fastest_right_row():
    rows = [
        Row("p", "forward", "NCHW", "a", seconds=3.0, error=0.5),
        Row("p", "forward", "NCHW", "b", seconds=1.0, error=math.nan),
        Row("p", "forward", "NCHW", "c", seconds=2.0, error=0.5),
        Row("p", "forward", "NHWC", "a", seconds=9.0, error=0.5),
    ]
    mark_winners(rows)
    assert [row.winner for row in rows] == [False, False, True, True]


def test_kernels_are_chosen_by_glob():
    assert bench.choose_kernels(["ref*"]) == ["reference"]
    assert not any("@" in name for name in bench.choose_kernels(["*"]))
    with pytest.raises(ValueError, match="matches nothing available"):
        bench.choose_kernels(["torch.*"])


def test_list_shows_problems_and_groups(capsys):
    assert cli.main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in (*PROBLEMS, *GROUPS))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """One short run of side_by_side.py of fastconv alone."""
    file = tmp_path_factory.mktemp("side") / "result.json"
    script = [
        sys.executable,
        BENCHMARKS / "side_by_side.py",
        "--peers",
        "--rounds",
        "1",
        "--seconds",
        "0.001",
    ]
    what = ["--sections", "tiny", "conv", "steps", "--problems", "digits_c1", "kws_s2"]
    done = subprocess.run([*script, *what, "--json", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


def test_side_by_side_runs_and_checks_every_section(result):
    races = result["races"]
    assert {race["section"] for race in races} == {"tiny", "conv", "steps"}
    assert all(race["seconds"] for race in races)
    assert all(race["errors"] and max(race["errors"].values()) <= 1 for race in races)


def test_report_renders_and_fills_the_readme_block(result, tmp_path):
    file, readme = tmp_path / "result.json", tmp_path / "README.md"
    seconds = {"fastconv NCHW": 2e-3, "fastconv NHWC": 1e-3, "torch NCHW": 3e-3, "torch NHWC": 4e-3}
    file.write_text(json.dumps(result | {"races": [race("digits_c1", seconds)]}))
    readme.write_text("before\n<!-- speed:begin -->\nold\n<!-- speed:end -->\nafter\n")
    outputs = ["--readme", readme, "--plot", tmp_path / "chart.png", "--markdown", tmp_path / "full.md"]
    subprocess.run([sys.executable, BENCHMARKS / "report.py", file, *outputs], check=True)
    text = readme.read_text()
    assert text.startswith("before\n<!-- speed:begin -->\n") and text.endswith("<!-- speed:end -->\nafter\n")
    assert "old" not in text
    assert "| digits_c1 | 2 | 1 | 3 | 4 | 3.00 | 1.50 |" in (tmp_path / "full.md").read_text()
    assert "| digits_c1 | 1 / 3 = 3.00 |" in text
    assert "| forward | 1 | 3.00 | 0 | 3.00 | 0 | 1.50 | 0 |" in text
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_the_summary_of_several_functions_has_a_row_for_each(result, tmp_path):
    seconds = {"fastconv NCHW": 4e-3, "torch NCHW": 8e-3, "onnxruntime NCHW": 1e-3}
    races = [
        race("kws_s2", seconds),
        race("m5_c1", seconds | {"torch NCHW": 2e-3}),
        race("dcgan_g1", seconds),
    ]
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result | {"races": races}))
    script = [sys.executable, BENCHMARKS / "report.py", file]
    text = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert "| conv1d forward | 2 | 0.25 | 2 | 1.00 | 1 | 1.00 | 1 |" in text
    assert "| conv_transpose2d forward | 1 | 0.25 | 1 | 2.00 | 0 | 2.00 | 0 |" in text


def race(name, seconds):
    given = {"section": "conv", "pass_name": "forward", "flops": 1, "errors": {}, "refused": {}}
    return {"name": name, "seconds": seconds, **given}

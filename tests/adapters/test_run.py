"""`fastconv run model.onnx --input x.npy`."""

import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="ONNX is not installed")
import onnx.parser

from fastconv.tools import cli


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model of two inputs, and the arrays a and b."""
    head = '<ir_version: 10, opset_import: ["": 22]>'
    model = onnx.parser.parse_model(
        f"{head} net (float[N] a, float[N] b) => (float[N] y) {{ y = Sub (a, b) }}"
    )
    onnx.save(model, tmp_path / "model.onnx")
    for name, values in (("a", [1, 2, 9]), ("b", [1, 0, 0])):
        np.save(tmp_path / f"{name}.npy", np.array(values, np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("inputs", [["a.npy", "b.npy"], ["b=b.npy", "a=a.npy"]])
def test_the_outputs_are_shown_and_saved(folder, capsys, inputs):
    options = [word for name in inputs for word in ("--input", name)]
    assert cli.main(["run", "model.onnx", *options, "--output", "y.npz"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "y: float32 (3,), 0 to 9, the largest at 2",
        "saved to y.npz",
    ]
    np.testing.assert_array_equal(np.load("y.npz")["y"], [0, 2, 9])


@pytest.mark.parametrize(
    "model, inputs, said",
    [
        ("none.onnx", ["a.npy"], "No such file"),
        ("a.npy", ["a.npy"], "model: a.npy is no ONNX file"),
        ("model.onnx", ["a.npy"], "--input: a given: the model needs a, b"),
        ("model.onnx", ["c=a.npy"], "--input: c given: the model needs a, b"),
        ("model.onnx", ["a.npy", "b.npy", "a.npy"], "--input: a.npy: the model has no further input"),
        ("model.onnx", ["model.onnx", "b.npy"], "fastconv run: "),
    ],
)
def test_wrong_arguments_are_one_line(folder, capsys, model, inputs, said):
    assert cli.main(["run", model, *(word for name in inputs for word in ("--input", name))]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_without_onnx_it_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["run", "model.onnx", "--input", "a.npy"]) == 2
    assert "fastconv run needs onnx: pip install 'fastconv[onnx]'" in capsys.readouterr().err

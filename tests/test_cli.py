"""The command line: help, version, exit statuses, one-line errors; info."""

import importlib
import json
import sys

import pytest

import fastconv as fc
from fastconv.tools import cli, info
from fastconv.tools.extras import MissingExtra, require


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: fastconv {name}" in capsys.readouterr().out
    assert callable(importlib.import_module(cli.COMMANDS[name][0]).run)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == f"fastconv {fc.__version__}"


@pytest.mark.parametrize("argv", [[], ["fly"], ["info", "--no-such-option"]])
def test_wrong_use_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: fastconv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, status, said",
    [
        (ValueError("problems: 'x' matches nothing"), 2, "fastconv info: problems: 'x' matches nothing"),
        (FileNotFoundError(2, "No such file", "nets.npz"), 2, "nets.npz"),
        (MissingExtra("--plot needs matplotlib: pip install 'fastconv[bench]'"), 2, "fastconv[bench]"),
        (ModuleNotFoundError("no sklearn", name="sklearn.datasets"), 2, "pip install 'fastconv[digits]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, error, status, said):
    def fails(args):
        raise error

    monkeypatch.setattr(info, "run", fails)
    assert cli.main(["info"]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fails(args):
        raise ModuleNotFoundError("no such module", name="fastconv.tools.misspelt")

    monkeypatch.setattr(info, "run", fails)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["info"])


def test_require_names_the_extra(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"--plot needs matplotlib: pip install 'fastconv\[bench\]'"):
        require("matplotlib.figure", "--plot")


def test_info_lists_machine_and_kernels(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("cpu", "threads", "numpy", "reference"):
        assert word in out


def test_info_as_json(capsys):
    assert cli.main(["info", "--json", "--peak"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kernels"][-1]["kernel"] == "reference"
    assert told["machine"]["fastconv"] == fc.__version__
    assert "GFLOP/s" in told["machine"]["float32 peak"]

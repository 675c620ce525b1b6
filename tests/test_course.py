"""The scripts of docs/course run from top to bottom, and none is missing from its table."""

import re
import runpy
from pathlib import Path

import pytest

import fastconv as fc

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

COURSE = Path(__file__).resolve().parent.parent / "docs" / "course"
SCRIPTS = sorted(COURSE.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_script_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with fc.use(threads=1):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out
    drawn = {path.name for path in tmp_path.iterdir()}
    assert bool(drawn) == ("savefig" in script.read_text())


def test_table_lists_every_script():
    listed = re.findall(r"\]\((\w+\.py)\)", (COURSE / "README.md").read_text())
    assert listed == [script.name for script in SCRIPTS]
    assert len(listed) == 8


def test_what_the_course_says_is_true(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with fc.use(threads=1):
        for chapter in ("1_perceptron", "4_pooling", "6_weights"):
            runpy.run_path(str(COURSE / f"{chapter}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "0 or 1: 0 mistakes" in said
    assert "one hidden layer: [0 1 1 0]" in said
    assert "images equal: False  after pooling: True" in said
    shallow, convolutional = (float(share) for share in re.findall(r"accuracy (\d+\.\d+)% ±", said))
    assert convolutional > shallow > 95

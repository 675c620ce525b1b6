"""The winners of tuning on disk: JSON that says which machine and version they belong to."""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

import fastconv
from fastconv.dispatch import runtime, winners
from fastconv.dispatch.registry import kernels_by_name
from fastconv.dispatch.settings import PRECISIONS, checked_threads
from fastconv.dispatch.winners import Race, Winner
from fastconv.kernels.kernel import CONV_PASSES
from fastconv.ops import launch
from fastconv.ops.errors import bad_type, bad_value, shown
from fastconv.ops.parse import PADDING_MODES
from fastconv.ops.spec import ConvSpec

FORMAT = 1


def save_tuning(path: str | os.PathLike[str]) -> int:
    """Write every winner that this process has measured or loaded, for `load_tuning` in another.

    Parameters
    ----------
    path : str or path
        A JSON file, replaced as a whole.

    Returns
    -------
    int
        The number of winners written.

    Raises
    ------
    TypeError
        Where `path` is no path.
    OSError
        Where it cannot be written.

    Examples
    --------
    >>> import os, tempfile, fastconv as fc
    >>> path = os.path.join(tempfile.mkdtemp(), "tuning.json")
    >>> rows = fc.tune((1, 2, 8, 8), (2, 2, 3, 3), passes=["forward"], kernels=["reference"], seconds=0.001)
    >>> fc.save_tuning(path) == fc.load_tuning(path) >= 1
    True
    """
    path = checked_path("save_tuning", path)
    found = winners.recorded()
    head = json.dumps({"format": FORMAT, **machine()})
    rows = ",\n".join(json.dumps(entry(*item)) for item in found.items())
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(f'{head[:-1]}, "winners": [\n{rows}\n]}}\n', encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return len(found)


def load_tuning(path: str | os.PathLike[str]) -> int:
    """Remember the winners that `save_tuning` wrote, beside those of this process; the file's come first.

    A file from another CPU, instruction set or version of fastconv says nothing about this one: it is ignored
    with a warning.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    int
        The number of winners loaded; 0 where the file is ignored.

    Raises
    ------
    ValueError
        Where the file is not one that `save_tuning` wrote; nothing is loaded then.
    TypeError
        Where `path` is no path.
    OSError
        Where it cannot be read.

    Examples
    --------
    See `save_tuning`.
    """
    path = checked_path("load_tuning", path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report, dict):
            raise ValueError("no JSON object")
        there = {name: report[name] for name in machine()}
        if report["format"] != FORMAT:
            raise ValueError(f"format {report['format']!r}")
        found = dict(read_entry(item) for item in report["winners"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        bad_value("load_tuning", f"{path} is damaged ({what})", "it must be a file that save_tuning wrote")
    for name, here in machine().items():
        if there[name] != here:
            warnings.warn(
                f"load_tuning: {path} is ignored: it was measured with {name} {there[name]!r}, "
                f"here it is {here!r}; measure again: fastconv tune --save FILE",
                stacklevel=2,
            )
            return 0
    winners.record(found)
    launch.forget()
    return len(found)


def machine() -> dict[str, str | None]:
    """What winners depend on beside the problem, the threads and the precision."""
    return {"cpu": runtime.cpu_name(), "isa": runtime.chosen_isa(), "fastconv": fastconv.__version__}


def checked_path(op: str, path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        bad_type(op, f"path is {shown(path)}", "it must be a path")
    return Path(path)


def entry(race: Race, winner: Winner) -> dict[str, Any]:
    """A winner as plain values: the race, its geometry field by field, the kernel and its seconds."""
    geometry = {field.name: getattr(race.spec, field.name) for field in fields(ConvSpec)}
    head = {"pass": race.pass_name, "threads": race.threads, "precision": race.precision}
    return head | winner._asdict() | geometry | {"dtype": race.spec.dtype.name}


def read_entry(item: Any) -> tuple[Race, Winner]:
    """The winner that `entry` wrote; ValueError, TypeError or KeyError where something else is there."""
    one_of("pass", item["pass"], CONV_PASSES)
    one_of("precision", item["precision"], PRECISIONS)
    one_of("kernel", item["kernel"], kernels_by_name())
    one_of("dtype", item["dtype"], ("float32", "float64"))
    one_of("padding_mode", item["padding_mode"], PADDING_MODES)
    one_of("channels_last", item["channels_last"], (False, True))
    padding = tuple((before, after) for before, after in map(integers, item["padding"]))
    spec = ConvSpec(
        n=integer(item["n"]),
        c=integer(item["c"]),
        k=integer(item["k"]),
        groups=integer(item["groups"]),
        size=integers(item["size"]),
        window=integers(item["window"]),
        out_size=integers(item["out_size"]),
        stride=integers(item["stride"]),
        dilation=integers(item["dilation"]),
        padding=padding,
        padding_mode=item["padding_mode"],
        channels_last=item["channels_last"],
        dtype=np.dtype(item["dtype"]),
    )
    threads = checked_threads("load_tuning", item["threads"])
    seconds = item["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise ValueError(f"seconds {shown(seconds)}")
    return Race(item["pass"], spec, threads, item["precision"]), Winner(item["kernel"], float(seconds))


def one_of(name: str, value: Any, known: Any) -> None:
    if not isinstance(value, (str, bool)) or value not in known:
        raise ValueError(f"{name} {shown(value)}")


def integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{shown(value)} where an integer belongs")
    return value


def integers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{shown(value)} where integers belong")
    return tuple(map(integer, value))

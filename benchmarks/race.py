"""Contestants take turns: one process a library, several rounds, the median of each round's minimum."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

Task = dict[str, Any]
# Idle OpenMP threads spin for some milliseconds after a library's turn; the next one waits for them to sleep.
PAUSE = 0.005
# The label of a plain copy that moves as many bytes as a memory-bound task: a limit, not a peer.
COPY = "copy of as many bytes"


class Contestant:
    """A library in a process of its own."""

    def __init__(
        self, library: str, python: str, threads: int, precision: str, isa: str | None = None
    ) -> None:
        self.library = library
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | ({"FASTCONV_ISA": isa} if isa else {})
        script = Path(__file__).with_name("contestants.py")
        self.process = subprocess.Popen(
            [python, str(script), library, str(threads), precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.library} process ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()


def installed(library: str, python: str) -> bool:
    """Whether an interpreter can import what a contestant needs."""
    needs = {"onnxruntime": "import onnx, onnxruntime"}.get(library, f"import {library}")
    return subprocess.run([python, "-c", needs], capture_output=True).returncode == 0


@dataclass
class Race:
    """One thing to do and the time each contestant took, by label ("torch NHWC")."""

    section: str
    name: str
    pass_name: str
    flops: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def best(self, of: Callable[[str], bool]) -> float | None:
        return min((s for label, s in self.seconds.items() if of(label)), default=None)

    @property
    def ours(self) -> float | None:
        """fastconv's better layout."""
        return self.best(lambda label: label.startswith("fastconv"))

    @property
    def peers(self) -> float | None:
        """The best of the others."""
        return self.best(lambda label: not label.startswith(("fastconv", COPY)))

    @property
    def ratio(self) -> float | None:
        return self.peers / self.ours if self.ours and self.peers else None

    @property
    def torch_ratio(self) -> float | None:
        """PyTorch's better layout over fastconv's."""
        torch = self.best(lambda label: label.startswith("torch"))
        return torch / self.ours if torch and self.ours else None

    @property
    def nchw_ratio(self) -> float | None:
        """PyTorch's NCHW time over fastconv's."""
        ours = self.best(lambda label: label.startswith("fastconv NCHW"))
        torch = self.seconds.get("torch NCHW")
        return torch / ours if torch and ours else None


def run(
    race: Race, entries: dict[str, tuple[Contestant, Task]], rounds: int, seconds: float, clock: str
) -> None:
    """Fill in the seconds of every entry that can do its task, taking turns in rotating order."""
    minima: dict[str, list[float]] = {}
    labels = list(entries)
    for turn in range(rounds):
        first = turn % len(labels)
        for label in (*labels[first:], *labels[:first]):
            if label in race.refused:
                continue
            contestant, task = entries[label]
            time.sleep(PAUSE)
            answer = contestant.ask(do="time", task=task, seconds=seconds, clock=clock)
            if "refused" in answer:
                race.refused[label] = answer["refused"]
            else:
                minima.setdefault(label, []).append(answer["seconds"])
    race.seconds = {label: median(minima[label]) for label in labels if label in minima}


def values(race: Race, entries: dict[str, tuple[Contestant, Task]], folder: Path) -> dict[str, Any]:
    """What every entry that can do its task returns, with channels first; a failure is a wrong value."""
    results = {}
    for label, (contestant, task) in entries.items():
        file = folder / "result.npy"
        answer = contestant.ask(do="values", task=task, file=str(file))
        if "refused" not in answer:
            results[label] = np.load(file)
        elif "failed" in answer:
            race.errors[label] = np.inf
    return results


def forget(contestants: Sequence[Contestant]) -> None:
    for contestant in contestants:
        contestant.ask(do="forget")


def geometric_mean(ratios: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else float("nan")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

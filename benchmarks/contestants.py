"""One library in a process of its own: answers requests of side_by_side.py, a line of JSON each.

    python contestants.py fastconv|torch|onnxruntime THREADS PRECISION

A request says what to "do": "about", "forget", "time" (a "task", for "seconds") or "values" (of a "task",
into a "file"). A task names its arrays by .npy files, which every process reads, so that all compute the same
thing. An answer carries "refused", with the reason, where the library cannot do the task.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


class Refused(Exception):
    """The library cannot do the task."""


def arrays(task: dict[str, Any]) -> dict[str, Any]:
    return {name: np.load(file) for name, file in task["files"].items()}


def load_module(name: str, path: Path) -> Any:
    """A module by its path: a peer's interpreter need not have fastconv installed."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def respond(
    library: Any, best_seconds: Any, calls: dict[str, Any], request: dict[str, Any]
) -> dict[str, Any]:
    """The answer to one request; the calls of tasks are kept, warm, until "forget"."""
    if request["do"] == "about":
        return {"about": library.about()}
    if request["do"] == "forget":
        calls.clear()
        return {}
    key = json.dumps(request["task"])
    if key not in calls:
        calls[key] = library.call(request["task"])
        calls[key]()
    result = calls[key]()
    if request["do"] == "values":
        np.save(request["file"], library.values(request["task"], result))
        return {}
    clock = {"wall": time.perf_counter, "cpu": time.thread_time}[request["clock"]]
    return {"seconds": best_seconds(calls[key], request["seconds"], least=2, clock=clock)}


def main() -> None:
    name, threads, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    timing = load_module("timing", HERE.parent / "fastconv" / "dispatch" / "timing.py")
    library = load_module(f"run_{name}", HERE / f"run_{name}.py").Library(threads, precision)
    calls: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            answer = respond(library, timing.best_seconds, calls, json.loads(line))
        except (Refused, *library.refusals) as reason:
            answer = {"refused": str(reason)}
        except Exception as error:  # one failure must not end the whole run; it is reported as a wrong result
            traceback.print_exc()
            answer = {"refused": f"failed: {error!r}", "failed": True}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    sys.modules["contestants"] = sys.modules["__main__"]
    main()

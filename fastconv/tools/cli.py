"""The `fastconv` command: one module a subcommand, imported when it is asked for.

A subcommand's module has `add_arguments(parser)` and `run(args) -> int`, the exit status.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import fastconv
from fastconv.tools.extras import EXTRAS, MissingExtra

# name -> (module, what it does)
COMMANDS = {
    "digits": (
        "fastconv.tools.digits",
        "train on scikit-learn's digits, validating every kernel end to end",
    ),
    "train": ("fastconv.tools.train", "train a net of its paper on your images"),
    "predict": ("fastconv.tools.predict", "say what a trained net sees in image files"),
    "lecture": (
        "fastconv.tools.lecture",
        "run every experiment of a course on convolutional nets, and write them to one web page",
    ),
    "bench": ("fastconv.tools.bench", "time every kernel on named problems, against this machine's limits"),
    "tune": ("fastconv.tools.tune", "find this machine's fastest kernel for named problems, and save them"),
    "run": ("fastconv.tools.run", "run an ONNX model on arrays from .npy files"),
    "info": ("fastconv.tools.info", "show the CPU, instruction sets, threads and kernels"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status: 0 done, 1 a check failed, 2 wrong use, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    chosen = next((word for word in argv if word in COMMANDS), None)
    parser, module = build_parser(chosen)
    args = parser.parse_args(argv)
    try:
        return int(module.run(args))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has seen enough; nothing is left to tell it
        return 0
    except (MissingExtra, OSError, ValueError, FloatingPointError) as error:
        return failed(chosen, str(error).removeprefix(f"{chosen}: "))
    except MemoryError as error:
        return failed(chosen, f"out of memory ({error}): use smaller batches or fewer images")
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        name, extra = EXTRAS[package]
        print(f"fastconv {chosen} needs {name}: pip install 'fastconv[{extra}]'", file=sys.stderr)
        return 2


def failed(command: str | None, why: str) -> int:
    """One sentence on the standard error; the exit status."""
    print(f"fastconv {command}: {why}", file=sys.stderr)
    return 2


def build_parser(chosen: str | None) -> tuple[argparse.ArgumentParser, Any]:
    """The parser, with the arguments of the chosen subcommand only, and that subcommand's module."""
    parser = argparse.ArgumentParser(prog="fastconv", description=fastconv.__doc__)
    parser.add_argument("--version", action="version", version=f"fastconv {fastconv.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module = None
    for name, (path, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name == chosen:
            module = importlib.import_module(path)
            module.add_arguments(command)
    return parser, module


if __name__ == "__main__":
    sys.exit(main())

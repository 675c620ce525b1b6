"""`fastconv run model.onnx --input x.npy`: an ONNX model from the shell."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fastconv.ops.arrays import Array
from fastconv.tools.extras import require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", type=Path, help="an ONNX file")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="[NAME=]FILE.npy",
        help="an array for the model's first input, or for the one named; repeat for more",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.npz", help="save the outputs, by name")


def run(args: argparse.Namespace) -> int:
    """Run the model once and say what came out."""
    onnx = require("onnx", "fastconv run")
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from fastconv.adapters.onnx import FastEvaluator

    try:
        evaluator = FastEvaluator(onnx.load(args.model))
    except DecodeError:
        raise ValueError(f"model: {args.model} is no ONNX file") from None
    names = [name for name in evaluator.input_names if name not in evaluator.rt_inits_]
    feeds = dict(read(given, names[i : i + 1]) for i, given in enumerate(args.input))
    if set(feeds) != set(names):
        raise ValueError(f"--input: {', '.join(feeds)} given: the model needs {', '.join(names)}")
    outputs = dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))
    for name, value in outputs.items():
        print(f"{name}: {describe(value)}")
    if args.output:
        np.savez(args.output, **outputs)
        print(f"saved to {args.output}")
    return 0


def read(given: str, next_name: list[str]) -> tuple[str, Array]:
    """(input's name, array) of one --input."""
    name, equals, path = given.rpartition("=")
    if not equals and not next_name:
        raise ValueError(f"--input: {given}: the model has no further input")
    return name or next_name[0], np.load(path, allow_pickle=False)


def describe(value: object) -> str:
    """Dtype, shape and range; the place of the maximum for what looks like scores of one image."""
    if not isinstance(value, np.ndarray) or value.size == 0 or value.dtype.kind not in "fiub":
        return repr(value)
    text = f"{value.dtype} {value.shape}, {value.min():.6g} to {value.max():.6g}"
    return f"{text}, the largest at {value.argmax()}" if value.size == max(value.shape) else text

"""`fastconv info`: the machine, the versions and the kernels, with the reason where one is missing."""

from __future__ import annotations

import argparse
import json

from fastconv.dispatch import roofline, settings
from fastconv.dispatch.registry import kernels
from fastconv.tools.machine import OPTIONAL, describe, installed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--peak", action="store_true", help="also measure the FMA peak and memory bandwidth")


def run(args: argparse.Namespace) -> int:
    about = describe() | {name: installed(name) or "not installed" for name in OPTIONAL}
    if args.peak:
        about |= measured_limits()
    if args.json:
        print(json.dumps({"machine": about, "kernels": list(kernels())}, indent=1))
        return 0
    width = max(map(len, about))
    for name, value in about.items():
        print(f"{name:{width}}  {value}")
    print()
    print(kernels())
    return 0


def measured_limits() -> dict[str, str]:
    """FMA peak per element type, and bandwidth in cache and in memory."""
    threads = settings.current().threads
    limits = {}
    for name, itemsize in (("float32", 4), ("float64", 8)):
        peak = roofline.fma_peak(itemsize, threads)
        limits[f"{name} peak"] = f"{peak.gflops:.0f} GFLOP/s on {threads} threads ({peak.source})"
    for name, nbytes in (("cache", 1 << 20), ("memory", 1 << 27)):
        limits[f"{name} bandwidth"] = (
            f"{roofline.bandwidth(nbytes, threads) / 1e9:.0f} GB/s, read plus written"
        )
    return limits

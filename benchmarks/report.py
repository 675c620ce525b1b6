"""Tables and a chart from the JSON of side_by_side.py; also run by itself:

python benchmarks/report.py result.json --markdown result.md --plot result.png --readme README.md
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from problems import PROBLEMS
from race import Race, geometric_mean

CONV_COLUMNS = ("fastconv NCHW", "fastconv NHWC", "torch NCHW", "torch NHWC", "onnxruntime NCHW")
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


def one_line(race: Race) -> str:
    """Progress while the races run."""
    figures = "  ".join(f"{label} {ms(seconds)}" for label, seconds in race.seconds.items())
    ratio = f"  ratio {race.ratio:.2f}" if race.ratio else ""
    wrong = "".join(f"  WRONG {label}" for label, error in race.errors.items() if not error <= 1)
    return f"{race.name:14} {race.pass_name:12} {figures}{ratio}{wrong}"


def markdown(result: dict[str, Any]) -> str:
    """All sections as tables, after the machine's description and the summary."""
    races = [Race(**race) for race in result["races"]]
    parts = [*description(result), "", *summary(races)]
    for pass_name in dict.fromkeys(r.pass_name for r in races if r.section == "conv"):
        chosen = [r for r in races if r.section == "conv" and r.pass_name == pass_name]
        parts += ["", f"### {pass_name.replace('_', ' ')}, ms", "", *conv_table(chosen)]
    for section, title in (("steps", "Training steps, batch 64, ms"), ("pool", "Max-pool with argmax, ms")):
        chosen = [r for r in races if r.section == section]
        if chosen:
            parts += ["", f"### {title}", "", *conv_table(chosen)]
    for section, table in (("tiny", tiny_lines), ("threads", thread_lines), ("batch", batch_lines)):
        chosen = [r for r in races if r.section == section and r.seconds]
        if chosen:
            parts += ["", *table(chosen)]
    return "\n".join(parts) + "\n"


def readme(result: dict[str, Any]) -> str:
    """The short form: summary, one row a problem, training steps, the cost of a call."""
    races = [Race(**race) for race in result["races"]]
    parts = [*description(result), "", *summary(races), "", *compact_table(races)]
    steps = [r for r in races if r.section == "steps"]
    if steps:
        parts += ["", "Training steps (forward, backward, SGD; batch 64), ms:", "", *conv_table(steps)]
    for race in races:
        if race.section == "tiny":
            parts += ["", *tiny_lines([race])]
    return "\n".join(parts) + "\n"


def compact_table(races: Sequence[Race]) -> Iterator[str]:
    """A row a problem: per pass fastconv's better layout, the best peer, and their ratio."""
    races = [r for r in races if r.section == "conv"]
    passes = list(dict.fromkeys(r.pass_name for r in races))
    head = ["ms: fastconv / best peer = ratio", *(p.replace("_", " ") for p in passes)]
    found = {(r.name, r.pass_name): r for r in races}
    rows = []
    for name in dict.fromkeys(r.name for r in races):
        cells = []
        for r in (found.get((name, p)) for p in passes):
            cells.append(f"{ms(r.ours)} / {ms(r.peers)} = {times(r.ratio)}" if r and r.ratio else "")
        rows.append([name, *cells])
    yield from table(head, rows)


def description(result: dict[str, Any]) -> Iterator[str]:
    m, o = result["machine"], result["options"]
    peers = ", ".join(f"{name} {m[name]}" for name in ("torch", "onnxruntime") if name in m) or "no peers"
    yield (
        f"{m['cpu']}, {m['isa']}, {threads(o)}, {o['dtype']}, precision {o['precision']!r}. "
        f"fastconv {m['fastconv']}, NumPy {m['numpy']}, Python {m['python']}; {peers}."
    )
    if o["kernels"]:
        yield f"fastconv's kernels: {' '.join(o['kernels'])}."


def threads(options: dict[str, Any]) -> str:
    clock = ", CPU time" if options.get("clock") == "cpu" else ""
    return f"{options['threads']} thread{'s' * (options['threads'] > 1)}{clock}"


def summary(races: Sequence[Race]) -> Iterator[str]:
    """Per function and pass: geometric means of peers' times over fastconv's, and how many are below 1."""
    chosen = [r for r in races if r.section == "conv" and r.ratio]
    several = len({PROBLEMS[r.name].op for r in chosen}) > 1
    rows = []
    for op, pass_name in dict.fromkeys((PROBLEMS[r.name].op, r.pass_name) for r in chosen):
        of_pass = [r for r in chosen if (PROBLEMS[r.name].op, r.pass_name) == (op, pass_name)]
        columns = [[getattr(r, ratio) for r in of_pass] for ratio in ("ratio", "torch_ratio", "nchw_ratio")]
        cells = [cell for ratios in columns for cell in mean_and_below([r for r in ratios if r])]
        rows.append([f"{op} " * several + pass_name.replace("_", " "), len(of_pass), *cells])
    if rows:
        peers = (
            "best peer / fastconv",
            "PyTorch's better layout / fastconv's",
            "PyTorch NCHW / fastconv NCHW",
        )
        heads = [head for peer in peers for head in (peer, "below 1")]
        yield from table(["pass", "problems", *heads], rows)


def mean_and_below(ratios: Sequence[float]) -> list[Any]:
    if not ratios:
        return ["", ""]
    return [f"{geometric_mean(ratios):.2f}", sum(ratio < 1 for ratio in ratios)]


def conv_table(races: Sequence[Race]) -> Iterator[str]:
    """A row a race: every time, best peer over the better of fastconv's layouts, and PyTorch over NCHW."""
    labels = [c for c in CONV_COLUMNS if any(c in r.seconds for r in races)]
    labels += sorted({label for r in races for label in r.seconds} - set(labels))
    several = len({r.pass_name for r in races}) > 1
    rows = []
    for r in races:
        name = f"{r.name} {r.pass_name.replace('_', ' ')}" if several else r.name
        rows.append([name, *(ms(r.seconds.get(c)) for c in labels), times(r.ratio), times(r.nchw_ratio)])
    yield from table(["", *(c.replace("torch", "PyTorch") for c in labels), "ratio", "NCHW ratio"], rows)


def tiny_lines(races: Sequence[Race]) -> Iterator[str]:
    figures = ", ".join(f"{label} {s * 1e6:.1f} us" for label, s in races[0].seconds.items())
    yield f"One conv2d call on 1x1x8x8 with one 3x3 filter: {figures}."


def thread_lines(races: Sequence[Race]) -> Iterator[str]:
    yield "### Threads, fastconv NCHW"
    yield ""
    labels = list(races[0].seconds)
    rows = []
    for r in races:
        one, many = (r.seconds[label] for label in labels)
        rows.append([f"{r.name} {r.pass_name.replace('_', ' ')}", ms(one), ms(many), times(one / many)])
    yield from table(["", *(f"{label.removeprefix('fastconv ')}, ms" for label in labels), "speed-up"], rows)


def batch_lines(races: Sequence[Race]) -> Iterator[str]:
    yield "### Cost per image, fastconv forward on r50_3x3c"
    yield ""
    labels = list(races[0].seconds)
    rows = [[r.name, *(f"{r.seconds[c] / int(r.name[2:]) * 1e3:.4g}" for c in labels)] for r in races]
    yield from table(["batch", *(f"{c}, ms" for c in labels)], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3g}"


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def plot(result: dict[str, Any], path: Path) -> None:
    """One panel a pass: how many times faster than the best peer, one bar a problem."""
    from matplotlib.figure import Figure

    races = [Race(**race) for race in result["races"]]
    races = [r for r in races if r.section == "conv" and r.ratio]
    passes = list(dict.fromkeys(r.pass_name for r in races))
    if not passes:
        raise SystemExit("--plot: no peer took part in a convolution")
    names = list(dict.fromkeys(r.name for r in races))
    ticks = ticks_for([r.ratio or 1 for r in races])
    figure = Figure(figsize=(2.5 + 3 * len(passes), 1.6 + 0.22 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(passes), sharey=True, sharex=True, squeeze=False)[0]
    for panel, pass_name in zip(panels, passes, strict=True):
        ratios = {r.name: r.ratio for r in races if r.pass_name == pass_name and r.ratio}
        colors = ["tab:blue" if ratio >= 1 else "tab:red" for ratio in ratios.values()]
        places = [names.index(name) for name in ratios]
        panel.barh(places, [ratio - 1 for ratio in ratios.values()], left=1, color=colors)
        panel.axvline(1, color="0.2", linewidth=1)
        mean = geometric_mean(list(ratios.values()))
        panel.set(title=f"{pass_name.replace('_', ' ')}: mean {mean:.2f}x", xscale="log")
        panel.set_xticks(ticks, [f"{t:.2g}x" for t in ticks])
        panel.minorticks_off()
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    m, o = result["machine"], result["options"]
    machine = f"{m['cpu']}, {m['isa']}, {threads(o)}, {o['dtype']}"
    title = f"time of the best of PyTorch and ONNX Runtime / time of fastconv\n{machine}"
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=110)


def ticks_for(ratios: Sequence[float]) -> list[float]:
    """Powers of 2, or of 4 or more where the ratios span many, around 1."""
    low, high = (math.log2(f(*ratios, 1)) for f in (min, max))
    step = math.ceil((high - low) / 6) or 1
    return [2.0**e for e in range(-step * math.ceil(-low / step), math.ceil(high) + step, step)]


def update_block(file: Path, text: str) -> None:
    """Put the text between the markers of a file."""
    whole = file.read_text()
    head, rest = whole.split(BEGIN)
    _, tail = rest.split(END)
    file.write_text(f"{head}{BEGIN}\n{text}{END}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help=f"replace what stands between {BEGIN} and {END}"
    )
    args = parser.parse_args()
    result = json.loads(args.result.read_text())
    if args.markdown:
        args.markdown.write_text(markdown(result))
    if args.plot:
        plot(result, args.plot)
    if args.readme:
        update_block(args.readme, readme(result))
    if not (args.markdown or args.plot or args.readme):
        print(markdown(result), end="")


if __name__ == "__main__":
    main()

"""The picture of `fastconv bench`: the share of the FMA peak that each kernel reaches on each problem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastconv.tools.extras import require
from fastconv.tools.measure import Row

MARKERS = "osD^vPX*<>ph"


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """One panel a pass, one line a problem, one mark a kernel (its better layout); 1 is the peak."""
    figures = require("matplotlib.figure", "--plot")
    measured = [row for row in rows if row.share_of_peak is not None]
    passes = list(dict.fromkeys(row.pass_name for row in measured))
    problems = list(dict.fromkeys(row.problem for row in measured))
    kernels = list(dict.fromkeys(row.kernel for row in measured))
    if not passes:
        raise ValueError("--plot: nothing was measured")
    size = (3 + 3.2 * len(passes), 1.8 + 0.24 * len(problems))
    figure = figures.Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(passes), sharex=True, sharey=True, squeeze=False)[0]
    for panel, pass_name in zip(panels, passes, strict=True):
        for kernel, marker in zip(kernels, MARKERS * len(kernels), strict=False):
            best: dict[str, float] = {}
            for row in measured:
                if (row.kernel, row.pass_name) == (kernel, pass_name):
                    best[row.problem] = max(best.get(row.problem, 0.0), row.share_of_peak or 0.0)
            places = [problems.index(name) for name in best]
            panel.plot(list(best.values()), places, marker, label=kernel, markersize=5, alpha=0.8)
        panel.axvline(1, color="0.4", linewidth=1)
        panel.set(title=pass_name.replace("_", " "), xscale="log", xlabel="share of the FMA peak")
        panel.xaxis.set_major_formatter(lambda share, _: f"{share:.3g}")
        panel.grid(axis="both", color="0.9")
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(problems)), problems)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(kernels)), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)

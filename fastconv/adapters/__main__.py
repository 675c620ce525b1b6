"""`python -m fastconv.adapters`: the hosts, and which of them are here."""

from __future__ import annotations

from fastconv.adapters import HOSTS
from fastconv.adapters.base import Host


def main() -> None:
    """Print one line a host."""
    rows = [("module", "host", "installed", "tested with", "supported"), *map(row, HOSTS, HOSTS.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def row(module: str, host: Host) -> tuple[str, ...]:
    """The cells of one host: "-" where a question does not arise."""
    here = (host.version or "yes") if host.installed else "no"
    supported = ("yes" if host.supported else "untested") if host.installed else "-"
    return module, host.name, here, host.tested or "-", supported


if __name__ == "__main__":
    main()

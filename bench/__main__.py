"""``make bench``: every module of this folder measured against a bare baseline in the same run.

Each module's ``measure(endpoints)`` returns rows {name, value, unit, baseline, ratio, floor}; they are printed as a
table and written to .tailrace/bench.json. Exit 1 when a ratio (or the value, where there is no baseline) is under its
floor. The machines are noisy: the ratio is the figure to read, the absolute value is of this machine only.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tailrace.stack import Stack

if TYPE_CHECKING:
    from tailrace.endpoints import Endpoints

MODULES = ("conform", "lake", "search", "dynamodb", "pipeline")


def run(endpoints: Endpoints, names: list[str]) -> list[dict[str, Any]]:
    """Run the benches, one after the other."""
    rows: list[dict[str, Any]] = []
    for name in names:
        print(f"bench {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{name}").measure(endpoints)
    return rows


def under_floor(row: dict[str, Any]) -> bool:
    """Say whether a row is under its floor: the ratio where there is a baseline, else the value."""
    floor = row.get("floor")
    measured = row["ratio"] if row.get("ratio") is not None else row["value"]
    return floor is not None and measured < floor


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table("what", "value", "unit", "bare baseline", "ratio", "floor", "")
    for row in rows:
        figures = [row["value"], row.get("baseline"), row.get("ratio"), row.get("floor")]
        value, baseline, ratio, floor = ("" if figure is None else f"{figure:,.6g}" for figure in figures)
        table.add_row(row["name"], value, row["unit"], baseline, ratio, floor, "LOW" if under_floor(row) else "ok")
    Console().print(table)


def main() -> int:
    """Start a stack of its own, measure, print, write, stop."""
    names = [name for name in MODULES if not sys.argv[1:] or name in sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            rows = run(stack.up(bound=True, progress=lambda line: print(line, file=sys.stderr)), names)
        finally:
            stack.down()
    path = Path(".tailrace") / "bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n")
    show(rows)
    print(f"written to {path}")
    return 1 if any(under_floor(row) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

"""``make bench``: every module of this folder measured against a bare baseline in the same run.

Each module's ``measure(endpoints)`` returns rows {name, value, unit, baseline, ratio, floor}; they are printed as a
table and written to .tailrace/bench.json. Exit 1 when a ratio (or the value, where there is no baseline) is under its
floor or over its ceiling, 2 when a name is unknown. The machines are noisy: the ratio is the figure to read, the
absolute value is of this machine only.
"""

from __future__ import annotations

import difflib
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from tailrace.errors import UsageError
from tailrace.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.endpoints import Endpoints

# Those whose tables have to be small come first. Both are of the one bank, whose history the second makes long.
MODULES = ("latency", "backlog", "conform", "state", "worker", "lake", "search", "dynamodb", "pipeline")
EXTRA = ("soak", "stall", "verify", "recovery")  # long: they run only when they are named
EVERY = (*MODULES, *EXTRA)


def measures() -> dict[str, str]:
    """Return what each benchmark measures, by its name: the first line of its module."""
    return {name: (importlib.import_module(f"bench.{name}").__doc__ or "").partition("\n")[0] for name in EVERY}


def chosen(names: Sequence[str]) -> list[str]:
    """Return the benchmarks to run, all where none is named; UsageError naming the nearest for an unknown one."""
    for name in names:
        if name not in EVERY:
            near = difflib.get_close_matches(name, EVERY, n=1, cutoff=0)
            raise UsageError(f"There is no benchmark named {name}.", hint=f"The nearest is {near[0]}; see --help.")
    return [name for name in EVERY if (name in names if names else name in MODULES)]


def run(endpoints: Endpoints, names: list[str]) -> list[dict[str, Any]]:
    """Run the benches, one after the other."""
    rows: list[dict[str, Any]] = []
    for name in names:
        print(f"bench {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench.{name}").measure(endpoints)
    return rows


def under_floor(row: dict[str, Any]) -> bool:
    """Say whether a row is under its floor or over its ceiling: the ratio where there is a baseline, else the value."""
    floor, ceiling = row.get("floor"), row.get("ceiling")
    measured = row["ratio"] if row.get("ratio") is not None else row["value"]
    return (floor is not None and measured < floor) or (ceiling is not None and measured > ceiling)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table for people."""
    table = Table("what", "value", "unit", "bare baseline", "ratio", "bound", "")
    for row in rows:
        bound = row["floor"] if row.get("floor") is not None else row.get("ceiling")
        figures = [row["value"], row.get("baseline"), row.get("ratio"), bound]
        value, baseline, ratio, floor = ("" if figure is None else f"{figure:,.6g}" for figure in figures)
        table.add_row(row["name"], value, row["unit"], baseline, ratio, floor, "LOW" if under_floor(row) else "ok")
    Console().print(table)


def measured(names: list[str]) -> list[dict[str, Any]]:
    """Return the rows of the benchmarks, run on a stack of its own."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            endpoints = stack.up(bound=True, progress=lambda line: print(line, file=sys.stderr))
            return [start(stack), *run(endpoints, names)]
        finally:
            stack.down()


def start(stack: Stack) -> dict[str, Any]:
    """Return the row of the stack's own start, from an empty folder with a warm cache."""
    return {"name": "stack start", "value": stack.start_seconds(), "unit": "s", "ceiling": 40}


class Listing(click.Command):
    """A command whose help lists the benchmarks."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each benchmark measures."""
        with formatter.section("Benchmarks"):
            formatter.write_dl(list(measures().items()))


@click.command(cls=Listing, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print the benchmarks as JSON and run nothing.")
def main(names: Sequence[str], *, as_json: bool) -> None:
    """Measure Tailrace against bare clients on a stack of its own; all benchmarks unless some are named."""
    try:
        wanted = chosen(names)
    except UsageError as error:
        click.echo(f"{error.problem} {error.hint}", err=True)
        sys.exit(error.exit_code)
    if as_json:
        every = measures()
        print(json.dumps([{"name": name, "measures": every[name]} for name in wanted], indent=2))
        return
    rows = measured(wanted)
    path = Path(".tailrace") / "bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n")
    show(rows)
    print(f"written to {path}")
    sys.exit(1 if any(under_floor(row) for row in rows) else 0)


if __name__ == "__main__":
    main(prog_name="python -m bench")

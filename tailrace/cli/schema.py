"""``tailrace schema``: contracts from tables, and contracts against tables and the registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from tailrace import project
from tailrace.cli.check import plain
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import schema as contracts
from tailrace.control import standing
from tailrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.control.schema import Derived

COLOURS = {"incompatible": "bold red", "warning": "yellow", "note": "dim"}


@click.group()
def schema() -> None:
    """Write contracts (schemas/*.avsc) from tables, and hold them against tables and the registry."""


@schema.command()
@click.argument("records", nargs=-1, metavar="[RECORD]...")
@click.option("--all", "every", is_flag=True, help="Every captured table.")
@click.option("--force", is_flag=True, help="Write contracts that exist anew, from the tables alone.")
@project_option
@json_option
def derive(records: tuple[str, ...], folder: Path, *, every: bool, force: bool, as_json: bool) -> None:
    """Write the contract of each RECORD from its table. One that exists grows: what is in it stays.

    New columns, and what the pipeline has registered beyond the file, become nullable fields behind the others.
    """
    if bool(records) == every:
        raise UsageError("Say which records, or --all.", hint="`tailrace schema derive --all`")
    with err.status("Reading the catalogue ..."):
        derived = contracts.derive(project.load_source(folder), records, force=force)
    if as_json:
        print_json([asdict(entry) for entry in derived])
        return
    for entry in derived:
        _tell(entry)


def _tell(entry: Derived) -> None:
    """Say what became of one contract."""
    place = f"schemas/{entry.record}.avsc"
    if entry.grown:
        out.print(f"grew  {place} after {entry.table}: {', '.join(entry.grown)}", markup=False)
    else:
        out.print(f"wrote {place} from {entry.table}" if entry.written else f"kept  {place}: nothing to add")
    said = (
        ("left out, a contract cannot hold them", entry.left_out),
        ("kept although the column is gone, they have a default", entry.kept),
        ("incompatible", entry.incompatible),
        ("not added, the conform function decides about them", entry.undecided),
    )
    for words, names in said:
        if names:
            out.print(f"  {words}: {', '.join(names)}", markup=False)
    if entry.incompatible:
        out.print("  Mend the table or the file; --force writes the file anew, from the table alone.")


@schema.command()
@click.argument("records", nargs=-1, metavar="[RECORD]...")
@project_option
@json_option
def check(records: tuple[str, ...], folder: Path, *, as_json: bool) -> int:
    """Hold the contract of each RECORD, or of all, against its table and against the registry.

    Exits with 1 when something is incompatible: records would be parked, or their table would wait.
    """
    loaded = project.load(folder)
    with err.status("Reading the catalogue and the registry ..."):
        found = standing.check(loaded, records)
    counts = {verdict: sum(entry.verdict == verdict for entry in found) for verdict in standing.ORDER}
    if as_json:
        print_json({"counts": counts, "findings": [entry.as_dict() for entry in found]})
        return min(1, counts["incompatible"])
    if found:
        out.print(_table(found))
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    out.print(f"Checked {len(records) or len(loaded.tables)} contracts: {said}.")
    return min(1, counts["incompatible"])


def _table(found: Sequence[standing.Standing]) -> Table:
    """Return what was found as a table."""
    shown = Table(padding=(0, 1), collapse_padding=True)
    for name in ("record", "against", "verdict", "problem", "what to do"):
        shown.add_column(name)
    for entry in found:
        problem = f"{entry.problem} {entry.detail}".strip()
        verdict = f"[{COLOURS[entry.verdict]}]{entry.verdict}[/]"
        shown.add_row(entry.record, entry.against, verdict, plain(problem), plain(entry.todo))
    return shown

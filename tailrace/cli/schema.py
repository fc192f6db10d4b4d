"""``tailrace schema``: contracts from tables, and contracts against tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tailrace import project
from tailrace.cli.check import show
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import schema as contracts
from tailrace.errors import UsageError


@click.group()
def schema() -> None:
    """Write contracts (schemas/*.avsc) from tables, and hold them against tables."""


@schema.command()
@click.argument("records", nargs=-1, metavar="[RECORD]...")
@click.option("--all", "every", is_flag=True, help="Every captured table.")
@click.option("--force", is_flag=True, help="Overwrite contracts that exist.")
@project_option
@json_option
def derive(records: tuple[str, ...], folder: Path, *, every: bool, force: bool, as_json: bool) -> None:
    """Write the contract of each RECORD from its table; what is there already stays."""
    if bool(records) == every:
        raise UsageError("Say which records, or --all.", hint="`tailrace schema derive --all`")
    with err.status("Reading the catalogue ..."):
        derived = contracts.derive(project.load_source(folder), records, force=force)
    if as_json:
        print_json([asdict(entry) for entry in derived])
        return
    for entry in derived:
        place = f"schemas/{entry.record}.avsc"
        out.print(f"wrote {place} from {entry.table}" if entry.written else f"kept  {place} (--force overwrites it)")
        if entry.left_out:
            out.print(f"  left out, a contract cannot hold them: {', '.join(entry.left_out)}")


@schema.command()
@project_option
@json_option
def check(folder: Path, *, as_json: bool) -> int:
    """Hold every contract against its table; exit 1 when one does not fit.

    `tailrace plan` compares them with the schema registry.
    """
    loaded = project.load(folder)
    with err.status("Reading the catalogue ..."):
        found = contracts.check(loaded)
    return show(found, as_json=as_json, what=f"{len(loaded.contracts)} contracts")

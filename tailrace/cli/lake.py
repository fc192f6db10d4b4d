"""``tailrace lake query``: look into the data lake with SQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tailrace import project
from tailrace.cli.context import json_option, out, print_json, project_option
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.errors import UsageError
from tailrace.targets import LakeTable

if TYPE_CHECKING:
    from tailrace.project import Project

VIEWS = ("current", "history")


@click.group()
def lake() -> None:
    """Look into the data lake."""


@lake.command()
@click.argument("table")
@click.argument("sql", required=False)
@click.option(
    "--view", type=click.Choice(VIEWS), default="current", show_default=True, help="Without SQL: what to show."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Without SQL: how many rows.")
@json_option
@project_option
def query(table: str, sql: str | None, folder: Path, *, view: str, limit: int, as_json: bool) -> None:
    """Ask TABLE with DuckDB's SQL over two views: current, the newest version of every row, and history, every change.

    \b
    tailrace lake query customers
    tailrace lake query customers "SELECT count(*) FROM current"
    tailrace lake query accounts "SELECT * FROM history WHERE id = 7 ORDER BY _version"
    """  # noqa: D301 - \b is click's mark for "do not rewrap"
    loaded = project.load(folder)
    reader = LakeReader(find(loaded, table))
    rows = reader.query(sql or f"SELECT * FROM {view} LIMIT {limit}")
    if as_json:
        print_json(rows.to_pylist())
        return
    shown = Table(*map(escape, rows.column_names))
    for row in rows.to_pylist():
        shown.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    out.print(shown)


def find(loaded: Project, table: str) -> LakeFolder:
    """Return the folder of a table that the project writes to the lake, or raise UsageError."""
    declared = [target for sinks in loaded.sinks.values() for target in sinks if isinstance(target, LakeTable)]
    for target in declared:
        if target.table == table:
            key = loaded.contract(target.record).key
            return LakeFolder(loaded.endpoints.s3, loaded.settings.lake.bucket, target.zone, target.table, key)
    known = ", ".join(sorted(target.table for target in declared)) or "none"
    raise UsageError(f"The project writes no table {table} to the lake.", hint=f"Known: {known}.")

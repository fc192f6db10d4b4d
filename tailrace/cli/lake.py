"""``tailrace lake``: look into the data lake, take data out of it, keep its objects large."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import lake_export
from tailrace.control.lake import LakeFolder, LakeReader
from tailrace.control.lake_compact import MIB, Bin, Compacted, Compactor
from tailrace.control.lake_export import FORMATS, latest_sql
from tailrace.errors import Refused, UsageError
from tailrace.sink.lake_bucket import Bucket
from tailrace.targets import LakeTable, RawLakeTable

if TYPE_CHECKING:
    from tailrace.contract import Contract
    from tailrace.project import Project
    from tailrace.sink.lake_log import Stored

WHEN = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"])
VIEWS = ("current", "history")


@click.group()
def lake() -> None:
    """Look into the data lake, take data out of it, keep its objects large."""


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


@lake.command()
@click.argument("table")
@click.option("--as-of", type=WHEN, help="As it was after all source commits up to then, UTC.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="By --out's ending, else csv.")
@click.option("--out", "path", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output without.")
@click.option("--sql", is_flag=True, help="Print the SQL of a DuckDB view that shows it instead.")
@project_option
def latest(table: str, folder: Path, *, as_of: datetime | None, form: str | None, path: Path | None, sql: bool) -> None:
    """Write the current state of TABLE: the newest version of every row, deleted ones left out."""
    loaded = project.load(folder)
    found, moment = find(loaded, table), as_of.replace(tzinfo=UTC) if as_of else None
    if sql:
        click.echo(latest_sql(found, _contract(loaded, table), table, moment))
        return
    chosen = form or next((each for each in FORMATS if path and path.suffix == f".{each}"), "csv")
    with TemporaryDirectory(prefix="tailrace-latest-") as scratch:
        made = lake_export.latest(LakeReader(found), path or Path(scratch) / "latest", chosen, moment)
        if path is None:
            with Path(made.name).open("rb") as file:
                shutil.copyfileobj(file, click.get_binary_stream("stdout"))
    err.print(f"{made.rows:,} rows, {made.bytes:,} bytes" + ("" if path is None else f", {path}"))


@lake.command()
@click.argument("table")
@click.option("--format", "form", type=click.Choice(FORMATS), default="parquet", show_default=True)
@click.option("--out", "place", required=True, help="A new folder, or s3://BUCKET/FOLDER in the lake's S3.")
@click.option("--latest", "only_latest", is_flag=True, help="The current state instead of every change.")
@json_option
@project_option
def export(table: str, folder: Path, *, form: str, place: str, only_latest: bool, as_json: bool) -> None:
    """Write every change of TABLE to files, a folder dt=YYYY-MM-DD for each source commit date."""
    loaded = project.load(folder)
    reader, s3 = LakeReader(find(loaded, table)), loaded.endpoints.s3
    made = lake_export.export(reader, place, form, only_latest=only_latest, s3=s3, say=_said)
    rows = sum(each.rows for each in made)
    if as_json:
        print_json({"rows": rows, "bytes": sum(each.bytes for each in made), "files": [asdict(each) for each in made]})
    else:
        out.print(f"{rows:,} rows in {len(made)} files under {escape(place)}")


def _said(each: lake_export.Exported) -> None:
    err.print(f"{each.rows:>12,} rows  {escape(each.name)}")


@lake.command()
@click.argument("table")
@click.option(
    "--older-than",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Days back that a date lies.",
)
@click.option("--target-mb", type=click.IntRange(1, 512), default=256, show_default=True, help="Size of an output.")
@click.option(
    "--vacuum-after",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    help="Hours after which objects go whose rows are in an output: longer than any reader takes.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be merged.")
@json_option
@project_option
def compact(
    table: str, folder: Path, *, older_than: int, target_mb: int, vacuum_after: float, dry_run: bool, as_json: bool
) -> None:
    """Merge the small objects of closed dates of TABLE into large ones, sorted by key; the worker may run meanwhile."""
    found = find(project.load(folder), table)
    with closing(Bucket(found.s3, found.bucket)) as bucket:
        compactor = Compactor(bucket, f"{found.zone}/{found.table}/", found.key)
        bins = compactor.bins(datetime.now(UTC).date() - timedelta(days=older_than), target_mb * MIB)
        if dry_run:
            done = Compacted(inputs=sum(len(each.inputs) for each in bins))
        else:
            done = compactor.run(bins, _merged)
            done.vacuumed = compactor.vacuum(timedelta(hours=vacuum_after))
    if as_json:
        print_json(asdict(done) | {"bins": len(bins)})
    else:
        what = "would become" if dry_run else "became"
        out.print(f"{done.inputs} objects {what} {len(bins) - done.lost}, {done.vacuumed} old ones removed")


def _merged(each: Bin, made: Stored | None) -> None:
    end = "somebody else was quicker" if made is None else f"{made.rows:,} rows, {made.bytes:,} bytes"
    err.print(f"dt={each.date}  {len(each.inputs)} objects -> {end}")


def find(loaded: Project, table: str) -> LakeFolder:
    """Return the folder of a table that the project writes to the lake, or raise UsageError."""
    found = target(loaded, table)
    place = loaded.endpoints.s3, loaded.settings.lake.bucket, found.zone
    if isinstance(found, RawLakeTable):
        return LakeFolder(*place, found.name, ("key",), raw=True)
    return LakeFolder(*place, found.table, loaded.contract(found.record).key)


def target(loaded: Project, table: str) -> LakeTable | RawLakeTable:
    """Return the declaration of a table of the lake, or raise UsageError; a raw table is called by its folder."""
    kinds = (LakeTable, RawLakeTable)
    declared = [each for sinks in loaded.sinks.values() for each in sinks if isinstance(each, kinds)]
    for each in declared:
        if _called(each) == table:
            return each
    known = ", ".join(sorted(map(_called, declared))) or "none"
    raise UsageError(f"The project writes no table {table} to the lake.", hint=f"Known: {known}.")


def _called(each: LakeTable | RawLakeTable) -> str:
    return each.folder if isinstance(each, RawLakeTable) else each.table


def _contract(loaded: Project, table: str) -> Contract:
    found = target(loaded, table)
    if isinstance(found, RawLakeTable):
        raise Refused(f"{table} holds raw envelopes, which have no view.", hint="docs/lake.md has SQL for them.")
    return loaded.contract(found.record)

"""``tailrace snapshot``: read some tables again, beside the stream."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control.services import Services
from tailrace.control.snapshots import Snapshot

if TYPE_CHECKING:
    from tailrace.control.snapshots import Progress

PATIENCE = 86_400.0


@click.command()
@click.argument("tables", nargs=-1, required=True)
@project_option
@json_option
@click.option("--timeout", default=PATIENCE, show_default=True, help="Seconds to watch; the snapshot itself goes on.")
def snapshot(tables: tuple[str, ...], folder: Path, *, as_json: bool, timeout: float) -> None:
    """Read TABLES (schema.table) again while the stream goes on, and watch until it is done.

    Ctrl-C leaves the snapshot running: run the same command again to watch it. A connector that restarts goes on
    where it was. Rows that are right already are not changed by it; versions see to that.
    """
    began = time.monotonic()
    with Services(project.load(folder)) as services:
        asked = Snapshot(services, tables)
        fresh = asked.begin()
        err.print(f"[dim]{'asked for' if fresh else 'found running'}: snapshot {asked.name}[/]")
        try:
            with err.status("Reading ...") as shown:
                found = asked.wait(lambda seen: shown.update(_line(seen)), timeout=timeout)
        except KeyboardInterrupt:
            err.print("The snapshot goes on; run the same command again to watch it.")
            raise
    seconds = time.monotonic() - began
    if as_json:
        print_json({"id": asked.name, "attached": not fresh, "seconds": round(seconds, 1), **found.as_dict()})
        return
    for table in asked.tables:
        out.print(f"{table}: {found.done.get(table, 0):,} rows")
    out.print(f"Read in {seconds:.1f} s; `tailrace verify` proves that every sink has them.")


def _line(seen: Progress) -> str:
    return f"Reading ... {len(seen.done)}/{len(seen.tables)} tables, {seen.chunks:,} chunks"

"""``tailrace snapshot``: read some tables again, beside the stream."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace import project
from tailrace.cli.check import plain
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control.services import Services
from tailrace.control.snapshots import Snapshot, check
from tailrace.control.vanished import Sweep
from tailrace.deadline import Deadline

if TYPE_CHECKING:
    from tailrace.control.snapshots import Progress
    from tailrace.control.sweep import Swept

PATIENCE = 86_400.0


@click.command()
@click.argument("tables", nargs=-1, required=True)
@project_option
@json_option
@click.option("--sweep", "sweeps", is_flag=True, help="Then delete from every store what the source does not have.")
@click.option("--timeout", default=PATIENCE, show_default=True, help="Seconds to watch; the snapshot itself goes on.")
def snapshot(tables: tuple[str, ...], folder: Path, *, as_json: bool, sweeps: bool, timeout: float) -> None:
    """Read TABLES (schema.table) again while the stream goes on, and watch until it is done.

    Ctrl-C leaves the snapshot running: run the same command again to watch it. A connector that restarts goes on
    where it was. Rows that are right already are not changed by it; versions see to that. --sweep also takes away
    rows that vanished without an event: a parked TRUNCATE, a partition that was detached.
    """
    began, deadline = time.monotonic(), Deadline.after(timeout)
    with Services(project.load(folder)) as services:
        asked = Snapshot(services, tables)
        fresh, found, swept = _swept(services, asked, deadline) if sweeps else (*_read(asked, deadline), ())
    seconds = time.monotonic() - began
    if as_json:
        shown = {"id": asked.name, "attached": not fresh, "seconds": round(seconds, 1), **found.as_dict()}
        print_json({**shown, "swept": [asdict(each) for each in swept]})
        return
    for table in asked.tables:
        out.print(f"{table}: {found.done.get(table, 0):,} rows")
    for each in swept:
        out.print(f"{each.record}: {each.keys:,} keys, {each.deleted:,} gone from the source and deleted")
    out.print(f"Done in {seconds:.1f} s; `tailrace verify` proves that every sink has them.")


def _swept(services: Services, asked: Snapshot, deadline: Deadline) -> tuple[bool, Progress, tuple[Swept, ...]]:
    """Take the snapshot between the two halves of a sweep."""
    check(services, asked.tables)
    sweep = Sweep(services, asked.tables, deadline, lambda line: err.print(f"[dim]{plain(line)}[/]"))
    before = sweep.before()
    fresh, found = _read(asked, deadline)
    return fresh, found, sweep.run(before if fresh else {})


def _read(asked: Snapshot, deadline: Deadline) -> tuple[bool, Progress]:
    """Take the snapshot; say whether it was begun here, and what became of it."""
    fresh = asked.begin()
    err.print(f"[dim]{'asked for' if fresh else 'found running'}: snapshot {asked.name}[/]")
    try:
        with err.status("Reading ...") as shown:
            return fresh, asked.wait(lambda seen: shown.update(_line(seen)), timeout=deadline.remaining())
    except KeyboardInterrupt:
        err.print("The snapshot goes on; run the same command again to watch it.")
        raise


def _line(seen: Progress) -> str:
    return f"Reading ... {len(seen.done)}/{len(seen.tables)} tables, {seen.chunks:,} chunks"

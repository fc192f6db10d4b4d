"""``tailrace dlq``: dead letters, counted and shown."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from tailrace import project
from tailrace.cli.context import json_option, out, print_json, project_option
from tailrace.control import dlq as letters
from tailrace.errors import UsageError
from tailrace.kafka import KafkaAdmin


@click.group()
def dlq() -> None:
    """Look at dead letters: records that can never be processed, with their bytes and the reason."""


@dlq.command("list")
@click.argument("worker", default="")
@project_option
@json_option
def list_(worker: str, folder: Path, *, as_json: bool) -> None:
    """Count dead letters by worker, stage and reason."""
    loaded = project.load(folder)
    heaps = letters.heaps(loaded, KafkaAdmin(loaded.endpoints.kafka), worker)
    if as_json:
        print_json([heap.as_dict() for heap in heaps])
        return
    if not heaps:
        out.print("no dead letters")
        return
    table = Table("worker", "stage", "reason", "last seen")
    table.add_column("count", justify="right")
    for heap in heaps:
        table.add_row(heap.worker, heap.stage, heap.reason, letters.moment(heap.last_us), f"{heap.count:,}")
    out.print(table)


@dlq.command()
@click.argument("worker")
@project_option
@json_option
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="The newest so many.")
@click.option("--offset", "place", metavar="P/O", help="Only the one at this partition and offset.")
@click.option("--values", is_flag=True, help="Show values and headers too: they are rows of your database.")
def show(worker: str, folder: Path, limit: int, place: str | None, *, as_json: bool, values: bool) -> None:
    """Show dead letters of WORKER: where they came from, why they are here, and their key."""
    loaded = project.load(folder)
    admin = KafkaAdmin(loaded.endpoints.kafka)
    found = letters.show(loaded, admin, worker, limit=limit, place=None if place is None else parse_place(place))
    shown = [parked.as_dict(values=values) for parked in found]
    if as_json:
        print_json(shown)
        return
    for entry in shown:
        out.print(f"[bold]{entry['place']}[/]  from {entry['source']}  {entry['failed_at']}")
        for name, value in entry.items():
            if name not in ("place", "source", "failed_at"):
                out.print(f"  {name}: {value}", markup=False)
    if not shown:
        out.print("no dead letters")


def parse_place(text: str) -> tuple[int, int]:
    """Return partition and offset of ``P/O``, or raise UsageError."""
    partition, slash, offset = text.partition("/")
    if not (slash and partition.isdecimal() and offset.isdecimal()):
        raise UsageError(f"{text!r} is no place.", hint="Write partition and offset: --offset 0/17.")
    return int(partition), int(offset)

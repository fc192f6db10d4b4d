"""``tailrace replay``: set a worker back and let it read again."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import replay as again
from tailrace.errors import Refused, UsageError
from tailrace.kafka import KafkaAdmin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.kafka import Offsets


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how far back."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--to-time", metavar="ISO", help="First records written to Kafka at or after this moment."),
        click.option("--to-offset", "to_offset", multiple=True, metavar="TOPIC/PARTITION=OFFSET", help="Repeatable."),
        click.option("--to", "where", type=click.Choice(["beginning"]), help="The oldest records that are kept."),
        json_option,
        project_option,
    ):
        command = option(command)
    return command


@click.group()
def replay() -> None:
    """Set a worker back and let it read again, live traffic going on.

    Every write is guarded by its version, so reading again changes nothing that is right already; `tailrace verify`
    proves it. It prints first what it will cost.
    """


@replay.command()
@click.argument("name")
@target_options
def sink(name: str, **options: Any) -> None:
    """Set the sink worker NAME back."""
    _replay("sink", name, **options)


@replay.command()
@click.argument("name")
@target_options
def processor(name: str, **options: Any) -> None:
    """Set the processor NAME back."""
    _replay("processor", name, **options)


def _replay(
    kind: str, name: str, *, folder: Path, where: str | None, to_offset: Sequence[str], to_time: str | None, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    if sum(map(bool, (where, to_offset, to_time))) != 1:
        raise UsageError(
            "Say how far back, in one way.", hint="--to beginning, --to-offset TOPIC/PARTITION=OFFSET or --to-time ISO"
        )
    loaded = project.load(folder)
    admin = KafkaAdmin(loaded.endpoints.kafka)
    at = again.positions(loaded, admin, kind, name)
    planned = again.plan(loaded, kind, name, at, _offsets(at, admin, to_offset, to_time))
    if not as_json:
        _describe(planned)
    if not yes and not _agreed():
        raise click.Abort
    supervised = again.execute(loaded, admin, planned, say=lambda line: err.print(f"[dim]{line}[/]"))
    if as_json:
        print_json({**planned.as_dict(), "supervised": supervised})
    elif supervised:
        out.print(f"`tailrace run all` starts {name} again; `tailrace status` shows how far it is.")
    else:
        out.print(f"Nothing here starts it again: run `tailrace run {kind} {name}`.")


def _offsets(at: again.Positions, admin: KafkaAdmin, to_offset: Sequence[str], to_time: str | None) -> Offsets:
    if to_offset:
        return again.to_offsets(at, dict(map(parse_place, to_offset)))
    return again.to_beginning(at) if to_time is None else again.to_time(at, admin, parse_time(to_time))


def _describe(planned: again.Plan) -> None:
    out.print(f"{planned.kind} {planned.worker} (group {planned.group}) will read {planned.total:,} records again:")
    for topic, count in sorted(planned.again.items()):
        out.print(f"  {topic}: {count:,}")
    for note in planned.notes:
        out.print(f"  note: {note}", markup=False)


def _agreed() -> bool:
    """Ask the person; without one, refuse."""
    if not sys.stdin.isatty():
        raise Refused("A replay has to be confirmed.", hint="Add --yes where nobody can be asked.")
    return click.confirm("Go on?", err=True)


def parse_place(text: str) -> tuple[tuple[str, int], int]:
    """Return topic, partition and offset of TOPIC/PARTITION=OFFSET, or raise UsageError."""
    left, _, offset = text.partition("=")
    topic, _, partition = left.rpartition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise UsageError(f"{text!r} is no place.", hint="Write it like bank.conformed.customers/0=1500.")
    return (topic, int(partition)), int(offset)


def parse_time(text: str) -> datetime:
    """Return a moment; without an offset it is local time. UsageError when it is none."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise UsageError(f"{text!r} is no ISO time.", hint="Write it like 2026-03-01T12:00:00Z.") from error

"""``tailrace dlq``: dead letters, counted, shown, edited, put back, dropped."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from tailrace import deadletter, project, topics
from tailrace.cli.context import json_option, out, print_json, project_option
from tailrace.control import dlq as letters
from tailrace.control.dlq.editing import Form
from tailrace.control.dlq.picking import released
from tailrace.control.dlq.selection import Selection, parse_since, sources
from tailrace.errors import Refused, UsageError
from tailrace.kafka import KafkaAdmin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.control.dlq.letters import Parked
    from tailrace.control.dlq.processors import ToConformed
    from tailrace.control.dlq.sinks import ToSinks
    from tailrace.project import Project


LEFT = 1  # exit code of a replay that could not put everything back


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which letters are meant."""
    for option in (
        click.option("--since", metavar="TIME", help="Whose last failure is not older: 90s, 30m, 2h, 7d or ISO."),
        click.option("--topic", default="", metavar="TOPIC", help="Those that came from this topic."),
        click.option("--record", default="", metavar="NAME", help="Those of this record, raw or conformed."),
        click.option("--stage", default="", help="decode, conform, encode, write or held."),
        click.option("--reason", default="", metavar="TEXT", help="Those whose reason has this text in it."),
        json_option,
        project_option,
    ):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """Look at dead letters, the records that could not be processed, and bring them to an end.

    \b
    tailrace dlq list
    tailrace dlq show search 0/17 --values
    tailrace dlq edit search 0/17 --set country=CH
    tailrace dlq replay search --reason "field country"
    tailrace dlq drop search 0/18
    """  # noqa: D301 - \b is click's mark for "do not rewrap"


@dlq.command("list")
@click.argument("worker", default="")
@click.option("--all", "settled", is_flag=True, help="Those that are settled too.")
@selecting
def list_(worker: str, folder: Path, *, as_json: bool, settled: bool, **chosen: Any) -> None:
    """Count dead letters by worker, sink, stage and reason."""
    loaded = project.load(folder)
    heaps = letters.heaps(
        loaded, KafkaAdmin(loaded.endpoints.kafka), worker, _selection(loaded, **chosen), settled=settled
    )
    if as_json:
        print_json([heap.as_dict() for heap in heaps])
        return
    if not heaps:
        out.print("no dead letters")
        return
    table = Table("worker", "sink", "stage", "reason", "last seen")
    table.add_column("count", justify="right")
    for heap in heaps:
        said = (heap.worker, heap.sink, heap.stage, heap.reason)
        table.add_row(*map(escape, said), letters.moment(heap.last_us), f"{heap.count:,}")
    out.print(table)


@dlq.command()
@click.argument("worker")
@click.argument("place", required=False)
@click.option("--limit", type=click.IntRange(1), default=10, show_default=True, help="The newest so many.")
@click.option("--offset", metavar="P/O", help="The same as PLACE.")
@click.option("--values", is_flag=True, help="Show values and headers too: they are rows of your database.")
@click.option("--all", "settled", is_flag=True, help="Those that are settled too.")
@selecting
def show(
    worker: str, place: str | None, folder: Path, limit: int, offset: str | None, *, as_json: bool, values: bool,
    settled: bool, **chosen: Any,
) -> None:  # fmt: skip
    """Show dead letters of WORKER, or the one at PLACE (partition/offset): where they came from, why they are here."""
    loaded = project.load(folder)
    admin, named = KafkaAdmin(loaded.endpoints.kafka), place or offset
    spot, selection = None if named is None else parse_place(named), _selection(loaded, **chosen)
    found = letters.show(loaded, admin, worker, limit=limit, place=spot, selection=selection, settled=settled)
    shown = [parked.as_dict(values=values) for parked in found]
    if values and shown and worker in loaded.sinks:
        _add_records(loaded, worker, found, shown)
    if as_json:
        print_json(shown)
        return
    for entry in shown:
        out.print(f"[bold]{entry['place']}[/]  from {entry['source']}  {entry['failed_at']}")
        for name, value in entry.items():
            if name not in ("place", "source", "failed_at") and value not in ("", None):
                out.print(f"  {name}: {value}", markup=False)
    if not shown:
        out.print("no dead letters")


@dlq.command()
@click.argument("worker")
@click.argument("place")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="Repeatable; null is NULL.")
@click.option("--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The edited text.")
@json_option
@project_option
def edit(
    worker: str, place: str, folder: Path, assignments: Sequence[str], file: Path | None, *, as_json: bool
) -> None:
    """Edit the letter of WORKER at PLACE, in $EDITOR where neither --set nor --file is given.

    A conformed record is shown as JSON by field, a raw message as Debezium's payload. The result is a letter of its
    own that has to fit the contract; the old one is over. `tailrace dlq replay` then puts the new one back.
    """
    from tailrace.control.dlq import ledger  # noqa: PLC0415 - only where something is written

    if assignments and file:
        raise UsageError("Say what is edited in one way: --set or --file.")
    loaded = project.load(folder)
    [parked] = _found(loaded, worker, Selection(place=parse_place(place)))
    with closing(_way(loaded, worker)) as way, closing(ledger.Ledger(loaded, worker)) as book:
        value = _edited(way.form(parked.letter), assignments, file)
        if value is not None:
            way.try_out(parked.letter, value)
            book.replace([(parked, ledger.edited(parked, value), ledger.EDITED)])
    if as_json:
        print_json({"place": f"{parked.partition}/{parked.offset}", "edited": value is not None})
    elif value is None:
        out.print("nothing changed")
    else:
        out.print(f"edited; `tailrace dlq show {worker}` has it at its own place, `tailrace dlq replay` puts it back")


@dlq.command()
@click.argument("worker")
@click.argument("place", required=False)
@click.option("--all", "everything", is_flag=True, help="Every open letter of WORKER.")
@click.option("--despite-age", is_flag=True, help="Also letters whose row may have been deleted over 7 days ago.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@selecting
def replay(
    worker: str, place: str | None, folder: Path, *, as_json: bool, everything: bool, despite_age: bool, yes: bool,
    **chosen: Any,
) -> int:  # fmt: skip
    """Put dead letters of WORKER back where they failed, with their original version: newer data stays.

    A sink's letter goes to that sink alone, a processor's through its conform function to its topic. What fails again
    is parked again. Exit code 1 when something is left.
    """
    from tailrace.control.dlq import returning  # noqa: PLC0415 - opens sinks

    loaded = project.load(folder)
    selection = _selection(loaded, place=place, **chosen)
    _confirmed(_found(loaded, worker, selection, everything=everything), "replayed", yes=yes)
    admin = KafkaAdmin(loaded.endpoints.kafka)
    with closing(_way(loaded, worker, despite_age=despite_age)) as way:
        outcomes = returning.replay(loaded, admin, worker, selection, way)
    if as_json:
        print_json([outcome.as_dict() for outcome in outcomes])
    else:
        for outcome in (each.as_dict() for each in outcomes):
            out.print(f"{outcome['place']}  {outcome['how']}  {outcome['reason']}".rstrip(), markup=False)
    return 0 if all(outcome.over for outcome in outcomes) else LEFT


@dlq.command()
@click.argument("worker")
@click.argument("place", required=False)
@click.option("--all", "everything", is_flag=True, help="Every open letter of WORKER.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@selecting
def drop(
    worker: str, place: str | None, folder: Path, *, as_json: bool, everything: bool, yes: bool, **chosen: Any
) -> None:
    """Give up dead letters of WORKER: they stay in the topic, but nobody is told of them any more."""
    from tailrace.control.dlq import ledger  # noqa: PLC0415 - only where something is written

    loaded = project.load(folder)
    found = _found(loaded, worker, _selection(loaded, place=place, **chosen), everything=everything)
    _confirmed(found, "dropped", yes=yes)
    with closing(ledger.Ledger(loaded, worker)) as book:
        book.settle((parked, ledger.DROPPED) for parked in found)
    if as_json:
        print_json([f"{parked.partition}/{parked.offset}" for parked in found])
        return
    out.print(f"{len(found):,} dropped")
    topic = topics.dead_letters(loaded.name, worker)
    waiting = released(letters.letters(KafkaAdmin(loaded.endpoints.kafka), topic), found)
    if waiting:
        out.print(f"{len(waiting):,} waited for them: `tailrace dlq replay {worker} --stage held` puts those back")


def _selection(
    loaded: Project, *, since: str | None, topic: str, record: str, stage: str, reason: str, place: str | None = None
) -> Selection:
    return Selection(
        place=None if place is None else parse_place(place),
        reason=reason,
        stage=stage,
        topics=sources(loaded, record, topic),
        since_us=0 if since is None else parse_since(since),
    )


def _found(loaded: Project, worker: str, selection: Selection, *, everything: bool = False) -> list[Parked]:
    """Return the open letters that are meant; UsageError where nothing says which."""
    if everything == selection.bounded:
        raise UsageError(
            "Say which letters are meant, in one way.",
            hint="A place (partition/offset), --reason, --stage, --record, --topic, --since, or --all.",
        )
    [name] = letters.chosen(loaded, worker)
    there = list(letters.letters(KafkaAdmin(loaded.endpoints.kafka), topics.dead_letters(loaded.name, name)))
    found = [parked for parked in there if selection.takes(parked)]
    if not found and selection.place is not None:
        raise UsageError(
            f"There is no open letter at {selection.place[0]}/{selection.place[1]} of {worker}.",
            hint=f"`tailrace dlq show {worker}`; with --all it shows those that are settled.",
        )
    return found


def _confirmed(found: Sequence[Parked], what: str, *, yes: bool) -> None:
    """Ask the person where it is about several letters; without one, refuse."""
    if len(found) <= 1 or yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{len(found):,} letters would be {what}.", hint="Add --yes where nobody can be asked.")
    click.confirm(f"{len(found):,} letters will be {what}. Go on?", err=True, abort=True)


def _way(loaded: Project, worker: str, *, despite_age: bool = False) -> ToSinks | ToConformed:
    """Return what puts letters of a worker back; the libraries of stores and streams are only loaded here."""
    if worker in loaded.sinks:
        from tailrace.control.dlq.sinks import ToSinks  # noqa: PLC0415 - store clients

        return ToSinks(loaded, worker, despite_age=despite_age)
    letters.chosen(loaded, worker)
    from tailrace.control.dlq.processors import ToConformed  # noqa: PLC0415 - Faust

    return ToConformed(loaded, KafkaAdmin(loaded.endpoints.kafka), worker, despite_age=despite_age)


def _add_records(loaded: Project, worker: str, found: Sequence[Parked], shown: Sequence[dict[str, Any]]) -> None:
    """Add what the bytes of a sink's letters say."""
    from tailrace.control.dlq.sinks import ToSinks  # noqa: PLC0415 - store clients

    with closing(ToSinks(loaded, worker)) as way:
        for parked, entry in zip(found, shown, strict=True):
            entry["record"] = way.shown(parked.letter)


def _edited(form: Form, assignments: Sequence[str], file: Path | None) -> bytes | None:
    """Return the value as the person wants it, None where nothing was changed."""
    if assignments:
        return form.with_fields(assignments)
    if file is not None:
        return form.filled(file.read_text())
    if not (sys.stdin.isatty() or os.environ.get("EDITOR") or os.environ.get("VISUAL")):
        raise UsageError("There is nobody to edit the letter.", hint="--set FIELD=VALUE or --file FILE.")
    shown = form.text
    text = click.edit(shown, extension=".json")
    return None if text is None or text.strip() == shown.strip() else form.filled(text)


def parse_place(text: str) -> tuple[int, int]:
    """Return partition and offset of ``P/O``, or raise UsageError."""
    found = deadletter.parse_spot(text)
    if found is None:
        raise UsageError(f"{text!r} is no place.", hint="Write partition and offset, like 0/17.")
    return found

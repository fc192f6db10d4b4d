"""``tailrace verify``: every row of every table against every sink."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import barrier
from tailrace.control.repair import Repaired, repair
from tailrace.control.services import Services
from tailrace.control.verify import Check, Report
from tailrace.control.verify import verify as prove
from tailrace.control.verify.meter import Meter
from tailrace.control.verify.report import KINDS
from tailrace.control.verify.run import Manner, in_force
from tailrace.deadline import Deadline
from tailrace.endpoints import STATE_FOLDER
from tailrace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = ("missing", "extra", "different", "rejected")


@click.command()
@project_option
@json_option
@click.option("--sink", "only", multiple=True, metavar="NAME", help="Only this sink; may be given several times.")
@click.option("--changed", is_flag=True, help="Compare only ranges of keys that changed on either side since.")
@click.option("--resume", is_flag=True, help="Go on with the verify that was interrupted.")
@click.option("--replica", default="", metavar="URL", help="Read rows from this standby of the database.")
@click.option("--rows-per-second", "rate", type=click.FloatRange(1), help="Read no faster, each side for itself.")
@click.option("--seed", type=int, help="Draws the sample of unchanged ranges; any by default.")
@click.option("--examples", type=click.IntRange(0), default=5, show_default=True, help="Keys shown of each kind.")
@click.option("--show-values", is_flag=True, help="Show differing values too: they are rows of your database.")
@click.option("--no-wait", is_flag=True, help="Do not wait until everything committed so far has arrived.")
@click.option("--repair", "repairs", is_flag=True, help="Then send again what differs, and verify once more.")
@click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds for each wait.")
def verify(
    folder: Path,
    *,
    only: tuple[str, ...],
    examples: int,
    timeout: float,
    replica: str,
    rate: float | None,
    seed: int | None,
    as_json: bool,
    changed: bool,
    resume: bool,
    show_values: bool,
    no_wait: bool,
    repairs: bool,
) -> int:
    """Compare every row of every captured table with every sink, by key and by value. Traffic may go on.

    --changed trusts what an earlier verify proved wherever source and store both say that nothing was written since;
    docs/verify.md says what each store can say of that.

    --repair sends exactly the keys that differ through the pipeline once more, deletes from the stores what the source
    does not have, and verifies again; the exit code is the second one's. Nothing newer is ever overwritten.

    Exit code 0: all equal. 1: a row is missing, extra, resurrected (extra, though its newest record is a delete),
    different, stale (different, and what the row was before), rejected by its contract, or unsettled.
    """
    loaded = project.load(folder)
    choose(loaded, only, changed=changed, resume=resume)

    def wait() -> barrier.Crossed | None:
        return None if no_wait else barrier.cross(loaded, timeout=timeout, say=_say)

    def proved(*, resume: bool) -> Report:
        with meter(rate, shown=err.is_terminal and not as_json) as passing:
            kept = loaded.folder / STATE_FOLDER / "verify"
            manner = Manner(kept, resume, changed, seed, replica, timeout, passing)
            return prove(loaded, wait=wait, values=show_values, only=only, say=_say, manner=manner)

    try:
        report = first = proved(resume=resume)
        done: list[Repaired] = []
        if repairs and not report.ok:
            if not as_json:
                show(report, examples)
            done, report = mend(loaded, report, timeout), proved(resume=False)
    except KeyboardInterrupt:
        _say("stores that were read to their end are kept: `tailrace verify --resume` goes on with the others")
        raise
    if as_json:
        told = {"found": first.as_dict(examples), "repaired": [each.as_dict() for each in done]} if repairs else {}
        print_json(report.as_dict(examples) | told)
    else:
        show_repaired(done)
        show(report, examples)
    return 0 if report.ok else 1


def choose(loaded: project.Project, only: tuple[str, ...], *, changed: bool, resume: bool) -> None:
    """Raise UsageError where the options ask for what is not there."""
    unknown = sorted(set(only) - set(loaded.sinks))
    if unknown:
        raise UsageError(f"There is no sink {', '.join(unknown)}.", hint=f"Known: {', '.join(loaded.sinks)}.")
    if changed and resume:
        raise UsageError("--changed and --resume do not go together.", hint="--changed is short: run it again.")


@contextmanager
def meter(rate: float | None, *, shown: bool) -> Iterator[Meter]:
    """Open a meter that draws how far each reader is, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not shown) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(name: str, count: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total or None)
            bars.update(tasks[name], completed=count, total=max(total, count) if total else None)

        yield Meter(rate, watch)


def mend(loaded: project.Project, report: Report, timeout: float) -> list[Repaired]:
    """Repair what a report says."""
    with Services(in_force(loaded)) as services:
        return repair(services, report, Deadline.after(timeout), _say)


def show_repaired(done: list[Repaired]) -> None:
    """Print what a repair did."""
    for each in done:
        sent = "all rows" if each.whole else f"{each.again:,} rows"
        moved = f", {each.moved:,} items left that are elsewhere" if each.moved else ""
        out.print(f"{each.table}: {sent} sent again, {each.deleted:,} deleted that the source does not have{moved}")


def _say(line: str) -> None:
    err.print(f"[dim]{line}[/]")


def show(report: Report, examples: int) -> None:
    """Print a report for people."""
    out.print(table(report))
    for check in report.checks:
        for line in lines(check, examples):
            out.print(line, markup=False)
    for fault in report.faults:
        out.print(fault, markup=False, style="red")
    for note in report.notes:
        out.print(note, markup=False)
    for sink in report.unverified:
        out.print(f"not verified: the sink {sink} is your own class and offers no read()", markup=False)
    moving = sum(check.moving for check in report.checks)
    if moving:
        out.print(f"{moving:,} of the equal rows never stood still: they are what their raw topic says of them")
    unchanged = sum(check.unchanged for check in report.checks)
    if report.seed is not None:
        out.print(f"{unchanged:,} of the equal rows were proved before and have not changed (seed {report.seed})")
    positions = sorted({check.position for check in report.checks if check.position})
    if len(positions) > 1:
        out.print(f"not all at one position: {', '.join(positions)}")
    total = sum(check.compared for check in report.checks)
    word = "[bold green]equal[/]" if report.ok else "[bold red]not equal[/]"
    out.print(f"{word}: {total:,} comparisons in {report.seconds:.1f} s")


def table(report: Report) -> Table:
    """Return the table of all checks; a kind of difference that is not among the usual ones only where it occurs."""
    shown = Table(padding=(0, 0), collapse_padding=True)
    kinds = [kind for kind in KINDS if kind in USUAL or any(check.count(kind) for check in report.checks)]
    for name in ("table", "sink"):
        shown.add_column(name)
    for name in ("compared", "equal", *kinds):
        shown.add_column(name, justify="right", no_wrap=True)
    for check in report.checks:
        counts = [f"[red]{check.count(kind):,}[/]" if check.count(kind) else "0" for kind in kinds]
        shown.add_row(
            check.table.removeprefix("public."), check.sink, f"{check.compared:,}", f"{check.equal:,}", *counts
        )
    return shown


def lines(check: Check, examples: int) -> list[str]:
    """Return example keys of one check, one line each."""
    found = []
    for kind in KINDS:
        for entry in check.examples(kind, examples):
            why = entry.reason or ", ".join(entry.fields)
            found.append(f"{kind} in {check.store}: {entry.key}" + (f" ({why})" if why else ""))
            if entry.expected is not None or entry.actual is not None:
                found.append(f"    source: {entry.expected}")
                found.append(f"    store:  {entry.actual}")
    return found

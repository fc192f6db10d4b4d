"""``tailrace verify``: every row of every table against every sink."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import barrier
from tailrace.control.repair import Repaired, repair
from tailrace.control.services import Services
from tailrace.control.verify import Check, Report
from tailrace.control.verify import verify as prove
from tailrace.control.verify.report import KINDS
from tailrace.control.verify.run import in_force
from tailrace.deadline import Deadline
from tailrace.errors import UsageError


@click.command()
@project_option
@json_option
@click.option("--sink", "only", multiple=True, metavar="NAME", help="Only this sink; may be given several times.")
@click.option("--examples", type=click.IntRange(0), default=5, show_default=True, help="Keys shown of each kind.")
@click.option("--show-values", is_flag=True, help="Show differing values too: they are rows of your database.")
@click.option("--no-wait", is_flag=True, help="Do not wait until everything committed so far has arrived.")
@click.option("--repair", "repairs", is_flag=True, help="Then send again what differs, and verify once more.")
@click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds for each wait.")
def verify(
    folder: Path,
    only: tuple[str, ...],
    examples: int,
    timeout: float,
    *,
    as_json: bool,
    show_values: bool,
    no_wait: bool,
    repairs: bool,
) -> int:
    """Compare every row of every captured table with every sink, by key and by value. Traffic may go on.

    --repair sends exactly the keys that differ through the pipeline once more, deletes from the stores what the source
    does not have, and verifies again; the exit code is the second one's. Nothing newer is ever overwritten.

    Exit code 0: all equal. 1: a row is missing, extra, different, rejected by its contract, or never stood still.
    """
    loaded = project.load(folder)
    unknown = sorted(set(only) - set(loaded.sinks))
    if unknown:
        raise UsageError(f"There is no sink {', '.join(unknown)}.", hint=f"Known: {', '.join(loaded.sinks)}.")

    def wait() -> None:
        if not no_wait:
            barrier.cross(loaded, timeout=timeout, say=_say)

    def proved() -> Report:
        return prove(loaded, wait=wait, values=show_values, only=only, say=_say)

    report = proved()
    done: list[Repaired] = []
    if repairs and not report.ok:
        if not as_json:
            show(report, examples)
        done, report = mend(loaded, report, timeout), proved()
    if as_json:
        print_json(report.as_dict(examples) | ({"repaired": [each.as_dict() for each in done]} if repairs else {}))
    else:
        show_repaired(done)
        show(report, examples)
    return 0 if report.ok else 1


def mend(loaded: project.Project, report: Report, timeout: float) -> list[Repaired]:
    """Repair what a report says."""
    with Services(in_force(loaded)) as services:
        return repair(services, report, Deadline.after(timeout), _say)


def show_repaired(done: list[Repaired]) -> None:
    """Print what a repair did."""
    for each in done:
        sent = "all rows" if each.whole else f"{each.again:,} rows"
        out.print(f"{each.table}: {sent} sent again, {each.deleted:,} deleted that the source does not have")


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
    for sink in report.unverified:
        out.print(f"not verified: the sink {sink} is your own class and offers no read()", markup=False)
    total = sum(check.compared for check in report.checks)
    word = "[bold green]equal[/]" if report.ok else "[bold red]not equal[/]"
    out.print(f"{word}: {total:,} comparisons in {report.seconds:.1f} s")


def table(report: Report) -> Table:
    """Return the table of all checks."""
    shown = Table(padding=(0, 0), collapse_padding=True)
    for name in ("table", "sink"):
        shown.add_column(name)
    for name in ("compared", "equal", *KINDS):
        shown.add_column(name, justify="right", no_wrap=True)
    for check in report.checks:
        counts = [f"[red]{check.count(kind):,}[/]" if check.count(kind) else "0" for kind in KINDS]
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

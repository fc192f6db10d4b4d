"""``tailrace epoch``: which life of the pipeline this is, and how the next one begins."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import epochs
from tailrace.control.bump import Bump
from tailrace.control.services import Services
from tailrace.errors import Refused

if TYPE_CHECKING:
    from tailrace.control.bump import Intent

FOUND = 1
PATIENCE = 3600.0


@click.group()
def epoch() -> None:
    """Show the pipeline's epoch, or begin the next one when it has ended.

    An epoch ends when changes are missing or offsets begin anew: slot lost or recreated, WAL removed, topic recreated,
    partitions added, database restored or failed over, connector offsets reset. docs/recovery.md has a line for each.
    """


@epoch.command()
@project_option
@json_option
def show(folder: Path, *, as_json: bool) -> int:
    """Print the epoch and what speaks against it; exit with 1 where something does."""
    with Services(project.load(folder)) as services:
        verdict = epochs.judge(services)
    if as_json:
        print_json(asdict(verdict))
    else:
        out.print(f"epoch {verdict.epoch}" if verdict.epoch else "No epoch yet: `tailrace apply`.")
        for reason in verdict.reasons:
            out.print(f"  {'ended' if reason.hard else 'in doubt'}: {reason.said}", markup=False)
    return FOUND if verdict.reasons else 0


@epoch.command()
@project_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--timeout", default=PATIENCE, show_default=True, help="Seconds to wait for snapshot and processors.")
def bump(folder: Path, *, as_json: bool, yes: bool, timeout: float) -> None:
    """Begin a new epoch: new slot, new snapshot, and rows that vanished meanwhile are swept from every store.

    It stops and restarts connector and processors itself. Interrupted, it goes on where it was when it is run again.
    """
    with Services(project.load(folder)) as services:
        command = Bump(services, lambda line: err.print(f"[dim]{line}[/]"))
        wanted = command.intent()
        if not as_json:
            _describe(wanted)
        if not yes and not _agreed():
            raise click.Abort
        swept = command.run(wanted, timeout=timeout)
    if as_json:
        print_json({**wanted.as_dict(), "swept": [asdict(each) for each in swept]})
        return
    for each in swept:
        kept = f", {each.kept:,} exist and have no new record: see `tailrace dlq`" if each.kept else ""
        out.print(f"{each.record}: {each.keys:,} keys, {each.deleted:,} vanished rows deleted{kept}")
    out.print(f"Epoch {wanted.number} is settled; `tailrace verify` proves that every sink is right.")


def _describe(wanted: Intent) -> None:
    for reason in wanted.reasons:
        out.print(f"  {reason.said}", markup=False)
    if not wanted.reasons:
        out.print("  Nothing says that this epoch has ended; a new one costs a snapshot and does no harm.")
    if wanted.goes_on:
        out.print(f"Epoch {wanted.number} has begun and is brought to its end.")
        return
    out.print(f"Epoch {wanted.recorded.epoch} -> {wanted.number}: slot and snapshot anew, then the sweep.")
    for name, count in sorted(wanted.growing.items()):
        out.print(f"  {name} grows to {count} partitions")
    out.print(f"  stopped and started again: the connector, {', '.join(wanted.stopping)}")


def _agreed() -> bool:
    """Ask the person; without one, refuse."""
    if not sys.stdin.isatty():
        raise Refused("A new epoch has to be confirmed.", hint="Add --yes where nobody can be asked.")
    return click.confirm("Go on?", err=True)

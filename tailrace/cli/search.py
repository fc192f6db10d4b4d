"""``tailrace search``: a new index behind an alias, and what is left of old ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control import markers
from tailrace.control import rebuild as rebuilding
from tailrace.control.services import Services
from tailrace.deadline import Deadline


@click.group()
def search() -> None:
    """Rebuild search indexes, drop old ones, and purge delete markers."""


@search.command()
@click.argument("alias")
@click.option("--no-verify", is_flag=True, help="Switch without comparing the new index with the source.")
@click.option("--drop-old", is_flag=True, help="Delete the index that served before.")
@click.option("--timeout", type=click.FloatRange(1), default=3600.0, show_default=True, help="Seconds for all of it.")
@json_option
@project_option
def rebuild(alias: str, folder: Path, *, no_verify: bool, drop_old: bool, timeout: float, as_json: bool) -> None:
    """Fill a new index behind ALIAS from the conformed topic, verify it, and switch the alias in one step.

    The old index serves until then, writes go on, and it is kept. Start the worker again if its declaration changed.
    """
    with Services(project.load(folder)) as services:
        work = rebuilding.Rebuild(services, alias, Deadline.after(timeout), lambda line: err.print(f"[dim]{line}[/]"))
        done = work.run(proved=not no_verify, drop=drop_old)
    if as_json:
        print_json(asdict(done))
        return
    out.print(f"{done.alias} is {done.new}: {done.records:,} records, {done.rejected:,} rejected", markup=False)
    if not done.dropped:
        out.print(f"{done.old} is kept; `tailrace search drop-old {done.alias}` deletes it", markup=False)


@search.command("drop-old")
@click.argument("alias")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@project_option
def drop(alias: str, folder: Path, *, yes: bool, as_json: bool) -> None:
    """Delete the indexes that stood behind ALIAS before the one that serves."""
    with Services(project.load(folder)) as services:
        _, target = rebuilding.find(services.project, alias)
        serving, rest = rebuilding.old_indexes(services, target)
        if not yes and rest:
            click.confirm(f"{serving} serves. Delete {', '.join(rest)}?", abort=True, err=True)
        gone = rebuilding.drop_old(services, target)
    if as_json:
        print_json({"alias": alias, "serving": serving, "dropped": gone})
    else:
        out.print(f"deleted: {', '.join(gone)}" if gone else "there is nothing to delete", markup=False)


@search.command()
@click.argument("alias")
@json_option
@project_option
def purge(alias: str, folder: Path, *, as_json: bool) -> None:
    """Delete the delete markers of ALIAS that are older than everything in the raw topic.

    Settle the sink's dead letters first: one that is older still could bring a deleted document back.
    """
    with Services(project.load(folder)) as services:
        done = markers.purge(services, rebuilding.find(services.project, alias)[1])
    if as_json:
        print_json(asdict(done))
    else:
        out.print(f"{done.deleted:,} of {done.markers:,} delete markers deleted, below raw offset {done.below:,}")

"""``tailrace drill``: a seeded workload, faults at random, and the proof that every store equals the source."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.cli.verify import lines, table
from tailrace.drill import schedule
from tailrace.drill.page import page
from tailrace.drill.run import LARGE, Drill, Options, log_folder

if TYPE_CHECKING:
    from tailrace.drill.report import Found, Struck

KEPT = "drill"  # the folder for reports, below .tailrace


@click.command()
@project_option
@click.option("--seed", "number", type=int, default=1, show_default=True, help="Draws faults and workload.")
@click.option("--minutes", type=click.FloatRange(0.5), default=3.0, show_default=True, help="How long faults strike.")
@click.option("--rate", type=click.FloatRange(1), default=150.0, show_default=True, help="Row changes per second.")
@click.option("--fault", "kinds", multiple=True, type=click.Choice(schedule.KINDS), help="Only these; all by default.")
@click.option("--target", "only", multiple=True, help="Strike only this worker or server; all by default.")
@click.option(
    "--key-changes/--no-key-changes",
    default=None,
    help="Change primary keys always, or never; by default not around faults in which Debezium may lose half of one.",
)
@click.option("--large", type=click.IntRange(0), default=LARGE, show_default=True, help="Rows of one transaction.")
@click.option("--rounds", type=click.IntRange(1), help="So many whole rounds of faults, however long they take.")
@click.option("--staging", is_flag=True, help="At the project's own addresses; strike only workers started here.")
@click.option(
    "--traffic/--no-traffic", default=None, help="Make the bank's traffic; by default where the project is the bank."
)
@click.option("--report", "target", type=click.Path(path_type=Path), help="Folder for drill.json and drill.html.")
@json_option
def drill(
    folder: Path,
    number: int,
    minutes: float,
    rate: float,
    kinds: tuple[str, ...],
    *,
    only: tuple[str, ...],
    key_changes: bool | None,
    large: int,
    rounds: int | None,
    staging: bool,
    traffic: bool | None,
    target: Path | None,
    as_json: bool,
) -> int:
    """Kill, stop and cut off processors, sinks and servers at random while the bank is busy, then verify every row.

    The project (the reference bank) is copied, and everything runs on a stack of the drill's own: nothing that runs is
    touched, and nothing is left but the report. The same seed draws the same faults and the same workload. With
    --staging it takes place at a stack that is there already, any project's: nothing is made or removed there but
    what the traffic writes, and faults strike only the workers that the drill starts itself.

    Exit code 0: every store is equal to the source without a repair, no money came or went, nothing was parked, and
    every fault could be done. 1: something was not so.
    """
    options = Options(
        folder.resolve(), number, 0.0 if rounds else minutes * 60, rate, kinds, only, key_changes,
        staging=staging, traffic=traffic, large=large, rounds=rounds or 0,
    )  # fmt: skip
    kept = target or folder / ".tailrace" / KEPT
    with tempfile.TemporaryDirectory(prefix="tailrace-drill-") as place:
        run = Drill(options, lambda line: err.print(line, markup=False))
        err.print(f"{len(run.faults)} faults, seed {number}")
        try:
            with run.ground(Path(place)) as ground:
                found = run.run(ground)
        finally:
            if log_folder(Path(place)).is_dir():
                shutil.copytree(log_folder(Path(place)), kept / "logs", dirs_exist_ok=True)
    write(found, kept)
    if as_json:
        print_json(found.as_dict())
    else:
        show(found)
        err.print(f"the report is {kept / 'drill.html'}", markup=False)
    return 0 if found.ok else 1


def write(found: Found, folder: Path) -> None:
    """Write both reports."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "drill.json").write_text(json.dumps(found.as_dict(), indent=1))
    (folder / "drill.html").write_text(page(found))


def show(found: Found) -> None:
    """Print what was found, for people."""
    for struck in found.struck:
        out.print(_line(struck), markup=False)
    recovery = found.recovery()
    out.print(f"live again after a fault: p50 {recovery['p50']} s, longest {recovery['max']} s")
    out.print(f"group members: {found.members}; primary keys {found.keys}", markup=False)
    out.print(f"committed: {found.committed}", markup=False)
    out.print(f"came twice: {dict(found.duplicates)}", markup=False)
    for worker, counts in found.counted.items():
        out.print(f"{worker}: {dict(counts)}", markup=False)
    for moment in found.quiet:
        out.print(f"quiet at {moment.at:g} s, the sum of all balances: {dict(moment.balances)}", markup=False)
    out.print(f"and in the end: {dict(found.balances)}", markup=False)
    for reason, count in found.parked.items():
        out.print(f"parked: {count} x {reason}", markup=False)
    for line in found.trouble:
        out.print(f"trouble: {line}", markup=False)
    for name, report in (("", found.verified), ("after the repair", found.repaired)):
        if report is not None:
            out.print(name)
            out.print(table(report))
            for check in report.checks:
                for line in lines(check, 5):
                    out.print(line, markup=False)
    out.print("[bold green]equal[/]" if found.ok else "[bold red]not equal[/]")


def _line(struck: Struck) -> str:
    again = "overtaken by the next one" if struck.recovered is None else f"live again after {struck.recovered:g} s"
    met = "" if struck.met is None else f", {struck.met:,} calls met it"
    return f"{struck.began:6.1f} s  {struck.name}: {again}{met}"

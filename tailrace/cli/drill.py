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
from tailrace.drill.run import Drill, Options, log_folder

if TYPE_CHECKING:
    from tailrace.drill.report import Found

KEPT = "drill"  # the folder for reports, below .tailrace


@click.command()
@project_option
@click.option("--seed", "number", type=int, default=1, show_default=True, help="Draws faults and workload.")
@click.option("--minutes", type=click.FloatRange(0.5), default=3.0, show_default=True, help="How long faults strike.")
@click.option("--rate", type=click.FloatRange(1), default=150.0, show_default=True, help="Row changes per second.")
@click.option("--fault", "kinds", multiple=True, type=click.Choice(schedule.KINDS), help="Only these; all by default.")
@click.option(
    "--key-changes/--no-key-changes",
    default=None,
    help="Change primary keys; by default where no fault can make Debezium lose half of one (docs/debezium.md).",
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
    key_changes: bool | None,
    target: Path | None,
    as_json: bool,
) -> int:
    """Kill and stop processors, sinks and servers at random while the bank is busy, then verify every row.

    The project (the reference bank) is copied, and everything runs on a stack of the drill's own: nothing that runs is
    touched, and nothing is left but the report. The same seed draws the same faults and the same workload.

    Exit code 0: every store is equal to the source, no money came or went, nothing was parked. 1: something was not so.
    """
    options = Options(folder.resolve(), number, minutes * 60, rate, kinds or schedule.KINDS, key_changes)
    kept = target or folder / ".tailrace" / KEPT
    with tempfile.TemporaryDirectory(prefix="tailrace-drill-") as place:
        run = Drill(options, Path(place), lambda line: err.print(line, markup=False))
        err.print(f"{len(run.faults)} faults in {minutes:g} minutes, seed {number}")
        try:
            found = run.run()
        finally:
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
        again = "overtaken by the next one" if struck.recovered is None else f"live again after {struck.recovered:g} s"
        out.print(f"{struck.began:6.1f} s  {struck.name}: {again}", markup=False)
    recovery = found.recovery()
    out.print(f"live again after a fault: p50 {recovery['p50']} s, longest {recovery['max']} s")
    out.print(f"committed: {found.committed}", markup=False)
    out.print(f"sum of all balances: {dict(found.balances)}", markup=False)
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

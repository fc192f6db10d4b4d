"""``tailrace plan`` and ``apply``: what would be made or changed outside, and doing it.

The command line looks for ``check`` and ``schema`` here too; they stand in modules of their own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace import project
from tailrace.cli.check import check, plain
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.cli.schema import schema
from tailrace.control import remaining
from tailrace.control.apply import refuse_conflicts, take
from tailrace.control.plan import Plan, resources
from tailrace.control.plan import plan as make
from tailrace.control.services import Services

if TYPE_CHECKING:
    from tailrace.resource import Step

__all__ = ["apply", "check", "plan", "schema"]

SIGNS = {"create": "[green]+[/]", "change": "[yellow]~[/]", "conflict": "[bold red]![/]", "none": " "}
CHANGES = 2


@click.command()
@project_option
@json_option
@click.option("--exit-code", "exit_code", is_flag=True, help="Exit with 2 when there are changes to apply.")
def plan(folder: Path, *, as_json: bool, exit_code: bool) -> int:
    """Show what `tailrace apply` would create or change, and change nothing."""
    with Services(project.load(folder)) as services:
        found = _inspect(services)
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found)
    return CHANGES if exit_code and (found.pending or found.conflicts) else 0


@click.command()
@project_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask before changing anything.")
def apply(folder: Path, *, as_json: bool, yes: bool) -> None:
    """Make publication, topics, schemas, stores and connector what the project says; twice = no change."""
    with Services(project.load(folder)) as services:
        found = _inspect(services)
        if not as_json:
            _show(found)
        refuse_conflicts(found)
        if found.pending and not yes and not as_json and _interactive():
            click.confirm("Apply?", abort=True)
        began = time.monotonic()
        count = take(found, lambda moment, step: _tell(moment, step, began))
        left = remaining.added(services.project, [step for _, step in found.steps])
    if as_json:
        print_json({**found.as_dict(), "applied": count, "left": [each.as_dict() for each in left]})
    elif count:
        out.print(f"Applied {count} of {count} in {time.monotonic() - began:.1f} s.")
        for line in (line for each in left for line in each.lines()):
            out.print(plain(line))


def _interactive() -> bool:
    return click.get_text_stream("stdin").isatty()


def _inspect(services: Services) -> Plan:
    with err.status("Comparing with what is there ...") as shown:
        return make(
            resources(services),
            lambda done, total: shown.update(f"Comparing with what is there ... {done}/{total}"),
        )


def _tell(moment: str, step: Step, began: float) -> None:
    if moment == "begin":
        err.print(f"  {step.action:<7} {step.kind} {step.name} ...")
    else:
        err.print(f"  [dim]done    {time.monotonic() - began:6.1f} s[/]")


def _show(found: Plan) -> None:
    for _, step in found.steps:
        if step.action == "none" and not step.lines:
            continue
        out.print(f"{SIGNS[step.action]} {step.kind} [bold]{plain(step.name)}[/]")
        for line in step.lines:
            out.print(f"      {plain(line)}")
    counts = found.counts()
    if not found.pending and not found.conflicts:
        out.print(f"No changes. {counts['none']} resources are as the project says.")
        return
    conflicts = f", [bold red]{counts['conflict']} in conflict[/]" if counts["conflict"] else ""
    out.print(
        f"Plan: {counts['create']} to create, {counts['change']} to change{conflicts}, {counts['none']} unchanged."
    )

"""``tailrace check``: what would go wrong, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace import project
from tailrace.cli.context import err, json_option, out, print_json, project_option
from tailrace.control.check import check as judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.control.checks.finding import Finding

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


@click.command()
@project_option
@json_option
def check(folder: Path, *, as_json: bool) -> int:
    """Compare connector, contracts and sinks with the database, and say what would go wrong.

    Exits with 1 when there is an error; warnings are for people to weigh.
    """
    loaded = project.load(folder)
    with err.status("Reading the catalogue ..."):
        found = judge(loaded)
    return show(found, as_json=as_json, what=f"{len(loaded.connector.tables)} tables")


def show(found: Sequence[Finding], *, as_json: bool, what: str) -> int:
    """Print findings and return the exit code."""
    counts = {severity: sum(finding.severity == severity for finding in found) for severity in COLOURS}
    if as_json:
        print_json({"counts": counts, "findings": [finding.as_dict() for finding in found]})
        return min(1, counts["error"])
    for finding in found:
        out.print(f"[{COLOURS[finding.severity]}]{finding.severity}:[/] {plain(finding.what)}")
        for label, text in (("", finding.detail), ("sql:  ", finding.sql), ("hint: ", finding.hint)):
            if text:
                out.print(f"  {label}{plain(text)}")
    out.print(f"Checked {what}: {counts['error']} errors, {counts['warning']} warnings.")
    return min(1, counts["error"])


def plain(text: str) -> str:
    """Keep square brackets from being read as markup."""
    return text.replace("[", "\\[")

"""TRUNCATE: where its policy asks for a trigger, whether that is there, fires, and does what it should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.control.checks.finding import Finding, error, note, warning
from tailrace.control.resources.truncate import policies
from tailrace.source import truncation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.project import Project
    from tailrace.source.truncation import Picture


def check(project: Project, seen: Picture | None) -> Iterator[Finding]:
    """Say what of the triggers is not as the policies ask; nothing where nobody looked."""
    if seen is None:
        return
    asked = policies(project)
    for each in truncation.differences(project.name, asked, seen):
        if each.wanted:
            lost = "A TRUNCATE of it would leave its rows in the stores."
            yield error(f"{each.table}: {each.said}.", lost, sql=each.sql, hint="`tailrace apply` does it.")
        else:
            yield warning(f"{each.table}: {each.said}.", sql=each.sql, hint="`tailrace apply` does it.")
    parked = [table for table, policy in asked.items() if policy == truncation.PARK and table in seen.parts]
    if parked:
        yield note(
            f"A TRUNCATE of {', '.join(parked)} is not followed.",
            "It is parked; `tailrace snapshot TABLE --sweep` then deletes the rows from every store.",
            hint='truncate = "propagate" or "refuse" in [tables."schema.table"] of tailrace.toml decides otherwise.',
        )

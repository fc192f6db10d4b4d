"""The triggers on TRUNCATE that tailrace.toml asks for (``truncate`` of a table), all of a pipeline as one resource.

A trigger that nothing asks for any more is removed: only one with this pipeline's name and one of our functions.
Making one waits for the table's writers, ten seconds at most, and lets nobody write meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2

from tailrace.control.resources.heartbeat import run
from tailrace.errors import Refused
from tailrace.resource import Step
from tailrace.source import truncation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.control.services import Services
    from tailrace.project import Project
    from tailrace.source.truncation import Picture

KIND = "triggers on TRUNCATE"


class TruncateTriggers:
    """Every trigger of the pipeline."""

    def __init__(self, services: Services) -> None:
        self._services, self._project = services, services.project

    def inspect(self) -> Step:
        """Compare the triggers with the policies."""
        return compare(self._project, look(self._services))

    def apply(self) -> None:
        """Make, mend and remove triggers, one table after the other, each as a whole."""
        for each in truncation.differences(self._project.name, policies(self._project), look(self._services)):
            try:
                run(self._services, each.sql)
            except (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled) as error:
                raise Refused(
                    f"The table {each.table} is in use.",
                    detail="A transaction that wrote to it is open, and a trigger cannot be changed beside it.",
                    hint="Run `tailrace apply` again when it has ended.",
                ) from error


def declared(services: Services) -> list[TruncateTriggers]:
    """Return the resource, where a policy asks for triggers or some are left."""
    asked = any(policy in truncation.FUNCTIONS for policy in policies(services.project).values())
    return [TruncateTriggers(services)] if asked or look(services).triggers else []


def look(services: Services) -> Picture:
    """Look at the captured tables and the triggers that are there."""
    return truncation.read(services.database, services.project.name, services.project.connector.tables)


def policies(project: Project) -> Mapping[str, str]:
    """Return what a TRUNCATE of each captured table is to do."""
    return {table: project.settings.table(table).truncate for table in project.tables}


def compare(project: Project, seen: Picture) -> Step:
    """Return the step that the picture calls for."""
    name = truncation.trigger_name(project.name)
    found = list(truncation.differences(project.name, policies(project), seen))
    if not found:
        return Step(KIND, name, "none")
    lines = []
    for each in found:
        sign = "-" if not each.wanted else "~" if each.table in seen.triggers else "+"
        lines.append(f"{sign} {each.table}: {each.said}")
    return Step(KIND, name, "change" if seen.triggers else "create", tuple(lines))

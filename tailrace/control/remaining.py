"""What is left to do when ``apply`` has added a table to a pipeline that runs: who has to hear of it, and how.

Workers read the project when they start, and the connector streams a table from the moment it captures it: so whoever
conforms or takes it has to start again, and the rows that were there before have to be read. Pure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailrace.connector import OWN
from tailrace.control.resources import publication

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.project import Project
    from tailrace.resource import Step

ADDED = "+ table "


@dataclass(frozen=True, slots=True)
class Added:
    """One table that was added: the workers that have to start again, and the command that reads its rows."""

    table: str
    workers: tuple[str, ...]
    command: str

    def lines(self) -> tuple[str, ...]:
        """Return it as people read it."""
        return (
            f"{self.table} is new to this pipeline. What is left to do:",
            f"  start again what conforms or takes it: {', '.join(self.workers)}",
            f"  then read the rows it has: {self.command}",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return asdict(self)


def added(project: Project, steps: Sequence[Step]) -> tuple[Added, ...]:
    """Return what is left to do for each table that these steps add to a publication that was there."""
    lines = [line for step in steps if (step.kind, step.action) == (publication.KIND, "change") for line in step.lines]
    names = [line.removeprefix(ADDED) for line in lines if line.startswith(ADDED)]
    return tuple(Added(name, _workers(project, name), f"tailrace snapshot {name}") for name in names if name not in OWN)


def _workers(project: Project, table: str) -> tuple[str, ...]:
    processors = [name for name in project.processors if table in project.tables_of(name)]
    return (*processors, *(name for name in project.sinks if table in project.topics_of(name).values()))

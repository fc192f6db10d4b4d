"""Tables of our own in the source database: heartbeat and signal (tailrace.source says what each is for)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2

from tailrace.errors import Refused
from tailrace.resource import Step
from tailrace.source import heartbeat, signals

if TYPE_CHECKING:
    from tailrace.control.services import Services


@dataclass(frozen=True, slots=True)
class Shape:
    """What one of our tables has to be."""

    kind: str
    name: str
    columns: tuple[str, ...]
    create: str


HEARTBEAT = Shape("heartbeat table", heartbeat.TABLE, heartbeat.COLUMNS, heartbeat.CREATE)
SIGNAL = Shape("signal table", signals.TABLE, signals.COLUMNS, signals.CREATE)


class OwnTable:
    """One of our tables, with the columns that Debezium writes or reads."""

    def __init__(self, services: Services, shape: Shape) -> None:
        self._services, self._shape = services, shape

    def inspect(self) -> Step:
        """Say whether the table is there with its columns."""
        shape = self._shape
        found = self._services.catalogue().tables.get(shape.name)
        if found is None:
            return Step(shape.kind, shape.name, "create", (f"columns {', '.join(shape.columns)}",))
        missing = [name for name in shape.columns if name not in found.by_name]
        if missing:
            line = f"the table exists without {', '.join(missing)}: drop it, apply makes it anew"
            return Step(shape.kind, shape.name, "conflict", (line,))
        return Step(shape.kind, shape.name, "none")

    def apply(self) -> None:
        """Create schema and table."""
        run(self._services, self._shape.create)


def run(services: Services, statement: str) -> None:
    """Run one DDL statement; Refused with Postgres's words when the role may not."""
    try:
        with services.database.cursor() as cursor:
            cursor.execute(statement)
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.ObjectNotInPrerequisiteState) as error:
        raise Refused(
            "Postgres refuses the change.",
            detail=str(error).strip().splitlines()[0],
            hint=f"Run it as the owner of the tables: {' '.join(statement.split())}",
        ) from error

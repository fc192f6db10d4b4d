"""The heartbeat table in the source database (tailrace.source.heartbeat says what it is for)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2

from tailrace.errors import Refused
from tailrace.resource import Step
from tailrace.source import heartbeat

if TYPE_CHECKING:
    from tailrace.control.services import Services

KIND = "heartbeat table"


class HeartbeatTable:
    """``tailrace.heartbeat``, with the columns that the connector's action query writes."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def inspect(self) -> Step:
        """Say whether the table is there with its columns."""
        found = self._services.catalogue().tables.get(heartbeat.TABLE)
        if found is None:
            return Step(KIND, heartbeat.TABLE, "create", (f"columns {', '.join(heartbeat.COLUMNS)}",))
        missing = [name for name in heartbeat.COLUMNS if name not in found.by_name]
        if missing:
            line = f"the table exists without {', '.join(missing)}: drop it, apply makes it anew"
            return Step(KIND, heartbeat.TABLE, "conflict", (line,))
        return Step(KIND, heartbeat.TABLE, "none")

    def apply(self) -> None:
        """Create schema and table."""
        run(self._services, heartbeat.CREATE)


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

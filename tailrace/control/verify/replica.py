"""A read replica of the source, from which ``verify`` takes the rows instead.

It has to be a physical standby of the very same server: the system identifier says so. Rows are read there only after
it has replayed what the primary has written by then, so that it is as new as anything that a store may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailrace.deadline import wait_for
from tailrace.errors import Refused
from tailrace.source import catalogue

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS server, current_database() AS database,
       pg_is_in_recovery() AS standby
"""
WRITTEN = "SELECT pg_current_wal_flush_lsn()::text AS lsn"
REPLAYED = "SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false) AS reached"


class Replica:
    """One standby beside its primary; ``timeout`` seconds are what it may lag behind."""

    def __init__(self, url: str, primary: str, timeout: float) -> None:
        self.url, self._primary, self._timeout = url, primary, timeout

    def check(self) -> None:
        """Raise Refused when it is no standby of the primary."""
        with catalogue.session(self.url) as here, catalogue.session(self._primary) as there:
            refuse(_one(here, IDENTITY), _one(there, IDENTITY))

    def catch_up(self) -> None:
        """Return once it has replayed everything that the primary has written before this call."""
        with catalogue.session(self._primary) as there:
            lsn = _one(there, WRITTEN).lsn
        with catalogue.session(self.url) as here:
            wait_for(
                lambda: bool(catalogue.rows(here, REPLAYED, (lsn,))[0].reached),
                timeout=self._timeout,
                what=f"the replica to replay {lsn}",
                hint="Is it connected? pg_stat_replication on the primary says how far it is.",
            )


def refuse(replica: Any, primary: Any) -> None:
    """Raise Refused where one is not a standby of the other."""
    wrong = (
        "It is not in recovery: it is no standby." if not replica.standby
        else "It is a standby of another server." if replica.server != primary.server
        else f"It is another database: {replica.database}." if replica.database != primary.database
        else ""
    )  # fmt: skip
    if wrong:
        raise Refused("--replica is not a replica of the captured database.", detail=wrong)


def _one(connection: Connection, sql: str) -> Any:
    return catalogue.rows(connection, sql)[0]

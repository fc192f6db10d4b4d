"""Which life of the database this is: server, timeline, WAL position, and where the replication slot stands.

One question to Postgres. A timeline grows when a standby takes over and when a backup is restored to a point in time;
the system identifier is another one after a dump was loaded elsewhere or a major version was initialised anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace.source import catalogue

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case


@dataclass(frozen=True, slots=True)
class SlotPosition:
    """A slot. ``confirmed`` is the LSN from which it sends; ``failover`` says that standbys keep a copy of it."""

    active: bool
    wal_status: str
    confirmed: int
    failover: bool


@dataclass(frozen=True, slots=True)
class Lineage:
    """The server as it is now; ``position`` is its WAL position, ``slot`` None where there is none of that name."""

    system_identifier: str
    timeline: int
    position: int
    slot: SlotPosition | None


def read(connection: Connection, slot: str) -> Lineage:
    """Ask the server."""
    found = catalogue.rows(connection, _LINEAGE, (slot,))[0]
    held = SlotPosition(found.active, found.wal_status, found.confirmed, found.failover) if found.held else None
    return Lineage(found.system_identifier, found.timeline, found.position, held)


# The slot's newer columns are read through jsonb, so that servers that do not have them answer too.
_LINEAGE = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 8, '0'))::bit(32)::int AS timeline,
       (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS position,
       s.slot_name IS NOT NULL AS held, coalesce(s.active, false) AS active, coalesce(s.wal_status, '') AS wal_status,
       coalesce(s.confirmed_flush_lsn - '0/0'::pg_lsn, 0)::bigint AS confirmed,
       coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS failover
FROM (SELECT) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = %s
"""

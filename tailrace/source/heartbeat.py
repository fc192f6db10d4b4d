"""The heartbeat table ``tailrace.heartbeat``: its shape, the query that Debezium runs, and the markers of the barrier.

Row 0 is Debezium's: it keeps the slot moving when nothing else is captured. Row 1 is ours: its token shows in the
heartbeat's raw topic once Kafka holds everything committed before it. No other row exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace import topics

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

TABLE = f"{topics.HEARTBEAT_SCHEMA}.{topics.HEARTBEAT_TABLE}"
COLUMNS = ("id", "token", "beaten_at")
INTERVAL_MS = 5_000
ACTION = (
    f"INSERT INTO {TABLE} (id, beaten_at) VALUES (0, clock_timestamp())"
    " ON CONFLICT (id) DO UPDATE SET beaten_at = excluded.beaten_at"
)
CREATE = f"""
CREATE SCHEMA IF NOT EXISTS {topics.HEARTBEAT_SCHEMA};
CREATE TABLE IF NOT EXISTS {TABLE} (
    id smallint PRIMARY KEY, token text NOT NULL DEFAULT '', beaten_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


def mark(connection: Connection, token: str) -> int:
    """Write ``token`` into our row, committed, and return a WAL position (LSN) after that commit."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (id, token, beaten_at) VALUES (1, %s, clock_timestamp())"
            " ON CONFLICT (id) DO UPDATE SET token = excluded.token, beaten_at = excluded.beaten_at",
            (token,),
        )
        if not connection.autocommit:
            connection.commit()
        cursor.execute("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")
        found = cursor.fetchone()
    return int(found[0]) if found else 0

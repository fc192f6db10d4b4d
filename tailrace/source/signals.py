"""Signals to Debezium and its notifications: the table ``tailrace.signal``, and what its topic says of snapshots.

A signal is a row; Debezium reads it in the stream, so it counts from that very place on. An incremental snapshot walks
a table in the order of its primary key, in chunks between two marks that Debezium itself writes to the same table. How
far it is stands in the connector's offset: a connector that was restarted goes on where it was. Nothing here waits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tailrace import topics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

TABLE = f"{topics.HEARTBEAT_SCHEMA}.{topics.SIGNAL_TABLE}"
COLUMNS = ("id", "type", "data")
LONGEST = 2048  # characters of a signal's data
CREATE = f"""
CREATE SCHEMA IF NOT EXISTS {topics.HEARTBEAT_SCHEMA};
CREATE TABLE IF NOT EXISTS {TABLE} (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data varchar({LONGEST}))
"""
INITIAL, INCREMENTAL = "Initial Snapshot", "Incremental Snapshot"
STARTED, COMPLETED, SCANNED, SKIPPED = "STARTED", "COMPLETED", "TABLE_SCAN_COMPLETED", "SKIPPED"
EXECUTE = "execute-snapshot"
EVERY_ROW: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification: about which kind of snapshot (``aggregate``), what happened (``type``), and its details."""

    id: str
    aggregate: str
    type: str
    data: Mapping[str, str] = field(default_factory=dict)
    at_ms: int = 0


def send(
    connection: Connection, name: str, kind: str, tables: Iterable[str], filters: Mapping[str, str] = EVERY_ROW
) -> None:
    """Write one signal; a name that was used before is refused by the table's key.

    ``filters`` are conditions in SQL, by table: only rows that meet them are read.
    """
    data = json.dumps(request(tables, filters), ensure_ascii=False)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} (id, type, data) VALUES (%s, %s, %s)", (name, kind, data))
    if not connection.autocommit:
        connection.commit()


def request(tables: Iterable[str], filters: Mapping[str, str] = EVERY_ROW) -> dict[str, Any]:
    """Return the data of a signal that asks for an incremental snapshot; Debezium takes names as patterns."""
    found: dict[str, Any] = {"data-collections": [re.escape(table) for table in tables], "type": "incremental"}
    limits = [{"data-collection": re.escape(table), "filter": text} for table, text in filters.items()]
    return {**found, "additional-conditions": limits} if limits else found


def notice(value: bytes | None) -> Notice | None:
    """Return the notification in a message, None where it is none."""
    try:
        found = json.loads(value or b"null")
        found = found.get("payload", found)
        data = {str(name): str(part) for name, part in (found.get("additional_data") or {}).items()}
        return Notice(
            str(found["id"]), str(found["aggregate_type"]), str(found["type"]), data, int(found.get("timestamp") or 0)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def running(offset: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the tables that an incremental snapshot still has to finish, as the connector's offset says."""
    try:
        listed = json.loads((offset or {}).get("incremental_snapshot_collections") or "[]")
        return tuple(str(entry["incremental_snapshot_collections_id"]) for entry in listed)
    except (ValueError, KeyError, TypeError):
        return ()


def snapshots(notices: Iterable[Notice]) -> int:
    """Return how many times the connector began an initial snapshot."""
    return sum(1 for each in notices if each.aggregate == INITIAL and each.type == STARTED)

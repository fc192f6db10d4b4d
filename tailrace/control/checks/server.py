"""The Postgres server and the slot: what logical decoding needs, and what would fill the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace.control.checks.finding import Finding, error, warning
from tailrace.epoch import MEND
from tailrace.source.catalogue import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.connector import Connector
    from tailrace.source.catalogue import Catalogue, Publication, Slot


def check(connector: Connector, seen: Catalogue, *, streamed: bool | None) -> Iterator[Finding]:
    """Say what of server, slot and publication would go wrong.

    ``streamed`` says whether Connect holds an offset of this connector; None when it was not asked or did not answer.
    """
    yield from _settings(seen)
    if connector.role and seen.role and connector.role != seen.role:
        yield error(
            f"There is no role {connector.role}.",
            f"connectors/{connector.name}.json names it in database.user.",
            sql=f"CREATE ROLE {quote(connector.role)} LOGIN REPLICATION; -- and a password",
        )
    slot = seen.slots.get(connector.slot)
    if slot is None:
        yield from _room(connector, seen, streamed=streamed)
    else:
        yield from _slot(slot, seen.database, streamed=streamed)
    publication = seen.publications.get(connector.publication)
    if publication is not None:
        yield from _publication(connector, publication)


def _settings(seen: Catalogue) -> Iterator[Finding]:
    level = seen.settings.get("wal_level")
    if level != "logical":
        yield error(
            "wal_level is not logical.",
            f"It is {level}: nothing can be decoded from the WAL.",
            sql="ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server",
        )
    if seen.settings.get("max_slot_wal_keep_size") == "-1":
        yield warning(
            "max_slot_wal_keep_size is not set.",
            "A connector that stays away keeps WAL until the disk is full and the database stops.",
            sql="ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();",
        )
    if seen.encoding != "UTF8":
        yield error(f"The database {seen.database} is not UTF8.", f"It is {seen.encoding}; Debezium reads UTF8 only.")
    if not seen.replication_role:
        yield warning(
            f"The role {seen.role or 'that asks'} has no right to replicate.",
            "The connector's role needs it, if it is the same one.",
            sql=f"ALTER ROLE {quote(seen.role) if seen.role else 'CURRENT_USER'} REPLICATION; -- as a superuser",
        )


def _room(connector: Connector, seen: Catalogue, *, streamed: bool | None) -> Iterator[Finding]:
    limit = int(seen.settings.get("max_replication_slots", "0"))
    if len(seen.slots) >= limit:
        yield error(
            f"There is no room for the slot {connector.slot}.",
            f"{len(seen.slots)} of {limit} slots are taken: {', '.join(sorted(seen.slots))}.",
            sql=f"ALTER SYSTEM SET max_replication_slots = {limit + 4}; -- then restart the server",
        )
    if streamed:
        yield error(
            f"The slot {connector.slot} is gone.",
            "The connector has streamed from it: what was committed since it was dropped is not in Kafka.",
            hint=MEND,
        )


def _slot(slot: Slot, database: str, *, streamed: bool | None) -> Iterator[Finding]:
    drop = f"SELECT pg_drop_replication_slot('{slot.name}');"
    if slot.database != database or slot.plugin != "pgoutput":
        yield error(
            f"The slot {slot.name} belongs to something else.",
            f"It decodes the database {slot.database or 'none'} with {slot.plugin or 'no plugin'}.",
            hint="Give slot.name another value.",
        )
    elif streamed is False and slot.active:
        yield error(
            f"The slot {slot.name} is in use, and not by this connector.",
            "Two readers of one slot lose each other's changes.",
            hint="Give slot.name another value.",
        )
    elif streamed is False:
        yield warning(
            f"The slot {slot.name} exists before the connector has streamed.",
            "Debezium then takes its snapshot without the slot's consistent view. Let the connector create the slot.",
            sql=drop,
        )
    elif streamed is None:
        yield warning(f"The slot {slot.name} exists; Connect did not say whether the connector has streamed from it.")
    if slot.wal_status == "lost":
        yield error(
            f"The slot {slot.name} is lost.",
            "Postgres removed WAL that it still needed (max_slot_wal_keep_size).",
            sql=drop,
            hint=MEND,
        )
    elif slot.wal_status == "unreserved":
        yield warning(
            f"The slot {slot.name} is about to be lost.", f"It holds back {slot.retained_bytes:,} bytes of WAL."
        )


def _publication(connector: Connector, found: Publication) -> Iterator[Finding]:
    name = found.name
    if found.all_tables or found.schemas:
        yield error(
            f"The publication {name} is wider than table.include.list.",
            "Postgres refuses UPDATE and DELETE on every published table without a key.",
            sql=f'DROP PUBLICATION "{name}"; -- apply makes it anew',
        )
        return
    yield from _cut(connector, found)
    missing = [table for table in connector.published if table not in found.tables]
    if missing:
        yield warning(
            f"The publication {name} lacks {', '.join(missing)}.",
            "Their changes are not in the stream; `tailrace apply` adds them.",
            sql=f'ALTER PUBLICATION "{name}" ADD TABLE {", ".join(map(quote, missing))};',
        )
    if not found.via_root:
        yield warning(
            f"The publication {name} names partitions instead of their root.",
            "Each partition would get a topic of its own; `tailrace apply` sets it.",
            sql=f'ALTER PUBLICATION "{name}" SET (publish_via_partition_root = true);',
        )


def _cut(connector: Connector, found: Publication) -> Iterator[Finding]:
    """Say what a publication keeps from the stream."""
    cut = [table for table in connector.published if table in found.filtered]
    if cut:
        listed = ", ".join(quote(table) for table in cut)
        yield error(
            f"The publication {found.name} cuts {', '.join(cut)} with a row filter or a column list.",
            "What it leaves out is in no store; `tailrace apply` takes it away.",
            sql=f'ALTER PUBLICATION "{found.name}" DROP TABLE {listed};'
            f' ALTER PUBLICATION "{found.name}" ADD TABLE {listed};',
        )
    silent = sorted({"insert", "update", "delete", "truncate"} - found.operations)
    if silent:
        yield error(
            f"The publication {found.name} does not publish {', '.join(silent)}.",
            "They would happen in no store; `tailrace apply` sets it.",
            sql=f"ALTER PUBLICATION \"{found.name}\" SET (publish = 'insert, update, delete, truncate');",
        )

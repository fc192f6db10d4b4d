"""Outboxes: their columns, and that the raw topic is keyed by the aggregate, on which the order of its events rests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tailrace.control.checks.finding import Finding, error, warning
from tailrace.control.checks.tables import captured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.project import Project
    from tailrace.settings import OutboxSettings
    from tailrace.source.catalogue import Catalogue, Table

KEYS = "message.key.columns"
PAYLOADS = ("json", "jsonb", "text", "varchar", "bytea")


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say what of the outboxes would go wrong."""
    for name, outbox in project.outboxes.items():
        yield from _keyed(project, name, outbox)
        table = seen.tables.get(name)
        if table is not None:  # the tables' rules have said that it is missing
            yield from _columns(project, table, outbox)


def key_columns(setting: str, table: str) -> tuple[str, ...] | None:
    """Return the columns that ``message.key.columns`` names for a table, None where it names none.

    The setting is a list, by semicolons, of ``regex:column,column``; a regex may hold escaped dots.
    """
    for entry in filter(None, map(str.strip, setting.split(";"))):
        pattern, _, columns = entry.rpartition(":")
        if pattern == table or re.fullmatch(pattern, table, re.IGNORECASE):
            return tuple(column.strip() for column in columns.split(","))
    return None


def _keyed(project: Project, name: str, outbox: OutboxSettings) -> Iterator[Finding]:
    setting = project.connector.config.get(KEYS, "")
    if key_columns(setting, name) != (outbox.key,):
        entry = f"{name}:{outbox.key}"
        yield error(
            f"connectors/{project.connector.name}.json: {KEYS} does not key {name} by {outbox.key}.",
            "Events of one aggregate would lie in several partitions, and lose their order.",
            hint=f'"{KEYS}": "{";".join(filter(None, [setting.strip().strip(";"), entry]))}"',
        )


def _columns(project: Project, table: Table, outbox: OutboxSettings) -> Iterator[Finding]:
    columns = {column.name: column for column in captured(project.connector, table)}
    for part in ("id", "key", "type", "route", "payload"):
        name = getattr(outbox, part)
        column = columns.get(name)
        if column is None:
            yield error(
                f"The outbox {table.name} has no column {name}.",
                f"Every row would become a dead letter. Columns: {', '.join(columns)}.",
                hint=f'[tables."{table.name}".outbox] in tailrace.toml: {part} = "..."',
            )
        elif part in ("id", "key", "route") and column.nullable:
            yield warning(f"The outbox {table.name}: {name} may be NULL.", "Such rows become dead letters.")
        elif part == "payload" and column.type not in PAYLOADS:
            yield error(
                f"The outbox {table.name}: {name} is {column.shown}.",
                f"A payload is one of {', '.join(PAYLOADS)}: its bytes are the event.",
            )

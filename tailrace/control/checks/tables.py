"""Captured tables: do they exist, have a key, and send every value that a record needs."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from tailrace.connector import OWN
from tailrace.control.checks.finding import Finding, error, note, warning
from tailrace.source import types
from tailrace.source.catalogue import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.connector import Connector
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Column, Table

INTERVALS = "interval.handling.mode"
_SAFE = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_-]+")


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say what of the captured tables would go wrong."""
    yield from _names(project, seen)
    for name in project.connector.tables:
        table = seen.tables.get(name)
        if table is None:
            yield absent(project, name, seen.names)
            continue
        yield from _key(table)
        if name not in project.outboxes:  # an insert holds every value
            yield from _unsent(project, table)
        yield from _unsupported(project, table)
        yield from _intervals(project, table)
        yield from _foreign_keys(table)


def absent(project: Project, name: str, names: tuple[str, ...]) -> Finding:
    """Say that a table does not exist, with the nearest name that does."""
    known = [other for other in names if other not in OWN]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known[:10]) or 'no tables'}."
    place = f"connectors/{project.connector.name}.json"
    return error(f"The table {name} does not exist.", f"{place} names it in table.include.list.", hint=hint)


def captured(connector: Connector, table: Table) -> tuple[Column, ...]:
    """Return the columns that Debezium sends: generated and excluded ones are not sent."""
    include = connector.config.get("column.include.list", "")
    exclude = connector.config.get("column.exclude.list", "")

    def sent(column: Column) -> bool:
        path = f"{table.name}.{column.name}"
        if include and column.name not in table.key:
            return _matches(include, path)
        return not _matches(exclude, path)

    return tuple(column for column in table.columns if not column.generated and sent(column))


def _matches(patterns: str, path: str) -> bool:
    return any(re.fullmatch(pattern.strip(), path, re.IGNORECASE) for pattern in patterns.split(",") if pattern.strip())


def _names(project: Project, seen: Catalogue) -> Iterator[Finding]:
    tables = project.connector.tables
    for name in tables:
        if not _SAFE.fullmatch(name):
            yield error(
                f"The table name {name} cannot be captured.",
                "Debezium writes other characters than letters, digits, _ and - as _ in topic names.",
            )
    records: dict[str, list[str]] = {}
    for name in tables:
        if name not in project.outboxes:
            records.setdefault(project.record_of(name), []).append(name)
    for record, several in records.items():
        if len(several) > 1:
            yield error(
                f"{' and '.join(several)} both become the record {record}.",
                hint="Give one of them a conform function with another name in `to=`.",
            )
    schemas = {name.split(".", 1)[0] for name in tables}
    others = [name for name in seen.names if name.split(".", 1)[0] in schemas and name not in tables]
    if others:
        yield note("Not every table of the schema is captured.", f"Left out: {', '.join(others[:20])}.")


def _key(table: Table) -> Iterator[Finding]:
    if not table.key:
        first = table.columns[0].name if table.columns else "id"
        yield error(
            f"The table {table.name} has no primary key.",
            "Its rows cannot be told apart: updates and deletes would reach no store.",
            sql=f"ALTER TABLE {quote(table.name)} ADD PRIMARY KEY ({quote(first)}); -- or other columns",
        )
    elif table.identity in ("NOTHING", "INDEX"):
        yield error(
            f"The table {table.name} has REPLICA IDENTITY {table.identity}.",
            "Its deletes do not name the primary key.",
            sql=f"ALTER TABLE {quote(table.name)} REPLICA IDENTITY FULL;",
        )


def restored(connector: Connector, table: Table) -> list[Column]:
    """Return the columns whose unchanged long values are not sent, and restored from the processor's images."""
    if table.identity == "FULL" or not table.toasted or not table.key:
        return []
    return [column for column in captured(connector, table) if types.toastable(column) and not types.bare_null(column)]


def _unsent(project: Project, table: Table) -> Iterator[Finding]:
    """Columns whose value Postgres leaves out of an update that does not touch it, when it is stored out of line."""
    if table.identity == "FULL" or not table.toasted:
        return
    long = [column for column in captured(project.connector, table) if types.toastable(column)]
    mend = f"ALTER TABLE {quote(table.name)} REPLICA IDENTITY FULL;"
    bare = [column for column in long if types.bare_null(column)]
    fatal = [column for column in bare if not column.nullable]
    if fatal:
        yield error(
            f"{table.name}: {_list(fatal)} would stop the connector.",
            "An update that leaves a long value unchanged sends NULL for a column that is NOT NULL.",
            sql=mend,
        )
    lying = [column for column in bare if column.nullable and _wanted(project, table, column)]
    if lying:
        yield error(
            f"{table.name}: {_list(lying)} would turn NULL by themselves.",
            "An update that leaves a long value unchanged sends NULL, which looks like any other NULL.",
            sql=mend,
        )
    kept = restored(project.connector, table)
    if kept:
        yield note(
            f"{table.name}: a long {_list(kept, 'or')} that an update leaves unchanged is restored by the processor.",
            "Postgres does not send it (TOAST, rows from about 2 kB); what was sent before for the key is taken."
            " A row that changes its primary key and leaves such a value unchanged is parked.",
            sql=mend,
        )


def _wanted(project: Project, table: Table, column: Column) -> bool:
    """Say whether anything reads a column: a conform function, or the contract where there is none."""
    contract = project.contracts.get(project.record_of(table.name))
    return table.name in project.functions or (contract is not None and column.name in contract.by_name)


def _unsupported(project: Project, table: Table) -> Iterator[Finding]:
    odd = [column for column in captured(project.connector, table) if not types.kinds(column)]
    for column in odd:
        yield warning(
            f"{table.name}: {column.name} is {column.shown}, which a contract cannot hold.",
            f"It is left out of the record: {types.why_not(column)}.",
            hint="A text column beside it, filled by a trigger, would be sent.",
        )


def _intervals(project: Project, table: Table) -> Iterator[Finding]:
    if project.connector.config.get(INTERVALS) == "string":
        return
    for column in captured(project.connector, table):
        if column.type == "interval" and _wanted(project, table, column):
            yield error(
                f"{table.name}: {column.name} is an interval, which the connector sends as a number.",
                "A number of microseconds forgets months and days.",
                hint=f'Say "{INTERVALS}": "string" in connectors/{project.connector.name}.json.',
            )


def _foreign_keys(table: Table) -> Iterator[Finding]:
    for foreign in table.foreign_keys:
        if not foreign.indexed:
            columns = ", ".join(quote(column) for column in foreign.columns)
            yield warning(
                f"{table.name}: the foreign key {foreign.name} has no index.",
                "Deleting a referenced row, and building documents by it, scans the whole table.",
                sql=f"CREATE INDEX CONCURRENTLY ON {quote(table.name)} ({columns});",
            )


def _list(columns: list[Column], joint: str = "and") -> str:
    names = [column.name for column in columns]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {joint} {names[-1]}"

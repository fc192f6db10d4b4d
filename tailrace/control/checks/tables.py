"""Captured tables: are they in the WAL, may they be read, and is every value sent that a record needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tailrace.control.checks import keys, names
from tailrace.control.checks.finding import Finding, error, note, warning
from tailrace.source import types
from tailrace.source.catalogue import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.connector import Connector
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Column, Table

INTERVALS = "interval.handling.mode"


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say what of the captured tables would go wrong."""
    for name in project.connector.tables:
        table = seen.tables.get(name)
        if table is None:
            continue  # checks.names has said so
        if table.root:
            yield _partition(project, table)
            continue
        yield from _logged(table)
        yield from _rights(table, seen.role)
        if name not in project.outboxes:  # an insert holds every value
            yield from _unsent(project, table)
        yield from _unsupported(project, table)
        yield from names.columns(project, table, captured(project.connector, table))
        yield from _intervals(project, table)
        yield from _foreign_keys(table)


def _partition(project: Project, table: Table) -> Finding:
    """Say that a partition is named, where Postgres publishes its changes in the root's name."""
    return error(
        f"{table.name} is a partition of {table.root}.",
        "Its changes are published in the name of the root, and a row that moves to another partition would vanish.",
        hint=f"Name {table.root} instead in table.include.list of connectors/{project.connector.name}.json.",
    )


def _logged(table: Table) -> Iterator[Finding]:
    """Find tables and partitions whose changes are not in the WAL."""
    dark = [table.name] if not table.logged else [leaf.name for leaf in table.leaves if not leaf.logged]
    if dark:
        yield error(
            f"{', '.join(dark)} cannot be captured: unlogged tables are not in the WAL.",
            "Postgres refuses them in a publication.",
            sql=" ".join(f"ALTER TABLE {quote(name)} SET LOGGED;" for name in dark),
        )
    foreign = [leaf.name for leaf in table.leaves if leaf.foreign]
    if foreign:
        yield error(
            f"{table.name} has foreign tables as partitions: {', '.join(foreign)}.",
            "Their rows are not in the WAL of this database, and Postgres refuses the table in a publication.",
            sql=" ".join(f"ALTER TABLE {quote(table.name)} DETACH PARTITION {quote(name)};" for name in foreign),
        )


def _rights(table: Table, role: str) -> Iterator[Finding]:
    """Say what the capturing role may not see: the stream shows every row, a snapshot what the role may read."""
    if not table.readable:
        schema = table.name.split(".", 1)[0]
        yield error(
            f"The role {role} may not read {table.name}.",
            "The snapshot would fail.",
            sql=f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)};"
            f" GRANT SELECT ON {quote(table.name)} TO {quote(role)};",
        )
    if table.hidden:
        yield error(
            f"{table.name}: row level security hides rows from the role {role}.",
            "A snapshot would miss them without a word, while the stream shows every row.",
            sql=f"ALTER ROLE {quote(role)} BYPASSRLS;",
        )


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
    mend = keys.full(table)
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
    for column in captured(project.connector, table):
        if types.kinds(column):
            continue
        yield warning(
            f"{table.name}: {column.name} is {column.shown}, which a contract cannot hold.",
            f"It is left out of the record: {types.why_not(column)}.",
            hint="A text column beside it, filled by a trigger, would be sent.",
        )
    generated = [column for column in table.columns if column.generated and not _wanted(project, table, column)]
    if generated:
        yield note(
            f"{table.name}: {_list(generated)} is generated, and not sent.",
            "Generated columns are not published. A conform function may compute it again.",
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
    listed = [column.name for column in columns]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} {joint} {listed[-1]}"

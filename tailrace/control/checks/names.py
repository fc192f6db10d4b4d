"""Names: tables that two topics or records would share, columns that no contract can spell, things that are no table.

Debezium and Kafka see fewer differences than Postgres: table.include.list is read without regard to case, and Kafka
takes two topics for one where only ``.`` and ``_`` differ. What falls together there is refused here.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from tailrace.connector import OWN
from tailrace.control.checks.finding import Finding, error, note, warning
from tailrace.source.catalogue import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Column, Table

_SAFE = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_-]+")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # what Avro takes


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say which names would go wrong."""
    tables = project.connector.tables
    for name in tables:
        if not _SAFE.fullmatch(name):
            yield error(
                f"The table name {name} cannot be captured.",
                "Debezium writes other characters than letters, digits, _ and - as _ in topic names.",
                sql=f"ALTER TABLE {quote(name)} RENAME TO {quote(_spelled(name.split('.', 1)[-1]))};",
            )
        if name not in seen.tables:
            yield absent(project, name, seen)
    yield from _alike(project, seen)
    yield from _left_out(tables, seen)


def absent(project: Project, name: str, seen: Catalogue) -> Finding:
    """Say that a table does not exist, with the nearest name that does, or that it is something else."""
    place = f"connectors/{project.connector.name}.json"
    if name in seen.others:
        return error(
            f"{name} is {seen.others[name]}, which cannot be captured.",
            "Its rows are not in the WAL of this database.",
            hint=f"Name the tables behind it in table.include.list of {place}.",
        )
    known = [other for other in seen.names if other not in OWN]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known[:10]) or 'no tables'}."
    return error(f"The table {name} does not exist.", f"{place} names it in table.include.list.", hint=hint)


def _alike(project: Project, seen: Catalogue) -> Iterator[Finding]:
    tables = project.connector.tables
    for record, several in _grouped(project.tables, project.record_of):
        yield error(
            f"{' and '.join(several)} both become the record {record}.",
            hint="Give one of them a conform function with another name in `to=`.",
        )
    for _, several in _grouped(tables, lambda name: name.replace(".", "_")):
        yield error(
            f"{' and '.join(several)} cannot both be captured.",
            "Kafka takes two topics for the same where only . and _ differ.",
            sql=f"ALTER TABLE {quote(several[-1])} RENAME TO {quote(several[-1].split('.', 1)[1] + '_2')};",
        )
    for _, several in _grouped({*tables, *seen.names}, str.lower):
        if set(several) & set(tables):
            odd = next((name for name in reversed(several) if name not in tables), several[-1])
            yield error(
                f"{' and '.join(several)} differ by their case only.",
                "Debezium reads table.include.list without regard to case: its snapshot would read both.",
                sql=f"ALTER TABLE {quote(odd)} RENAME TO {quote(odd.split('.', 1)[1].lower() + '_2')};",
            )


def _grouped(names: Iterable[str], by: Callable[[str], str]) -> list[tuple[str, list[str]]]:
    """Return the names that fall together, with what they become."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(by(name), []).append(name)
    return [(what, several) for what, several in found.items() if len(several) > 1]


def _left_out(tables: Sequence[str], seen: Catalogue) -> Iterator[Finding]:
    schemas = {name.split(".", 1)[0] for name in tables}
    others = [name for name in seen.names if name.split(".", 1)[0] in schemas and name not in tables]
    if others:
        yield note("Not every table of the schema is captured.", f"Left out: {', '.join(others[:20])}.")


def columns(project: Project, table: Table, sent: Sequence[Column]) -> Iterator[Finding]:
    """Say which columns of a table no contract can hold for their names, so that none is silently absent."""
    for _, several in _grouped((column.name for column in table.columns), str.lower):
        yield error(
            f"{table.name}: the columns {' and '.join(several)} differ by their case only.",
            "Debezium refuses to start with such a table.",
            sql=f"ALTER TABLE {quote(table.name)} RENAME COLUMN {quote_column(several[0])}"
            f" TO {quote_column(_spelled(several[0]) + '_2')};",
        )
    for column in sent:
        if _FIELD.fullmatch(column.name):
            continue
        rename = f"ALTER TABLE {quote(table.name)} RENAME COLUMN {quote_column(column.name)}"
        mend = f"{rename} TO {quote_column(_spelled(column.name))};"
        if column.name in table.key:
            yield error(
                f"{table.name}: the key column {column.name!r} has a name that no contract can hold.",
                "Names of Avro have letters A to Z, digits and _, and begin with no digit.",
                sql=mend,
            )
        elif table.name not in project.functions:
            yield warning(
                f"{table.name}: {column.name!r} is a name that no contract can hold.",
                "The column is left out of the record.",
                sql=mend,
                hint="Or a conform function gives it another name.",
            )


def quote_column(name: str) -> str:
    """Return a column's name quoted for SQL; a point in it is one of its letters."""
    return '"' + name.replace('"', '""') + '"'


def _spelled(name: str) -> str:
    """Return the nearest name that Avro takes."""
    found = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    return found if _FIELD.fullmatch(found) else f"_{found}"

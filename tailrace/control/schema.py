"""``tailrace schema derive`` and ``check``: contracts written from tables, and contracts held against tables.

A derived contract has one field per column that can be in one, in the table's order, nullable where the column is,
with the comments of table and columns as documentation. It is the user's from then on: it is never overwritten unasked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailrace import contract
from tailrace.control.checks import contracts
from tailrace.control.checks.tables import absent, captured
from tailrace.control.services import Services
from tailrace.errors import ProjectError, UsageError
from tailrace.source import types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.connector import Connector
    from tailrace.control.checks.finding import Finding
    from tailrace.project import Project
    from tailrace.source.catalogue import Column, Table

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Derived:
    """One contract that ``derive`` wrote, or did not because the file is there; ``left_out`` names columns."""

    record: str
    table: str
    written: bool
    left_out: tuple[str, ...] = ()


def derive(project: Project, records: Sequence[str] = (), *, force: bool = False) -> list[Derived]:
    """Write schemas/<record>.avsc of the named records (all by default); files that exist stay, unless forced."""
    by_record = {project.record_of(name): name for name in project.tables}
    unknown = [record for record in records if record not in by_record]
    if unknown:
        raise UsageError(f"There is no record {', '.join(unknown)}.", hint=f"Known: {', '.join(by_record)}.")
    with Services(project) as services:
        seen = services.catalogue()
    derived = []
    for record in records or by_record:
        table = seen.tables.get(by_record[record])
        if table is None:
            finding = absent(project, by_record[record], seen.names)
            raise ProjectError(finding.what, detail=finding.detail, hint=finding.hint)
        derived.append(_write(project, record, table, force=force))
    return derived


def _write(project: Project, record: str, table: Table, *, force: bool) -> Derived:
    path = project.folder / "schemas" / f"{record}.avsc"
    if path.exists() and not force:
        return Derived(record, table.name, written=False)
    schema, left_out = schema_of(project.name, project.connector, record, table)
    contract.build(record, schema, where=path.name)  # what we write, we can read
    path.parent.mkdir(exist_ok=True)
    path.write_text(pretty(schema))
    return Derived(record, table.name, written=True, left_out=left_out)


def schema_of(pipeline: str, connector: Connector, record: str, table: Table) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the contract of a table, and the columns that cannot be in one; ProjectError without a primary key."""
    columns = captured(connector, table)
    able = [column for column in columns if types.avro(column) is not None and _NAME.fullmatch(column.name)]
    names = {column.name for column in able}
    if not table.key or not set(table.key) <= names:
        raise ProjectError(
            f"The table {table.name} has no primary key that a contract can hold.",
            detail=f"Its key is {', '.join(table.key) or 'missing'}.",
            hint="`tailrace check` shows the SQL.",
        )
    words = re.split(r"[^A-Za-z0-9]+", record)
    schema: dict[str, Any] = {
        "type": "record",
        "name": "".join(word[:1].upper() + word[1:] for word in words) or record,
        "namespace": f"tailrace.{pipeline.replace('-', '_')}",
        "doc": table.comment or f"One row of {table.name}.",
        "key": list(table.key),
        "fields": [_field(column) for column in able],
    }
    return schema, tuple(column.name for column in table.columns if column.name not in names)


def _field(column: Column) -> dict[str, Any]:
    shape = types.avro(column)
    field: dict[str, Any] = {"name": column.name, "type": ["null", shape] if column.nullable else shape}
    if column.nullable:
        field["default"] = None
    if column.comment:
        field["doc"] = column.comment
    return field


def pretty(schema: dict[str, Any]) -> str:
    """Return a record schema as text, one line per field, so that a change is one line in a diff."""
    head = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in schema.items() if name != "fields"]
    fields = ",\n".join(f"    {json.dumps(field)}" for field in schema["fields"])
    return "\n".join(["{", *head, '  "fields": [', fields, "  ]", "}", ""])


def check(project: Project) -> list[Finding]:
    """Return where the contracts do not fit their tables."""
    with Services(project) as services:
        return list(contracts.check(project, services.catalogue()))

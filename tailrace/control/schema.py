"""``tailrace schema derive``: contracts written from tables, and contracts that grow after their tables.

A derived contract has one field per column that can be in one, in the table's order, nullable where the column is,
with the comments of table and columns as documentation. It is the user's from then on: it only ever grows
(tailrace.control.growth), and is never written anew unasked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from tailrace import contract, topics
from tailrace.control import growth
from tailrace.control.checks.names import absent
from tailrace.control.checks.tables import captured
from tailrace.control.services import Services
from tailrace.errors import ProjectError, Unreachable, UsageError
from tailrace.source import columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tailrace.connector import Connector
    from tailrace.project import Project
    from tailrace.source.catalogue import Table

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Derived:
    """What ``derive`` did with one contract.

    ``left_out`` names columns that no contract holds. Of a contract that was there: ``grown`` is what it gained,
    ``kept`` the fields without column that have a default, ``incompatible`` what no longer fits and cannot follow,
    ``undecided`` the columns that are for the table's conform function to pass on or not.
    """

    record: str
    table: str
    written: bool
    left_out: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    incompatible: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


def derive(project: Project, records: Sequence[str] = (), *, force: bool = False) -> list[Derived]:
    """Write schemas/<record>.avsc of the named records (all by default); files that exist grow, unless forced."""
    by_record = {project.record_of(name): name for name in project.tables}
    unknown = [record for record in records if record not in by_record]
    if unknown:
        raise UsageError(f"There is no record {', '.join(unknown)}.", hint=f"Known: {', '.join(by_record)}.")
    with Services(project) as services:
        seen = services.catalogue()
        registered = {} if force else _registered(services, records or list(by_record))
    derived = []
    for record in records or by_record:
        table = seen.tables.get(by_record[record])
        if table is None:
            finding = absent(project, by_record[record], seen)
            raise ProjectError(finding.what, detail=finding.detail, hint=finding.hint)
        path = _path(project, record)
        if path.exists() and not force:
            derived.append(_grow(project, contract.load(path), table, registered.get(record)))
        else:
            derived.append(_write(project, record, table))
    return derived


def _path(project: Project, record: str) -> Path:
    return project.folder / "schemas" / f"{record}.avsc"


def _registered(services: Services, records: Sequence[str]) -> dict[str, contract.Contract]:
    """Return the newest registered contracts of records that have a file; none when the registry does not answer."""
    found = {}
    try:
        for record in records:
            if not _path(services.project, record).exists():
                continue
            newest = services.registry.latest(topics.conformed(services.project.name, record))
            if newest is not None:
                found[record] = contract.build(record, newest[1], where=f"{record} in the registry")
    except (Unreachable, ProjectError) as error:
        log.warning("only the tables are looked at, not what is registered", reason=error.problem)
    return found


def _grow(project: Project, there: contract.Contract, table: Table, registered: contract.Contract | None) -> Derived:
    columns = captured(project.connector, table)
    function = table.name in project.functions
    found = growth.grow(there, registered, columns, function=function)
    if found.grown:
        _path(project, there.name).write_text(pretty(found.contract.schema))
    strange = tuple(column.name for column in growth.unknown(found.contract, columns))
    derived = Derived(there.name, table.name, bool(found.grown), (), found.grown, found.kept, found.incompatible)
    return replace(derived, undecided=strange) if function else replace(derived, left_out=strange)


def _write(project: Project, record: str, table: Table) -> Derived:
    path = _path(project, record)
    schema, left_out = schema_of(project.name, project.connector, record, table)
    contract.build(record, schema, where=path.name)  # what we write, we can read
    path.parent.mkdir(exist_ok=True)
    path.write_text(pretty(schema))
    return Derived(record, table.name, written=True, left_out=left_out)


def schema_of(pipeline: str, connector: Connector, record: str, table: Table) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the contract of a table, and the columns that cannot be in one; ProjectError without a primary key."""
    able = [column for column in captured(connector, table) if columns.fieldable(column)]
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
        "fields": [columns.field(column) for column in able],
    }
    return schema, tuple(column.name for column in table.columns if column.name not in names)


def pretty(schema: Mapping[str, Any]) -> str:
    """Return a record schema as text, one line per field, so that a change is one line in a diff."""
    head = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in schema.items() if name != "fields"]
    fields = ",\n".join(f"    {json.dumps(field)}" for field in schema["fields"])
    return "\n".join(["{", *head, '  "fields": [', fields, "  ]", "}", ""])

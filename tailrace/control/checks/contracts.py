"""Contracts against tables: key, fields, types, nulls.

A table with a conform function of its own may hold fields that no column has and convert values, so there a difference
is a warning; without one, each difference would make every row a dead letter, so it is an error. Key columns must fit
in both cases: a conform function may not change them.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tailrace.control import growth
from tailrace.control.checks.finding import Finding, error, warning
from tailrace.control.checks.tables import captured
from tailrace.source import types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tailrace.contract import Contract, Field
    from tailrace.project import Project
    from tailrace.source.catalogue import Catalogue, Column, Table


def check(project: Project, seen: Catalogue) -> Iterator[Finding]:
    """Say what of the contracts does not fit the tables."""
    used = set()
    for name in project.tables:
        record = project.record_of(name)
        used.add(record)
        contract, table = project.contracts.get(record), seen.tables.get(name)
        if contract is None:
            yield error(
                f"There is no contract for {name}.",
                f"schemas/{record}.avsc does not exist.",
                hint=f"`tailrace schema derive {record}` writes one from the table.",
            )
        elif table is not None:
            yield from fit(project, contract, table)
    for unused in sorted(set(project.contracts) - used):
        yield warning(f"schemas/{unused}.avsc is the contract of no captured table.")


def fit(project: Project, contract: Contract, table: Table) -> Iterator[Finding]:
    """Say where one contract does not fit its table."""
    if table.key and set(contract.key) != set(table.key):
        what = "primary key" if table.primary is None else "message.key.columns"
        yield error(
            f'schemas/{contract.name}.avsc: "key" differs from the {what} of {table.name}.',
            f"It says {', '.join(contract.key)}; the table's is {', '.join(table.key)}.",
            hint=f'"key": {list(table.key)}'.replace("'", '"'),
        )
    columns = {column.name: column for column in captured(project.connector, table)}
    function = table.name in project.functions
    evolves = project.settings.table(table.name).unknown_columns == "evolve" and not function
    for field in contract.fields:
        kind = growth.wider(contract, columns[field.name]) if evolves and field.name in columns else ""
        if kind:
            yield _following(contract, field, columns[field.name], kind)
        else:
            yield from _field(contract, table, field, columns, strict=not function or field.name in contract.key)


def _following(contract: Contract, field: Field, column: Column, kind: str) -> Finding:
    """Say that a field is about to become wider by itself, and what that means for a search index."""
    return warning(
        f"schemas/{contract.name}.avsc: {field.name} is narrower than the column.",
        f"The column is {column.shown}: the field becomes {kind} with the next row.",
        hint=f"`tailrace schema derive {contract.name}` writes it.",
    )


def _field(
    contract: Contract, table: Table, field: Field, columns: Mapping[str, Column], *, strict: bool
) -> Iterator[Finding]:
    say = error if strict else warning
    place = f"schemas/{contract.name}.avsc: {field.name}"
    column = columns.get(field.name)
    if column is None:
        if strict and field.name in contract.defaults and field.name not in {*contract.key, *table.by_name}:
            yield warning(
                f"{place} is no column of {table.name}.",
                "Records have its default there.",
                hint=_near(field, columns),
            )
        elif strict:
            hint = _mend(table, field.name) or _near(field, columns)
            yield error(f"{place} is no column of {table.name}.", _why(table, field.name), hint=hint)
        return
    wrong = types.misfit(column, field)
    if wrong:
        yield say(
            f"{place} does not fit the column.",
            wrong + ("." if strict else "; the conform function must convert it."),
            hint=f'"type": {types.avro(column)}'.replace("'", '"') if types.avro(column) else "",
        )
    if column.nullable and not field.nullable:
        yield say(
            f"{place} forbids null, but the column may be NULL.",
            "Rows with NULL in it become dead letters" + ("." if strict else ", unless the function fills it."),
            hint='"type": ["null", ...], "default": null',
        )


def _why(table: Table, name: str) -> str:
    column = table.by_name.get(name)
    if column is None:
        return ""
    return "It is a generated column, which is not sent." if column.generated else "The connector leaves it out."


def _mend(table: Table, name: str) -> str:
    column = table.by_name.get(name)
    if column is None:
        return ""
    if column.generated:
        return "Take it out of the contract; a conform function may compute it."
    return f"column.exclude.list or column.include.list hides {table.name}.{name}: mend it, or the contract."


def _near(field: Field, columns: Mapping[str, Column]) -> str:
    near = difflib.get_close_matches(field.name, list(columns), n=1)
    return f"Did you mean {near[0]}?" if near else f"Columns: {', '.join(columns)}."

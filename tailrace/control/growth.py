"""How `tailrace schema derive` lets a contract that exists grow after its table. Pure.

Order, fields and documentation stay the user's. What is added is what the pipeline itself would add: what is registered
beyond the file, then each new column as a nullable field with null as default. A type becomes wider, never another.
What no longer fits and cannot follow is named, and left to a person: only they know whether the contract or the table
is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailrace import evolution
from tailrace.source import types
from tailrace.source.columns import IGNORED, fieldable, nullable
from tailrace.source.columns import wider as kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tailrace.contract import Contract
    from tailrace.source.catalogue import Column


@dataclass(frozen=True, slots=True)
class Growth:
    """What became of a contract: ``kept`` are fields without column that have a default."""

    contract: Contract
    grown: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    incompatible: tuple[str, ...] = ()


def grow(contract: Contract, registered: Contract | None, columns: Sequence[Column], *, function: bool) -> Growth:
    """Return the contract as it has to be for the columns that are sent, and for what is registered.

    ``function`` says that the user's function makes the record, so that the columns say nothing about its fields.
    """
    ours = () if function else columns
    extra = [dict(entry) for entry in _registered(contract, registered)]
    there = {*contract.by_name, *(entry["name"] for entry in extra), *contract.schema.get(IGNORED, ())}
    new = [nullable(column) for column in ours if column.name not in there and fieldable(column)]
    widened = {**_wider_registered(contract, registered), **_wider(contract, ours)}
    made = evolution.added(contract, [*extra, *new], widened)
    names = {column.name for column in columns}
    gone = [] if function else [name for name in made.by_name if name not in names]
    kept = tuple(name for name in gone if name in made.defaults and name not in made.key)
    lost = [f"{name} is no column any more, and has no default" for name in gone if name not in kept]
    return Growth(made, evolution.ahead(contract, made), kept, (*lost, *_misfits(made, ours)))


def unknown(contract: Contract, columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns that a contract neither has nor ignores."""
    known: Collection[str] = {*contract.by_name, *contract.schema.get(IGNORED, ())}
    return tuple(column for column in columns if column.name not in known)


def wider(contract: Contract, column: Column) -> str:
    """Return the kind to which the field of a column has to be widened to hold it; empty where it fits or cannot."""
    field = contract.by_name.get(column.name)
    return kind_of(field, column) if field else ""


def _registered(contract: Contract, registered: Contract | None) -> Iterator[Mapping[str, Any]]:
    for entry in registered.schema["fields"] if registered else ():
        if entry["name"] not in contract.by_name and evolution.optional(entry):
            yield entry


def _wider_registered(contract: Contract, registered: Contract | None) -> dict[str, str]:
    theirs = registered.by_name if registered else {}
    both = [(field, theirs[field.name]) for field in contract.fields if field.name in theirs]
    return {field.name: later.kind for field, later in both if (field.kind, later.kind) in evolution.WIDER}


def _wider(contract: Contract, columns: Sequence[Column]) -> dict[str, str]:
    return {column.name: kind for column in columns if (kind := wider(contract, column))}


def _misfits(contract: Contract, columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        field = contract.by_name.get(column.name)
        if field is None:
            continue
        wrong = types.misfit(column, field)
        if wrong:
            yield f"{column.name} does not fit: {wrong}"
        elif column.nullable and not field.nullable:
            yield f"{column.name} may be NULL, which the contract forbids"

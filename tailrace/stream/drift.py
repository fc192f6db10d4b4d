"""Drift: where the columns of a table are no longer those that its contract was made for. Pure.

A Connect schema is judged once, when it is first seen; no record is looked at. What cannot go on is ``Held``: the table
waits at that record until the contract or the table is mended (docs/decisions/0007). A type that a field cannot hold at
all, or that could go wrong without a word, stops at once. One of which only some values do not fit is a doubt: the
table flows, and the first value that is refused for it holds the table. A function may convert what it reads, so its
table is never stopped for a type, and held only where the function passes on a column as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from tailrace import evolution
from tailrace.source import columns, types, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tailrace.contract import Contract, Field

Policy = Literal["ignore", "evolve", "stop"]
Verdict = Literal["fits", "doubtful", "never"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGERS = {"int2", "int4", "int8", "oid"}
# Kinds whose values are checked one by one, nothing rounded: what they take of other types they take exactly.
_CHECKED: dict[str, set[str]] = {
    "int": _INTEGERS, "long": _INTEGERS, "double": {"int8", "oid"}, "numeric": _INTEGERS | {"money"},
    "decimal": _INTEGERS | {"numeric", "money"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """How the contract would have to grow: Avro fields to add, kinds to widen; ``notes`` say what that leaves open."""

    fields: tuple[Mapping[str, Any], ...] = ()
    widened: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.fields or self.widened)


class Held(Exception):
    """A table cannot go on at a record, the one at ``offset``; ``under`` is what conformed it."""

    def __init__(self, problem: str, hint: str, wish: Wish | None = None) -> None:
        super().__init__(problem)
        self.problem, self.hint, self.wish = problem, hint, wish or Wish()
        self.offset = -1
        self.under: object = None

    def at(self, offset: int) -> Held:
        """Return itself, with the offset of the record that the table is held at."""
        self.offset = offset
        return self


@dataclass(frozen=True, slots=True)
class Drift:
    """What one schema of a table means for its contract.

    ``stops`` are problems with their hints. ``doubts`` name columns with what is wrong with them, ``fills`` the fields
    that no column has and their defaults. ``names`` are the columns. A wish without stops is that of a table with a
    function: it holds for those columns that the function passes on.
    """

    names: frozenset[str] = frozenset()
    stops: tuple[tuple[str, str], ...] = ()
    wish: Wish = field(default_factory=Wish)
    doubts: Mapping[str, str] = field(default_factory=dict)
    fills: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def held(self) -> Held | None:
        """Return what the table is held for, None where it goes on."""
        return Held(*self.stops[0], self.wish) if self.stops else None


def judge(contract: Contract, schemas: Sequence[Mapping[str, Any]], policy: Policy, *, function: bool) -> Drift:
    """Compare the columns of one schema, as Connect describes them, with a contract.

    ``function`` says that the user's function makes the record: then only doubts, defaults and the key are judged.
    """
    found = {schema["field"]: schema for schema in schemas}
    stops, doubts, widened = _types(contract, found, evolve=policy == "evolve")
    stops = [stop for stop in stops if not function or stop[0] in contract.key]
    fills, gone = _absent(contract, found.keys(), function=function)
    lost = () if function else fills  # of a function's fields nobody knows which were columns
    notes = [f"the column {name} is gone: its field has its default from there on" for name in lost]
    wish = Wish(widened=widened)
    said = [(f"The column {name}: {doubts[name]}.", _kept(name)) for name, _ in stops]
    said += [(f"There is no column {name}, which the contract {contract.name} needs.", _needed(contract, name))
             for name in gone]  # fmt: skip
    if not function:
        strangers = unknown(contract, found, found, policy, widened)
        said += [stop for stop in strangers.stops if stop not in said]
        wish, notes = strangers.wish, [*notes, *strangers.notes]
    if wish and not said and not function:
        said = [(f"The contract {contract.name} has to grow: {', '.join(widened)}.", _grow(contract))]
    return Drift(frozenset(found), tuple(said), wish, doubts, fills, tuple(notes))


def unknown(
    contract: Contract,
    found: Mapping[str, Mapping[str, Any]],
    names: Iterable[str],
    policy: Policy,
    widened: Mapping[str, str] = evolution.NOTHING,
) -> Drift:
    """Return what the columns ``names`` mean that the contract does not have."""
    left = set(contract.schema.get(columns.IGNORED) or ()) | contract.by_name.keys()
    strange = [name for name in names if name not in left and name in found]
    if policy == "ignore":
        return Drift(notes=tuple(f"the column {name} is not in the contract: it is left out" for name in strange))
    if policy == "stop":
        return Drift(stops=tuple(_unwanted(contract, name) for name in strange))
    read = [columns.of_connect(found[name]) for name in strange]
    able = [column for column in read if columns.fieldable(column)]
    wish = Wish(
        tuple(columns.nullable(column) for column in able),
        dict(widened),
        tuple(_before(column.name) for column in able if _valued(found[column.name])),
    )
    notes = tuple(f"the column {column.name} is left out: no contract holds {column.shown}" for column in read
                  if column not in able)  # fmt: skip
    stops = tuple(_unwanted(contract, column.name) for column in able)
    return Drift(stops=stops, wish=wish, notes=notes)


def _types(
    contract: Contract, found: Mapping[str, Mapping[str, Any]], *, evolve: bool
) -> tuple[list[tuple[str, str]], dict[str, str], dict[str, str]]:
    """Return what stops (name, why), what is doubtful (by name) and which fields are to be widened."""
    stops, doubts, widened = [], {}, {}
    for known in contract.fields:
        if known.name not in found:
            continue
        judged, why = verdict(found[known.name], known)
        if judged == "fits":
            continue
        doubts[known.name] = why
        wider = columns.wider(known, columns.of_connect(found[known.name])) if evolve else ""
        if wider:
            widened[known.name] = wider
        elif judged == "never":
            stops.append((known.name, why))
    return stops, doubts, widened


def verdict(schema: Mapping[str, Any], known: Field) -> tuple[Verdict, str]:
    """Say whether a field takes every value of a column, some and refuses the rest, or is not for them; and why."""
    column = columns.of_connect(schema)
    if not column.type or (column.type == "numeric" and not columns.bounded(schema)):
        return "fits", ""  # nothing is claimed of a type that is not known: each value is judged
    wrong = types.misfit(column, known)
    if not wrong:
        forbidden = column.nullable and not known.nullable
        return ("doubtful", "it may be NULL, which the contract forbids") if forbidden else ("fits", "")
    alike = types.kinds(column) and bool(column.item) == (known.item is not None)
    checked = alike and _checked(column.item or column.type, known.item or known)
    return ("doubtful" if checked else "never"), wrong


def _checked(kind: str, known: Field) -> bool:
    return kind in _CHECKED.get(known.kind, ()) or known.kind in types.FITS.get(kind, ())


def _absent(contract: Contract, names: Iterable[str], *, function: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the fields without column that have a default, with it, and those that have none and need one."""
    there, fills, gone = set(names), {}, []
    for entry, known in zip(contract.schema["fields"], contract.fields, strict=True):
        if known.name in there:
            continue
        if known.name in contract.key or ("default" not in entry and not function):
            gone.append(known.name)
        elif "default" in entry:
            fills[known.name] = default(known, entry["default"])
    return fills, gone


def default(known: Field, given: Any) -> Any:
    """Return a field's default, which Avro writes as JSON, as the value of a row."""
    if given is None:
        return None
    if known.item is not None:
        return [default(known.item, value) for value in given]
    if known.kind == "decimal":
        return values.unscaled(base64.b64encode(given.encode("latin-1")).decode(), known.scale)
    return _DEFAULTS[known.kind](given) if known.kind in _DEFAULTS else given


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


_DEFAULTS: dict[str, Callable[[Any], bytes | Decimal | date | time | datetime | UUID | str | float]] = {
    "bytes": lambda text: str(text).encode("latin-1"), "numeric": Decimal, "date": values.day,
    "time-micros": values.clock, "timestamp-micros": _instant, "local-timestamp-micros": values.local, "uuid": UUID,
    "float": float, "double": float,
}  # fmt: skip


def _valued(schema: Mapping[str, Any]) -> bool:
    """Say whether a column that was added gave the rows that were there a value, of which no event tells."""
    return not schema.get("optional") or schema.get("default") is not None


def _before(name: str) -> str:
    return (
        f"rows from before the column {name} was added have null there until they change, or until `tailrace snapshot` "
        "has sent them again"
    )


def _kept(name: str) -> str:
    return (
        f"A field keeps its kind: convert {name} in a conform function, which gets the old records and the new ones, "
        "and start the processor again."
    )


def _needed(contract: Contract, name: str) -> str:
    return (
        f"Give {name} a default in schemas/{contract.name}.avsc or take it out there, run `tailrace apply` and start "
        "the processor again."
    )


def _unwanted(contract: Contract, name: str) -> tuple[str, str]:
    return f"The column {name} is not in the contract {contract.name}.", _grow(contract)


def _grow(contract: Contract) -> str:
    return (
        f"`tailrace schema derive {contract.name}` adds it to schemas/{contract.name}.avsc, `tailrace apply` registers "
        f'that, and the table goes on by itself. Or name it there under "{columns.IGNORED}", apply, and start the '
        "processor again."
    )

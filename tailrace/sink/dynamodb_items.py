"""What a change becomes in DynamoDB: items, their keys and their sizes. Pure: no client, no clock of its own.

Attributes: ``pk``, ``sk``, every field of the record by name, ``_v`` (version), ``_type`` (record) and, for each index
N, ``N_pk`` and ``N_sk``, absent where the item is not in it. A delete leaves a tombstone with its version, so that an
older write cannot bring the item back. What DynamoDB would round, or refuse, is Rejected(stage=write) here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from string import Formatter
from typing import TYPE_CHECKING, Any

from tailrace.errors import ProjectError, Rejected
from tailrace.targets import DELETED_ATTRIBUTE, RECORD_ATTRIBUTE, TTL_ATTRIBUTE, VERSION_ATTRIBUTE, DynamoDBTable, Index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.change import Change
    from tailrace.contract import Contract, Field

    Attribute = Mapping[str, Any]
    Record = Mapping[str, Any]

TOMBSTONE_SECONDS = 7 * 24 * 3600
ITEM_BYTES = 400 * 1024
KEY_BYTES = {"pk": 2048, "sk": 1024}
DIGITS, SMALLEST, LARGEST = 38, -130, 125  # of a number: significant digits, exponents of its first digit
DEPTH = 32  # of lists and maps


@dataclass(frozen=True, slots=True)
class Put:
    """One guarded put; ``position`` is that of its change in the batch, ``size`` by DynamoDB's own rules."""

    place: tuple[str, str]
    version: int
    item: Mapping[str, Attribute]
    size: int
    position: int


class Renderer:
    """Makes the puts of one target."""

    def __init__(self, target: DynamoDBTable, contract: Contract) -> None:
        self._target, self._contract = target, contract
        self._columns = [(field.name, attribute_of(field)) for field in contract.fields]
        self._pk, self._sk = template(target.pk), template(target.sk)
        self._indexes = [(index, template(index.pk), template(index.sk)) for index in target.indexes]
        own = {"pk", "sk", VERSION_ATTRIBUTE, RECORD_ATTRIBUTE, DELETED_ATTRIBUTE, TTL_ATTRIBUTE}
        clash = own.intersection(field.name for field in contract.fields)
        if clash:
            raise ProjectError(
                f"The record {contract.name} has fields that DynamoDB items of Tailrace reserve.",
                detail=", ".join(sorted(clash)),
                hint="Rename them in the conform function and the contract.",
            )

    def puts(self, change: Change, position: int, now: float) -> list[Put]:
        """Return the puts of one change, a tombstone for the place it left included; Rejected when it cannot be."""
        before = self._place_before(change)
        found = [] if change.value is None else [self._live(change, change.value, position)]
        if before is not None and (not found or found[0].place != before):
            found.insert(0, self._tombstone(change, before, position, now))
        return found

    def _place_before(self, change: Change) -> tuple[str, str] | None:
        """Return where the record was, as far as the change says; None for a record that was nowhere."""
        if change.before:
            return self._place(change.before)
        if change.value is None and change.before is None:
            missing = set(self._target.key_fields) - set(self._contract.key)
            if missing:
                raise Rejected(
                    "The delete does not say under which key the item is.",
                    stage="write",
                    detail=f"the item's key needs {', '.join(sorted(missing))}, which only the row before has",
                    hint="Set REPLICA IDENTITY FULL on the table.",
                )
            return self._place(change.key)
        return None

    def _place(self, record: Record) -> tuple[str, str]:
        return key_text(self._pk, record, "pk"), key_text(self._sk, record, "sk")

    def _live(self, change: Change, value: Record, position: int) -> Put:
        place = self._place(value)
        item: dict[str, Attribute] = {**self._head(place, change)}
        for name, attribute in self._columns:
            given = value[name]
            try:
                item[name] = NULL if given is None else attribute(given)
            except Unfit as error:
                raise Rejected(f"DynamoDB cannot hold {name} as it is.", stage="write", detail=str(error)) from error
        for index, pk, sk in self._indexes:
            item.update(index_keys(index, pk, sk, value))
        if self._target.ttl and value[self._target.ttl] is not None:
            item[TTL_ATTRIBUTE] = {"N": str(seconds(value[self._target.ttl]))}
        size = item_size(item)
        if size > ITEM_BYTES:
            raise Rejected(
                "The item is larger than DynamoDB allows.", stage="write", detail=f"{size} of {ITEM_BYTES} bytes"
            )
        return Put(place, change.version, item, size, position)

    def _tombstone(self, change: Change, place: tuple[str, str], position: int, now: float) -> Put:
        item = {
            **self._head(place, change),
            DELETED_ATTRIBUTE: {"BOOL": True},
            TTL_ATTRIBUTE: {"N": str(int(now) + TOMBSTONE_SECONDS)},
        }
        return Put(place, change.version, item, item_size(item), position)

    def _head(self, place: tuple[str, str], change: Change) -> dict[str, Attribute]:
        return {
            "pk": {"S": place[0]},
            "sk": {"S": place[1]},
            VERSION_ATTRIBUTE: {"N": str(change.version)},
            RECORD_ATTRIBUTE: {"S": change.record},
        }


# Keys

Template = tuple[tuple[str, str | None], ...]


def template(text: str) -> Template:
    """Return a key template as pairs of literal text and the field that follows it."""
    return tuple((literal, name) for literal, name, _, _ in Formatter().parse(text))


def render(parts: Template, record: Record) -> str | None:
    """Return the key that a template makes of a record; None when a field of it is null."""
    found = []
    for literal, name in parts:
        found.append(literal)
        if name is not None:
            value = record[name]
            if value is None:
                return None
            found.append(key_part(value))
    return "".join(found)


def key_text(parts: Template, record: Record, attribute: str) -> str:
    """Return a key of the table itself, or raise Rejected."""
    text = render(parts, record)
    size = len((text or "").encode())
    if not text or size > KEY_BYTES[attribute]:
        names = ", ".join(name for _, name in parts if name)
        raise Rejected(
            f"The item has no valid {attribute}.",
            stage="write",
            detail=f"made of {names}: " + (f"{size} bytes" if text else "null or empty"),
        )
    return text


def index_keys(index: Index, pk: Template, sk: Template, record: Record) -> dict[str, Attribute]:
    """Return an index's attributes; none where ``when`` is not true or a part of the key is null."""
    if index.when is not None and not record[index.when]:
        return {}
    first, second = render(pk, record), render(sk, record)
    if not first or not second:
        return {}
    for text, attribute in ((first, "pk"), (second, "sk")):
        if len(text.encode()) > KEY_BYTES[attribute]:
            raise Rejected(f"The {attribute} of the index {index.name} is too long.", stage="write")
    return {f"{index.name}_pk": {"S": first}, f"{index.name}_sk": {"S": second}}


def key_part(value: Any) -> str:
    """Return a value as part of a key; texts with ``%`` and ``#`` percent-encoded."""
    if isinstance(value, str):
        return value.replace("%", "%25").replace("#", "%23")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# Values


class Unfit(ValueError):
    """A value that DynamoDB would change or refuse; says why without showing it."""


NULL: Attribute = {"NULL": True}


def number(value: Decimal | float) -> Attribute:
    """Return an exact number, or raise Unfit."""
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact.is_finite():
        raise Unfit("NaN and infinity are not numbers there")
    if len(significant(exact)) > DIGITS:
        raise Unfit(f"more than {DIGITS} digits")
    if exact and not SMALLEST <= exact.adjusted() <= LARGEST:
        raise Unfit("outside the range of its numbers")
    return {"N": str(exact)}


def significant(value: Decimal) -> str:
    """Return the digits of a number without leading and trailing zeros."""
    return "".join(map(str, value.as_tuple().digits)).strip("0")


def instant(value: datetime) -> str:
    """Return a timestamp with six digits: with Z when it is in UTC, without when it is local."""
    if value.tzinfo is None:
        return value.isoformat(timespec="microseconds")
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def document(text: str) -> Attribute:
    """Return JSON text as maps and lists, its numbers exact."""
    try:
        return native(json.loads(text, parse_float=Decimal), 1)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit("not JSON") from error


def native(value: Any, depth: int) -> Attribute:
    """Return a parsed JSON value as an attribute."""
    if depth > DEPTH:
        raise Unfit(f"nested deeper than {DEPTH} levels")
    if value is None:
        return NULL
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list):
        return {"L": [native(item, depth + 1) for item in value]}
    if isinstance(value, dict):
        return {"M": {name: native(item, depth + 1) for name, item in value.items()}}
    return number(value)


def seconds(value: date) -> int:
    """Return a timestamp, or midnight of a date, in whole seconds since 1970 UTC."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def attribute_of(field: Field) -> Callable[[Any], Attribute]:
    """Return what turns a value of a field into its attribute; an array is a list, a null inside it NULL."""
    if field.item is None:
        return ATTRIBUTES[field.kind]
    element = ATTRIBUTES[field.item.kind]
    return lambda values: {"L": [NULL if value is None else element(value) for value in values]}


ATTRIBUTES: dict[str, Callable[[Any], Attribute]] = {
    "boolean": lambda value: {"BOOL": value}, "int": lambda value: {"N": str(value)},
    "long": lambda value: {"N": str(value)}, "float": number, "double": number, "decimal": number, "numeric": number,
    "string": lambda value: {"S": value}, "json": document, "bytes": lambda value: {"B": value},
    "date": lambda value: {"S": value.isoformat()}, "time-micros": lambda value: {"S": value.isoformat()},
    "timestamp-micros": lambda value: {"S": instant(value)},
    "local-timestamp-micros": lambda value: {"S": instant(value)}, "uuid": lambda value: {"S": str(value)},
}  # fmt: skip


# Sizes, by the rules in DynamoDB's documentation of item sizes


def item_size(item: Mapping[str, Attribute]) -> int:
    """Return the bytes that an item counts."""
    return sum(len(name.encode()) + attribute_size(value) for name, value in item.items())


def attribute_size(attribute: Attribute) -> int:
    """Return the bytes that a value counts."""
    ((kind, value),) = attribute.items()
    if kind == "S":
        return len(value.encode())
    if kind == "N":
        return len(significant(Decimal(value))) // 2 + 2 + int(value.startswith("-"))
    if kind == "B":
        return len(value)
    if kind == "L":
        return 3 + sum(1 + attribute_size(item) for item in value)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + attribute_size(item) for name, item in value.items())
    return 1  # BOOL, NULL

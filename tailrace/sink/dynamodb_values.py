"""Values of DynamoDB attributes, and the bytes they count. Pure.

Numbers are exact or Unfit, never rounded; JSON is maps and lists; text and bytes may be empty. Sizes follow
DynamoDB's documentation ("Item sizes and formats"), where it is vague the answers of DynamoDB Local, which the contract
tests ask again: a number's digits are paired from its decimal point, a set has no overhead.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.contract import Field

    Attribute = Mapping[str, Any]

DIGITS, SMALLEST, LARGEST = 38, -130, 125  # of a number: significant digits, exponents of its first digit
DEPTH = 31  # of lists and maps in an attribute: the item is the first of DynamoDB's 32 levels


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
    if value.tzinfo is UTC:
        return value.isoformat(timespec="microseconds")[:-6] + "Z"
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def document(text: str) -> Attribute:
    """Return JSON text as maps and lists, its numbers exact."""
    try:
        return native(json.loads(text, parse_float=Decimal, object_pairs_hook=_map), 1)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit("not JSON") from error


def _map(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a parsed object; one that has a name twice, which json allows, would lose a value."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Unfit("JSON with a name twice in one object")
    return made


def native(value: Any, depth: int) -> Attribute:
    """Return a parsed JSON value as an attribute."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list | dict) and depth > DEPTH:
        raise Unfit(f"nested deeper than {DEPTH} levels")
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


NO_SET = ("boolean", "json")  # kinds of which DynamoDB has no sets


def set_of(field: Field) -> Callable[[Any], Attribute | None]:
    """Return what turns an array into a set; None, so no attribute at all, for an empty one: DynamoDB has none."""
    assert field.item is not None
    element = ATTRIBUTES[field.item.kind]

    def made(values: Sequence[Any]) -> Attribute | None:
        if None in values:
            raise Unfit("a set has no place for null")
        entries = [pair for value in values for pair in element(value).items()]
        if len({Decimal(entry) if kind == "N" else entry for kind, entry in entries}) < len(entries):
            raise Unfit("a set has each value once")
        return {entries[0][0] + "S": [entry for _, entry in entries]} if entries else None

    return made


ATTRIBUTES: dict[str, Callable[[Any], Attribute]] = {
    "boolean": lambda value: {"BOOL": value}, "int": lambda value: {"N": str(value)},
    "long": lambda value: {"N": str(value)}, "float": number, "double": number, "decimal": number, "numeric": number,
    "string": lambda value: {"S": value}, "json": document, "bytes": lambda value: {"B": value},
    "date": lambda value: {"S": value.isoformat()}, "time-micros": lambda value: {"S": value.isoformat()},
    "timestamp-micros": lambda value: {"S": instant(value)},
    "local-timestamp-micros": lambda value: {"S": instant(value)}, "uuid": lambda value: {"S": str(value)},
}  # fmt: skip


def item_size(item: Mapping[str, Attribute]) -> int:
    """Return the bytes that an item counts."""
    return sum(len(name.encode()) + attribute_size(value) for name, value in item.items())


def item_bound(item: Mapping[str, Attribute]) -> int:
    """Return a number of bytes that an item does not exceed, in a fifth of the time."""
    bound = 0
    for name, attribute in item.items():
        bound += len(name.encode())
        for kind, value in attribute.items():
            if kind == "S":
                bound += len(value.encode())
            elif kind == "N":
                bound += len(value) // 2 + 3
            else:
                bound += 1 if kind in ("BOOL", "NULL") else attribute_size(attribute)
    return bound


def attribute_size(attribute: Attribute) -> int:
    """Return the bytes that a value counts."""
    ((kind, value),) = attribute.items()
    if kind in ("S", "B"):
        return len(value.encode() if kind == "S" else value)
    if kind == "N":
        return number_size(Decimal(value))
    if kind == "L":
        return 3 + sum(1 + attribute_size(item) for item in value)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + attribute_size(item) for name, item in value.items())
    if kind in ("SS", "NS", "BS"):
        return sum(attribute_size({kind[0]: item}) for item in value)
    return 1  # BOOL, NULL


def number_size(value: Decimal) -> int:
    """Return the bytes of a number: one for two digits, paired from the decimal point, one more, one for a minus."""
    if not value:
        return 1
    sign, digits, exponent = value.as_tuple()
    lowest = int(exponent) + len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return value.adjusted() // 2 - lowest // 2 + 2 + sign

"""DynamoDB's values as ``verify`` compares them: text with its type before it, so that "1" is not the number 1.

Numbers are compared by value, because DynamoDB keeps no trailing zeros; sets whatever their order. Pure; it shares
nothing with what writes.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tailrace.control.verify.expected import Unfit, parsed_json, plain, text
from tailrace.targets import template_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.contract import Field

DIGITS, SMALLEST, LARGEST = 38, -130, 125  # significant digits, exponents of the first one
DEPTH = 31  # of lists and maps


def tagged(value: Mapping[str, Any]) -> str:
    """Return an attribute value with its type, equal exactly where DynamoDB's values are equal."""
    [(kind, content)] = value.items()
    if kind == "N":
        return "N:" + plain(Decimal(content))
    if kind == "B":
        return "B:" + bytes(content).hex()
    if kind in ("SS", "NS", "BS"):
        return f"{kind}:" + repr(sorted(tagged({kind[0]: entry}) for entry in content))
    if kind == "L":
        return "L:" + repr([tagged(entry) for entry in content])
    if kind == "M":
        return "M:" + repr(sorted((name, tagged(entry)) for name, entry in content.items()))
    return kind if kind == "NULL" else f"{kind}:{content}"


def attribute(field: Field, value: Any) -> str:
    """Return the value of a field as its attribute has to be, with its type, or raise Unfit."""
    if value is None:
        return "NULL"
    if field.item:
        return "L:" + repr([attribute(field.item, entry) for entry in value])
    return _scalar(field.kind, field.name, value)


def set_of(field: Field, value: Any) -> str:
    """Return an array as a set; an empty one, which is no attribute, as null where null may be no attribute either."""
    if not value:
        return "NULL"
    assert field.item is not None
    entries = [attribute(field.item, entry) for entry in value]
    if "NULL" in entries or len(set(entries)) < len(entries):
        raise Unfit(f"{field.name} is no set: a null or a repeated value is in it")
    return f"{entries[0][0]}S:" + repr(sorted(entries))


def _scalar(kind: str, name: str, value: Any) -> str:
    if kind == "boolean":
        return f"BOOL:{value}"
    if kind in ("int", "long", "float", "double", "decimal", "numeric"):
        return _number(name, value)
    if kind == "json":
        return json_of(name, value)
    if kind == "bytes":
        return f"B:{value.hex()}"
    return "S:" + text(value)


def json_of(name: str, value: str) -> str:
    """Return JSON text as maps and lists, with their types."""
    return tagged(_native(name, parsed_json(name, value)))


def _number(name: str, value: Any) -> str:
    if isinstance(value, int) and abs(value) < 10**DIGITS:
        return f"N:{value}"
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite() or (number and not SMALLEST <= number.adjusted() <= LARGEST):
        raise Unfit(f"{name} is no number that DynamoDB can hold")
    shown = plain(number)
    if len(shown.lstrip("-").replace(".", "").strip("0")) > DIGITS:
        raise Unfit(f"{name} has more than {DIGITS} digits, which DynamoDB cannot hold")
    return "N:" + shown


def _native(name: str, value: Any, depth: int = 1) -> dict[str, Any]:
    """Return parsed JSON as a DynamoDB attribute value."""
    if isinstance(value, list | dict) and depth > DEPTH:
        raise Unfit(f"{name} is nested deeper than DynamoDB allows")
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list):
        return {"L": [_native(name, entry, depth + 1) for entry in value]}
    if isinstance(value, dict):
        return {"M": {key: _native(name, entry, depth + 1) for key, entry in value.items()}}
    return {"N": _number(name, value).removeprefix("N:")}


def render(template: str, record: Mapping[str, Any]) -> str:
    """Fill a key template, ``%`` and ``#`` in values percent-encoded; empty when a value in it is null."""
    names = _names(template)
    if any(record[name] is None for name in names):
        return ""
    return template.format(**{name: _part(record[name]) for name in names})


_names = lru_cache(template_fields)


def _part(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else text(value).replace("%", "%25").replace("#", "%23")


def seconds(value: date) -> int:
    """Return a timestamp, or midnight of a date, in whole seconds since 1970 UTC."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

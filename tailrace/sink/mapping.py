"""What a record is in OpenSearch: index settings and mapping of a contract, the id and the document of a record.

The mapping is explicit and strict. Exact numbers travel as JSON strings and JSON text travels as it is, so that
``_source`` keeps every digit; times have six digits. A value that JSON or the index cannot hold (a NaN, a JSON array
where an object is indexed) is rejected, never changed. It opens no connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from tailrace.errors import Refused, Rejected
from tailrace.targets import DELETED_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.contract import Contract, Field
    from tailrace.targets import SearchIndex

LONGEST_KEYWORD = 8191  # characters; Lucene takes 32,766 bytes and UTF-8 needs at most 4 a character
LONGEST_ID = 512  # bytes
HASHED = "sha256:"
EXACT_IN_DOUBLE = 15  # decimal digits that a double holds
DATE_FORMAT = "strict_date_optional_time"
MAPPING = {  # int and float get the wider type at once: a field's type cannot be changed, a contract's can grow
    "boolean": {"type": "boolean"}, "int": {"type": "long"}, "long": {"type": "long"}, "float": {"type": "double"},
    "double": {"type": "double"}, "bytes": {"type": "binary"}, "json": {"type": "flat_object"},
    "date": {"type": "date", "format": DATE_FORMAT}, "timestamp-micros": {"type": "date", "format": DATE_FORMAT},
    "local-timestamp-micros": {"type": "date", "format": DATE_FORMAT},
}  # fmt: skip

NARROWER = {"int": "integer", "float": "float"}  # as they were mapped once


def index_name(target: SearchIndex) -> str:
    """Return the name of the index behind the alias."""
    return f"{target.alias}-000001"


def index_body(target: SearchIndex, contract: Contract) -> dict[str, Any]:
    """Return the body of ``PUT /<index_name>``: settings, mapping and the alias, which hides delete markers."""
    properties = {
        field.name: field_mapping(field, text=field.name in target.text) for field in fields(target, contract)
    }
    hidden = {"bool": {"must_not": {"term": {DELETED_FIELD: True}}}}
    return {
        "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "1s"}},
        "mappings": {"dynamic": "strict", "properties": {**properties, DELETED_FIELD: {"type": "boolean"}}},
        "aliases": {target.alias: {"filter": hidden, "is_write_index": True}},
    }


def missing(target: SearchIndex, contract: Contract, there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a mapping lacks for a contract; Refused when one is there with another type.

    What a field of the same type has besides is for ``tailrace plan`` to compare.
    """
    wanted = index_body(target, contract)["mappings"]["properties"]
    narrow = narrower(contract)
    kept = {name: there[name].get("type") for name in wanted if name in there}
    kept = {name: kind for name, kind in kept.items() if kind != narrow.get(name)}
    wrong = [f"{name} is {kind} instead of {wanted[name]['type']}" for name, kind in kept.items()
             if kind != wanted[name]["type"]]  # fmt: skip
    if wrong:
        raise Refused(
            f"The index behind {target.alias} cannot follow the contract {contract.name}.",
            detail=f"{', '.join(wrong)}: the type of a field cannot be changed in place.",
            hint="Name another alias in sinks/, then `tailrace apply` and `tailrace replay`.",
        )
    return {name: shape for name, shape in wanted.items() if name not in there}


def narrower(contract: Contract) -> dict[str, str]:
    """Return the narrower type that a field of an older index may have, by name: all that its kind needs."""
    kinds = {field.name: (field.item or field).kind for field in contract.fields}
    return {name: NARROWER[kind] for name, kind in kinds.items() if kind in NARROWER}


def fields(target: SearchIndex, contract: Contract) -> tuple[Field, ...]:
    """Return the fields that a document holds: the key, and those the target names, in the contract's order."""
    wanted = {*(target.fields or contract.by_name), *contract.key}
    return tuple(field for field in contract.fields if field.name in wanted)


def field_mapping(field: Field, *, text: bool = False) -> dict[str, Any]:
    """Return the mapping of one field; ``text`` makes it searchable by words, exact under ``.keyword``.

    An array is a field like its elements: OpenSearch has no other.
    """
    if field.item is not None:
        return field_mapping(field.item, text=text)
    if field.kind == "decimal" and field.precision <= EXACT_IN_DOUBLE:
        return {"type": "scaled_float", "scaling_factor": 10**field.scale}
    if field.kind in MAPPING:
        return dict(MAPPING[field.kind])
    keyword = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
    return {"type": "text", "fields": {"keyword": keyword}} if text else keyword


def document_id(contract: Contract, key: Mapping[str, Any]) -> str:
    """Return the id of a record's document: the key's text, the parts of a composite key joined by ``|``.

    What is too long for an id, or empty, or looks like what stands for it, is its hash.
    """
    if len(contract.key) == 1:
        identity = key_text(key[contract.key[0]])
    else:
        parts = (key_text(key[name]) for name in contract.key)
        identity = "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)
    short = len(identity) * 4 <= LONGEST_ID or len(identity.encode()) <= LONGEST_ID
    if short and identity and not identity.startswith(HASHED):
        return identity
    return f"{HASHED}{hashlib.sha256(identity.encode()).hexdigest()}"


def key_text(value: Any) -> str:
    """Return one key column as text: strings as they are, everything else as the document shows it."""
    render = KEY_TEXT.get(type(value))
    return render(value) if render else str(value)


class Renderer:
    """Documents of one target, as JSON bytes on one line."""

    def __init__(self, target: SearchIndex, contract: Contract) -> None:
        self._renders = tuple((field.name, render_of(field)) for field in fields(target, contract))

    def document(self, value: Mapping[str, Any]) -> bytes:
        """Return the document of a record, or raise Rejected naming the field that does not fit."""
        shown: dict[str, Any] = {}
        name = ""
        try:
            for name, render in self._renders:
                given = value[name]
                shown[name] = given if render is None or given is None else render(given)
            return orjson.dumps(shown, option=orjson.OPT_UTC_Z)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Rejected(
                f"The value of {name or 'a field'} does not fit the search index.",
                stage="write",
                detail=str(error) if isinstance(error, _Unfit) else type(error).__name__,
            ) from error


class _Unfit(ValueError):
    """A value that the index cannot hold; its text says why and holds no value."""


def _digits(value: Decimal) -> str:
    return format(value, "f")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _Unfit("not a finite number")
    return value


def _finite_digits(value: Decimal) -> str:
    if not value.is_finite():
        raise _Unfit("not a finite number")
    return format(value, "f")


def _instant(value: datetime) -> datetime | str:
    """Return an instant as itself where orjson shows six digits and Z, else as that text."""
    if value.tzinfo is None:
        raise _Unfit("an instant without a time zone")
    return value if value.microsecond and value.tzinfo is UTC else _instant_text(value)


def _local(value: datetime) -> datetime | str:
    if value.tzinfo is not None:
        raise _Unfit("a local time with a time zone")
    return value if value.microsecond else value.isoformat(timespec="microseconds")


def _instant_text(value: datetime) -> str:
    return f"{value.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"  # without +00:00


def _time_text(value: datetime) -> str:
    return value.isoformat(timespec="microseconds") if value.tzinfo is None else _instant_text(value)


def _clock(value: time) -> str:
    return value.isoformat()  # orjson 3.13 drops the zero of .099999


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _object(text: str) -> orjson.Fragment:
    """Return JSON text to be embedded as it is: line breaks stand only between its tokens, and would end the line."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise _Unfit("JSON that is not an object")
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))


def render_of(field: Field) -> Callable[[Any], Any] | None:
    """Return what a field's values travel as, None where orjson shows them as they are."""
    if field.item is None:
        return RENDER.get(field.kind)
    element = RENDER.get(field.item.kind)
    return element and (lambda values: [None if value is None else element(value) for value in values])


# By kind; kinds that are missing here travel as orjson shows them.
RENDER: dict[str, Callable[[Any], Any]] = {
    "float": _finite, "double": _finite, "json": _object, "bytes": _base64, "decimal": _finite_digits,
    "numeric": _digits, "time-micros": _clock, "timestamp-micros": _instant, "local-timestamp-micros": _local,
}  # fmt: skip
# By type; everything else as ``str`` shows it, dates and times in ISO 8601.
KEY_TEXT: dict[type, Callable[[Any], str]] = {
    str: str, bool: json.dumps, float: json.dumps, bytes: _base64, datetime: _time_text, Decimal: _digits,
}  # fmt: skip

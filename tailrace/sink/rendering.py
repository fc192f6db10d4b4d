"""How a record's values travel to OpenSearch, kind by kind, as orjson is to write them.

Exact numbers become JSON strings and JSON text stays as it is, so that ``_source`` keeps every digit; times have six
digits, places are well-known text. What JSON or the index cannot hold is Unfit, never changed.
"""

from __future__ import annotations

import base64
import json
import math
import re
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.contract import Field

POINT = re.compile(r"\(([-+.0-9e]+),([-+.0-9e]+)\)")  # as Postgres writes one


class Unfit(ValueError):
    """A value that the index cannot hold; its text says why and holds no value."""


def _digits(value: Decimal) -> str:
    return format(value, "f")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Unfit("not a finite number")
    return value


def _finite_digits(value: Decimal) -> str:
    shown = str(value)  # the same digits as ``format``, in half the time, where there is no exponent
    if "E" not in shown and "N" not in shown and "I" not in shown:
        return shown
    if not value.is_finite():
        raise Unfit("not a finite number")
    return format(value, "f")


def _instant(value: datetime) -> datetime | str:
    """Return an instant as itself where orjson shows six digits and Z, else as that text."""
    if value.tzinfo is None:
        raise Unfit("an instant without a time zone")
    return value if value.microsecond and value.tzinfo is UTC else _instant_text(value)


def _local(value: datetime) -> datetime | str:
    if value.tzinfo is not None:
        raise Unfit("a local time with a time zone")
    return value if value.microsecond else value.isoformat(timespec="microseconds")


def _instant_text(value: datetime) -> str:
    return f"{value.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"  # without +00:00


def _time_text(value: datetime) -> str:
    return value.isoformat(timespec="microseconds") if value.tzinfo is None else _instant_text(value)


def _clock(value: time) -> str:
    return value.isoformat()  # orjson 3.13 drops the zero of .099999


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def json_object(text: str) -> orjson.Fragment:
    """Return JSON text to be embedded as it is: line breaks stand only between its tokens, and would end the line."""
    if not text.lstrip(" \t\r\n").startswith("{"):
        raise Unfit("JSON that is not an object")
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))


def objects(text: str) -> orjson.Fragment:
    """Return the JSON text of an array of objects, or of one."""
    parsed = orjson.loads(text) if text.lstrip(" \t\r\n").startswith("[") else {}
    if isinstance(parsed, list) and all(isinstance(each, dict) for each in parsed):
        return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))
    return json_object(text)


def point_text(lon: Any, lat: Any) -> str:
    """Return a place as well-known text, longitude first, every digit kept."""
    shown = (_digits(value) if isinstance(value, Decimal) else str(value) for value in (lon, lat))
    return f"POINT ({' '.join(shown)})"


def map_point(text: str) -> str:
    """Return a point of Postgres as a place on the map: its x is the longitude."""
    found = POINT.fullmatch(text)
    if found is None:
        raise Unfit("not a point")
    return point_text(*found.groups())


def render_of(field: Field) -> Callable[[Any], Any] | None:
    """Return what a field's values travel as, None where orjson shows them as they are."""
    if field.item is None:
        return RENDER.get(field.kind)
    element = RENDER.get(field.item.kind)
    return element and (lambda values: [None if value is None else element(value) for value in values])


# By kind; kinds that are missing here travel as orjson shows them.
RENDER: dict[str, Callable[[Any], Any]] = {
    "float": _finite, "double": _finite, "json": json_object, "bytes": _base64, "decimal": _finite_digits,
    "numeric": _digits, "time-micros": _clock, "timestamp-micros": _instant, "local-timestamp-micros": _local,
}  # fmt: skip
# By type; everything else as ``str`` shows it, dates and times in ISO 8601.
KEY_TEXT: dict[type, Callable[[Any], str]] = {
    str: str, bool: json.dumps, float: json.dumps, bytes: _base64, datetime: _time_text, Decimal: _digits,
}  # fmt: skip

"""Postgres's own text as Python values: what ``verify`` takes as the truth, column by column.

The session writes ISO dates, times in UTC and ISO 8601 intervals (``SESSION``). A date or time that Python cannot hold
(infinity, BC, year 10000, 24:00:00) stays its text, as a row of the pipeline has it. Arrays are taken apart here, not
by the driver. Casts are stated for every type, so that no driver default decides.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tailrace.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailrace.source.catalogue import Column

    Read = Callable[[str], Any]

SESSION = (
    "SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET bytea_output = 'hex'; SET intervalstyle = 'iso_8601';"
    " SET extra_float_digits = 1"
)
_CAST = {"hstore": "::jsonb::text", "money": "::numeric", "interval": "::text", "timetz": "::text"}
_DAY_SECONDS = 86_400


def expression(column: Column, name: str) -> str:
    """Return the SQL that reads a column; ``name`` is it as quoted."""
    return name + ("::text" if column.item or column.sort == "r" else _CAST.get(column.type, ""))


def reader(column: Column) -> Read | None:
    """Return what turns a selected text into the value, None where the driver's casts have done so."""
    if column.item:
        element = TEXTS.get(column.item, str)
        return lambda shown: elements(shown, element)
    if column.type == "bit" and column.modifier == 1:
        return lambda shown: shown == "1"
    return _READERS.get(column.type)


def elements(shown: str, read: Read) -> list[Any]:
    """Return the values in an array's text, nested lists for several dimensions; its lower bounds are not kept."""
    text = shown.partition("=")[2] if shown.startswith("[") else shown
    if not text.startswith("{"):
        raise Fatal("An array's text does not begin with a brace.")
    stack: list[list[Any]] = [[]]
    for quoted, piece in _tokens(text):
        if piece == "{" and not quoted:
            stack.append([])
        elif piece == "}" and not quoted:
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(None if piece == "NULL" and not quoted else read(piece))
    found: list[Any] = stack[0][0]
    return found


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """Yield braces and elements, each with whether it stood in quotes."""
    place = 0
    while place < len(text):
        mark = text[place]
        if mark == '"':
            place, piece = _quoted(text, place + 1)
            yield True, piece
        elif mark in "{}":
            place += 1
            yield False, mark
        elif mark == ",":
            place += 1
        else:
            end = min(found for found in (text.find(",", place), text.find("}", place)) if found >= 0)
            yield False, text[place:end]
            place = end


def _quoted(text: str, place: int) -> tuple[int, str]:
    parts = []
    while text[place] != '"':
        place += text[place] == "\\"
        parts.append(text[place])
        place += 1
    return place + 1, "".join(parts)


def _far(shown: str) -> bool:
    """Say whether a date has no place in Python's calendar."""
    return shown.endswith(("BC", "infinity")) or shown[4:5] != "-"


def day(shown: str) -> date | str:
    """Return a date."""
    return shown if _far(shown) else date.fromisoformat(shown)


def local(shown: str) -> datetime | str:
    """Return a timestamp without time zone."""
    return shown if _far(shown) else datetime.fromisoformat(shown)


def instant(shown: str) -> datetime | str:
    """Return a timestamp with time zone, in UTC."""
    return shown if _far(shown) else datetime.fromisoformat(shown).astimezone(UTC)


def clock(shown: str) -> time | str:
    """Return a time of day."""
    return shown if shown.startswith("24") else time.fromisoformat(shown)


def zoned_clock(shown: str) -> str:
    """Return a time with time zone as the source sends it: the same moment of the day in UTC."""
    sign = max(shown.rfind("+"), shown.rfind("-"))
    hours, minutes, seconds = (int(part) for part in (shown[sign + 1 :] + ":0:0").split(":")[:3])
    offset = (hours * 3600 + minutes * 60 + seconds) * (1 if shown[sign] == "+" else -1)
    if not offset:
        return shown
    whole, point, fraction = shown[:sign].partition(".")
    hour, minute, second = (int(part) for part in whole.split(":"))
    moved = (hour * 3600 + minute * 60 + second - offset) % _DAY_SECONDS
    return f"{moved // 3600:02}:{moved // 60 % 60:02}:{moved % 60:02}{point}{fraction}+00"


def binary(shown: str) -> bytes:
    """Return the bytes of a bytea."""
    return bytes.fromhex(shown.removeprefix("\\x"))


def vector(shown: str) -> list[float]:
    """Return the numbers of a vector of pgvector."""
    return [float(part) for part in json.loads(shown)]


def shape(shown: str) -> str:
    """Return a geometry's text with each double in its shortest digits: Postgres may write one digit more."""
    return _DOUBLE.sub(lambda found: _shortest(float(found.group())), shown)


def _shortest(number: float) -> str:
    text = repr(number).removesuffix(".0")
    if "e" in text or abs(number) < _SCIENTIFIC:
        return text
    _, digits, exponent = Decimal(text).normalize().as_tuple()
    first, *rest = map(str, digits)
    point = "." if rest else ""
    return f"{'-' if number < 0 else ''}{first}{point}{''.join(rest)}e+{len(rest) + int(exponent):02}"


_SCIENTIFIC = 1e15  # from here on Postgres writes an exponent
_DOUBLE = re.compile(r"-?\d[\d.]*(?:e[+-]\d+)?")
_SHAPES = ("point", "line", "lseg", "box", "path", "circle")
_READERS: dict[str, Read] = {
    "timetz": zoned_clock, "vector": vector, "halfvec": vector, **dict.fromkeys(_SHAPES, shape),
}  # fmt: skip
# Base type -> what its text is, also inside an array; other types stay text.
TEXTS: dict[str, Read] = {
    "bool": lambda shown: shown == "t", "int2": int, "int4": int, "int8": int, "oid": int, "float4": float,
    "float8": float, "numeric": Decimal, "date": day, "time": clock, "timestamp": local, "timestamptz": instant,
    "timetz": zoned_clock, "uuid": UUID, "bytea": binary,
}  # fmt: skip
# What the driver casts for whole columns: type numbers of Postgres, a name, the cast.
CASTS: tuple[tuple[tuple[int, ...], str, Read], ...] = (
    ((114, 3802), "json", str), ((1700,), "numeric", Decimal), ((1082,), "date", day), ((1083,), "time", clock),
    ((1114,), "timestamp", local), ((1184,), "timestamptz", instant), ((2950,), "uuid", UUID), ((17,), "bytea", binary),
)  # fmt: skip

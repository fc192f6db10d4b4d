"""Debezium's stand-in for a TOAST value that an update left unchanged: what it looks like in each type of column.

The stand-in is a text of the connector's choice (``unavailable.value.placeholder``). Ours begins with a zero byte,
which no text of Postgres can hold, so that no user's text equals it; the rest is random, for bytea and integer arrays.
It decides by a column's schema alone; whether an event can hold a stand-in at all is the envelope's business.
Types whose unchanged value arrives as NULL (tailrace.source.types.bare_null) have no stand-in: nothing to find here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tailrace.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTING = "unavailable.value.placeholder"
DEFAULT = "__debezium_unavailable_value"
HEX = "hex:"
LEAST_RANDOM = 16  # letters behind the zero byte that a setting must have to be ours
_IN_ROW = frozenset(
    f"io.debezium.{name}" for name in ("data.Uuid", "data.Enum", "data.Bits", "time.ZonedTimestamp", "time.ZonedTime")
) | {"org.apache.kafka.connect.data.Decimal"}  # never stored out of line, or NULL when unchanged
_UUID = "io.debezium.data.Uuid"
_INTEGERS = frozenset({"int8", "int16", "int32", "int64"})


class Placeholder:
    """One connector's stand-in. ``traces`` are bytes of which every message that holds one has at least one."""

    def __init__(self, setting: str = DEFAULT) -> None:
        data = _bytes(setting)
        self._text = data.decode()
        self._base64 = base64.b64encode(data).decode()
        self._codes = list(data)
        self._uuid = str(UUID(bytes=hashlib.md5(data, usedforsecurity=False).digest(), version=3))
        quoted = json.dumps({self._text: self._text})
        raw = f'{{"{self._text}":"{self._text}"}}'
        self._hstore = (quoted, quoted.replace(": ", ":"), raw, raw.replace(":", ": ", 1))
        codes = ",".join(str(code) for code in self._codes[:6])
        texts = (self._text.strip("\0"), self._base64, codes, self._uuid)
        self.traces = tuple(text.encode() for text in texts)

    def forms(self, schema: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what stands for an unchanged value of a column with this Connect schema; nothing where none can."""
        kind, name = schema["type"], schema.get("name")
        if name in _IN_ROW:
            return ()
        if kind == "string":
            return (self._text, *self._hstore)
        if kind == "bytes":
            return (self._base64,)
        if kind == "map":
            return ({self._text: self._text},)
        return self._listed(schema["items"]) if kind == "array" else ()

    def every(self) -> tuple[Any, ...]:
        """Return every form, for columns whose schema is not known."""
        listed = ([self._text], [self._base64], self._codes, [self._uuid])
        return (self._text, *self._hstore, self._base64, *listed, {self._text: self._text})

    def _listed(self, items: Mapping[str, Any]) -> tuple[Any, ...]:
        if items.get("name") == _UUID:
            return ([self._uuid],)
        if items["type"] in _INTEGERS:
            return (self._codes,)
        return {"string": ([self._text],), "bytes": ([self._base64],)}.get(items["type"], ())


def of(config: Mapping[str, str]) -> Placeholder:
    """Return the placeholder that a connector's config sets, or raise ProjectError."""
    setting = config.get(SETTING, DEFAULT)
    try:
        return Placeholder(setting)
    except ValueError as error:
        raise ProjectError(
            f"The connector's {SETTING} is no text.",
            detail=type(error).__name__,
            hint=f"{HEX} is followed by the text's bytes, two hexadecimal digits each.",
        ) from error


def certain(setting: str) -> bool:
    """Say whether no text of a user can equal a setting, and its bytes only by being copied from it."""
    try:
        data = _bytes(setting)
    except ValueError:
        return False
    return data[:1] == b"\0" and data[1:].isalnum() and len(data) > LEAST_RANDOM


def fresh(letters: str) -> str:
    """Return a setting for a new connector from random letters and digits."""
    return HEX + (b"\0" + letters.encode()).hex()


def label(name: str, schema: Mapping[str, Any], *, numeric: bool) -> str:
    """Return a column's name with what its JSON looks like: a value kept under another label is not its own."""
    items = schema.get("items") or {}
    parts = [schema["type"], schema.get("name"), items.get("type"), items.get("name"), "numeric" if numeric else None]
    return " ".join([name, *(part for part in parts if part)])


def _bytes(setting: str) -> bytes:
    data = bytes.fromhex(setting[len(HEX) :]) if setting.startswith(HEX) else setting.encode()
    if not data.decode().isascii() or not data.strip(b"\0"):
        raise ValueError("not ASCII")
    return data

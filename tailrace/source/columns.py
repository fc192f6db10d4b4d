"""Columns as messages describe them: the Connect schema of one column becomes the catalogue's picture of it.

The connector names each column's Postgres type (``column.propagate.source.type``). Where it names one that is not
known here, a domain's for instance, the type is taken from what the value looks like; text says too little for that,
so such a column has the type "", of which nothing is claimed. What the value looks like is also believed where the two
contradict each other: the connector asks the catalogue for the name, and the table may have changed again by then. What
a column becomes in a contract is decided here for `tailrace schema derive` and for the processor alike.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tailrace import evolution
from tailrace.source import types
from tailrace.source.catalogue import Column
from tailrace.source.values import SOURCE_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.contract import Field

IGNORED = "ignore"  # a contract's own list, beside "key", of columns that it does not want
SOURCE_LENGTH, SOURCE_SCALE = "__debezium.source.column.length", "__debezium.source.column.scale"
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ENUM = "io.debezium.data.Enum"
MOST_DIGITS = 1000  # of a declared numeric(p,s); the connector gives unbounded ones 0 or 131089
_ALIASES = {
    "smallserial": "int2", "serial": "int4", "bigserial": "int8", "serial2": "int2", "serial4": "int4",
    "serial8": "int8", "decimal": "numeric",
}  # fmt: skip
_BY_NAME = {
    "io.debezium.time.Date": "date", "io.debezium.time.Time": "time", "io.debezium.time.MicroTime": "time",
    "io.debezium.time.Timestamp": "timestamp", "io.debezium.time.MicroTimestamp": "timestamp",
    "io.debezium.time.ZonedTimestamp": "timestamptz", "io.debezium.time.ZonedTime": "timetz",
    "io.debezium.time.Interval": "interval", "io.debezium.data.Uuid": "uuid", "io.debezium.data.Json": "jsonb",
    "io.debezium.data.Xml": "xml", "io.debezium.data.Bits": "bit", "io.debezium.data.Ltree": "ltree",
}  # fmt: skip
_BY_TYPE = {
    "boolean": "bool", "int16": "int2", "int32": "int4", "int64": "int8", "float": "float4", "double": "float8",
    "bytes": "bytea",
}  # fmt: skip
# What may stand behind a value that looks like a type; text is of many types, but never of these.
_ALIKE = {
    "bool": {"bit"}, "int8": {"oid"}, "float8": {"numeric", "money"}, "jsonb": {"json", "hstore"},
}  # fmt: skip
_NO_TEXT = {
    "bool", "int2", "int4", "int8", "oid", "float4", "float8", "bytea", "date", "time", "timestamp", "timestamptz",
    "uuid", "bit",
}  # fmt: skip
_UNBOUNDED = {0, 131089}


def of_connect(schema: Mapping[str, Any]) -> Column:
    """Return the column that a Connect schema describes."""
    parameters = schema.get("parameters") or {}
    said = str(parameters.get(SOURCE_TYPE, "")).lower()
    optional = bool(schema.get("optional"))
    if schema["type"] == "array" and said not in types.VECTORS:
        items = schema["items"]
        item = _type(said.removeprefix("_"), items)
        modifier, sort = _modifier(item, parameters), "e" if items.get("name") == ENUM else "b"
        return Column(schema["field"], f"_{item}", f"{item}[]", modifier, optional, item=item or "unknown", sort=sort)
    found = _true(_type(said, schema), schema)
    modifier = _modifier(found, parameters)
    shown = found or said or schema["type"]
    if found == "numeric" and modifier >= 0:
        shown = f"numeric({parameters[SOURCE_LENGTH]},{parameters.get(SOURCE_SCALE, 0)})"
    return Column(schema["field"], found, shown, modifier, optional, enum=schema.get("name") == ENUM)


def bounded(schema: Mapping[str, Any]) -> bool:
    """Say whether a column's schema tells how long its values may be."""
    return SOURCE_LENGTH in (schema.get("parameters") or {})


def field(column: Column) -> dict[str, Any]:
    """Return the contract's field of a column that a contract can hold."""
    shape = types.avro(column)
    made: dict[str, Any] = {"name": column.name, "type": ["null", shape] if column.nullable else shape}
    if column.nullable:
        made["default"] = None
    if column.comment:
        made["doc"] = column.comment
    return made


def fieldable(column: Column) -> bool:
    """Say whether a contract can hold a column."""
    return types.avro(column) is not None and FIELD_NAME.fullmatch(column.name) is not None


def nullable(column: Column) -> dict[str, Any]:
    """Return the field of a column that was added after the contract was made."""
    return field(replace(column, nullable=True))


def wider(known: Field, column: Column) -> str:
    """Return the kind to which a field has to be widened to hold a column; empty where it fits or cannot."""
    if not types.misfit(column, known):
        return ""
    kinds = [wide for narrow, wide in evolution.WIDER if narrow == known.kind and wide in types.kinds(column)]
    return kinds[0] if kinds else ""


def _true(found: str, schema: Mapping[str, Any]) -> str:
    """Return the type of a column that is said to be of the type ``found``: another one where its values are not."""
    if found not in types.FITS:
        return found
    looks = _type("", schema)
    if looks:
        return found if found == looks or found in _ALIKE.get(looks, ()) else looks
    length = int((schema.get("parameters") or {}).get(SOURCE_LENGTH) or 0)
    endless = found == "numeric" and length > MOST_DIGITS and length not in _UNBOUNDED
    text = schema["type"] == "string" and not schema.get("name")
    return "text" if text and (found in _NO_TEXT or endless) else found


def _type(said: str, schema: Mapping[str, Any]) -> str:
    said = _ALIASES.get(said, said)
    if schema.get("name") == ENUM:
        return "enum"
    if said in types.FITS or said in types.REFUSED:
        return said
    return _BY_NAME.get(schema.get("name") or "") or ("" if schema.get("name") else _BY_TYPE.get(schema["type"], ""))


def _modifier(kind: str, parameters: Mapping[str, Any]) -> int:
    """Return atttypmod as the catalogue has it, of the types in which it decides about the kind."""
    length = int(parameters.get(SOURCE_LENGTH) or 0)
    if kind == "bit" and length:
        return length
    if kind == "numeric" and 0 < length <= MOST_DIGITS:
        return (length << 16 | int(parameters.get(SOURCE_SCALE) or 0) & 0x7FF) + 4
    return -1

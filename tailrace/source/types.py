"""Postgres types and the kinds of a contract: one table, used by ``schema derive``, ``check`` and docs/types.md.

A kind is the Avro type or logical type of ``tailrace.contract.KINDS``. A type that is not in ``FITS`` cannot be in a
contract, because Debezium does not send it whole (``REFUSED`` says why): ``check`` says so, ``derive`` leaves the
column out. An array of a type is one of the kind ``array``, if the type is in ``ITEMS``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tailrace.contract import NO_ITEM

if TYPE_CHECKING:
    from tailrace.contract import Field
    from tailrace.source.catalogue import Column

# Base type -> the kinds that hold it without loss; the first is what ``derive`` writes. Dates and times fit string as
# Postgres's own text: only that holds infinity, BC, the years past 9999 and 24:00:00.
FITS: dict[str, tuple[str, ...]] = {
    "bool": ("boolean",),
    "int2": ("int", "long", "numeric", "double"),
    "int4": ("int", "long", "numeric", "double"),
    "int8": ("long", "numeric"),
    "oid": ("long",),
    "float4": ("float", "double"),
    "float8": ("double",),
    "numeric": ("decimal", "numeric"),
    "money": ("decimal", "numeric"),
    "bit": ("string",),
    "bytea": ("bytes",),
    "date": ("date", "string"),
    "time": ("time-micros", "string"),
    "timestamp": ("local-timestamp-micros", "string"),
    "timestamptz": ("timestamp-micros", "string"),
    "interval": ("string",),
    "uuid": ("uuid",),
    "json": ("json", "string"),
    "jsonb": ("json", "string"),
    "hstore": ("json", "string"),
    "vector": ("array",),
    "halfvec": ("array",),
    **dict.fromkeys(
        ("text", "varchar", "bpchar", "char", "citext", "xml", "inet", "cidr", "macaddr", "macaddr8", "ltree",
         "timetz", "tsvector", "tsrange", "tstzrange", "daterange", "int4range", "int8range", "numrange", "point",
         "circle", "line", "lseg", "box", "path"),
        ("string",),
    ),
}  # fmt: skip
VECTORS = {"vector": "float", "halfvec": "float"}  # types of pgvector that are lists of one kind
# Elements of the arrays that Debezium sends whole. Not in here: time (cut to milliseconds), enums (a NULL inside makes
# the whole array NULL), interval, money, name, xml, domains, composites (left out).
ITEMS = frozenset((
    "bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "text", "varchar", "bpchar", "citext", "date",
    "timetz", "timestamp", "timestamptz", "uuid", "json", "jsonb", "bytea", "inet", "cidr", "macaddr",
    "macaddr8", "tsrange", "tstzrange", "daterange", "int4range", "int8range", "numrange",
))  # fmt: skip
# "the connector" is Debezium 3.7.0.Final, measured in its snapshot and in its stream.
_OMITTED = "the connector leaves the column out"
# By base type, or by the sort of type where it is the user's own.
REFUSED: dict[str, str] = {
    "varbit": "the connector sends its bits without saying how many there are",
    **dict.fromkeys(("pg_lsn", "tsquery", "jsonpath", "xid", "xid8", "tid"), _OMITTED),
    "polygon": "the connector does not send whether the last point repeats the first",
    "name": "the connector sends NULL for it when it streams",
    **dict.fromkeys(("sparsevec", "geometry", "geography"),
                    "the connector sends a structure that no kind holds"),
}  # fmt: skip
REFUSED_SORTS = {
    "c": f"it is a composite type: {_OMITTED}",
    "m": f"it is a multirange: {_OMITTED}",
    "r": f"it is a range type of your own: {_OMITTED}",
}
# Array elements whose unchanged TOAST value still shows a placeholder; every other array arrives as a bare NULL.
_PLACEHOLDER_ARRAYS = {
    "_text", "_varchar", "_bpchar", "_json", "_jsonb", "_bytea", "_int4", "_int8", "_date", "_uuid", "_citext",
}  # fmt: skip
MONEY = (19, 2)  # eight bytes of cents, money.fraction.digits = 2
_BARE_NULL = {"varbit", "vector", "halfvec", "sparsevec"}
PRIMITIVE = {"boolean", "int", "long", "float", "double", "string", "bytes"}
BASES = {
    "decimal": "bytes", "numeric": "string", "date": "int", "time-micros": "long", "timestamp-micros": "long",
    "local-timestamp-micros": "long", "uuid": "string", "json": "string",
}  # fmt: skip


def numeric_modifier(column: Column) -> tuple[int, int] | None:
    """Return (precision, scale) of a numeric column as Avro can say it, or None where it is unbounded."""
    if column.type == "money":
        return MONEY
    if column.modifier < 4:
        return None
    packed = column.modifier - 4
    precision, scale = packed >> 16 & 0xFFFF, (packed & 0x7FF ^ 1024) - 1024
    if scale < 0:  # numeric(3,-2) holds 99900: five digits, none after the point
        return precision - scale, 0
    return max(precision, scale), scale


def element(column: Column) -> Column:
    """Return what the elements of an array column are, as a column."""
    return replace(column, type=column.item, item="", enum=column.sort == "e", nullable=True)


def item_kinds(column: Column) -> tuple[str, ...]:
    """Return the kinds that hold every element of an array column; none for other columns, or when not supported."""
    if column.type in VECTORS:
        return (VECTORS[column.type], "double")
    if column.item not in ITEMS or column.sort == "e" or column.dimensions > 1:
        return ()
    return tuple(kind for kind in kinds(element(column)) if kind not in NO_ITEM)


def kinds(column: Column) -> tuple[str, ...]:
    """Return the kinds that hold every value of a column, best first; none when the type is not supported."""
    if column.enum:
        return ("string",)
    if column.item:
        return ("array",) if item_kinds(column) else ()
    if column.type == "bit" and column.modifier == 1:
        return ("boolean",)
    found = FITS.get(column.type, ())
    if column.type == "numeric" and numeric_modifier(column) is None:
        return ("numeric",)
    return found


def why_not(column: Column) -> str:
    """Say why a column of no kind cannot be in a contract."""
    if column.dimensions > 1:
        return "the connector sends no values of an array of several dimensions"
    if column.item:
        return "arrays of this type are not sent whole"
    return REFUSED.get(column.type) or REFUSED_SORTS.get(column.sort, _OMITTED)


def avro(column: Column) -> Any:
    """Return the Avro type of a column as ``derive`` writes it (null not included), or None when unsupported."""
    found = kinds(column)
    if not found:
        return None
    if found[0] == "array":
        return {"type": "array", "items": ["null", _shape(element(column), item_kinds(column)[0])]}
    return _shape(column, found[0])


def _shape(column: Column, kind: str) -> Any:
    if kind in PRIMITIVE:
        return kind
    shape: dict[str, Any] = {"type": BASES[kind], "logicalType": kind}
    bounds = numeric_modifier(column) if kind == "decimal" else None
    if bounds:
        shape |= {"precision": bounds[0], "scale": bounds[1]}
    return shape


def misfit(column: Column, field: Field) -> str:
    """Say why a contract's field does not hold every value of a column; empty when it does."""
    fitting = kinds(column)
    if not fitting:
        return f"{column.shown} is not supported: {why_not(column)}"
    if field.kind not in fitting:
        return f"{column.shown} does not fit {field.kind}; it fits {' or '.join(fitting)}"
    if field.item is not None:
        return _item_misfit(column, field.item)
    return _too_narrow(column, field)


def _item_misfit(column: Column, item: Field) -> str:
    fitting = item_kinds(column)
    if item.kind not in fitting:
        return f"{column.shown} does not fit an array of {item.kind}; its elements fit {' or '.join(fitting)}"
    if not item.nullable:
        return f"{column.shown} may have NULLs inside, which the contract forbids"
    return _too_narrow(element(column), item)


def _too_narrow(column: Column, field: Field) -> str:
    bounds = numeric_modifier(column)
    if field.kind == "decimal" and bounds:
        whole, scale = bounds[0] - bounds[1], bounds[1]
        if field.scale < scale or field.precision - field.scale < whole:
            return f"{column.shown} does not fit decimal({field.precision},{field.scale})"
    return ""


def toastable(column: Column) -> bool:
    """Say whether Postgres may keep a value of this column out of line, so that an update omits it when unchanged."""
    if column.storage == "p" or column.generated:
        return False
    return not (column.type == "numeric" and column.modifier >= 4)  # a bounded numeric stays in its row


def bare_null(column: Column) -> bool:
    """Say whether an unchanged TOAST value of this column arrives as a NULL like any other (with decimals as text)."""
    array = bool(column.item) or column.type.startswith("_")
    return (array and column.type not in _PLACEHOLDER_ARRAYS) or column.type in _BARE_NULL

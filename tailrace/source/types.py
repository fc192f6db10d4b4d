"""Postgres types and the kinds of a contract: one table, used by ``schema derive`` and by ``check``.

A kind is the Avro type or logical type of ``tailrace.contract.KINDS``. Types that are not here (arrays, intervals,
composites, geometry) cannot be in a contract: ``check`` says so, ``derive`` leaves the column out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailrace.contract import Field
    from tailrace.source.catalogue import Column

# Base type -> the kinds that hold it without loss; the first is what ``derive`` writes.
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
    "date": ("date",),
    "time": ("time-micros",),
    "timestamp": ("local-timestamp-micros",),
    "timestamptz": ("timestamp-micros",),
    "uuid": ("uuid",),
    "json": ("json", "string"),
    "jsonb": ("json", "string"),
    "hstore": ("json", "string"),
    **dict.fromkeys(
        ("text", "varchar", "bpchar", "char", "name", "citext", "xml", "inet", "cidr", "macaddr", "macaddr8", "ltree",
         "timetz", "tsvector", "tsrange", "tstzrange", "daterange", "int4range", "int8range", "numrange"),
        ("string",),
    ),
}  # fmt: skip
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


def kinds(column: Column) -> tuple[str, ...]:
    """Return the kinds that hold every value of a column, best first; none when the type is not supported."""
    if column.enum:
        return ("string",)
    if column.type == "bit" and column.modifier == 1:
        return ("boolean",)
    found = FITS.get(column.type, ())
    if column.type == "numeric" and numeric_modifier(column) is None:
        return ("numeric",)
    return found


def avro(column: Column) -> Any:
    """Return the Avro type of a column as ``derive`` writes it (null not included), or None when unsupported."""
    found = kinds(column)
    if not found:
        return None
    kind = found[0]
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
        return f"{column.shown} is not supported"
    if field.kind not in fitting:
        return f"{column.shown} does not fit {field.kind}; it fits {' or '.join(fitting)}"
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
    array = column.type.startswith("_")
    return (array and column.type not in _PLACEHOLDER_ARRAYS) or column.type in _BARE_NULL

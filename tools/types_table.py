"""Print docs/types.md: the table of types, made from the code that acts on it.

    python tools/types_table.py > docs/types.md

Postgres type and contract kinds come from tailrace.source.types; what a kind is in each store comes from that store's
own module, so that the page cannot say anything else than what the workers do.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the source tree, installed or not

from tailrace import contract
from tailrace.contract import Field
from tailrace.sink import dynamodb_values, mapping, parquet
from tailrace.source import types

SAMPLES: dict[str, Any] = {
    "boolean": True, "int": 1, "long": 1, "float": 1.5, "double": 1.5, "string": "x", "bytes": b"x", "json": "{}",
    "decimal": Decimal("1.50"), "numeric": Decimal("1.50"), "date": date(2026, 1, 2), "time-micros": time(1, 2),
    "timestamp-micros": datetime(2026, 1, 2, tzinfo=UTC), "uuid": UUID(int=1),
    "local-timestamp-micros": datetime(2026, 1, 2),  # noqa: DTZ001 - timestamp without time zone
}  # fmt: skip
ATTRIBUTES = {"N": "N", "S": "S", "B": "B", "BOOL": "BOOL", "M": "M, L, S, N, BOOL or NULL"}
HEAD = """\
# Types

Made by `python tools/types_table.py`; do not edit. What a column of PostgreSQL is in a contract, and what that is in
each store. The first kind is what `tailrace schema derive` writes; the others hold every value as well.

A value is exact in a store or it is not there: what a store cannot hold is a **dead letter** of that store's worker (or
of the processor, when the contract cannot hold it), never rounded, cut or replaced. `tailrace verify` counts such a row
as *rejected*, with the field and the reason.
"""
NOTES: dict[str, str] = {
    "numeric": "unbounded: `numeric`, every digit and trailing zero; NaN and infinity only as `numeric`",
    "money": "as an amount with two decimals, whatever `lc_monetary` says",
    "bit": "`bit(1)` is `boolean`; else its digits as text",
    "bpchar": "blank-padded, as Postgres shows it",
    "date": "as `string`: Postgres's text, which holds infinity, BC and years past 9999",
    "time": "`24:00:00` only as `string`",
    "timetz": "the same moment of the day in UTC (`02:05:06+00`): the source sends no other zone",
    "timestamp": "as `string`: Postgres's text, which holds infinity, BC and years past 9999",
    "timestamptz": "in UTC; as `string`: Postgres's text in UTC, which holds infinity, BC and years past 9999",
    "interval": "ISO 8601 as `SET intervalstyle = iso_8601` shows it; needs `interval.handling.mode=string`",
    "json": "the text as written, duplicate keys and all",
    "hstore": "as jsonb writes it; not measured: the embedded server has no hstore",
    "citext": "not measured: the embedded server has no citext",
    "ltree": "not measured: the embedded server has no ltree",
    "xml": "not measured: the embedded server is built without XML",
    "tstzrange": "bounds in the time zone of the connector's Java: run it in UTC",
    "vector": "pgvector; the exact single floats",
    "point": "geometry as Postgres writes it, each double in its shortest digits",
}
TAIL = """\
Also: a **domain** is what its base type is; an **enum** is `string`, also a value added while the pipeline runs. A
generated column is not sent. Lower bounds of an array (`[0:1]={1,2}`) are not kept.

## What a store refuses

| store | value | instead |
|---|---|---|
| DynamoDB | more than 38 digits, NaN, infinity | declare the field as `string` in a conform function |
| OpenSearch | NaN and infinity in `float` and `double`; JSON that is not an object | the same |
| DynamoDB, OpenSearch | `json` with a name twice in one object | `jsonb`, which keeps the last of them, or `string` |
| every store | a date or time that Python's calendar lacks, in a date or time kind | declare the field as `string` |
"""


LOSSES = """
## What the connector itself changes

Measured on Debezium 3.7.0.Final, in a snapshot and in the stream. Nothing in the message tells most of these from true
values, so they arrive wrong and `tailrace verify` reports them; a CHECK constraint keeps them out.

| column | value | arrives as | keep it out by |
|---|---|---|---|
| `date` | a year BC, in a snapshot or inside `date[]` | the year AD (streamed: exact) | `c >= '0001-01-01'` |
| `date` | 1582-10-05 to 1582-10-14, in a snapshot or inside `date[]` | ten days later | |
| `timestamptz[]` | a year BC; 1582-10-05 to 1582-10-14 | AD; ten days later | |
| `timestamp[]` | before 1582-10-25 | the Julian calendar: refused, a dead letter | |
| `numeric[]` | NaN or infinity inside | NULL, the whole array | `NOT 'NaN' = ANY (c)` |
| any array but of text | several dimensions | a NULL for each inner array | `array_ndims(c) = 1` |
| `text[]`, `varchar[]` | several dimensions | names of Java objects: refused, a dead letter | `array_ndims(c) = 1` |
| `interval` | infinity | `PT0S` | `isfinite(c)` |
| `interval` | 2^31 hours and more | the connector stops sending | `c < interval '2000000000 hours'` |
"""


def field(kind: str) -> Field:
    """Return a field of a kind; a decimal is decimal(10,2)."""
    return Field(
        "c", kind, nullable=True, precision=10 if kind == "decimal" else 0, scale=2 if kind == "decimal" else 0
    )


def dynamodb(kind: str) -> str:
    """Return the type of the attribute."""
    (found,) = dynamodb_values.attribute_of(field(kind))(SAMPLES[kind])
    return ATTRIBUTES[found]


def opensearch(kind: str) -> str:
    """Return the type of the field in the mapping."""
    return str(mapping.field_mapping(field(kind))["type"])


def row(*cells: str) -> str:
    """Return one row of a table."""
    return f"| {' | '.join(cells)} |"


def types_of_columns() -> list[str]:
    """Return the table of Postgres types."""
    lines = [row("PostgreSQL", "contract kinds", "array of it", "remarks"), row(*["---"] * 4)]
    for name, kinds in types.FITS.items():
        shown = [f"`{kind}`" for kind in kinds]
        if name in types.VECTORS:
            shown = [f"`array` of `{types.VECTORS[name]}`"]
        lines.append(row(f"`{name}`", ", ".join(shown), "yes" if name in types.ITEMS else "no", NOTES.get(name, "")))
    return lines


def kinds_in_stores() -> list[str]:
    """Return the table of kinds."""
    lines = [row("kind", "DynamoDB", "Parquet", "OpenSearch"), row(*["---"] * 4)]
    for kind in sorted(contract.KINDS - {"array"}):
        name = "`decimal` (10,2)" if kind == "decimal" else f"`{kind}`"
        lines.append(row(name, dynamodb(kind), f"{parquet.arrow_type(field(kind))}", opensearch(kind)))
    return [*lines, row("`array` of X", "L of X, NULL inside", "list of X", "a field of X, null inside")]


def refusals() -> list[str]:
    """Return the list of types that no contract holds."""
    reasons = {**types.REFUSED, **{f"{sort} types": reason for sort, reason in SORTS.items()}}
    return [f"* `{name}`: {reason}" for name, reason in reasons.items()]


SORTS = {
    "composite": types.REFUSED_SORTS["c"],
    "multirange": types.REFUSED_SORTS["m"],
    "own range": types.REFUSED_SORTS["r"],
}


def page() -> str:
    """Return docs/types.md."""
    parts = [
        [HEAD], types_of_columns(), ["", "## Kinds in the stores", ""], kinds_in_stores(), ["", TAIL],
        ["## What no contract holds", "", "`tailrace check` names such columns; a trigger can keep their text beside."],
        [""], refusals(), [LOSSES.rstrip("\n")],
    ]  # fmt: skip
    return "\n".join(line for part in parts for line in part) + "\n"


if __name__ == "__main__":
    print(page(), end="")

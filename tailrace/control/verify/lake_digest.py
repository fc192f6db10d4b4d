"""Digests of a table of the lake by range of its keys, made by DuckDB over the newest row of every key.

Every column of the record goes into two 64-bit hashes, doubles as text, so that 0 and -0 differ. What the log or the
names of objects say is not trusted: an object that somebody replaced has other values. A table with a decimal of more
than 38 digits has no digest, because DuckDB does not read it exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.contract import Contract, Field
    from tailrace.control.verify.ranges import Part, Ranges

EXACT_DIGITS = 38
READ = "read_parquet(?, filename = true, union_by_name = true, hive_partitioning = false)"
DIGESTS = """
WITH hashed AS (SELECT {key}, {by} AS _low, _op, _version, filename, hash({values}) AS _one, hash('', {values}) AS _two
                FROM {read}),
     aged AS (SELECT _low, _op, _one, _two,
                     row_number() OVER (PARTITION BY {key} ORDER BY _version DESC, filename) AS age FROM hashed),
     bounds AS (SELECT unnest($bounds::{type}[]) AS bound, unnest(range(1, len($bounds) + 1)) AS number)
SELECT CASE WHEN _low IS NULL THEN -1 ELSE coalesce(number, 0) END, count(*), sum(_one::HUGEINT), sum(_two::HUGEINT)
FROM (SELECT * FROM aged WHERE age = 1 AND _op <> 'd') ASOF LEFT JOIN bounds ON _low >= bound GROUP BY 1
"""


def quoted(name: str) -> str:
    """Return a column's name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def within(part: Part | None) -> str:
    """Return the condition on keys of some ranges; nothing where all are asked for."""
    if part is None or part.spans is None:
        return ""
    name = quoted(part.ranges.column)
    sides = [f"({name} >= {_literal(low)} AND {name} < {_literal(high)})".replace(f"{name} >= NULL AND ", "")
             .replace(f" AND {name} < NULL", "") for low, high in part.spans]  # fmt: skip
    return "WHERE " + (" OR ".join(sides) or "false")


def digests(files: Sequence[str], contract: Contract, ranges: Ranges) -> dict[int, str] | None:
    """Return a digest of each range that holds rows."""
    if any(field.kind == "decimal" and field.precision > EXACT_DIGITS for field in map(_inner, contract.fields)):
        return None
    if not files:
        return {}
    with duckdb.connect() as database:
        database.execute("SET memory_limit = '512MB'")
        there = {name: kind for name, kind, *_ in database.execute(f"DESCRIBE FROM {READ}", [files]).fetchall()}
        values = [_hashed(field.name, there[field.name]) for field in contract.fields if field.name in there]
        by, type_ = (quoted(ranges.column), "BIGINT" if ranges.kind == "number" else "VARCHAR")
        sql = DIGESTS.format(
            key=", ".join(map(quoted, contract.key)),
            by=by if ranges.bounds else "0",
            values=", ".join(values),
            type=type_ if ranges.bounds else "BIGINT",
            read=READ.replace("?", "$files"),
        )
        found = database.execute(sql, {"files": list(files), "bounds": list(ranges.bounds)}).fetchall()
    return {number: f"{count}:{one}:{two}:{','.join(values)}" for number, count, one, two in found}


def _inner(field: Field) -> Field:
    return field.item or field


def _hashed(name: str, kind: str) -> str:
    """Return the SQL of what is hashed of a column; its type is in the digest, not in the hash."""
    return f"{quoted(name)}::VARCHAR" if "DOUBLE" in kind or "FLOAT" in kind else quoted(name)


def _literal(bound: int | str | None) -> str:
    return "NULL" if bound is None else str(bound) if isinstance(bound, int) else f"'{bound}'"

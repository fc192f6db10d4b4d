"""What a Parquet object of the lake holds: Arrow schema of a contract, and changes as an Arrow table.

Columns are built one at a time from the changes, never row by row. A delete row holds the key columns, the other
fields null. Values are exact or rejected: nothing is rounded, cut or guessed. It reads and writes no store.
"""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tailrace.change import Rejection
from tailrace.contract import PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.change import Change
    from tailrace.contract import Contract, Field

DELETE = "d"  # whatever the source did: a row that left a filter is gone as well
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")
META = pa.schema(
    [
        pa.field("_op", pa.string(), nullable=False),
        pa.field("_version", pa.int64(), nullable=False),
        pa.field("_lsn", pa.int64()),
        pa.field("_committed_at", UTC_MICROSECONDS, nullable=False),
        pa.field("_partition", pa.int32(), nullable=False),
        pa.field("_offset", pa.int64(), nullable=False),
    ]
)
MARK = ("_partition", "_offset", "_version")  # what tells a change from all others of its table
NARROWED = {("int", bool), ("long", bool), ("date", datetime)}  # subclasses that are another kind
DECIMAL128_DIGITS, DECIMAL256_DIGITS = 38, 76
ARROW = {
    "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "string": pa.string(), "json": pa.string(), "uuid": pa.string(), "numeric": pa.string(), "bytes": pa.binary(),
    "date": pa.date32(), "time-micros": pa.time64("us"), "timestamp-micros": UTC_MICROSECONDS,
    "local-timestamp-micros": pa.timestamp("us"),
}  # fmt: skip


def arrow_type(field: Field) -> pa.DataType:
    """Return the Arrow type that holds every value of a field exactly."""
    if field.item is not None:
        return pa.list_(arrow_type(field.item))
    if field.kind != "decimal":
        return ARROW[field.kind]
    if field.precision <= DECIMAL128_DIGITS:
        return pa.decimal128(field.precision, field.scale)
    if field.precision <= DECIMAL256_DIGITS:
        return pa.decimal256(field.precision, field.scale)
    return pa.string()


def schema(contract: Contract) -> pa.Schema:
    """Return the columns of a record's objects: its fields, then where and when each change happened."""
    fields = [
        pa.field(field.name, arrow_type(field), nullable=field.name not in contract.key) for field in contract.fields
    ]
    return pa.schema([*fields, *META])


def _plain(value: Any) -> str:
    """Return a number's digits without an exponent."""
    return format(value, "f")


def _reader(field: Field) -> Callable[[Any], Any] | None:
    """Return what turns a value into what Arrow takes, None where Arrow takes it as it is."""
    if field.kind == "uuid":
        return str
    return _plain if pa.types.is_string(arrow_type(field)) and field.kind in ("numeric", "decimal") else None


class Rows:
    """Changes of one record as columns: ``arrow`` holds all but the rejected ones, ``kept`` the changes in it."""

    def __init__(self, contract: Contract, changes: Sequence[Change]) -> None:
        self.kept: list[Change] = list(changes)
        self.rejections: list[Rejection] = []
        try:
            self.arrow = _build(contract, self.kept)
        except _NOT_EXACT:
            self._sift(contract, changes)

    def _sift(self, contract: Contract, changes: Sequence[Change]) -> None:
        """Find the changes that do not fit, one by one: only after the whole batch failed."""
        self.kept = []
        for position, change in enumerate(changes):
            field = misfit(contract, change)
            if field:
                self.rejections.append(Rejection(position, f"The value of {field} does not fit its Parquet column."))
            else:
                self.kept.append(change)
        self.arrow = _build(contract, self.kept)


_NOT_EXACT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError, OverflowError)


def misfit(contract: Contract, change: Change) -> str:
    """Name the first column that a change does not fit, or nothing."""
    row = _row(contract, change)
    for field in contract.fields:
        try:
            column = _column(field, [row[field.name]])
        except (*_NOT_EXACT, KeyError):
            return field.name
        if field.name in contract.key and column.null_count:
            return field.name
    return ""


def _row(contract: Contract, change: Change) -> Mapping[str, Any]:
    return change.value if change.value is not None else {**dict.fromkeys(contract.by_name), **change.key}


def _column(field: Field, values: list[Any]) -> pa.Array:
    """Return one column, its values as Arrow takes them."""
    return pa.array(_given(field, values), arrow_type(field))


def _given(field: Field, values: list[Any]) -> list[Any]:
    """Return values for Arrow; ValueError for a type that it would narrow silently (1.5 to 1, an instant to a day)."""
    for kind in set(map(type, values)) - {NoneType}:
        if not issubclass(kind, PYTHON[field.kind]) or (field.kind, kind) in NARROWED:
            raise ValueError("a value of another type")
    if field.item is not None:
        return [None if value is None else _given(field.item, value) for value in values]
    read = _reader(field)
    return values if read is None else [None if value is None else read(value) for value in values]


def _build(contract: Contract, changes: Sequence[Change]) -> pa.Table:
    rows = [_row(contract, change) for change in changes]
    names = schema(contract)
    columns = [_column(field, _values(rows, field.name)) for field in contract.fields]
    for name in contract.key:
        if columns[names.get_field_index(name)].null_count:
            raise ValueError("a key column is null")
    return pa.Table.from_arrays([*columns, *_meta(changes)], schema=names)


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError as error:
        raise ValueError("a field is missing") from error


def _meta(changes: Sequence[Change]) -> list[pa.Array]:
    columns = (
        [DELETE if change.value is None else change.op for change in changes],
        [change.version for change in changes],
        [change.lsn for change in changes],
        [change.committed_us for change in changes],
        [change.partition for change in changes],
        [change.offset for change in changes],
    )
    return [pa.array(values, field.type) for values, field in zip(columns, META, strict=True)]


def encode(table: pa.Table) -> bytes:
    """Return a table as the bytes of one zstd Parquet file; the same table gives the same bytes."""
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    return bytes(out.getvalue())


def marks(rows: pa.Table) -> list[tuple[int, int, int]]:
    """Return (partition, offset, version) of every change in a table."""
    columns = (rows[name].to_pylist() for name in MARK)
    return list(zip(*columns, strict=True))

"""Many Parquet files of one table into one, sorted by key, in bounded memory: DuckDB sorts, pyarrow reads and writes.

DuckDB spills to the scratch folder beyond its memory limit. It knows no numbers of more than 38 digits; those travel
through it as text and are exact on both sides. Columns are those of all files, as wide as the widest.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tailrace.control.lake import MEMORY, carry
from tailrace.sink import lakeobjects
from tailrace.sink.lake_log import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

ROW_GROUP = 128 * 1024  # rows
ORDER = ("_version", "_partition", "_offset")  # after the key: makes the order of rows one for the same inputs


@dataclass(frozen=True, slots=True)
class Merged:
    """One file on the disk, what it holds and what tells its bytes from others'."""

    path: Path
    rows: int
    spans: tuple[Span, ...]
    digest: str


def merge(paths: Sequence[Path], key: Sequence[str], scratch: Path) -> Merged:
    """Write the rows of all files into one file of the scratch folder."""
    out = scratch / "merged.parquet"
    found = ds.dataset([str(path) for path in paths], format="parquet")
    parts = [part.physical_schema for part in found.get_fragments()]
    schema = pa.unify_schemas(parts, promote_options="permissive")
    rows = 0
    spans: dict[int, Span] = {}
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for group in grouped(_sorted(ds.dataset([str(path) for path in paths], schema), key, scratch), ROW_GROUP):
            table = group.cast(schema)
            writer.write_table(table, row_group_size=ROW_GROUP)
            rows += table.num_rows
            for span in lakeobjects.spans(table):
                known = spans.get(span.partition)
                spans[span.partition] = span if known is None else join(known, span)
    with out.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return Merged(out, rows, tuple(spans[number] for number in sorted(spans)), digest)


def _sorted(found: ds.Dataset, key: Sequence[str], scratch: Path) -> Iterator[pa.RecordBatch]:
    carried = pa.schema([pa.field(field.name, carry(field.type)) for field in found.schema])
    scanned = found.scanner(batch_readahead=2, fragment_readahead=1).to_batches()
    batches = (batch.cast(carried) for batch in scanned)
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in (*key, *ORDER))
    with closing(duckdb.connect()) as connection:
        for name, value in (("TimeZone", "UTC"), ("memory_limit", MEMORY), ("temp_directory", str(scratch / "spill"))):
            connection.execute(f"SET {name} = '{value}'")
        connection.register("objects", pa.RecordBatchReader.from_batches(carried, batches))
        yield from connection.sql(f"SELECT * FROM objects ORDER BY {columns}").to_arrow_reader(ROW_GROUP)


def grouped(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """Yield tables of about ``size`` rows made of small batches."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= size:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def join(span: Span, other: Span) -> Span:
    """Return the span of what two of one partition hold together."""
    ends = (min(span.first, other.first), max(span.last, other.last))
    versions = (min(span.low, other.low), max(span.high, other.high))
    return Span(span.partition, *ends, span.rows + other.rows, *versions)

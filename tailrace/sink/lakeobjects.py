"""Objects of the lake: how they are named, how a batch is cut into them, what the log says of them.

An object is named by what it holds, ``<zone>/<table>/dt=YYYY-MM-DD/p<partition>-<first offset>.parquet``, so that a
batch written again finds itself there; where something else has the name, a digest of its bytes is added. No object is
ever overwritten. It holds changes of one source commit date written under one schema. A change is known by its mark,
(partition, offset, version): offsets alone begin anew when a topic is made anew. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tailrace.sink import parquet
from tailrace.sink.lake_log import Span, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.change import Change
    from tailrace.targets import LakeTable, RawLakeTable

SUFFIX = ".parquet"
MICROSECONDS_A_DAY = 86_400_000_000
FRAME = 5  # bytes of a framed value before the Avro: 0 and the schema's id
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NAME = re.compile(r"(?:^|/)dt=[^/]+/p(\d+)-(\d{12,})(?:-[0-9a-f]{8})*\.parquet$")
_DIGESTS = re.compile(r"(-[0-9a-f]{8})*\.parquet$")  # an offset has twelve digits at least


def prefix(target: LakeTable | RawLakeTable) -> str:
    """Return what the keys of all objects of a table begin with."""
    return f"{target.folder}/"


def day(committed_us: int) -> str:
    """Return the UTC date of an instant, YYYY-MM-DD."""
    return date.fromordinal(_EPOCH_DAY + committed_us // MICROSECONDS_A_DAY).isoformat()


def key(dt: str, partition: int, first: int) -> str:
    """Return the key of an object inside its table's folder."""
    return f"dt={dt}/p{partition}-{first:012d}{SUFFIX}"


def place(name: str) -> tuple[int, int] | None:
    """Return partition and first offset in the key of an object; None when the key is not a sink worker's."""
    found = _NAME.search(name)
    return (int(found[1]), int(found[2])) if found else None


def digest(body: bytes) -> str:
    """Return what tells two objects of one name apart."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class LakeObject:
    """One object to be written: its rows, and its schema's id where that is known."""

    key: str
    rows: pa.Table
    schema: int | None

    def second_name(self, body: bytes) -> str:
        """Return the key for where its own is taken by something else."""
        return _DIGESTS.sub("", self.key) + f"-{digest(body)[:8]}{SUFFIX}"

    def metadata(self, body: bytes) -> dict[str, str]:
        """Return the user metadata: what it holds, and a digest that tells it from others of its name."""
        offsets = pc.min_max(self.rows["_offset"])
        return {
            "first-offset": str(offsets["min"]),
            "last-offset": str(offsets["max"]),
            "rows": str(self.rows.num_rows),
            "digest": digest(body),
            **({} if self.schema is None else {"schema": str(self.schema)}),
        }

    def stored(self, name: str, etag: str, size: int) -> Stored:
        """Return what the log says of it."""
        return Stored(name, etag, size, self.schema, spans(self.rows))


def written_under(metadata: Mapping[str, str]) -> int | None:
    """Return the schema's id in an object's user metadata."""
    return int(metadata["schema"]) if metadata.get("schema", "").isdigit() else None


def spans(rows: pa.Table) -> tuple[Span, ...]:
    """Return what a table of changes holds of each partition."""
    found = (
        rows.select(["_partition", "_offset", "_version"])
        .group_by("_partition", use_threads=False)
        .aggregate(
            [("_offset", "min"), ("_offset", "max"), ("_offset", "count"), ("_version", "min"), ("_version", "max")]
        )
    )
    names = ("_partition", "_offset_min", "_offset_max", "_offset_count", "_version_min", "_version_max")
    return tuple(sorted((Span(*(row[name] for name in names)) for row in found.to_pylist()), key=_order))


def _order(span: Span) -> int:
    return span.partition


def cut(changes: Sequence[Change], rows: pa.Table, *, framed: bool = True) -> Iterator[LakeObject]:
    """Yield the objects of one batch of one partition, which is in offset order: one per source commit date and schema.

    A delete has no schema of its own and goes with the change before it. Where values are not ``framed`` none has one.
    """
    days = {change.committed_us // MICROSECONDS_A_DAY for change in changes}
    frames = {change.raw_value[:FRAME] for change in changes if framed and change.raw_value}
    if len(days) == 1 and len(frames) <= 1:
        first = changes[0]
        found = next(iter(frames), b"")
        yield LakeObject(key(day(first.committed_us), first.partition, first.offset), rows, _schema(found))
        return
    groups: dict[tuple[int, bytes], list[int]] = {}
    frame = b""
    for index, change in enumerate(changes):
        if framed and change.raw_value:
            frame = change.raw_value[:FRAME]
        groups.setdefault((change.committed_us // MICROSECONDS_A_DAY, frame), []).append(index)
    for (number, found), indexes in groups.items():
        first = changes[indexes[0]]
        name = key(day(number * MICROSECONDS_A_DAY), first.partition, first.offset)
        yield LakeObject(name, rows.take(pa.array(indexes, pa.int64())), _schema(found))


def _schema(frame: bytes) -> int | None:
    return int.from_bytes(frame[1:], "big") if len(frame) == FRAME and not frame[0] else None


def within(rows: pa.Table, spans: Sequence[Span]) -> pa.Table:
    """Return the rows whose offsets lie in one of the spans."""
    parts = []
    for span in spans:
        offsets = pc.field("_offset")
        inside = (offsets >= span.first) & (offsets <= span.last)
        parts.append(rows.filter((pc.field("_partition") == span.partition) & inside))
    return pa.concat_tables(parts)


def unseen(rows: pa.Table, marks: set[tuple[int, int, int]]) -> list[int]:
    """Return the positions of the rows whose marks are not among ``marks``."""
    return [index for index, mark in enumerate(parquet.marks(rows)) if mark not in marks]

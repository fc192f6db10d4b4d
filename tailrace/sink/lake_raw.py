"""The lake's raw zone: every record of a raw topic byte for byte, in objects and a log like those of any table.

A tombstone, and a record that is no envelope, lies under the date of Kafka's time; every other one under its source
commit date. A raw topic has no compaction, so its offsets follow one another: where some are skipped, because retention
was quicker than this worker, it stops and says so instead of writing on as if nothing were missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pyarrow as pa
import structlog

from tailrace.errors import Fatal
from tailrace.sink import lakeobjects
from tailrace.sink.lake import TableWriter
from tailrace.sink.parquet import UTC_MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.endpoints import Endpoints
    from tailrace.settings import LakeSettings
    from tailrace.sink import lake_commits
    from tailrace.sink.lake import Columns
    from tailrace.sink.lakeobjects import LakeObject
    from tailrace.sink.rawtopic import Life, RawChange
    from tailrace.targets import RawLakeTable

SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])), nullable=False),
        pa.field("_op", pa.string()),
        pa.field("_version", pa.int64(), nullable=False),
        pa.field("_lsn", pa.int64()),
        pa.field("_committed_at", UTC_MICROSECONDS),
        pa.field("_partition", pa.int32(), nullable=False),
        pa.field("_offset", pa.int64(), nullable=False),
        pa.field("_timestamp", pa.timestamp("ms", tz="UTC")),
    ]
)

log = structlog.get_logger()


class RawColumns:
    """Raw records as columns; none of them is ever rejected."""

    def __init__(self, changes: Sequence[RawChange]) -> None:
        self.kept: list[Change] = list(changes)
        self.rejections: list[Rejection] = []
        columns = (
            [change.raw_key for change in changes],
            [change.raw_value for change in changes],
            [[{"key": name, "value": text} for name, text in change.headers] for change in changes],
            [change.told.op for change in changes],
            [change.version for change in changes],
            [change.told.lsn for change in changes],
            [change.told.committed_us for change in changes],
            [change.partition for change in changes],
            [change.offset for change in changes],
            [change.timestamp_ms for change in changes],
        )
        arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
        self.arrow = pa.Table.from_arrays(arrays, schema=SCHEMA)


class RawLakeWriter(TableWriter):
    """A Sink over one raw table of the lake; what it is given are RawChanges."""

    def __init__(
        self,
        target: RawLakeTable,
        endpoints: Endpoints,
        settings: LakeSettings,
        life: Life,
        bucket: lake_commits.Bucket | None = None,
    ) -> None:
        super().__init__(target, endpoints, settings, bucket)
        self._life = life
        self._next: dict[tuple[str, int], int] = {}

    def assigned(self, topic: str, partition: int, offset: int) -> None:
        """Begin a partition, under the epoch that still is."""
        self._life.confirm()
        self._next[topic, partition] = offset
        super().assigned(topic, partition, offset)

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Write the objects of one batch, then their part of the log; Fatal where records before it are lost."""
        if not batch:
            return ()
        place = (batch[0].topic, batch[0].partition)
        if place in self._next:
            for since, until in skipped(self._next[place], (change.offset for change in batch)):
                self._excuse(*place, since, until)
        written = super().write(batch, timeout=timeout)
        self._next[place] = batch[-1].offset + 1
        return written

    def _columns(self, batch: Sequence[Change]) -> Columns:
        return RawColumns(cast("Sequence[RawChange]", batch))

    def _cut(self, changes: Sequence[Change], rows: pa.Table) -> Iterable[LakeObject]:
        return lakeobjects.cut(changes, rows, framed=False)

    def _excuse(self, topic: str, partition: int, since: int, until: int) -> None:
        """Accept a gap that is the log's own; Fatal where retention removed what was not written yet."""
        oldest = self._life.oldest(topic, partition)
        if oldest > since:
            raise Fatal(
                "Records were removed from a raw topic before they were in the lake.",
                detail=f"{topic}/{partition}: {since} was next, the oldest one left is {oldest}.",
                hint="They are lost for the raw zone, and `tailrace verify` will name them. To go on at the oldest one"
                " that is left: `tailrace replay sink NAME --to beginning`.",
            )
        log.info("the log has no records here", topic=topic, partition=partition, since=since, until=until)


def skipped(expected: int, offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the gaps in what follows an expected offset: the first one that is missing, and the next one there."""
    for offset in offsets:
        if offset > expected:
            yield expected, offset
        expected = offset + 1

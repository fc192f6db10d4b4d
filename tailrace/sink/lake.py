"""The lake's writer: one batch of one partition becomes Parquet objects, and then one part of an entry in the log.

The log decides what belongs to the table. Changes that it has already are left out, however often Kafka delivers them;
objects that were put and never logged, because a worker died in between, are taken in when the partition is assigned
anew. So an old worker that wakes up after its partition moved can add nothing: its part no longer fits. Names and cuts
are decided in ``lakeobjects``, bytes are made in ``parquet``, the log is ``lake_commits``; here they meet.
"""

from __future__ import annotations

import os
import socket
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from tailrace.crashpoint import Lake, reach
from tailrace.deadline import Deadline
from tailrace.errors import Retryable
from tailrace.sink import lakeobjects, parquet
from tailrace.sink.lake_bucket import Bucket
from tailrace.sink.lake_commits import Commits
from tailrace.sink.lake_log import Part
from tailrace.sink.lake_orphans import Orphans, put
from tailrace.sink.writer import Batching, Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tailrace.settings import LakeSettings
    from tailrace.sink import lake_commits
    from tailrace.sink.lake_log import Stored
    from tailrace.sink.lakeobjects import LakeObject
    from tailrace.targets import LakeTable, RawLakeTable

MAX_BYTES = 128 * 1024 * 1024  # of Kafka messages in one batch; Parquet makes about a fifth of it
ATTEMPTS = 3  # looks at the table in one write, when others write the same partition
PUTS = 8  # objects of one batch that are made and put at the same time


class Columns(Protocol):
    """Changes as columns: ``arrow`` holds all but the rejected ones, ``kept`` the changes in it."""

    kept: list[Change]
    rejections: list[Rejection]
    arrow: pa.Table


@dataclass
class _Fresh:
    """What of a batch the log does not have: ``seen`` objects were read, ``lost`` ones are no longer in the bucket."""

    changes: Sequence[Change]
    rows: pa.Table
    seen: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


class TableWriter(ABC):
    """A Sink over one table of the lake; ``write`` may be called for several partitions at once.

    What kind of table it is says how changes become columns, and how those are cut into objects.
    """

    before = False  # a row says what is after its change
    records: Sequence[str] = ()

    def __init__(
        self,
        target: LakeTable | RawLakeTable,
        endpoints: Endpoints,
        settings: LakeSettings,
        bucket: lake_commits.Bucket | None = None,
    ) -> None:
        self.batching = Batching(rows=settings.flush_rows, bytes=MAX_BYTES, linger_seconds=settings.flush_seconds)
        self._folder = lakeobjects.prefix(target)
        self._bucket = bucket or Bucket(endpoints.s3, settings.bucket)
        self._commits = Commits(self._bucket, self._folder, f"{socket.gethostname()}/{os.getpid()}")
        self._orphans = Orphans(self._bucket, self._folder, self._commits)
        self._begun: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(PUTS, thread_name_prefix="lake")

    def connect(self) -> None:
        """Look for the bucket."""
        self._bucket.look()

    def assigned(self, topic: str, partition: int, offset: int) -> None:  # noqa: ARG002 - the log knows where it stands
        """Begin a partition; what is there is looked at before its first write."""
        self._again(topic, partition)

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:
        """Write the objects of one batch, then their part of the log."""
        if not batch:
            return ()
        deadline = Deadline.after(timeout)
        rows = self._columns(batch)
        if not rows.kept:
            return rows.rejections
        for _ in range(ATTEMPTS):
            known = self._commit(rows, deadline) if self._begin(batch[0], deadline) else None
            if known is not None:
                return Written(tuple(rows.rejections), known)
            self._again(batch[0].topic, batch[0].partition)
        raise Retryable("Other writers are at the same partition.", detail=self._folder)

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._bucket.close()

    @abstractmethod
    def _columns(self, batch: Sequence[Change]) -> Columns:
        """Return changes as columns."""

    @abstractmethod
    def _cut(self, changes: Sequence[Change], rows: pa.Table) -> Iterable[LakeObject]:
        """Return the objects of some changes, whose columns are ``rows``."""

    def _again(self, topic: str, partition: int) -> None:
        with self._lock:
            self._begun.discard((topic, partition))

    def _begin(self, first: Change, deadline: Deadline) -> bool:
        """Read the log and take in what nobody logged, once per assignment; False to look again."""
        place = (first.topic, first.partition)
        with self._lock:
            if place in self._begun:
                return True
        if not self._orphans.adopt(first.partition, deadline):
            return False
        with self._lock:
            self._begun.add(place)
        return True

    def _commit(self, rows: Columns, deadline: Deadline) -> int | None:
        """Add what the log does not have; return how many changes it had, None to look again."""
        fresh = self._fresh(rows, deadline)
        known = len(rows.kept) - len(fresh.changes)
        if not fresh.changes and not fresh.lost:
            return known
        added = self._put_all(list(self._cut(fresh.changes, fresh.rows)), deadline)
        reach(Lake.OBJECTS_PUT)
        part = Part("append", tuple(added), tuple(fresh.lost), seen=frozenset(fresh.seen))
        return known if self._commits.append(part, deadline) else None

    def _fresh(self, rows: Columns, deadline: Deadline) -> _Fresh:
        """Leave out what the log has: nothing to do for a batch that is beyond all that was written before."""
        spans = lakeobjects.spans(rows.arrow)
        there = self._commits.over(spans, deadline)
        if not there:
            return _Fresh(rows.kept, rows.arrow)
        marks, lost = self._orphans.marks(there, spans, deadline)
        indexes = lakeobjects.unseen(rows.arrow, marks)
        return _Fresh(
            [rows.kept[index] for index in indexes],
            rows.arrow.take(pa.array(indexes, pa.int64())),
            set(there) - lost,
            lost,
        )

    def _put_all(self, objects: Sequence[LakeObject], deadline: Deadline) -> list[Stored]:
        """Put objects, several at a time: no more than those are in memory as bytes."""
        if len(objects) == 1:
            return [self._put(objects[0], deadline)]
        return list(self._pool.map(lambda item: self._put(item, deadline), objects))

    def _put(self, item: LakeObject, deadline: Deadline) -> Stored:
        if deadline.passed():
            raise Retryable("The lake was too slow for one batch.", hint="Raise write_timeout_seconds of the worker.")
        return put(self._bucket, self._folder, item)


class LakeWriter(TableWriter):
    """The changes of one record, column by column under its contract."""

    def __init__(
        self,
        target: LakeTable,
        contract: Contract,
        endpoints: Endpoints,
        settings: LakeSettings,
        bucket: lake_commits.Bucket | None = None,
    ) -> None:
        super().__init__(target, endpoints, settings, bucket)
        self.records = (target.record,)
        self._contract = contract

    def _columns(self, batch: Sequence[Change]) -> Columns:
        return parquet.Rows(self._contract, batch)

    def _cut(self, changes: Sequence[Change], rows: pa.Table) -> Iterable[LakeObject]:
        return lakeobjects.cut(changes, rows)

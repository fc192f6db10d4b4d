"""Objects of the table that the log does not name: what a worker put before it died, or before there was a log.

They are complete and right, so they are logged as they are; rows that the log has by now are left out, and an object
that holds nothing else is removed. Objects that the log removed, and what ``tailrace lake compact`` puts, are none.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from tailrace.crashpoint import Lake, reach
from tailrace.errors import Fatal, Retryable
from tailrace.sink import lakeobjects, parquet
from tailrace.sink.lake_bucket import Conflict
from tailrace.sink.lake_log import Entry, Part
from tailrace.sink.lakeobjects import LakeObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.deadline import Deadline
    from tailrace.sink.lake_bucket import Content
    from tailrace.sink.lake_commits import Bucket, Commits
    from tailrace.sink.lake_log import Span, Stored

    Marks = set[tuple[int, int, int]]

KEPT = 10_000_000  # changes whose marks are kept in memory, 20 bytes each

log = structlog.get_logger()


class Orphans:
    """Of one table."""

    def __init__(self, bucket: Bucket, folder: str, commits: Commits) -> None:
        self._bucket, self._folder, self._commits = bucket, folder, commits
        self._read: dict[str, pa.Table] = {}
        self._reading = threading.Lock()

    def adopt(self, partition: int, deadline: Deadline) -> bool:
        """Take in the orphans of a partition, or of all where there is no log yet; False to look again."""
        clear, rest = self._sorted(self._found(partition, deadline), deadline)
        if clear and not self._commits.append(Part("adopt", tuple(clear)), deadline):
            return False
        if clear:
            reach(Lake.ORPHANS_LOGGED)
        for key in rest:
            content = self._get(key, deadline)
            if content is not None and not self._settle(key, content, deadline):
                return False
        return True

    def marks(self, objects: Mapping[str, Stored], spans: Sequence[Span], deadline: Deadline) -> tuple[Marks, set[str]]:
        """Return the changes of these spans in some live objects, and those objects that are gone from the bucket."""
        found: Marks = set()
        lost = set()
        for key, each in objects.items():
            held = self._held(each, deadline)
            if held is None:
                log.error("lake.object.lost", key=self._folder + key, what="written anew where Kafka still has it")
                lost.add(key)
            else:
                found.update(parquet.marks(lakeobjects.within(held, spans)))
        return found, lost

    def _held(self, each: Stored, deadline: Deadline) -> pa.Table | None:
        """Return the marks in an object, None where it is gone; one thread at a time, the last ones are kept.

        A replay meets the same large objects batch after batch.
        """
        with self._reading:
            name = f"{each.key} {each.etag}"
            if name not in self._read:
                content = self._get(each.key, deadline)
                if content is None:
                    return None
                self._read[name] = _rows(content, self._folder + each.key, list(parquet.MARK))
                while len(self._read) > 1 and sum(kept.num_rows for kept in self._read.values()) > KEPT:
                    del self._read[next(iter(self._read))]
            return self._read[name]

    def _found(self, partition: int, deadline: Deadline) -> list[str]:
        state = self._commits.refresh(deadline)
        known = state.live.keys() | state.gone.keys()
        every = state.sequence == 0
        keys = []
        for found in self._bucket.listing(self._folder + "dt="):
            key = found.key.removeprefix(self._folder)
            named = lakeobjects.place(key)
            ours = named is not None and named[0] == partition
            if key not in known and (ours or (every and key.endswith(lakeobjects.SUFFIX))):
                keys.append(key)
        return keys

    def _sorted(self, keys: Sequence[str], deadline: Deadline) -> tuple[list[Stored], list[str]]:
        """Return the orphans that share no change with another object, and the others."""
        live = self._commits.state.live
        trial, clear, rest = self._commits.state.copy(), [], []
        held: dict[str, pa.Table] = {}
        for key in keys:
            content = self._get(key, deadline)
            if content is None:
                continue
            item = _orphan(key, content, self._folder)
            each = item.stored(key, content.etag, len(content.body))
            met = trial.over(each.spans)
            if key in met:
                continue  # its writer has just logged it
            if met & live.keys() or _share(item.rows, [held[name] for name in met]):
                rest.append(key)
            else:
                clear.append(each)
                held[key] = item.rows.select(list(parquet.MARK))
                trial.apply(Entry(trial.sequence, "", "", "adopt", added=(each,)))
        return clear, rest

    def _settle(self, key: str, content: Content, deadline: Deadline) -> bool:
        """Log one orphan, or the part of it that is news; remove it when it is not what was logged."""
        item = _orphan(key, content, self._folder)
        spans = lakeobjects.spans(item.rows)
        there = self._commits.over(spans, deadline)
        if key in there or key in self._commits.state.gone:
            return True  # its writer has just logged it
        marks, lost = self.marks(there, spans, deadline)
        fresh = lakeobjects.unseen(item.rows, marks)
        whole = len(fresh) == item.rows.num_rows
        if fresh:
            news = item.stored(key, content.etag, len(content.body)) if whole else self._put(item, fresh)
            reach(Lake.ORPHAN_CUT)
            part = Part("adopt", (news,), tuple(lost), seen=frozenset(there.keys() - lost))
            if not self._commits.append(part, deadline):
                return False
        if not whole:
            reach(Lake.ORPHAN_LOGGED)
            self._remove(key, content)
        return True

    def _put(self, item: LakeObject, indexes: Sequence[int]) -> Stored:
        """Put some rows of an orphan under a name of their own."""
        rows = item.rows.take(pa.array(indexes, pa.int64()))
        return put(self._bucket, self._folder, replace(item, rows=rows))

    def _remove(self, key: str, content: Content) -> None:
        try:
            self._bucket.delete(self._folder + key, content.etag)
        except Conflict:
            log.info("lake.orphan.gone", key=self._folder + key)

    def _get(self, key: str, deadline: Deadline) -> Content | None:
        """Read an object; None when somebody else has just dealt with it."""
        if deadline.passed():
            raise Retryable("The lake was too slow for one batch.", hint="Raise write_timeout_seconds of the worker.")
        try:
            return self._bucket.get(self._folder + key)
        except Conflict:
            return None


def _share(rows: pa.Table, others: Sequence[pa.Table]) -> bool:
    """Say whether a change is in a table and in one of some others."""
    marks = {mark for other in others for mark in parquet.marks(other)}
    return bool(marks) and len(lakeobjects.unseen(rows, marks)) < rows.num_rows


def _orphan(key: str, content: Content, folder: str) -> LakeObject:
    rows = _rows(content, folder + key)
    return LakeObject(key, rows, lakeobjects.written_under(content.metadata))


def _rows(content: Content, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        rows = pq.read_table(pa.BufferReader(content.body), columns=columns)
        rows.select(list(parquet.MARK))
    except (pa.ArrowInvalid, KeyError) as error:
        raise Fatal(
            f"{key} is not an object of the lake.",
            detail=type(error).__name__,
            hint="Move it out of the table's folder.",
        ) from error
    return rows


def put(bucket: Bucket, folder: str, item: LakeObject) -> Stored:
    """Put one object where nothing is, or find that it is there already, under its name or its second one."""
    body = parquet.encode(item.rows)
    metadata = item.metadata(body)
    for name in (item.key, item.second_name(body)):
        try:
            return item.stored(name, bucket.put_new(folder + name, body, metadata), len(body))
        except Conflict:
            etag = _same(bucket, folder + name, metadata)
            if etag:
                return item.stored(name, etag, len(body))
    raise Retryable("Another writer has just taken the name of an object.", detail=f"{folder}{item.key}")


def _same(bucket: Bucket, key: str, metadata: dict[str, str]) -> str:
    """Return the etag of the object that is there if it is this one: an earlier attempt whose answer was lost."""
    try:
        there = bucket.head(key)
    except Conflict:
        return ""  # removed since: whoever asks again finds the name free
    return there.etag if there.metadata.get("digest") == metadata["digest"] else ""

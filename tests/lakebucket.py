"""A bucket in memory that keeps S3's conditions, counts its calls, and lets a worker die before or after any."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from tailrace.endpoints import Endpoints
from tailrace.settings import LakeSettings
from tailrace.sink import lake_log
from tailrace.sink.lake import LakeWriter
from tailrace.sink.lake_bucket import Conflict, Content, Found
from tailrace.targets import LakeTable
from tailrace.testing import PARCEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tailrace.contract import Contract

TABLE = LakeTable("parcels", record="parcel")
FOLDER = "conformed/parcels/"
Mark = tuple[int, int, int]


class Killed(BaseException):
    """The process is dead: no handler of errors may see it."""


@dataclass
class MemoryBucket:
    """``dies`` says before (n, False) or after (n, True) which call its user is killed; it is shared by nobody else."""

    objects: dict[str, tuple[Content, datetime]] = field(default_factory=dict)
    dies: tuple[int, bool] | None = None
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def user(self, dies: tuple[int, bool] | None = None) -> MemoryBucket:
        """Return the same bucket for another process."""
        return MemoryBucket(self.objects, dies, lock=self.lock)

    def look(self) -> None:
        """Find it there."""

    def put_new(self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None = None) -> str:
        with self._call():
            if key in self.objects:
                raise Conflict(key)
            return self._store(key, body, metadata)

    def put(self, key: str, body: bytes) -> None:
        with self._call():
            self._store(key, body, None)

    def get(self, key: str) -> Content:
        with self._call():
            if key not in self.objects:
                raise Conflict(key)
            return self.objects[key][0]

    def head(self, key: str) -> Content:
        return self.get(key)

    def delete(self, key: str, etag: str) -> None:
        with self._call():
            if key not in self.objects or self.objects[key][0].etag != etag:
                raise Conflict(key)
            del self.objects[key]

    def listing(self, prefix: str, after: str = "") -> Iterator[Found]:
        with self._call():
            found = sorted(self.objects.items())
        for key, (content, at) in found:
            if key.startswith(prefix) and key > after:
                yield Found(key, content.etag, len(content.body), at)

    def close(self) -> None:
        """Keep everything."""

    def _store(self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None) -> str:
        content = body if isinstance(body, bytes) else body.read()
        etag = hashlib.sha256(content).hexdigest()
        self.objects[key] = (Content(content, etag, dict(metadata or {})), datetime.now(UTC))
        return etag

    def _call(self) -> _Call:
        return _Call(self)

    # What readers see

    def globbed(self) -> list[Mark]:
        """Return the marks that a reader sees who takes every object and counts each change once."""
        return sorted({mark for key in self.objects for mark in self._marks(key)})

    def stored(self) -> list[Mark]:
        """Return the marks in all objects, repeated ones repeated."""
        return sorted(mark for key in self.objects for mark in self._marks(key))

    def logged(self) -> list[Mark]:
        """Return the marks that a reader sees who follows the log, repeated ones repeated."""
        return sorted(mark for key in self.state().live for mark in self._marks(FOLDER + key))

    def state(self) -> lake_log.State:
        """Return the table as its log says, entry by entry."""
        state = lake_log.State()
        while (name := FOLDER + lake_log.entry_name(state.sequence + 1)) in self.objects:
            state.apply(lake_log.decode(self.objects[name][0].body))
        return state

    def names(self) -> list[str]:
        """Return the keys of the Parquet objects."""
        return sorted(key for key in self.objects if key.endswith(".parquet"))

    def table(self, key: str) -> pa.Table:
        """Return the rows of one object."""
        return pq.read_table(BytesIO(self.objects[key][0].body))

    def _marks(self, key: str) -> list[Mark]:
        if not key.endswith(".parquet"):
            return []
        rows = self.table(key)
        columns = (rows[name].to_pylist() for name in ("_partition", "_offset", "_version"))
        return list(zip(*columns, strict=True))


@dataclass
class _Call:
    """One call of a bucket: alone, counted, and perhaps the last one."""

    bucket: MemoryBucket

    def __enter__(self) -> None:
        self.bucket.lock.acquire()
        self.bucket.calls += 1
        if self._over(after=False):
            self.bucket.lock.release()
            raise Killed

    def __exit__(self, *_: object) -> None:
        self.bucket.lock.release()
        if self._over(after=True):
            raise Killed

    def _over(self, *, after: bool) -> bool:
        """Say whether it is over: from the fatal call on, nothing is done any more."""
        if self.bucket.dies is None:
            return False
        number, late = self.bucket.dies
        return self.bucket.calls > number or (self.bucket.calls == number and after == late)


def writer(bucket: MemoryBucket, contract: Contract = PARCEL) -> LakeWriter:
    """Return a worker's writer on a bucket in memory."""
    nowhere = Endpoints(*[""] * 7)
    return LakeWriter(TABLE, contract, nowhere, LakeSettings(), bucket)

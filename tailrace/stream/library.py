"""Where images lie: one RocksDB for each partition in a folder of this process's own, and changelogs read from Kafka.

The folder is ``.tailrace/state/<worker>/<random>``, held by a lock, so that two processes on one machine never meet.
What processes left behind that are gone is removed at start. The databases have no log of their own: they are rebuilt.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition
from rocksdict import BlockBasedOptions, Options, Rdict, WriteBatch, WriteOptions

from tailrace.deadline import Deadline
from tailrace.errors import Retryable, Unreachable
from tailrace.kafka import KafkaAdmin, reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tailrace.kafka import Place
    from tailrace.stream.changelog import Message

MESSAGES = 2_000  # 20,000 at once take a fifth more time: they leave the cache before they are looked at
READING = {"queued.max.messages.kbytes": 131_072, "max.partition.fetch.bytes": 16 << 20, "fetch.wait.max.ms": 20}
SILENCE = 30.0  # seconds without a message after which a restore is tried again
_LOCK = "lock"


class RocksStore:
    """The images of one partition."""

    def __init__(self, folder: Path) -> None:
        self.used = False
        self._folder = folder
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(32 << 20)
        self._database = Rdict(str(folder), options)
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True

    def get(self, key: bytes) -> bytes | None:
        """Return what is kept under a key."""
        found: bytes | None = self._database.get(key)
        return found

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Keep all changes together."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is not None:
                batch.put(key, value)
                self.used = True
            elif self.used:
                batch.delete(key)
        self._database.write(batch, self._unlogged)

    def drop(self) -> None:
        """Close and remove the database."""
        self._database.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Disk:
    """The library of one process."""

    def __init__(self, folder: Path, bootstrap: str, changelogs: Mapping[str, str]) -> None:
        self._bootstrap, self._changelogs = bootstrap, changelogs
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        self._reader: Any = None  # one for all partitions: connecting takes longer than a small changelog
        self._lock: int | None = None
        while self._lock is None:  # another process may sweep a folder away in the moment before it is locked
            self.folder = folder / secrets.token_hex(6)
            self.folder.mkdir()
            self._lock = _locked(self.folder)

    def store(self, place: Place) -> RocksStore:
        """Return an empty store."""
        return RocksStore(self.folder / f"{place[0]}-{place[1]}-{secrets.token_hex(3)}")

    def drop(self, store: Any) -> None:
        """Remove a store."""
        store.drop()

    def read(self, begins: Mapping[Place, int]) -> Iterator[tuple[Place | None, Sequence[Message], bool]]:
        """Yield what changelogs hold from an offset each up to their present ends, as one reading of all."""
        if self._reader is None:
            self._reader = reader(self._bootstrap, "state", **READING)
        names = {self._changelogs[table]: table for table, _ in begins}
        admin = KafkaAdmin(self._bootstrap)
        try:
            lows, ends = admin.starts(names), admin.ends(names)
        except Unreachable as silent:
            raise Retryable("A changelog cannot be read.", detail=silent.detail) from silent
        spans = {}
        for (table, partition), since in begins.items():
            place = self._changelogs[table], partition
            if place not in ends:
                raise Retryable("A changelog is not there.", detail=place[0])
            spans[place] = Span((table, partition), max(since, lows[place]), ends[place])
        try:
            yield from _messages(self._reader, spans)
        finally:
            if self._reader is not None:  # closed meanwhile, the reading was never ended
                self._reader.unassign()

    def close(self) -> None:
        """Remove the folder; the databases in it are not used any more."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True)
class Span:
    """What is left to be read of one changelog's partition, for a raw partition."""

    of: Place
    following: int
    end: int


def _messages(consumer: Any, spans: dict[Place, Span]) -> Iterator[tuple[Place | None, Sequence[Message], bool]]:
    consumer.assign([TopicPartition(*place, span.following) for place, span in spans.items()])
    for place in [place for place, span in spans.items() if span.following >= span.end]:
        yield spans.pop(place).of, (), True
    patience = Deadline.after(SILENCE)
    while spans:
        left = sum(span.end - span.following for span in spans.values())
        found = _sorted(consumer.consume(min(MESSAGES, left), 0.25), spans)
        if found:
            patience = Deadline.after(SILENCE)
        elif patience.passed():
            place, span = next(iter(spans.items()))
            raise Retryable("A changelog stops before its end.", detail=f"{place[0]}/{place[1]} at {span.following}")
        else:
            yield None, (), False
        for place, messages in found.items():
            span = spans[place]
            span.following = messages[-1][0] + 1
            over = span.following >= span.end
            if over:
                del spans[place]
            yield span.of, messages, over


def _sorted(messages: Sequence[Any], spans: Mapping[Place, Span]) -> dict[Place, list[Message]]:
    """Return messages by partition; what is no message, or of a partition that is over, is left out."""
    found: dict[Place, list[Message]] = {}
    for message in messages:  # an error has no key, and every message of a changelog has one
        place = message.topic(), message.partition()
        if place in spans and (key := message.key()) is not None:
            found.setdefault(place, []).append((message.offset(), key, message.value()))
    return found


def _locked(folder: Path) -> int | None:
    """Return the lock of a folder, or None when another process holds it."""
    handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _sweep(folder: Path) -> None:
    """Remove what processes left behind that are gone."""
    for left in folder.iterdir():
        if left.is_dir() and (left / _LOCK).exists() and (lock := _locked(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)

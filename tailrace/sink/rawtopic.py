"""Messages of a raw topic taken as they are: the version that each has, and what its envelope tells.

The version is the one that a processor gives the same record, ``epoch << 48 | offset``, so it needs the epoch's
boundaries: they are read once, and ``Lives.confirm`` is asked at every assignment. A new epoch is written only while
the group is empty, so a worker that still knows the old one finds out before it has given a version.
Nothing is decoded and nothing is refused: what tells nothing has its place and Kafka's time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tailrace import epoch, version
from tailrace.change import Change
from tailrace.kafka import KafkaAdmin
from tailrace.source.origin import NOTHING, Origin, Origins

if TYPE_CHECKING:
    from tailrace.epoch import Ages
    from tailrace.sink.decode import Message

CONFIRMED_SECONDS = 1.0  # shorter than any session of a group: nobody leaves it and comes back within that
LAST_US = 253_402_300_800_000_000  # the year 10000: no date has more digits


class Timed(Protocol):
    """What is used of a Kafka message beyond ``decode.Message``."""

    def timestamp(self) -> tuple[int, int]:
        """Return what kind of time it is, 0 for none, and the time in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class RawChange(Change):
    """One raw record; ``committed_us`` is Kafka's time where the envelope tells none."""

    timestamp_ms: int | None = None
    told: Origin = NOTHING


class RawReader:
    """Makes changes of the messages of one raw topic; safe to share between threads."""

    def __init__(self, table: str, ages: Ages) -> None:
        self._table, self._ages, self._origins = table, ages, Origins()

    def change(self, message: Message, timed: Timed) -> RawChange:
        """Return a message as a change; both arguments are the message."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        value, kind_and_time = message.value(), timed.timestamp()
        told = self._origins.read(value)
        timestamp = kind_and_time[1] if kind_and_time[0] else None
        return RawChange(
            record=self._table,
            key={},
            value=None,
            before=None,
            version=version.pack(self._ages.at(partition, offset), offset),
            op=told.op or "",
            lsn=told.lsn,
            committed_us=committed(told, timestamp),
            tx="",
            origin=f"{topic}/{partition}/{offset}",
            topic=topic,
            partition=partition,
            offset=offset,
            raw_key=message.key(),
            raw_value=value,
            headers=message.headers() or (),
            timestamp_ms=timestamp,
            told=told,
        )


def committed(told: Origin, timestamp_ms: int | None) -> int:
    """Return the time that decides a record's date: the source's, else Kafka's, else 1970.

    It depends on the record alone, so that a record that is read again has the same date.
    """
    for found in (told.committed_us, None if timestamp_ms is None else timestamp_ms * 1000):
        if found is not None and 0 <= found < LAST_US:
            return found
    return 0


class Life(Protocol):
    """What a writer of raw records asks of the pipeline."""

    def confirm(self) -> None:
        """Raise Refused when the epoch is no longer the one that versions are given under."""

    def oldest(self, topic: str, partition: int) -> int:
        """Return the oldest offset that a partition still has."""


class Lives:
    """The epoch of a running worker, as the control topic had it when the worker was opened."""

    def __init__(self, bootstrap: str, pipeline: str) -> None:
        self._admin, self._pipeline = KafkaAdmin(bootstrap), pipeline
        self._epoch = epoch.need(self._admin, pipeline)
        self._confirmed, self._lock = float("-inf"), threading.Lock()

    def ages(self, topic: str) -> Ages:
        """Return which epoch each offset of a raw topic belongs to."""
        return self._epoch.ages(topic)

    def confirm(self) -> None:
        """Look at epoch and topics again; partitions that come together are looked at once."""
        with self._lock:
            if time.monotonic() - self._confirmed < CONFIRMED_SECONDS:
                return
            epoch.confirm(self._admin, self._pipeline, self._epoch.epoch)
            self._epoch.check(self._admin)
            self._confirmed = time.monotonic()

    def oldest(self, topic: str, partition: int) -> int:
        """Return the oldest offset that a partition still has."""
        return self._admin.starts([topic])[topic, partition]

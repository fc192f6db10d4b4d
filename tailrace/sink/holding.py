"""Held keys: under ``on_reject = "hold"`` nothing is written of a key while an older change of it is parked.

Which keys that are is read from the worker's dead-letter topic, up to its end, before each batch: so it survives a
restart, goes with the partitions when they move, and hears of a settlement at once. A letter holds its key as long as
it is not settled; what is parked only because it had to wait holds nothing by itself. A lake holds every change as a
row of its own, so nothing has to wait there.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from tailrace import deadletter
from tailrace.deadline import Deadline
from tailrace.errors import Retryable
from tailrace.kafka import reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailrace.change import Change
    from tailrace.deadletter import Spot

READ_SECONDS = 30.0
MESSAGES = 1000
ANSWER_SECONDS, CLOSE_SECONDS = 10.0, 1.0

Mark = tuple[str, str, bytes | None]  # sink, topic, key; an empty sink stands for all


class Root(NamedTuple):
    """The letter that holds a key: the record's version, -1 where it has none, its offset and its source."""

    version: int
    offset: int
    source: str

    def older(self, version: int, offset: int) -> bool:
        """Say whether it came before another record of the key."""
        return self.version < version if self.version >= 0 else self.offset < offset


class Held:
    """The open letters that hold keys; it grows message by message."""

    def __init__(self) -> None:
        self._marks: dict[Spot, Mark] = {}
        self._roots: dict[Mark, dict[Spot, Root]] = {}

    def take(self, spot: Spot, key: bytes | None, headers: Any) -> None:
        """Take in one message of the dead-letter topic."""
        settled = deadletter.settlement(headers)
        if settled is not None:
            for place in settled.places:
                self._release(place)
            return
        letter = deadletter.read(key, None, headers)
        if letter.stage == deadletter.HELD or not letter.source:
            return
        topic, _, offset = letter.place
        mark = letter.sink, topic, key
        self._marks[spot] = mark
        root = Root(deadletter.version_in(letter.headers), offset, letter.source)
        self._roots.setdefault(mark, {})[spot] = root

    def holder(self, sink: str, change: Change) -> str:
        """Return the source of a letter that a change has to wait for; empty where there is none."""
        for name in (sink, ""):
            for root in self._roots.get((name, change.topic, change.raw_key), {}).values():
                if root.older(change.version, change.offset):
                    return root.source
        return ""

    def _release(self, spot: Spot) -> None:
        mark = self._marks.pop(spot, None)
        if mark is not None:
            self._roots[mark].pop(spot)
            if not self._roots[mark]:
                del self._roots[mark]


class Holding:
    """The held keys of one worker, as its dead-letter topic has them."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._held, self._lock = Held(), threading.Lock()
        self._consumer: Any = None
        self._next: dict[int, int] = {}

    def holders(self, sink: str, changes: Sequence[Change]) -> list[str]:
        """Return for each change what it has to wait for."""
        with self._lock:
            return [self._held.holder(sink, change) for change in changes]

    def refresh(self) -> None:
        """Read the topic up to its present end; Retryable when it cannot be read."""
        with self._lock:
            try:
                self._read()
            except KafkaException as error:
                raise Retryable("The dead letters cannot be read.", detail=error.args[0].name()) from error

    def close(self) -> None:
        """Close the connection, unless a thread hangs in it: that ends with the process."""
        if self._lock.acquire(timeout=CLOSE_SECONDS):
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
            self._lock.release()

    def _read(self) -> None:
        if self._consumer is None:
            self._open()
        ends = {number: self._end(number) for number in self._next}
        deadline = Deadline.after(READ_SECONDS)
        while any(self._next[number] < end for number, end in ends.items()):
            if deadline.passed():
                raise Retryable("The dead letters were not read in time.", detail=self._topic)
            for message in self._consumer.consume(MESSAGES, 0.1):
                if message.error() is None:
                    self._held.take((message.partition(), message.offset()), message.key(), message.headers())
                    self._next[message.partition()] = message.offset() + 1

    def _open(self) -> None:
        consumer = reader(self._bootstrap, self._topic)
        partitions = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic].partitions
        starts = {
            number: consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=ANSWER_SECONDS)[0]
            for number in partitions
        }
        consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in starts.items()])
        self._consumer, self._next = consumer, dict(starts)

    def _end(self, number: int) -> int:
        return int(self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=ANSWER_SECONDS)[1])


def runs(changes: Sequence[Change]) -> Iterator[slice]:
    """Cut a batch before the second change of any key, so that each is written after the one before it is judged."""
    start = 0
    seen: set[bytes | None] = set()
    for position, change in enumerate(changes):
        if change.raw_key in seen:
            yield slice(start, position)
            start, seen = position, set()
        seen.add(change.raw_key)
    if start < len(changes):
        yield slice(start, len(changes))

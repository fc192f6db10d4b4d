"""How often something came twice, counted in the topics themselves: what Debezium sent again, what was conformed again.

Both are promised to happen after a crash and to change nothing (docs/debezium.md, docs/decisions/0002). What a sink got
twice shows in its counter of stale writes. Records from before the drill are not looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from tailrace import topics
from tailrace.change import VERSION
from tailrace.deadline import Deadline
from tailrace.errors import Unreachable
from tailrace.kafka import KafkaAdmin, reader

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from confluent_kafka import Message

    from tailrace.kafka import Offsets
    from tailrace.project import Project

READ_WITHIN = 120.0
SOURCE = b'"source":{'  # in text its quotes would be escaped
PARTS = tuple(re.compile(pattern) for pattern in (rb'"lsn":(\d+)', rb'"txId":(\d+)', rb'"op":"(\w)"'))


class Duplicates:
    """Counts from the moment it is made."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._raw = [topics.raw(project.name, table) for table in project.tables]
        records = dict.fromkeys(project.record_of(table) for table in project.tables)
        self._conformed = [topics.conformed(project.name, record) for record in records]
        self._admin = KafkaAdmin(project.endpoints.kafka)
        self._starts = self._admin.ends([*self._raw, *self._conformed])

    def count(self) -> dict[str, int]:
        """Return how many records there are since then, and how many of them were there already."""
        raw, again = repeated(map(raw_identity, self._read(self._raw)))
        conformed, twice = repeated(map(conformed_identity, self._read(self._conformed)))
        return {
            "raw records": raw,
            "sent again by Debezium": again,
            "conformed records": conformed,
            "conformed again": twice,
        }

    def _read(self, names: list[str]) -> Iterator[Message]:
        """Yield everything in some topics since the beginning."""
        ends = self._admin.ends(names)
        left = {place: end for place, end in ends.items() if end > self._starts.get(place, 0)}
        consumer = reader(self._admin.bootstrap, f"{self._project.name}-drill")
        consumer.assign([TopicPartition(*place, self._starts.get(place, 0)) for place in left])
        deadline = Deadline.after(READ_WITHIN)
        try:
            while left:
                if deadline.passed():
                    raise Unreachable("The topics could not be read to their ends.", detail=f"{len(left)} partitions.")
                for message in consumer.consume(1000, 0.5):
                    yield from _sorted_out(message, left)
        finally:
            consumer.close()


def _sorted_out(message: Message, left: Offsets) -> Iterator[Message]:
    """Yield a record, and strike off the partition whose end was reached."""
    place = str(message.topic()), int(message.partition() or 0)
    if message.error() is None:
        yield message
    if int(message.offset() or 0) + (message.error() is None) >= left.get(place, 0):
        left.pop(place, None)


def repeated(identities: Iterable[Hashable | None]) -> tuple[int, int]:
    """Return how many there are and how many of them came before; None is neither."""
    count = again = 0
    seen: set[Hashable] = set()
    for identity in identities:
        if identity is not None:
            count += 1
            again += identity in seen
            seen.add(identity)
    return count, again


def raw_identity(message: Message) -> Hashable | None:
    """Return what names one change of one row as Debezium sends it; None for snapshots and what is no change."""
    value = message.value() or b""
    rest = value[value.rfind(SOURCE) :] if SOURCE in value else b""
    found = [pattern.search(rest) for pattern in PARTS]
    if not all(found):
        return None
    return (message.topic(), message.key(), *(part[1] for part in found if part))


def conformed_identity(message: Message) -> Hashable | None:
    """Return what names one conformed record: its place and version."""
    headers: Mapping[str, object] = dict(message.headers() or ())
    version = headers.get(VERSION)
    return (message.topic(), message.partition(), version) if version else None

"""The sweep: rows that vanished from the source while nobody watched get the delete that nobody saw.

After a new epoch's snapshot every row that is still there has a record of that epoch. So a key whose newest conformed
record is a row of an older epoch is gone, and the stores still hold it. The source is asked about each of them before
it counts as gone: a row that is there and has no new record was filtered out or parked, and is left alone and counted.

The delete goes to the same conformed topic, partition and key, with the last version before the epoch: newer than all
that is older, older than all of the epoch. So a row that comes back meanwhile is never touched, and a second sweep
finds nothing to do. What a partition holds under a key that has moved to another one by a change of the partition
count is swept as well: there the delete is older than the row's new version and every store leaves it alone.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace import topics, version
from tailrace.change import BEFORE, Provenance, provenance
from tailrace.deadline import Deadline
from tailrace.errors import Rejected, Unreachable
from tailrace.kafka import Outbox, reader
from tailrace.source.catalogue import quote, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from confluent_kafka import Consumer, Message

    from tailrace.control.services import Services
    from tailrace.kafka import Place

    Seen = tuple[bytes, int, int, bool]  # key, offset, version, whether it is a delete

ASKED = 500  # keys in one question to the source
SILENCE = 30.0  # seconds without a record before a partition counts as unreadable


@dataclass(frozen=True, slots=True)
class Swept:
    """What the sweep of one record did: keys looked at, deletes written, rows that are there after all."""

    record: str
    keys: int
    deleted: int
    kept: int


def candidates(seen: Iterable[Seen], epoch: int) -> tuple[dict[bytes, int], int]:
    """Return the offsets of the newest records that are rows of an older epoch, by key, and how many keys there are.

    A partition's records are given in their order. The newest record of a key is the one with the highest version.
    """
    newest: dict[bytes, int] = {}
    old: dict[bytes, int] = {}
    for key, offset, number, deleted in seen:
        if number < newest.get(key, -1):
            continue
        newest[key] = number
        if deleted or version.unpack(number)[0] >= epoch:
            old.pop(key, None)
        else:
            old[key] = offset
    return old, len(newest)


def last_before(epoch: int) -> int:
    """Return the version of a sweep's deletes: the last one before the epoch."""
    return version.pack(epoch, 0) - 1


def delete_headers(raw: str, partition: int, epoch: int, before: bytes, now_us: int) -> list[tuple[str, bytes | None]]:
    """Return the headers of a delete; ``before`` is the framed row, for stores whose key is built of its columns."""
    origin = f"{raw}/{partition}/{version.MAX_OFFSET}"
    made = Provenance(last_before(epoch), "d", None, now_us, f"sweep-{epoch}", origin)
    return [*made.headers(), (BEFORE, before)]


def sweep(services: Services, epoch: int, record: str, say: Callable[[str], None]) -> Swept:
    """Sweep one conformed topic up to its present end; return when Kafka has every delete."""
    with closing(Outbox(services.project.endpoints.kafka, f"{services.project.name}-sweep")) as outbox:
        return _Sweep(services, outbox, record, epoch).run(say)


class _Sweep:
    """One topic's sweep, partition by partition; it holds the keys of one partition at a time."""

    def __init__(self, services: Services, outbox: Outbox, record: str, epoch: int) -> None:
        self._services, self._outbox, self._record, self._epoch = services, outbox, record, epoch
        project = services.project
        self._table, self._contract = project.table_of(record), project.contract(record)
        self._topic = topics.conformed(project.name, record)
        self._raw = topics.raw(project.name, self._table)
        starts, ends = services.admin.starts([self._topic]), services.admin.ends([self._topic])
        self._spans = {place: (starts[place], ends[place]) for place in sorted(ends) if ends[place] > starts[place]}

    def run(self, say: Callable[[str], None]) -> Swept:
        """Sweep every partition, then what moved to another one."""
        keys = deleted = 0
        kept: dict[Place, dict[bytes, int]] = {}
        for place, span in self._spans.items():
            old, count = candidates(map(_seen, self._messages(place, *span)), self._epoch)
            there = self._there(old)
            kept[place] = {key: offset for key, offset in old.items() if key in there}
            gone = {offset for key, offset in old.items() if key not in there}
            deleted += self._write(place, gone)
            keys += count
            say(f"{self._record}/{place[1]}: {count:,} keys, {len(gone):,} gone")
        moved = self._moved({key for held in kept.values() for key in held})
        for place, held in kept.items():
            deleted += self._write(place, {offset for key, offset in held.items() if key in moved})
        alone = {key for held in kept.values() for key in held} - moved
        return Swept(self._record, keys, deleted, len(alone))

    def _there(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return the keys that the source has."""
        listed, found = list(keys), set()
        for start in range(0, len(listed), ASKED):
            some = listed[start : start + ASKED]
            sql = question(self._table, self._contract.key, len(some))
            parameters = [asked for key in some for asked in map(_parameter, self._contract.decode_key(key).values())]
            found |= {some[row.position] for row in rows(self._services.database, sql, parameters)}
        return found

    def _moved(self, keys: set[bytes]) -> set[bytes]:
        """Return those of the keys that have a record of this epoch, in whatever partition that is."""
        if not keys:
            return set()
        return {
            key
            for place, span in self._spans.items()
            for key, _, number, _ in map(_seen, self._messages(place, *span))
            if key in keys and version.unpack(number)[0] == self._epoch
        }

    def _write(self, place: Place, gone: set[int]) -> int:
        """Read the rows that are gone once more and send their deletes; return when they are acknowledged."""
        if not gone:
            return 0
        now = int(time.time() * 1e6)
        for message in self._messages(place, min(gone), max(gone) + 1):
            before = message.value()
            if message.offset() in gone and before is not None:
                headers = delete_headers(self._raw, place[1], self._epoch, before, now)
                self._outbox.send(place[0], key=message.key(), value=None, headers=headers, partition=place[1])
        self._outbox.flush()
        return len(gone)

    def _messages(self, place: Place, start: int, end: int) -> Iterator[Message]:
        """Yield the records of a partition between two offsets; a silent broker is Unreachable."""
        with closing(reader(self._services.project.endpoints.kafka, f"{self._services.project.name}-sweep")) as found:
            yield from _read(found, place, start, end)


def _seen(message: Message) -> Seen:
    """Return what matters of a record; one without our headers is nobody's row and is left alone."""
    try:
        number = provenance(message.headers()).version
    except Rejected:
        return message.key() or b"", message.offset() or 0, version.pack(version.MAX_EPOCH, 0), True
    return message.key() or b"", message.offset() or 0, number, message.value() is None


def _parameter(value: Any) -> Any:
    """Return a key's value as the driver takes it; the column's type does the rest."""
    return str(value) if isinstance(value, UUID) else value


def question(table: str, key: Sequence[str], count: int) -> str:
    """Return the SQL that asks which of ``count`` keys exist, by their positions; columns keep their types."""
    matches = " AND ".join(f"t.{quote_column(column)} = %s" for column in key)
    asked = [
        f"SELECT {number} AS position WHERE EXISTS (SELECT FROM {quote(table)} t WHERE {matches})"
        for number in range(count)
    ]
    return " UNION ALL ".join(asked)


def quote_column(name: str) -> str:
    """Return a column's name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _read(consumer: Consumer, place: Place, start: int, end: int) -> Iterator[Message]:
    consumer.assign([TopicPartition(*place, start)])
    silence = Deadline.after(SILENCE)
    while not silence.passed():
        for message in [*consumer.consume(1, 0.5), *consumer.consume(2000, 0.0)]:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                return
            if error is not None:
                if error.retriable():
                    continue
                raise KafkaException(error)
            if (message.offset() or 0) >= end:
                return
            yield message
            if (message.offset() or 0) == end - 1:
                return
            silence = Deadline.after(SILENCE)
    raise Unreachable(f"{place[0]}/{place[1]} could not be read to its end.", detail=f"Silent for {SILENCE:g} s.")

"""One record's conformed topic, read by hand, and the source asked about its keys: what both sweeps are made of.

A partition is read at a time, between offsets that were looked up before. Deletes and updates go to the same conformed
topic, partition and key as the row that they are about, never to a store: every sink, also one that is added later,
sees the same history. It decides nothing; who deletes what is for ``sweep`` and ``vanished``.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace import topics, version
from tailrace.change import BEFORE, Provenance, provenance
from tailrace.contract import build, schema_id
from tailrace.deadline import Deadline
from tailrace.errors import Rejected, Unreachable
from tailrace.kafka import reader
from tailrace.source.catalogue import quote, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka import Consumer, Message

    from tailrace.contract import Contract
    from tailrace.control.services import Services
    from tailrace.kafka import Outbox, Place

    Row = Mapping[str, Any]
    Were = Callable[[Contract, Row], Iterable[Row]]  # where a row was before, under the contract it was written with
    Made = Callable[[Message], Iterable[tuple[bytes | None, bytes | None]]]

ASKED = 500  # keys in one question to the source
SILENCE = 30.0  # seconds without a record before a partition counts as unreadable
EVERY_TX = 1 << 32  # a transaction is named by 32 bits in the stream


class Seen(NamedTuple):
    """What matters of a conformed record; ``tx`` is the source's transaction, empty where it is not known."""

    key: bytes
    offset: int
    version: int
    deleted: bool
    tx: str = ""


def candidates(seen: Iterable[Seen], below: int) -> tuple[dict[bytes, Seen], int]:
    """Return by key the newest records that are rows with a version below a bound, and how many keys there are.

    A partition's records are given in their order. The newest record of a key is the one with the highest version.
    """
    newest: dict[bytes, int] = {}
    old: dict[bytes, Seen] = {}
    for record in seen:
        if record.version < newest.get(record.key, -1):
            continue
        newest[record.key] = record.version
        if record.deleted or record.version >= below:
            old.pop(record.key, None)
        else:
            old[record.key] = record
    return old, len(newest)


def newest(seen: Iterable[Seen], wanted: Callable[[bytes], bool]) -> tuple[dict[bytes, Seen], int]:
    """Return by key the newest records of the keys that are wanted, deletes included, and how many those are."""
    found: dict[bytes, Seen] = {}
    for record in seen:
        there = found.get(record.key)
        if (there is not None and record.version >= there.version) or (there is None and wanted(record.key)):
            found[record.key] = record
    return found, len(found)


def visible(tx: str, snapshot: str) -> bool:
    """Say whether a snapshot, as ``pg_current_snapshot()`` shows it, sees what a transaction of the stream did.

    A commit is in the WAL, and may be in Kafka, before others see it. Rows that a query read carry no transaction.
    """
    if not tx:
        return True
    if not tx.isdigit():
        return False
    _, upper, running = snapshot.split(":")
    if (int(tx) - int(upper)) % EVERY_TX < EVERY_TX // 2:
        return False
    return int(tx) % EVERY_TX not in {int(other) % EVERY_TX for other in running.split(",") if other}


class Answer(NamedTuple):
    """Which of the keys that were asked about the source had, and what it could see at that moment."""

    there: frozenset[bytes]
    snapshot: str


class Records:
    """The conformed topic of one record, its raw topic, and its table."""

    def __init__(self, services: Services, record: str) -> None:
        project = services.project
        self._services, self.record = services, record
        self._table, self._contract = project.table_of(record), project.contract(record)
        self.topic, self.raw = topics.conformed(project.name, record), topics.raw(project.name, self._table)

    def spans(self) -> dict[Place, tuple[int, int]]:
        """Return where each partition that holds something begins and ends now."""
        starts, ends = self._services.admin.starts([self.topic]), self._services.admin.ends([self.topic])
        return {place: (starts[place], ends[place]) for place in sorted(ends) if ends[place] > starts[place]}

    def seen(self, place: Place, start: int, end: int) -> Iterator[Seen]:
        """Yield what matters of the records of a partition between two offsets."""
        return map(_seen, self.messages(place, start, end))

    def messages(self, place: Place, start: int, end: int) -> Iterator[Message]:
        """Yield the records of a partition between two offsets; a silent broker is Unreachable."""
        return read(self._services, place, start, end)

    def ask(self, keys: Iterable[bytes]) -> Iterator[tuple[Sequence[bytes], Answer]]:
        """Ask the source about keys, some at a time, each time as of one moment."""
        listed = list(keys)
        for start in range(0, len(listed), ASKED):
            some = listed[start : start + ASKED]
            sql = question(self._table, self._contract.key, len(some))
            parameters = [asked for key in some for asked in map(_parameter, self._contract.decode_key(key).values())]
            answer = rows(self._services.database, sql, parameters)
            there = frozenset(some[row.position] for row in answer if row.position >= 0)
            yield some, Answer(there, answer[0].snapshot)

    def delete(self, outbox: Outbox, place: Place, gone: set[int], number: int, *, tx: str) -> int:
        """Read the records at some offsets once more and send their deletes; return how many are acknowledged."""

        def made(message: Message) -> Iterator[tuple[bytes | None, bytes | None]]:
            yield None, message.value() or _before(message)

        return self._again(outbox, place, gone, number, tx=tx, made=made)

    def move(self, outbox: Outbox, place: Place, rows: set[int], number: int, *, tx: str, were: Were) -> int:
        """Send the rows at some offsets again as updates from where they were; return how many are acknowledged."""

        def made(message: Message) -> Iterator[tuple[bytes | None, bytes | None]]:
            value = message.value() or b""
            schema = self._services.registry.writer(schema_id(value))
            written = build(self.record, schema, where=f"{self.record} in the registry")
            for before in were(written, written.decode(value)):
                yield value, written.encode(before, schema_id(value))

        return self._again(outbox, place, rows, number, tx=tx, made=made)

    def _again(self, outbox: Outbox, place: Place, offsets: set[int], number: int, *, tx: str, made: Made) -> int:
        """Read the records at some offsets once more and send what is ``made`` of each, value and row before."""
        if not offsets:
            return 0
        now, sent = int(time.time() * 1e6), 0
        for message in self.messages(place, min(offsets), max(offsets) + 1):
            for value, before in made(message) if message.offset() in offsets else ():
                op = "d" if value is None else "u"
                headers = written_headers(op, (self.raw, place[1]), number, tx=tx, before=before, now_us=now)
                outbox.send(place[0], key=message.key(), value=value, headers=headers, partition=place[1])
                sent += 1
        outbox.flush()
        return sent


def written_headers(
    op: str, raw: Place, number: int, *, tx: str, before: bytes | None, now_us: int
) -> list[tuple[str, bytes | None]]:
    """Return the headers of a record; ``before`` is the framed row, for stores whose key is built of its columns."""
    origin = f"{raw[0]}/{raw[1]}/{version.unpack(number)[1]}"
    known = [] if before is None else [(BEFORE, before)]
    return [*Provenance(number, op, None, now_us, tx, origin).headers(), *known]


def _before(message: Message) -> bytes | None:
    """Return what a delete says of the row that it took away."""
    return dict(message.headers() or ()).get(BEFORE)


def question(table: str, key: Sequence[str], count: int) -> str:
    """Return the SQL that asks which of ``count`` keys exist, by their positions; columns keep their types.

    One more row, with the position -1, says what the statement could see.
    """
    matches = " AND ".join(f"t.{_quote_column(column)} = %s" for column in key)
    asked = [
        f"SELECT {number} AS position WHERE EXISTS (SELECT FROM {_quote(table)} t WHERE {matches})"
        for number in range(count)
    ]
    listed = " UNION ALL ".join(["SELECT -1 AS position", *asked])
    return f"SELECT position, pg_current_snapshot()::text AS snapshot FROM ({listed}) q"


def _quote(table: str) -> str:
    return quote(table).replace("%", "%%")


def _quote_column(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def _parameter(value: Any) -> Any:
    """Return a key's value as the driver takes it; the column's type does the rest."""
    return str(value) if isinstance(value, UUID) else value


def _seen(message: Message) -> Seen:
    """Return what matters of a record; one without our headers is nobody's row and is left alone."""
    key, offset = message.key() or b"", message.offset() or 0
    try:
        found = provenance(message.headers())
    except Rejected:
        return Seen(key, offset, version.pack(version.MAX_EPOCH, 0), deleted=True)
    return Seen(key, offset, found.version, message.value() is None, found.tx)


def read(services: Services, place: Place, start: int, end: int) -> Iterator[Message]:
    """Yield the messages of a partition between two offsets; a silent broker is Unreachable."""
    if start >= end:
        return
    with closing(reader(services.admin.bootstrap, f"{services.project.name}-sweep")) as consumer:
        yield from _read(consumer, place, start, end)


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

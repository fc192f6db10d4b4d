"""Conforming, pure: one batch of raw records of one partition becomes outputs and dead letters.

It does no I/O and keeps no state between batches besides what it knows of schemas. Every raw record becomes exactly one
output, one dead letter, or nothing where that is the rule (the tombstone behind its own delete). Outputs keep the raw
record's partition and order. A user's function may raise anything: that record is a dead letter, the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tailrace import deadletter, version
from tailrace.change import BEFORE, COMMITTED, LSN, OP, ORIGIN, TX, VERSION
from tailrace.errors import Rejected
from tailrace.source.envelope import EnvelopeReader, Event
from tailrace.stream.fitting import Fitting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.conforming import ConformFunction, Row
    from tailrace.contract import Contract

    Headers = Sequence[tuple[str, bytes | None]]

_WRITES = frozenset("cur")


class RawRecord(Protocol):
    """What is read of a consumed message; ``timestamp`` is Kafka's, in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Output(NamedTuple):
    """One message to send."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Conformed:
    """What a batch became; ``committed_us`` holds the source commit time of every output, for the metrics."""

    outputs: list[Output] = field(default_factory=list)
    letters: list[deadletter.DeadLetter] = field(default_factory=list)
    committed_us: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class TablePlan:
    """One table's way: from its raw topic through its function to the conformed topic."""

    raw: str
    topic: str
    contract: Contract
    schema_id: int
    function: ConformFunction | None = None


class TableConformer:
    """Conforms the records of one raw topic."""

    def __init__(self, plan: TablePlan, *, epoch: int) -> None:
        self.plan = plan
        self._contract = plan.contract
        self._epoch, self._raw = epoch, plan.raw.encode()
        kinds = {column.name: column.kind for column in plan.contract.fields}
        self._reader = EnvelopeReader(kinds, plan.contract.key)
        self._fitting = Fitting(plan.contract)

    def output(self, partition: int, record: RawRecord, deleted: set[bytes | None]) -> tuple[Output, int] | None:
        """Return what one record becomes and its source commit time, or raise Rejected.

        ``deleted`` holds the keys whose newest record in this batch was a delete; it is kept up to date here.
        """
        if record.value is None:
            if record.key in deleted:
                return None
            return self._tombstone(partition, record)
        event = self._reader.read(record.value)
        if event.op == "d":
            output = self._delete(partition, record, event)
            deleted.add(record.key)
            return output
        deleted.discard(record.key)
        if event.op not in _WRITES:
            raise Rejected(f"An event of the kind {event.op!r} is not supported.", stage="conform")
        return self._write(partition, record, event)

    def _write(self, partition: int, record: RawRecord, event: Event) -> tuple[Output, int]:
        row = event.after
        if row is None:
            raise Rejected("The event has no row after the change.", stage="decode")
        key = self._fitting.key(row)
        value = self._record(row, key)
        headers = self._headers(partition, record, event, event.op if value is not None else "d")
        framed = None if value is None else self._contract.encode(value, self.plan.schema_id)
        return Output(self.plan.topic, partition, self._fitting.key_bytes(key), framed, headers), event.committed_us

    def _delete(self, partition: int, record: RawRecord, event: Event) -> tuple[Output, int]:
        row = self._reader.read_key(record.key) if event.before is None else event.before
        key = self._fitting.key_bytes(self._fitting.key(row))
        headers = self._headers(partition, record, event, "d")
        return Output(self.plan.topic, partition, key, None, headers), event.committed_us

    def _tombstone(self, partition: int, record: RawRecord) -> tuple[Output, int]:
        """Return the delete of a tombstone that came without its ``d``; its time is Kafka's."""
        key = self._fitting.key_bytes(self._fitting.key(self._reader.read_key(record.key)))
        bare = Event(
            op="d", before=None, after=None, whole_before=False, lsn=None, committed_us=record.timestamp * 1000, tx=""
        )
        # Debezium writes the ``d`` right before its tombstone, maybe in the batch before: what the row was is settled.
        headers = [*self._headers(partition, record, bare, "d"), (BEFORE, b"")]
        return Output(self.plan.topic, partition, key, None, headers), bare.committed_us

    def _headers(self, partition: int, record: RawRecord, event: Event, op: str) -> Headers:
        found: list[tuple[str, bytes | None]] = [  # as change.Provenance.headers() gives them, without the detour
            (VERSION, b"%d" % version.pack(self._epoch, record.offset)),
            (OP, op.encode()),
            (LSN, b"" if event.lsn is None else b"%d" % event.lsn),
            (COMMITTED, b"%d" % event.committed_us),
            (TX, event.tx.encode()),
            (ORIGIN, b"%s/%d/%d" % (self._raw, partition, record.offset)),
        ]
        if event.before is not None and event.whole_before:
            before = self._record(event.before, self._fitting.key(event.before))
            known = b"" if before is None else self._contract.encode(before, self.plan.schema_id)
            found.append((BEFORE, known))  # empty: the row was filtered before, so there is nothing to take away
        return found

    def _record(self, row: Row, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the record of a row with this key; None where the user's function filters it."""
        if self.plan.function is None:
            return self._fitting.record(row, row)
        made = self._call(self.plan.function, dict(row))
        if made is None:
            return None
        record = self._fitting.record(made, row)
        for name, value in key.items():
            if record[name] != value:
                raise Rejected(
                    "The conform function changed the key.",
                    stage="conform",
                    detail=f"{name} is not what the row has.",
                    hint="A record keeps the primary-key columns of its row.",
                )
        return record

    def _call(self, function: ConformFunction, row: Row) -> Mapping[str, Any] | None:
        try:
            made = function(row)
        except Rejected:
            raise
        except Exception as error:  # a user's function may raise anything: the record is parked for it
            place = error.__traceback__.tb_next.tb_next if error.__traceback__ and error.__traceback__.tb_next else None
            line = f" in line {place.tb_lineno} of it" if place else ""
            raise Rejected(
                "The conform function failed.", stage="conform", detail=f"{type(error).__name__}{line}"
            ) from error
        if made is not None and not isinstance(made, dict | Mapping):
            raise Rejected(
                "The conform function returned neither a mapping nor None.",
                stage="conform",
                detail=f"It returned {type(made).__name__}.",
            )
        return made


def deleted_before(records: Sequence[RawRecord]) -> set[bytes | None]:
    """Return the keys that count as deleted when a batch begins.

    A tombstone lies directly behind its ``d``. One that comes first in a batch belongs to the ``d`` that ended the
    batch before, which has had its effect, in this process or an earlier one.
    """
    return {records[0].key} if records and records[0].value is None else set()


class Conformer:
    """Conforms batches of every table of one processor; ``worker`` names it in dead letters."""

    def __init__(self, plans: Iterable[TablePlan], *, epoch: int, worker: str) -> None:
        self._worker = worker
        self._tables = {plan.raw: TableConformer(plan, epoch=epoch) for plan in plans}

    def batch(
        self, topic: str, partition: int, records: Sequence[RawRecord], deleted: set[bytes | None] | None = None
    ) -> Conformed:
        """Return what a batch of one partition becomes.

        ``deleted`` is given, the same set each time, when one batch is conformed in several slices.
        """
        table = self._tables[topic]
        result = Conformed()
        deleted = deleted_before(records) if deleted is None else deleted
        for record in records:
            try:
                made = table.output(partition, record, deleted)
            except Rejected as rejected:
                result.letters.append(self._letter(topic, partition, record, rejected))
                continue
            if made is not None:
                result.outputs.append(made[0])
                result.committed_us.append(made[1])
        return result

    def _letter(self, topic: str, partition: int, record: RawRecord, rejected: Rejected) -> deadletter.DeadLetter:
        return deadletter.letter(
            worker=self._worker,
            stage=rejected.stage,
            reason=str(rejected),
            place=(topic, partition, record.offset),
            key=record.key,
            value=record.value,
            headers=record.headers,
        )

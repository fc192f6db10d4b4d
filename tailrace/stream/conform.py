"""Conforming, pure: one batch of raw records of one partition becomes outputs and dead letters.

It does no I/O and keeps no state between batches besides what it knows of schemas and, in the images that it is given,
of long values. Every raw record becomes exactly one output, one dead letter, or nothing where that is the rule (the
tombstone behind its own delete; what had its effect before). Outputs keep the raw record's partition and order. A
user's function may raise anything: that record is a dead letter, the others go on.
A batch goes through three passes (read, draft, frame) of many records each: a pass that is one library's work stays in
the processor's instruction cache, which is worth a quarter of the time of doing all three record by record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tailrace import deadletter, version
from tailrace.change import BEFORE, COMMITTED, LSN, MARKER, OP, ORIGIN, TX, VERSION
from tailrace.epoch import Ages
from tailrace.errors import Rejected
from tailrace.source.envelope import EnvelopeReader, Event
from tailrace.stream.drift import Held
from tailrace.stream.fitting import Fitting
from tailrace.stream.images import OLD_KEY, Superseded
from tailrace.stream.passes import deleted_before, passed
from tailrace.stream.watch import Watch
from tailrace.topics import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tailrace.conforming import ConformFunction, Row
    from tailrace.contract import Contract
    from tailrace.source.envelope import Shape
    from tailrace.source.unchanged import Placeholder
    from tailrace.stream.drift import Policy
    from tailrace.stream.images import Images

    Headers = Sequence[tuple[str, bytes | None]]
    # One raw record, read: no event for a tombstone; the shape is what the table looked like then, for the key.
    Seen = tuple["RawRecord", Event | None, Shape]

_WRITES = frozenset("cur")
_MOST = MESSAGE_BYTES - 64 * 1024  # bytes of a record and of the one before; the rest is for key and headers


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


class Draft(NamedTuple):
    """What one raw record becomes, before its value is framed; None as value is a delete."""

    record: RawRecord
    key: bytes
    value: dict[str, Any] | None
    headers: Headers
    committed_us: int


@dataclass(slots=True)
class Conformed:
    """What a batch became; ``committed_us`` holds the source commit time of every output, for the metrics."""

    outputs: list[Output] = field(default_factory=list)
    letters: list[deadletter.DeadLetter] = field(default_factory=list)
    committed_us: list[int] = field(default_factory=list)


class Shaping(Protocol):
    """What conforms the records of one raw topic; what it drafts is its own business, but begins with the record."""

    def version(self, partition: int, offset: int) -> int:
        """Return the version of the record at an offset."""

    def read(self, given: tuple[RawRecord]) -> Seen:
        """Return what a raw record says, or raise Rejected."""

    def restore(self, partition: int, images: Images, given: tuple[RawRecord]) -> Seen | None:
        """Do as ``read`` does with what was not sent restored; None where that is known no more nor needed."""

    def draft(self, partition: int, deleted: set[bytes | None], seen: Seen) -> Any:
        """Return what a record becomes, None for nothing, or raise Rejected."""

    def frame(self, partition: int, draft: Any) -> tuple[Output, int]:
        """Return the message of a draft and its source commit time, or raise Rejected."""


class Plan(Protocol):
    """One raw topic's way."""

    @property
    def raw(self) -> str:
        """The raw topic."""

    @property
    def changelog(self) -> str:
        """The changelog of the images that its records are restored from; empty where none are kept."""

    def shaping(self, ages: Ages) -> Shaping:
        """Return what conforms its records."""


@dataclass(frozen=True)
class TablePlan:
    """One table's way: from its raw topic through its function to the conformed topic."""

    raw: str
    topic: str
    contract: Contract
    schema_id: int
    function: ConformFunction | None = None
    placeholder: Placeholder | None = None  # what stands for an unchanged TOAST value; None is Debezium's own
    changelog: str = ""  # of the images that such values are restored from; empty where none are kept
    table: str = ""  # as people call it
    policy: Policy = "ignore"  # what is done with a column that the contract does not have
    emptied: bool = False  # a TRUNCATE deletes row by row before it empties the table: its own event says nothing more

    def shaping(self, ages: Ages) -> TableConformer:
        """Return what conforms its records."""
        return TableConformer(self, ages=ages)


class TableConformer:
    """Conforms the records of one raw topic."""

    def __init__(self, plan: TablePlan, *, ages: Ages) -> None:
        self.plan = plan
        self._contract = plan.contract
        self._ages, self._raw = ages, plan.raw.encode()
        kinds = {column.name: column.kind for column in plan.contract.fields}
        self.watch = Watch(plan.contract, plan.policy, plan.function)
        self._reader = EnvelopeReader(kinds, plan.contract.key, plan.placeholder, self.watch.judge)
        self._fitting = Fitting(plan.contract, self.watch.strangers)

    def version(self, partition: int, offset: int) -> int:
        """Return the version of the record at an offset."""
        return version.pack(self._ages.at(partition, offset), offset)

    def read(self, given: tuple[RawRecord]) -> Seen:
        """Return what a raw record says, or raise Rejected."""
        (record,) = given
        value = record.value
        event = None if value is None else self._reader.read(value, moved=_moved(record))
        return record, event, self._reader.shape

    def restore(self, partition: int, images: Images, given: tuple[RawRecord]) -> Seen | None:
        """Do as ``read`` does with what was not sent restored; None where that is known no more nor needed."""
        (record,) = given
        if record.value is None:
            images.gone(record.key)
            return record, None, self._reader.shape
        at = self.version(partition, record.offset)
        try:
            event = self._reader.read(record.value, partial(images.settle, record.key, at), moved=_moved(record))
        except Superseded:
            return None
        except Rejected:
            images.unread(record.key, at)
            raise
        return record, event, self._reader.shape

    def draft(self, partition: int, deleted: set[bytes | None], seen: Seen) -> Draft | None:
        """Return what a record becomes, or raise Rejected; None for the tombstone behind its own delete.

        ``deleted`` holds the keys whose newest record in this batch was a delete; it is kept up to date here.
        """
        record, event, shape = seen
        if event is None:
            passed_over = record.key in deleted or _marks(record)
            return None if passed_over else self._tombstone(partition, record, shape)
        if event.op == "d":
            draft = self._delete(partition, record, event, shape)
            deleted.add(record.key)
            return draft
        deleted.discard(record.key)
        if event.op in _WRITES:
            return self._write(partition, record, event)
        if event.op == "t" and self.plan.emptied:
            return None
        raise _no_row(event.op)

    def doubted(self, seen: Seen, rejected: Rejected) -> Held | None:
        """Return what holds the table at a record that was refused, None where the record is parked."""
        return self.watch.doubted(seen[1], seen[2], rejected)

    def frame(self, partition: int, draft: Draft) -> tuple[Output, int]:
        """Return the message of a draft and its source commit time, or raise Rejected."""
        value = None if draft.value is None else self._contract.encode(draft.value, self.plan.schema_id)
        if len(value or b"") + len(draft.headers[-1][1] or b"") > _MOST:  # the last header may be the record before
            raise Rejected("The record is larger than its topic takes.", stage="conform", detail=f"{_MOST:,} bytes.")
        return Output(self.plan.topic, partition, draft.key, value, draft.headers), draft.committed_us

    def _write(self, partition: int, record: RawRecord, event: Event) -> Draft:
        row = event.after
        if row is None:
            raise Rejected("The event has no row after the change.", stage="decode")
        value = self._record(row)
        op, key = ("d", self._fitting.key(row)) if value is None else (event.op, value)
        headers = self._headers(partition, record, event, op)
        return Draft(record, self._fitting.key_bytes(key), value, headers, event.committed_us)

    def _delete(self, partition: int, record: RawRecord, event: Event, shape: Shape) -> Draft:
        row = self._reader.read_key(record.key, shape) if event.before is None else event.before
        key = self._fitting.key_bytes(self._fitting.key(row))
        return Draft(record, key, None, self._headers(partition, record, event, "d"), event.committed_us)

    def _tombstone(self, partition: int, record: RawRecord, shape: Shape) -> Draft:
        """Return the delete of a tombstone that came without its ``d``; its time is Kafka's."""
        key = self._fitting.key_bytes(self._fitting.key(self._reader.read_key(record.key, shape)))
        bare = Event(
            op="d", before=None, after=None, whole_before=False, lsn=None, committed_us=record.timestamp * 1000, tx=""
        )
        # Debezium writes the ``d`` right before its tombstone, maybe in the batch before: what the row was is settled.
        headers = [*self._headers(partition, record, bare, "d"), (BEFORE, b"")]
        return Draft(record, key, None, headers, bare.committed_us)

    def _headers(self, partition: int, record: RawRecord, event: Event, op: str) -> Headers:
        found: list[tuple[str, bytes | None]] = [  # as change.Provenance.headers() gives them, without the detour
            (VERSION, b"%d" % self.version(partition, record.offset)),
            (OP, op.encode()),
            (LSN, b"" if event.lsn is None else b"%d" % event.lsn),
            (COMMITTED, b"%d" % event.committed_us),
            (TX, event.tx.encode()),
            (ORIGIN, b"%s/%d/%d" % (self._raw, partition, record.offset)),
        ]
        if event.before is not None and event.whole_before:
            before = self._record(event.before)
            known = b"" if before is None else self._contract.encode(before, self.plan.schema_id)
            found.append((BEFORE, known))  # empty: the row was filtered before, so there is nothing to take away
        return found

    def _record(self, row: Row) -> dict[str, Any] | None:
        """Return the record of a row; None where the user's function filters it."""
        if self.plan.function is None:
            return self._fitting.record(row, row)
        key = self._fitting.key(row)
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


def _moved(record: RawRecord) -> bool:
    """Say whether a change of the primary key brought a row here: its insert may lack what the old key's row had."""
    return bool(record.headers) and any(name == OLD_KEY for name, _ in record.headers)


def _marks(record: RawRecord) -> bool:
    """Say whether a record without value is a marker, which only has a place in its partition."""
    return record.key is None and any(name == MARKER for name, _ in record.headers)


def _no_row(op: str) -> Rejected:
    if op == "t":
        return Rejected(
            "The table was truncated, which this table's policy parks.",
            stage="conform",
            hint="`tailrace snapshot TABLE --sweep` deletes what the source does not have from every store.",
        )
    return Rejected(f"An event of the kind {op!r} is not supported.", stage="conform")


class Conformer:
    """Conforms batches of every table of one processor; ``worker`` names it in dead letters.

    ``ages`` say, by raw topic, which epoch an offset belongs to; a topic without any is of ``epoch`` from its start.
    """

    def __init__(
        self, plans: Iterable[Plan], *, epoch: int, worker: str, ages: Mapping[str, Ages] | None = None
    ) -> None:
        self.epoch, self._worker = epoch, worker
        known, same, plans = ages or {}, Ages(first=epoch), list(plans)
        self.changelogs = {plan.raw: plan.changelog for plan in plans if plan.changelog}
        self._ages = {plan.raw: known.get(plan.raw, same) for plan in plans}
        self._tables = {plan.raw: plan.shaping(self._ages[plan.raw]) for plan in plans}

    def tables(self) -> dict[str, TableConformer]:
        """Return what conforms tables by contract, by raw topic."""
        return {topic: table for topic, table in self._tables.items() if isinstance(table, TableConformer)}

    def adopt(self, topic: str, contract: Contract, schema_id: int, notes: tuple[str, ...] = ()) -> None:
        """Go on with another contract, from the next batch on; ``notes`` say what it leaves open."""
        table = self.tables()[topic]
        made = TableConformer(replace(table.plan, contract=contract, schema_id=schema_id), ages=self._ages[topic])
        made.watch.notes = (*table.watch.notes, *notes)
        self._tables[topic] = made

    def version(self, topic: str, partition: int, offset: int) -> int:
        """Return the version of a raw record."""
        return self._tables[topic].version(partition, offset)

    def batch(
        self,
        topic: str,
        partition: int,
        records: Sequence[RawRecord],
        deleted: set[bytes | None] | None = None,
        images: Images | None = None,
    ) -> Conformed:
        """Return what a batch of one partition becomes, or raise Held with the offset of the record that it stops at.

        ``deleted`` is given, the same set each time, when one batch is conformed in several slices. ``images`` are
        those of the partition, where the table keeps any.
        """
        table = self._tables[topic]
        deleted = deleted_before(records) if deleted is None else deleted
        refused: list[tuple[RawRecord, Rejected]] = []
        read = table.read if images is None else partial(table.restore, partition, images)
        doubted = table.doubted if isinstance(table, TableConformer) else None
        try:
            seen = passed(read, zip(records, strict=True), refused)
            drafts = passed(partial(table.draft, partition, deleted), seen, refused, doubted)
        except Held as held:
            held.under = table
            raise
        framed = passed(partial(table.frame, partition), drafts, refused)
        refused.sort(key=lambda entry: entry[0].offset)
        return Conformed(
            outputs=[output for output, _ in framed],
            letters=[self._letter(topic, partition, record, rejected) for record, rejected in refused],
            committed_us=[committed for _, committed in framed],
        )

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

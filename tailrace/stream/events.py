"""Domain events, pure: each row inserted into an outbox becomes one event on the topic of its route.

A row of a snapshot is an insert. Deletes and truncates are nothing: an outbox is cleaned when its events are out. An
update is refused, for an event is what has happened. Events keep the raw record's partition, and the raw topic is
keyed by the aggregate, so those of one aggregate stay in the order of their commits; one that is sent again has the
same id. What an event means, and whether it was sent before, is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from tailrace import topics, version
from tailrace.change import Provenance
from tailrace.errors import Rejected
from tailrace.source.envelope import EnvelopeReader
from tailrace.stream.conform import Output

if TYPE_CHECKING:
    from tailrace.conforming import Row
    from tailrace.epoch import Ages
    from tailrace.settings import OutboxSettings
    from tailrace.source.envelope import Event, Sent
    from tailrace.stream.conform import RawRecord, Seen
    from tailrace.stream.images import Images

ID, TYPE = "id", "type"  # headers, named as Debezium's event router names them
_INSERTS, _CLEANING = frozenset("cr"), frozenset("dt")


class EventDraft(NamedTuple):
    """One event, ready to be sent."""

    record: RawRecord
    output: Output
    committed_us: int


@dataclass(frozen=True)
class EventPlan:
    """One outbox's way: from its raw topic to a topic of events for each route."""

    raw: str
    pipeline: str
    outbox: OutboxSettings
    changelog: str = ""  # an insert holds every value: nothing is restored

    def shaping(self, ages: Ages) -> EventConformer:
        """Return what makes events of its records."""
        return EventConformer(self, ages=ages)


class EventConformer:
    """Makes events of the records of one raw topic."""

    def __init__(self, plan: EventPlan, *, ages: Ages) -> None:
        self.plan, self._ages = plan, ages
        self._topics = {route: topics.events(plan.pipeline, route) for route in plan.outbox.routes}
        self._reader = EnvelopeReader({}, ())

    def version(self, partition: int, offset: int) -> int:
        """Return the version of the record at an offset."""
        return version.pack(self._ages.at(partition, offset), offset)

    def read(self, given: tuple[RawRecord]) -> Seen:
        """Return what a raw record says, or raise Rejected."""
        (record,) = given
        event = None if record.value is None else self._reader.read(record.value, _as_sent)
        return record, event, self._reader.shape

    def restore(self, partition: int, images: Images, given: tuple[RawRecord]) -> Seen:  # noqa: ARG002 - an outbox keeps no images
        """Do as ``read`` does: an insert holds every value."""
        return self.read(given)

    def draft(self, partition: int, deleted: set[bytes | None], seen: Seen) -> EventDraft | None:  # noqa: ARG002 - the face of every conformer
        """Return the event of an inserted row, None for what cleans the table, or raise Rejected."""
        record, event, _ = seen
        if event is None or event.op in _CLEANING:
            return None
        if event.op == "u":
            raise Rejected(
                "A row of the outbox was updated.",
                stage="conform",
                detail="An event is what has happened: it is inserted once and never changed.",
                hint="Insert another row; delete this one when it is out.",
            )
        if event.op not in _INSERTS or event.after is None:
            raise Rejected(f"An event of the kind {event.op!r} is no row of an outbox.", stage="conform")
        output = self._output(partition, record, event, event.after)
        return EventDraft(record, output, event.committed_us)

    def frame(self, partition: int, draft: EventDraft) -> tuple[Output, int]:  # noqa: ARG002 - the face of every conformer
        """Return the message of a draft and its source commit time."""
        return draft.output, draft.committed_us

    def _output(self, partition: int, record: RawRecord, event: Event, row: Row) -> Output:
        columns = self.plan.outbox
        route = _needed(row, columns.route)
        if route not in self._topics:
            raise Rejected(
                "The outbox row has a route that is not declared.",
                stage="conform",
                detail=f"The column {columns.route} may say: {', '.join(self._topics)}.",
                hint='Add it to routes of [tables."...".outbox] in tailrace.toml, run `tailrace apply`, then'
                " `tailrace replay processor ...`: events that were sent before come again with the same id.",
            )
        origin = f"{self.plan.raw}/{partition}/{record.offset}"
        number = self.version(partition, record.offset)
        said = Provenance(number, event.op, event.lsn, event.committed_us, event.tx, origin)
        kind = _column(row, columns.type)
        return Output(
            topic=self._topics[route],
            partition=partition,
            key=_text(columns.key, _needed(row, columns.key)),
            value=_payload(columns.payload, _column(row, columns.payload)),
            headers=[
                (ID, _text(columns.id, _needed(row, columns.id))),
                *([] if kind is None else [(TYPE, _text(columns.type, kind))]),
                *said.headers(),
            ],
        )


def _as_sent(sent: Sent) -> None:
    """Leave a row as it was sent; one that lacks a value is an update, which is refused for what it is."""


def _column(row: Row, name: str) -> Any:
    if name not in row:
        raise Rejected(
            f"The outbox row has no column {name}.",
            stage="conform",
            hint='[tables."...".outbox] in tailrace.toml says which columns an event is made of.',
        )
    return row[name]


def _needed(row: Row, name: str) -> Any:
    value = _column(row, name)
    if value is None:
        raise Rejected(f"The outbox row has NULL in {name}.", stage="conform")
    return value


def _text(name: str, value: Any) -> bytes:
    """Return a value as the bytes of its text."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | int | UUID | Decimal) and not isinstance(value, bool):
        return str(value).encode()
    raise Rejected(f"The outbox column {name} is neither text nor a number nor a uuid.", stage="conform")


def _payload(name: str, value: Any) -> bytes | None:
    """Return the payload's bytes: JSON and text as they are, bytea as bytes, NULL as none."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise Rejected(f"The outbox column {name} is neither json nor text nor bytea.", stage="conform")

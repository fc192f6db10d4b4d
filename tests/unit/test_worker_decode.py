"""From messages to Changes and dead letters, without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from tailrace import deadletter
from tailrace.change import BEFORE, Change, Provenance, Rejection
from tailrace.contract import build
from tailrace.errors import Fatal, Rejected, Retryable, Unreachable
from tailrace.sink.decode import Decoder
from tailrace.sink.delivery import Delivery
from tailrace.testing import PARCEL, FailBefore, Faults, MemorySink, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC = "p.conformed.parcel"
Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Received:
    """A message as the broker gave it."""

    raw_key: bytes | None
    raw_value: bytes | None
    raw_headers: Headers
    place: tuple[int, int] = (1, 42)

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.place[0]

    def offset(self) -> int:
        return self.place[1]

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value

    def headers(self) -> Headers | None:
        return self.raw_headers


@dataclass
class Parked:
    """Collects dead letters, or fails to."""

    letters: list[deadletter.DeadLetter] = field(default_factory=list)
    error: Exception | None = None

    def park(self, letters: Sequence[deadletter.DeadLetter]) -> None:
        if self.error is not None and letters:
            raise self.error
        self.letters += letters


def message(change: Change, schema_id: int = 1) -> Received:
    origin = Provenance(change.version, change.op, change.lsn, change.committed_us, change.tx, change.origin)
    headers: Headers = [*origin.headers()]
    if change.before:
        headers.append((BEFORE, PARCEL.encode(change.before, schema_id)))
    value = None if change.value is None else PARCEL.encode(change.value, schema_id)
    return Received(PARCEL.encode_key(change.key), value, headers)


def decoder() -> Decoder:
    return Decoder({TOPIC: PARCEL}, {1: PARCEL.parsed}.__getitem__)


def delivery(*sinks: Any, parked: Parked | None = None, read: Decoder | None = None) -> Delivery:
    return Delivery("worker", read or decoder(), {TOPIC: sinks}, (parked or Parked()).park, 5.0)


def test_a_message_decodes_to_the_change_it_was_made_of() -> None:
    sent = Tape().put(parcel(1, owner="bob"), before=parcel(1))

    found = decoder().change(message(sent))

    assert (found.key, found.value, found.before) == (sent.key, sent.value, sent.before)
    assert (found.version, found.op, found.lsn) == (sent.version, "u", sent.lsn)
    assert (found.topic, found.partition, found.offset) == (TOPIC, 1, 42)


def test_a_delete_has_no_value_and_the_record_it_ends() -> None:
    found = decoder().change(message(Tape().delete(parcel(1))))

    assert found.value is None
    assert found.before == parcel(1)


def test_a_row_that_made_no_record_before_is_told_from_one_that_is_unknown() -> None:
    known = message(Tape().put(parcel(1)))
    filtered = Received(known.raw_key, known.raw_value, [*known.raw_headers, (BEFORE, b"")])

    assert decoder().change(known).before is None
    assert decoder().change(filtered).before == {}


def test_a_value_written_under_an_older_contract_gets_the_defaults_of_the_new_one() -> None:
    fields = [each for each in PARCEL.schema["fields"] if each["name"] != "note"]
    old = build("parcel", {**PARCEL.schema, "fields": fields}, where="old")
    record = parcel(1)
    del record["note"]
    sent = message(Tape().put(parcel(1)))
    received = Received(sent.raw_key, old.encode(record, 9), sent.raw_headers)

    found = Decoder({TOPIC: PARCEL}, {9: fastavro.parse_schema(dict(old.schema))}.__getitem__).change(received)

    assert found.value == {**record, "note": None}


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"{}", None), (None, None), (b'{"id":"x"', None), (b'{"id":1}', b""), (b'{"id":1}', b"\0\0\0\0\1")],
)
def test_whatever_does_not_decode_is_rejected_as_such(key: bytes | None, value: bytes | None) -> None:
    good = message(Tape().put(parcel(1)))

    with pytest.raises(Rejected) as caught:
        decoder().change(Received(key, value, good.raw_headers))

    assert caught.value.stage == "decode"


def test_rejected_and_unreadable_messages_are_parked_and_the_rest_is_written() -> None:
    tape, parked = Tape(), Parked()
    sink = MemorySink("parcel", reject=lambda change: "no" if change.key["id"] == 2 else "")
    unreadable = Received(b"?", b"?", [("other", b"1")], (1, 7))
    batch = [message(tape.put(parcel(1))), unreadable, message(tape.put(parcel(2))), message(tape.put(parcel(3)))]

    done = delivery(sink, parked=parked).deliver(batch)

    assert (done.messages, done.parked, len(done.committed_us)) == (4, 2, 3)
    assert sorted(value["id"] for value in sink.items.values()) == [1, 3]
    assert [(letter.stage, letter.key) for letter in parked.letters] == [("decode", b"?"), ("write", b'{"id":2}')]
    assert parked.letters[0].source == f"{TOPIC}/1/7"
    assert parked.letters[1].value == batch[2].raw_value


def test_a_batch_is_not_delivered_while_its_dead_letters_are_not_acknowledged() -> None:
    parked = Parked(error=Retryable("Kafka is away."))

    with pytest.raises(Retryable):
        delivery(MemorySink("parcel"), parked=parked).deliver([Received(b"?", b"?", [])])


def test_a_batch_is_not_delivered_while_one_of_its_sinks_fails() -> None:
    first, second = MemorySink("parcel"), Faults(MemorySink("parcel"), FailBefore())
    batch = [message(Tape().put(parcel(1)))]

    with pytest.raises(Retryable):
        delivery(first, second).deliver(batch)
    assert delivery(first, second).deliver(batch).stale == 1


def test_a_registry_that_does_not_answer_parks_nothing() -> None:
    def away(_: int) -> Any:
        raise Unreachable("The schema registry does not answer.")

    parked = Parked()
    with pytest.raises(Unreachable):
        delivery(MemorySink("parcel"), parked=parked, read=Decoder({TOPIC: PARCEL}, away)).deliver(
            [message(Tape().put(parcel(1)))]
        )
    assert parked.letters == []


def test_a_sink_that_rejects_what_it_was_not_given_stops_the_worker() -> None:
    class Confused(MemorySink):
        def write(self, batch: Any, *, timeout: float) -> Any:  # noqa: ARG002 - a Sink's signature
            return [Rejection(len(batch), "beyond the end")]

    with pytest.raises(Fatal):
        delivery(Confused("parcel")).deliver([message(Tape().put(parcel(1)))])

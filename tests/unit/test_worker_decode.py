"""From messages to Changes and dead letters, without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from tailrace import deadletter
from tailrace.change import BEFORE, Change, Provenance, Rejection
from tailrace.connector import Connector
from tailrace.contract import build
from tailrace.endpoints import Endpoints
from tailrace.errors import Fatal, Refused, Rejected, Retryable, Unreachable
from tailrace.evolution import added
from tailrace.settings import Settings
from tailrace.sink.decode import Decoder, Evolved
from tailrace.sink.delivery import Delivery
from tailrace.sink.stores import Stores
from tailrace.targets import SearchIndex
from tailrace.testing import PARCEL, FailBefore, Faults, MemorySink, Tape, parcel
from tests.shop import shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.contract import Contract

TOPIC = "p.conformed.parcel"
LATER = added(PARCEL, [{"name": "weight", "type": ["null", "double"], "default": None}])
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


def test_the_record_before_is_not_read_where_no_sink_looks_at_it() -> None:
    sent = message(Tape().put(parcel(1, owner="bob"), before=parcel(1)))
    lean = Decoder({TOPIC: PARCEL}, {1: PARCEL.parsed}.__getitem__, lean={TOPIC})
    broken = Received(sent.raw_key, sent.raw_value, [*sent.raw_headers[:-1], (BEFORE, b"not Avro")])

    assert lean.change(sent).before is None
    assert lean.change(broken).value == parcel(1, owner="bob")
    with pytest.raises(Rejected):
        decoder().change(broken)


def test_a_row_that_made_no_record_before_is_told_from_one_that_is_unknown() -> None:
    known = message(Tape().put(parcel(1)))
    filtered = Received(known.raw_key, known.raw_value, [*known.raw_headers, (BEFORE, b"")])

    assert decoder().change(known).before is None
    assert decoder().change(filtered).before == {}


def test_a_value_written_under_an_older_contract_gets_the_defaults_of_the_new_one() -> None:
    kept = [each for each in PARCEL.schema["fields"] if each["name"] != "note"]
    old = build("parcel", {**PARCEL.schema, "fields": kept}, where="old")
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


def later_message(number: int = 2, **fields: Any) -> Received:
    """Return a message of a processor that already has the newer contract."""
    record = {**parcel(1), "weight": 2.5, **fields}
    sent = message(Tape().put(parcel(1)))
    return Received(sent.raw_key, LATER.encode(record, number), sent.raw_headers, (1, 43))


SCHEMAS = {1: PARCEL.parsed, 2: LATER.parsed}


def test_a_batch_that_needs_a_newer_contract_is_not_begun() -> None:
    sink, parked = MemorySink("parcel"), Parked()
    batch = [Received(b"?", b"?", []), message(Tape().put(parcel(1))), later_message()]

    with pytest.raises(Evolved) as caught:
        delivery(sink, parked=parked, read=Decoder({TOPIC: PARCEL}, SCHEMAS.__getitem__)).deliver(batch)

    assert (caught.value.topic, caught.value.schema_id) == (TOPIC, 2)
    assert (sink.items, parked.letters) == ({}, [])


def test_a_record_before_that_was_written_under_a_newer_contract_counts_as_well() -> None:
    sent = message(Tape().put(parcel(1)))
    newer = [*sent.raw_headers, (BEFORE, LATER.encode({**parcel(1), "weight": 1.0}, 2))]

    with pytest.raises(Evolved):
        Decoder({TOPIC: PARCEL}, SCHEMAS.__getitem__).change(Received(sent.raw_key, sent.raw_value, newer))


def test_old_and_new_records_both_read_under_the_newer_contract() -> None:
    read = Decoder({TOPIC: LATER}, SCHEMAS.__getitem__)

    assert read.change(message(Tape().put(parcel(1)))).value == {**parcel(1), "weight": None}
    assert read.change(later_message()).value == {**parcel(1), "weight": 2.5}


def test_a_field_that_the_contract_no_longer_has_is_left_out_once_that_is_settled() -> None:
    read = Decoder({TOPIC: PARCEL}, SCHEMAS.__getitem__, {(TOPIC, 2)})

    assert read.change(later_message()).value == parcel(1)


def test_a_schema_that_does_not_resolve_to_the_contract_is_rejected() -> None:
    shaped = [{**each, "type": "string"} if each["name"] == "amount" else each for each in PARCEL.schema["fields"]]
    other = build("parcel", {**PARCEL.schema, "fields": shaped}, where="other")
    sent = message(Tape().put(parcel(1)))
    received = Received(sent.raw_key, other.encode({**parcel(1), "amount": "7"}, 2), sent.raw_headers)

    with pytest.raises(Rejected) as caught:
        Decoder({TOPIC: PARCEL}, {2: other.parsed}.__getitem__, {(TOPIC, 2)}).change(received)

    assert caught.value.stage == "decode"


def test_a_schema_that_the_contract_cannot_read_is_looked_at_before_its_record_is_parked() -> None:
    kept = [each for each in PARCEL.schema["fields"] if each["name"] != "owner"]  # given up by its project
    other = build("parcel", {**PARCEL.schema, "fields": kept}, where="other")
    record = {name: value for name, value in parcel(1).items() if name != "owner"}
    sent = message(Tape().put(parcel(1)))
    received = Received(sent.raw_key, other.encode(record, 2), sent.raw_headers)

    with pytest.raises(Evolved):
        Decoder({TOPIC: PARCEL}, {2: other.parsed}.__getitem__).change(received)
    with pytest.raises(Rejected, match="does not read"):
        Decoder({TOPIC: PARCEL}, {2: other.parsed}.__getitem__, {(TOPIC, 2)}).change(received)
    with pytest.raises(Refused, match="newest registered schema of parcel"):
        stores(Newest(PARCEL), MemorySink("parcel")).follow(Evolved(TOPIC, 2), Newest(other))


class Newest:
    """A registry with one schema."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def latest(self, topic: str) -> tuple[int, dict[str, Any]] | None:
        return (2, dict(self.contract.schema)) if topic == TOPIC else None


def stores(registry: Newest, *targets: Any) -> Stores:
    """Return the sinks of a project with one record, open."""
    made = shop(
        settings=Settings.model_validate({"pipeline": {"name": "p", "connector": "shop"}}),
        connector=Connector("shop", {"table.include.list": "public.parcel"}),
        contracts={"parcel": PARCEL},
        sinks={"stores": targets},
    )
    found = Stores(made, "stores")
    found.open(registry)
    return found


def test_sinks_open_under_the_newest_registered_evolution() -> None:
    assert stores(Newest(LATER), MemorySink("parcel")).contracts[TOPIC].by_name.keys() == LATER.by_name.keys()
    assert stores(Newest(PARCEL), MemorySink("parcel")).contracts[TOPIC] is PARCEL


def test_the_users_own_sink_stays_what_it_is_while_its_contract_grows() -> None:
    registry, sink = Newest(PARCEL), MemorySink("parcel")
    found = stores(registry, sink)
    registry.contract = LATER

    assert found.follow(Evolved(TOPIC, 2), registry) == ("field weight",)

    assert found.sinks == (sink,)
    assert found.decoder(SCHEMAS.__getitem__).change(later_message()).value == {**parcel(1), "weight": 2.5}


def test_a_schema_with_a_field_that_was_given_up_is_settled_without_opening_anything() -> None:
    registry = Newest(PARCEL)
    found = stores(registry, MemorySink("parcel"))

    assert found.follow(Evolved(TOPIC, 2), registry) == ()

    assert found.decoder(SCHEMAS.__getitem__).change(later_message()).value == parcel(1)


def test_a_registered_schema_that_is_no_evolution_is_refused_by_name() -> None:
    registry = Newest(PARCEL)
    found = stores(registry, MemorySink("parcel"))
    registry.contract = build("parcel", {**LATER.schema, "key": ["owner"]}, where="other")

    with pytest.raises(Refused, match="newest registered schema of parcel"):
        found.follow(Evolved(TOPIC, 2), registry)


def test_a_store_that_is_away_while_the_contract_grows_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for service in fields(Endpoints):
        monkeypatch.setenv(f"TAILRACE_{service.name.upper()}", "http://127.0.0.1:9")
    registry = Newest(PARCEL)
    found = stores(registry, MemorySink("parcel"), SearchIndex("parcels", record="parcel"))
    before = found.sinks
    registry.contract = LATER

    with pytest.raises(Retryable, match="does not answer"):
        found.follow(Evolved(TOPIC, 2), registry)

    assert found.sinks == before
    assert found.contracts[TOPIC] is PARCEL
    with pytest.raises(Evolved):
        found.decoder(SCHEMAS.__getitem__).change(later_message())
    found.close()

"""The loop against a scripted consumer: what is stored and committed when partitions come, go and are lost."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace.deadline import wait_for
from tailrace.errors import Fatal, Refused, Retryable, Unreachable
from tailrace.health import Health
from tailrace.sink.decode import Evolved
from tailrace.sink.delivery import Delivered
from tailrace.sink.loop import Loop
from tailrace.sink.report import Report
from tailrace.sink.writer import Batching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOPIC = "topic"


@dataclass(frozen=True)
class Note:
    """A message, or an error in its place."""

    place: int
    number: int
    failure: KafkaError | None = None

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.place

    def offset(self) -> int:
        return self.number

    def key(self) -> bytes | None:
        return b""

    def value(self) -> bytes | None:
        return b""

    def error(self) -> KafkaError | None:
        return self.failure


class ScriptedConsumer:
    """Plays one step of its script per first ``consume`` of a turn; remembers what it is told."""

    def __init__(self, *script: Callable[[ScriptedConsumer], list[Note]]) -> None:
        self.script = deque(script)
        self.stored: dict[int, int] = {}
        self.committed: dict[int, int] = {}
        self.paused: set[int] = set()
        self.pauses = 0
        self.owned: set[int] = set()
        self.closed = False
        self.callbacks: dict[str, Any] = {}

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        assert topics == [TOPIC]
        self.callbacks = callbacks

    def consume(self, count: int, timeout: float) -> list[Note]:
        if count > 1 or not self.script:
            threading.Event().wait(min(timeout, 0.01))
            return []
        return self.script.popleft()(self)

    def call(self, name: str, *partitions: int) -> None:
        self.callbacks[name](self, [TopicPartition(TOPIC, partition) for partition in partitions])

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned |= {each.partition for each in partitions}

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned -= {each.partition for each in partitions}

    def store_offsets(self, offsets: Sequence[TopicPartition]) -> None:
        for each in offsets:
            if each.partition not in self.owned:
                raise KafkaException(KafkaError(KafkaError._STATE))
            self.stored[each.partition] = each.offset

    def commit(self, *, asynchronous: bool) -> None:
        assert not asynchronous
        if not self.stored:
            raise KafkaException(KafkaError(KafkaError._NO_OFFSET))
        self.committed |= self.stored
        self.stored = {}

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.pauses += 1
        self.paused |= {each.partition for each in partitions}

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= {each.partition for each in partitions}

    def close(self) -> None:
        self.closed = True
        self.call("on_revoke", *self.owned)


class Store:
    """Takes batches; ``gate`` holds them while it is clear, ``error`` is raised once."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.arrived = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.errors: deque[Exception] = deque()

    def deliver(self, batch: Sequence[Any]) -> Delivered:
        self.arrived.set()
        assert self.gate.wait(30)
        if self.errors:
            raise self.errors.popleft()
        self.written += [message.offset() for message in batch]
        return Delivered(len(batch), 0, 0, ())


def assign(*partitions: int) -> Callable[[ScriptedConsumer], list[Note]]:
    return step(lambda consumer: consumer.call("on_assign", *partitions))


def step(act: Callable[[ScriptedConsumer], Any]) -> Callable[[ScriptedConsumer], list[Note]]:
    def play(consumer: ScriptedConsumer) -> list[Note]:
        act(consumer)
        return []

    return play


def notes(partition: int, numbers: range) -> Callable[[ScriptedConsumer], list[Note]]:
    return lambda _: [Note(partition, number) for number in numbers]


def run(
    consumer: ScriptedConsumer,
    store: Store,
    until: Callable[[], Any],
    *,
    rows: int = 100,
    begin: Callable[[Any], None] | None = None,
    evolve: Callable[[Evolved], Sequence[str]] = lambda _: (),
) -> Loop:
    """Run a loop in a thread until a condition holds, stop it, and raise what it raised."""
    stop, caught = threading.Event(), list[BaseException]()
    loop = Loop(
        consumer,
        batching={TOPIC: Batching(rows=10)},
        deliver=store.deliver,
        begin=begin,
        evolve=evolve,
        report=Report(Health("test")),
        stop=stop,
        buffer_rows=rows,
    )

    def work() -> None:
        try:
            loop.run()
        except BaseException as error:  # noqa: BLE001 - raised below
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: until() or not thread.is_alive(), timeout=20, what="the loop", every=0.005)
    finally:
        stop.set()
        store.gate.set()
        thread.join(30)
    assert consumer.closed
    if caught:
        raise caught[0]
    return loop


def test_what_is_durable_is_committed_at_the_end() -> None:
    consumer, store = ScriptedConsumer(assign(0, 1), notes(0, range(25)), notes(1, range(5, 9))), Store()

    run(consumer, store, lambda: len(store.written) == 29)

    assert consumer.committed == {0: 25, 1: 9}


def test_a_revoke_waits_for_what_is_in_flight_and_commits_it_and_drops_the_rest() -> None:
    store = Store()
    store.gate.clear()

    def revoke(consumer: ScriptedConsumer) -> None:
        assert store.arrived.wait(10)
        threading.Timer(0.2, store.gate.set).start()
        consumer.call("on_revoke", 0)

    consumer = ScriptedConsumer(assign(0), notes(0, range(15)), step(revoke))
    loop = run(consumer, store, lambda: not consumer.owned and not consumer.script)

    assert store.written == list(range(10))
    assert consumer.committed == {0: 10}
    assert loop.lanes == {}


def test_lost_partitions_commit_nothing() -> None:
    store = Store()
    store.gate.clear()

    def lose(consumer: ScriptedConsumer) -> None:
        assert store.arrived.wait(10)
        consumer.call("on_lost", 0)
        store.gate.set()

    consumer = ScriptedConsumer(assign(0), notes(0, range(5)), step(lose))
    run(consumer, store, lambda: store.written)

    assert consumer.committed == {}
    assert consumer.stored == {}


def test_messages_of_partitions_that_are_gone_are_dropped() -> None:
    consumer, store = ScriptedConsumer(assign(0), notes(7, range(5)), notes(0, range(3))), Store()

    run(consumer, store, lambda: store.written)

    assert store.written == [0, 1, 2]


def test_an_offset_is_not_stored_before_its_batch_is_durable() -> None:
    store = Store()
    store.errors.extend([Retryable("away", after=0.01), Retryable("away", after=0.01)])
    seen = []
    consumer = ScriptedConsumer(assign(0), notes(0, range(3)))
    consumer.script.extend([step(lambda each: seen.append((list(store.written), dict(each.stored))))] * 20)

    run(consumer, store, lambda: store.written and not consumer.script)

    assert all(written or not stored for written, stored in seen)
    assert consumer.committed == {0: 3}


def test_a_lane_that_is_full_is_paused_once_and_resumed_when_there_is_room() -> None:
    store = Store()
    store.gate.clear()
    consumer = ScriptedConsumer(assign(0), notes(0, range(40)))
    consumer.script.extend([notes(0, range(40, 41)), step(lambda _: store.gate.set())])

    run(consumer, store, lambda: len(store.written) == 41, rows=20)

    assert consumer.pauses == 1
    assert consumer.paused == set()
    assert store.written == list(range(41))


def test_what_a_rebalance_callback_raises_ends_the_worker() -> None:
    class Broken(ScriptedConsumer):
        def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID), len(partitions))

    with pytest.raises(Fatal):
        run(Broken(assign(0)), Store(), lambda: False)


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_errors_that_kafka_does_not_mend_end_the_worker(code: int) -> None:
    consumer = ScriptedConsumer(assign(0), lambda _: [Note(0, 0, KafkaError(code))])

    with pytest.raises(Fatal):
        run(consumer, Store(), lambda: False)


def test_the_end_of_a_partition_is_no_error() -> None:
    end = KafkaError(KafkaError._PARTITION_EOF)
    consumer, store = ScriptedConsumer(assign(0), lambda _: [Note(0, 0, end)], notes(0, range(2))), Store()

    run(consumer, store, lambda: store.written)

    assert store.written == [0, 1]


def test_an_unknown_error_of_a_sink_ends_the_worker_without_its_words() -> None:
    consumer, store = ScriptedConsumer(assign(0), notes(0, range(3))), Store()
    store.errors.append(ValueError("a row's secret"))

    with pytest.raises(Fatal) as caught:
        run(consumer, store, lambda: False)

    assert "secret" not in str(caught.value)
    assert consumer.stored == {}


class Growing(Store):
    """A store whose contract has to grow before it takes offsets from ``since``; ``grown`` are the times it did."""

    def __init__(self, since: int) -> None:
        super().__init__()
        self.since, self.grown = since, 0
        self.seen: list[str] = []
        self.troubles: deque[Exception] = deque()
        self.flying = 0

    def deliver(self, batch: Sequence[Any]) -> Delivered:
        self.flying += 1
        try:
            if not self.grown and any(message.offset() >= self.since for message in batch):
                raise Evolved(TOPIC, 7)
            return super().deliver(batch)
        finally:
            self.flying -= 1

    def begin(self, place: Any) -> None:
        self.seen.append(f"begin {place[1]}")

    def evolve(self, cause: Evolved) -> Sequence[str]:
        assert (cause.topic, cause.schema_id, self.flying) == (TOPIC, 7, 0)
        if self.troubles:
            raise self.troubles.popleft()
        self.grown += 1
        self.seen.append("evolve")
        return (TOPIC,)


def test_a_newer_contract_is_followed_between_batches_and_each_record_is_written_once_in_order() -> None:
    store = Growing(since=12)
    consumer = ScriptedConsumer(assign(0, 1), notes(0, range(25)), notes(1, range(5)), notes(0, range(25, 40)))

    run(consumer, store, lambda: len(store.written) == 45, begin=store.begin, evolve=store.evolve)

    assert store.grown == 1
    assert sorted(store.written) == sorted([*range(40), *range(5)])
    assert consumer.committed == {0: 40, 1: 5}
    assert sorted(store.seen[:2]) == ["begin 0", "begin 1"]
    assert store.seen[2] == "evolve"
    assert sorted(store.seen[3:]) == ["begin 0", "begin 1"]


def test_what_is_durable_is_committed_before_the_sinks_are_opened_again() -> None:
    store = Growing(since=10)
    committed: list[dict[int, int]] = []
    consumer = ScriptedConsumer(assign(0), notes(0, range(20)))

    def evolve(cause: Evolved) -> Sequence[str]:
        committed.append(dict(consumer.committed))
        return store.evolve(cause)

    run(consumer, store, lambda: len(store.written) == 20, evolve=evolve)

    assert committed == [{0: 10}]
    assert store.written == list(range(20))


def test_opening_the_sinks_again_is_tried_until_everything_answers() -> None:
    store = Growing(since=0)
    store.troubles.extend([Unreachable("The registry is away."), Retryable("The store is away.", after=0.01)])
    consumer = ScriptedConsumer(assign(0), notes(0, range(3)))

    run(consumer, store, lambda: len(store.written) == 3, evolve=store.evolve)

    assert consumer.committed == {0: 3}


def test_a_schema_that_nobody_may_follow_ends_the_worker_before_its_record() -> None:
    store = Growing(since=10)
    store.troubles.append(Refused("The newest schema is no evolution."))
    consumer = ScriptedConsumer(assign(0), notes(0, range(20)))

    with pytest.raises(Refused, match="no evolution"):
        run(consumer, store, lambda: False, evolve=store.evolve)

    assert store.written == list(range(10))
    assert consumer.committed == {0: 10}


def test_a_partition_that_goes_while_a_contract_is_followed_commits_only_what_is_durable() -> None:
    store, going = Growing(since=10), threading.Event()

    def evolve(_: Evolved) -> Sequence[str]:
        assert going.wait(10)
        return ()

    def revoke(consumer: ScriptedConsumer) -> None:
        consumer.call("on_revoke", 0)
        going.set()

    consumer = ScriptedConsumer(assign(0), notes(0, range(20)), *[step(lambda _: None)] * 20, step(revoke))
    loop = run(consumer, store, lambda: not consumer.owned and not consumer.script, evolve=evolve)

    assert store.written == list(range(10))
    assert consumer.committed == {0: 10}
    assert loop.lanes == {}

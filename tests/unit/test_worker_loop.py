"""The loop against a scripted consumer: what is stored and committed when partitions come, go and are lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace.errors import Fatal, Refused, Retryable, Unreachable
from tailrace.sink.decode import Evolved
from tailrace.sink.delivery import Delivered
from tailrace.sink.loop import DRAIN_SECONDS, LEAVE_SECONDS
from tests.scripted import TOPIC, Note, ScriptedConsumer, Store, assign, notes, run, step

if TYPE_CHECKING:
    from collections.abc import Sequence


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


OTHER = "other topic"


class Stalled(Store):
    """Holds whatever comes from the first topic and takes the rest."""

    def deliver(self, batch: Sequence[Any]) -> Delivered:
        if batch[0].topic() == TOPIC:
            self.arrived.set()
            assert self.gate.wait(60)
        else:
            self.written += [message.offset() for message in batch]
        return Delivered(len(batch), 0, 0, ())


def both(stalled: range, other: range) -> ScriptedConsumer:
    """Return a consumer of twelve partitions of a topic whose store hangs, and one of another."""
    script = [
        step(lambda each: each.call("on_assign", *range(12))),
        step(lambda each: each.call("on_assign", 40, topic=OTHER)),
        lambda _: [Note(partition, number) for partition in range(12) for number in stalled],
        lambda _: [Note(40, number, of=OTHER) for number in other],
    ]
    return ScriptedConsumer(*script)


def test_a_store_that_hangs_holds_up_no_other_topic() -> None:
    store = Stalled()
    store.gate.clear()
    consumer = both(range(15), range(35))

    run(consumer, store, lambda: store.arrived.is_set() and len(store.written) == 35, topics=(TOPIC, OTHER))

    assert store.written == list(range(35))


def test_other_partitions_go_on_while_those_that_leave_are_waited_for() -> None:
    store = Stalled()
    store.gate.clear()
    seen: list[int] = []

    def revoke(consumer: ScriptedConsumer) -> None:
        assert store.arrived.wait(10)
        threading.Timer(0.5, store.gate.set).start()
        consumer.call("on_revoke", *range(12))
        seen.extend(store.written)

    consumer = both(range(3), range(35))
    consumer.script.append(step(revoke))
    run(consumer, store, lambda: seen, topics=(TOPIC, OTHER))

    assert seen == list(range(35))


def test_what_partitions_hold_is_bounded_together_and_let_go_with_them() -> None:
    store = Store()
    store.gate.clear()
    consumer = ScriptedConsumer(assign(0, 1, 2))
    consumer.script.extend([notes(each, range(start, start + 5)) for start in range(0, 40, 5) for each in range(3)])
    consumer.script.append(step(lambda each: each.call("on_revoke", 2)))

    loop = run(consumer, store, lambda: consumer.paused >= {0, 1, 2} or not consumer.script, rows=20)

    assert consumer.pauses >= 3
    assert (loop.pool.held_rows, loop.pool.held_bytes) == (0, 0)


def test_a_partition_that_was_paused_when_it_went_is_read_when_it_comes_back() -> None:
    store = Store()
    store.errors.append(Retryable("away", after=60))
    consumer = ScriptedConsumer(assign(0), notes(0, range(40)))
    paused: list[bool] = []
    consumer.script.extend([step(lambda each: paused.append(0 in each.paused))] * 5)
    consumer.script.extend([step(lambda each: each.call("on_revoke", 0)), assign(0), notes(0, range(5))])

    run(consumer, store, lambda: len(store.written) == 5, rows=20)

    assert paused[-1]
    assert consumer.paused == set()


def test_a_worker_told_to_stop_leaves_a_store_that_hangs_and_a_broker_that_does_not_answer() -> None:
    store = Store()
    store.gate.clear()
    consumer = ScriptedConsumer(assign(0, 1), notes(0, range(5)), closing=60)
    begun = time.monotonic()

    run(consumer, store, store.arrived.is_set, patient=False)

    assert time.monotonic() - begun < 10
    assert DRAIN_SECONDS + 2 * LEAVE_SECONDS <= 25  # what this takes outside of tests
    assert consumer.committed == {}


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

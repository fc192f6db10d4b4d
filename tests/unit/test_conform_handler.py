"""The handler gives a batch its effect or says that it did not; Kafka's trouble means the same batch again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tailrace import contract
from tailrace.errors import Fatal, Retryable
from tailrace.health import Health
from tailrace.kafka import Outbox
from tailrace.stream.changelog import CLAIM
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.handler import ConformHandler
from tailrace.stream.state import States
from tests.cluster import CHANGELOG, RAW, Cluster, ListLibrary, ListOutbox
from tests.raw import READING_SCHEMA, message, payload, reading

if TYPE_CHECKING:
    from collections.abc import Sequence


class Record:
    """A consumed message."""

    def __init__(self, offset: int, value: bytes | None) -> None:
        self.offset, self.value = offset, value
        self.timestamp, self.key = 1_767_322_800_123, b'{"id":%d}' % offset
        self.headers: Sequence[tuple[str, bytes]] = ()


class TroubledOutbox(Outbox):
    """An outbox whose flushes end as a list says; it has no broker behind it."""

    def __init__(self, *ends: Exception | None) -> None:
        self.sent: list[tuple[str, bytes | None]] = []
        self._ends = list(ends)

    def send(self, topic: str, *, key: bytes | None, **_: Any) -> None:
        self.sent.append((topic, key))

    def flush(self, timeout: float = 60) -> None:
        assert timeout > 20
        trouble = self._ends.pop(0)
        if trouble:
            raise trouble


def run(outbox: TroubledOutbox, health: Health, *, stopped: bool = False) -> int:
    plan = TablePlan("raw", "out", contract.build("reading", READING_SCHEMA, where="reading"), 7)
    records = [Record(0, message(payload("c", after=reading(0)))), Record(1, b"poison")]

    async def give() -> int:
        stop = asyncio.Event()
        if stopped:
            stop.set()
        conformer = Conformer([plan], epoch=1, worker="conform")
        handler = ConformHandler(conformer, outbox, health=health, letters_to="dlq", stop=stop)
        return await handler.batch("raw", 0, records)

    return asyncio.run(give())


def test_a_batch_that_kafka_did_not_take_is_sent_again_whole() -> None:
    health = Health("conform")
    outbox = TroubledOutbox(Retryable("away", after=0.01), Retryable("away", after=0.01), None)
    assert run(outbox, health) == 2
    assert outbox.sent == [("out", b'{"id":0}'), ("dlq", b'{"id":1}')] * 3
    assert health.registry.get_sample_value("tailrace_retries_total", {"worker": "conform"}) == 2
    labels = {"worker": "conform", "topic": "raw"}
    assert health.registry.get_sample_value("tailrace_records_total", labels) == 1
    assert health.registry.get_sample_value("tailrace_dead_letters_total", labels) == 1


def test_a_stop_while_kafka_is_away_leaves_the_batch_undone() -> None:
    assert run(TroubledOutbox(Retryable("away", after=60)), Health("conform"), stopped=True) == 0


def test_a_message_that_kafka_refuses_is_fatal() -> None:
    with pytest.raises(Fatal, match="too large"):
        run(TroubledOutbox(Fatal("too large")), Health("conform"))


def test_ready_waits_until_the_images_of_every_partition_are_restored() -> None:
    health, cluster = Health("conform"), Cluster()

    async def assign() -> list[bool]:
        plan = TablePlan(RAW, "out", contract.build("reading", READING_SCHEMA, where="reading"), 7, changelog=CHANGELOG)
        conformer, outbox = Conformer([plan], epoch=1, worker="conform"), ListOutbox(cluster)
        states = States(conformer.changelogs, ListLibrary(cluster), outbox)
        handler = ConformHandler(
            conformer, outbox, health=health, letters_to="dlq", stop=asyncio.Event(), states=states
        )
        seen = []
        for places in ([(RAW, 0), ("other", 0)], [], [(RAW, 0)]):
            handler.assigned(places) if places else handler.revoked()
            handler.turn(len(places))
            seen.append(health.ready)
            if places:
                await asyncio.wait_for(handler._restoring, 10)
            handler.turn(len(places))
            seen.append(health.ready)
        await handler.close()
        return seen

    assert asyncio.run(assign()) == [False, True, False, False, False, True]
    assert [found.key for found in cluster.topics[CHANGELOG]] == [CLAIM, CLAIM]

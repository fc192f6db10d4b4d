"""A consumer and a store that do what a test says, and a loop run against them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace.deadline import wait_for
from tailrace.health import Health
from tailrace.sink.delivery import Delivered
from tailrace.sink.lane import Pool
from tailrace.sink.loop import DRAIN_SECONDS, LEAVE_SECONDS, Loop
from tailrace.sink.report import Report
from tailrace.sink.writer import Batching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.sink.decode import Evolved

TOPIC = "topic"


@dataclass(frozen=True)
class Note:
    """A message, or an error in its place."""

    place: int
    number: int
    failure: KafkaError | None = None
    of: str = TOPIC

    def topic(self) -> str:
        return self.of

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

    def __init__(self, *script: Callable[[ScriptedConsumer], list[Note]], closing: float = 0.0) -> None:
        self.script = deque(script)
        self.closing = closing  # seconds that a goodbye takes
        self.stored: dict[int, int] = {}
        self.committed: dict[int, int] = {}
        self.paused: set[int] = set()
        self.pauses = 0
        self.commits = 0
        self.owned: set[int] = set()
        self.closed = False
        self.callbacks: dict[str, Any] = {}

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        assert TOPIC in topics
        self.callbacks = callbacks

    def consume(self, count: int, timeout: float) -> list[Note]:
        if count > 1 or not self.script:
            threading.Event().wait(min(timeout, 0.01))
            return []
        return self.script.popleft()(self)

    def call(self, name: str, *partitions: int, topic: str = TOPIC) -> None:
        self.callbacks[name](self, [TopicPartition(topic, partition) for partition in partitions])

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
        self.commits += 1
        self.committed |= self.stored
        self.stored = {}

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.pauses += 1
        self.paused |= {each.partition for each in partitions}

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= {each.partition for each in partitions}

    def close(self) -> None:
        self.closed = True
        threading.Event().wait(self.closing)
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
    topics: Sequence[str] = (TOPIC,),
    patient: bool = True,
    begin: Callable[[Any], None] | None = None,
    evolve: Callable[[Evolved], Sequence[str]] = lambda _: (),
) -> Loop:
    """Run a loop in a thread until a condition holds, stop it, and raise what it raised.

    A patient one is told to stop when the store answers; otherwise the store goes on to hang.
    """
    stop, caught = threading.Event(), list[BaseException]()
    loop = Loop(
        consumer,
        batching=dict.fromkeys(topics, Batching(rows=10)),
        deliver=store.deliver,
        begin=begin,
        evolve=evolve,
        report=Report(Health("test")),
        stop=stop,
        pool=Pool(rows, 10**9),
        waits=(1.0, 0.5) if not patient else (DRAIN_SECONDS, LEAVE_SECONDS),
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
        if patient:
            store.gate.set()
        thread.join(30)
    if thread.is_alive():
        raise TimeoutError("The loop hangs.")
    assert consumer.closed
    if caught:
        raise caught[0]
    return loop

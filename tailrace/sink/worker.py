"""One sink worker: everything that one module of sinks/ needs, opened, run and closed.

At start it waits, and says so, while Kafka or a store is down; it refuses to run when the topics are not those of the
epoch. TAILRACE_INSTANCE names a static group member (a pod's ordinal, say): its restarts then move no partition.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tailrace import deadline, epoch, health, topics
from tailrace.errors import Retryable, Unreachable
from tailrace.kafka import KafkaAdmin, Outbox
from tailrace.project import records
from tailrace.registry import Registry
from tailrace.sink import writer
from tailrace.sink.crew import Crew
from tailrace.sink.decode import Decoder
from tailrace.sink.delivery import Delivery, Parking
from tailrace.sink.lane import pause, smallest
from tailrace.sink.loop import Loop
from tailrace.sink.open import open_sink
from tailrace.sink.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.contract import Contract
    from tailrace.kafka import Place
    from tailrace.project import Project
    from tailrace.targets import Sink

COMMITTED_SECONDS = 10.0
INSTANCE = "TAILRACE_INSTANCE"

log = structlog.get_logger()


def run(project: Project, name: str, *, health_port: int = 0, stop: threading.Event | None = None) -> int:
    """Run the sink worker ``name`` until SIGTERM, SIGINT or ``stop``; return 0, or raise what ended it."""
    declared = project.sink(name)
    state, ending = health.Health(name), stop or _signalled()
    run_file = health.RunFile(project.folder, name)
    with ExitStack() as opened:
        server = opened.enter_context(closing(health.HealthServer(state, port=health_port)))
        run_file.write(server.port)
        opened.callback(run_file.remove)
        registry = opened.enter_context(closing(Registry(project.endpoints.registry)))
        sinks = [opened.enter_context(closing(open_sink(target, project))) for target in declared]
        worker = Worker(project, name, tuple(sinks), registry, state, ending)
        if worker.wait_until_all_is_up():
            worker.work()
    return 0


@dataclass(frozen=True)
class Worker:
    """The parts of one sink worker, by what they are for."""

    project: Project
    name: str
    sinks: tuple[Sink, ...]
    registry: Registry
    health: health.Health
    stop: threading.Event

    @cached_property
    def by_topic(self) -> dict[str, tuple[Sink, ...]]:
        """The sinks that take each conformed topic."""
        names = dict.fromkeys(record for sink in self.sinks for record in records(sink))
        return {
            topics.conformed(self.project.name, record): tuple(sink for sink in self.sinks if record in sink.records)
            for record in names
        }

    @property
    def contracts(self) -> dict[str, Contract]:
        """The contract of each conformed topic."""
        names = dict.fromkeys(record for sink in self.sinks for record in records(sink))
        return {topics.conformed(self.project.name, record): self.project.contract(record) for record in names}

    def wait_until_all_is_up(self) -> bool:
        """Return True when Kafka and the stores answer, False when told to stop first; Refused and Fatal pass."""
        crew = Crew(1)
        try:
            checks: list[Callable[[], None]] = [self._check_epoch]
            checks += [partial(writer.connect, sink) for sink in self.sinks]
            return all(self._patiently(crew, check) for check in checks)
        finally:
            crew.close()

    def work(self) -> None:
        """Run the loop until told to stop."""
        settings = self.project.settings.worker(self.name)
        outbox = Outbox(self.project.endpoints.kafka, f"{self.project.name}.{self.name}", **LARGE)
        parking = Parking(outbox, topics.dead_letters(self.project.name, self.name))
        decoder = Decoder(self.contracts, self.registry.writer)
        delivery = Delivery(self.name, decoder, self.by_topic, parking.park, settings.write_timeout_seconds)
        consumer = Consumer(consumer_config(self.project, self.name))
        wanting = any(writer.wants_assignments(sink) for sink in self.sinks)
        Loop(
            consumer,
            batching=self._batching(),
            deliver=delivery.deliver,
            begin=(lambda place: self._begin(consumer, place)) if wanting else None,
            report=Report(self.health),
            stop=self.stop,
            buffer_rows=settings.buffer_rows,
        ).run()

    def _batching(self) -> dict[str, writer.Batching]:
        """Return the batching of each topic: what the sinks like, unless tailrace.toml says otherwise."""
        settings = self.project.settings.worker(self.name)
        found = {}
        for topic, sinks in self.by_topic.items():
            liked = smallest([writer.batching(sink) for sink in sinks])
            linger = liked.linger_seconds if settings.linger_seconds is None else settings.linger_seconds
            found[topic] = writer.Batching(settings.batch_rows or liked.rows, liked.bytes, linger)
        return found

    def _begin(self, consumer: Any, place: Place) -> None:
        """Tell the sinks where a partition begins."""
        offset = beginning(consumer, place)
        for sink in self.by_topic[place[0]]:
            writer.assigned(sink, place[0], place[1], offset)

    def _check_epoch(self) -> None:
        epoch.need(KafkaAdmin(self.project.endpoints.kafka), self.project.name)

    def _patiently(self, crew: Crew, check: Callable[[], None]) -> bool:
        """Try until it succeeds or the worker shall stop; the thread is the crew's, so that a stop is prompt."""
        attempts = 0
        while not self.stop.is_set():
            job = crew.submit(check)
            while not job.done() and not self.stop.wait(0.05):
                self.health.beat()
            if self.stop.is_set():
                break
            try:
                job.result()
            except (Unreachable, Retryable) as error:
                attempts += 1
                self._waiting(error, attempts)
            else:
                return True
        return False

    def _waiting(self, error: Unreachable | Retryable, attempts: int) -> None:
        self.health.doing = f"waiting: {error.problem}"
        delay = pause(attempts, 0.5)
        log.warning("waiting for a service", worker=self.name, attempt=attempts, reason=str(error))
        end = deadline.Deadline.after(delay)
        while not end.passed() and not self.stop.wait(min(0.5, end.remaining())):
            self.health.beat()


LARGE = {"message.max.bytes": 10_000_000}  # a parked record is larger than the record; the broker has the last word


def consumer_config(project: Project, name: str) -> dict[str, Any]:
    """Return the settings of the worker's group member."""
    instance = os.environ.get(INSTANCE, "")
    return {
        "bootstrap.servers": project.endpoints.kafka,
        "group.id": topics.group(project.name, name),
        "client.id": f"{project.name}.{name}",
        **({"group.instance.id": f"{name}-{instance}"} if instance else {}),
        "session.timeout.ms": 45_000 if instance else 10_000,
        "heartbeat.interval.ms": 1_000,
        "max.poll.interval.ms": 300_000,
        "partition.assignment.strategy": "cooperative-sticky",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": True,
        "auto.commit.interval.ms": 1000,
        "enable.auto.offset.store": False,
        "queued.max.messages.kbytes": 65_536,
        "fetch.max.bytes": 33_554_432,
        "fetch.wait.max.ms": 50,
        "log_level": 2,
    }


def beginning(consumer: Any, place: Place) -> int:
    """Return the committed offset of a partition, or its first one where nothing was committed yet."""
    partition = TopicPartition(*place)
    try:
        committed = int(consumer.committed([partition], timeout=COMMITTED_SECONDS)[0].offset)
        if committed >= 0:
            return committed
        return int(consumer.get_watermark_offsets(partition, timeout=COMMITTED_SECONDS)[0])
    except KafkaException as error:
        raise Retryable("Kafka does not say where a partition begins.", detail=error.args[0].name()) from error


def _signalled() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop

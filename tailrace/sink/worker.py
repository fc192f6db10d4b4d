"""One sink worker: everything that one module of sinks/ needs, opened, run and closed.

At start it waits, and says so, while Kafka, the registry or a store is down; it refuses to run when the topics are not
those of the epoch. When a message needs a newer contract, its sinks are opened again under it and the partitions stay.
TAILRACE_INSTANCE names a static group member (tailrace.membership): its restarts then move no partition.
"""

from __future__ import annotations

import gc
import signal
import threading
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from tailrace import deadline, epoch, health, membership, topics
from tailrace.errors import Retryable, Unreachable
from tailrace.kafka import KafkaAdmin, Outbox
from tailrace.registry import Registry
from tailrace.sink import writer
from tailrace.sink.breaker import RECENT, Breaker
from tailrace.sink.crew import Crew
from tailrace.sink.delivery import Delivery, Parking, Refusals
from tailrace.sink.holding import Holding
from tailrace.sink.lane import Pool, pause, smallest
from tailrace.sink.lately import latest
from tailrace.sink.loop import DRAIN_SECONDS, LEAVE_SECONDS, Loop
from tailrace.sink.measures import Measures
from tailrace.sink.report import Report
from tailrace.sink.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.deadletter import DeadLetter
    from tailrace.kafka import Place
    from tailrace.project import Project
    from tailrace.sink.decode import Evolved, Message
    from tailrace.sink.delivery import Delivered

COMMITTED_SECONDS = 10.0
REGISTRY_SECONDS = 10.0  # asked again inside one attempt of a batch
COLLECT = (50_000, 20, 100)

log = structlog.get_logger()


def run(project: Project, name: str, *, health_port: int = 0, stop: threading.Event | None = None) -> int:
    """Run the sink worker ``name`` until SIGTERM, SIGINT or ``stop``; return 0, or raise what ended it."""
    project.sink(name)
    state, ending = health.Health(name), stop or _signalled()
    run_file = health.RunFile(project.folder, name)
    with ExitStack() as opened:
        server = opened.enter_context(closing(health.HealthServer(state, port=health_port)))
        run_file.write(server.port)
        opened.callback(run_file.remove)
        registry = opened.enter_context(closing(Registry(project.endpoints.registry, patience=REGISTRY_SECONDS)))
        stores = opened.enter_context(closing(Stores(project, name)))
        state.registry.register(Measures(stores))
        worker = Worker(project, name, stores, registry, state, ending)
        if worker.wait_until_all_is_up():
            if stop is None:  # the process is the worker's own
                collect_seldom()
            worker.work()
    return 0


def collect_seldom() -> None:
    """Keep the garbage collector from walking through batches again and again: their objects go by their counts."""
    gc.collect()
    gc.freeze()  # modules, contracts and clients stay for good
    gc.set_threshold(*COLLECT)


@dataclass(frozen=True)
class Worker:
    """The parts of one sink worker, by what they are for."""

    project: Project
    name: str
    stores: Stores
    registry: Registry
    health: health.Health
    stop: threading.Event

    def wait_until_all_is_up(self) -> bool:
        """Return True when Kafka and the stores answer, False when told to stop first; Refused and Fatal pass."""
        crew = Crew(1)
        try:
            checks = (self._check_epoch, partial(self.stores.open, self.registry), self._connect)
            return all(self._patiently(crew, check) for check in checks)
        finally:
            crew.close()

    def work(self) -> None:
        """Run the loop until told to stop."""
        settings = self.project.settings.worker(self.name)
        outbox = Outbox(self.project.endpoints.kafka, f"{self.project.name}.{self.name}", **LARGE)
        parking = Parking(outbox, topics.dead_letters(self.project.name, self.name))
        refusals = self._refusals()
        way = Way(self, parking.park, settings.write_timeout_seconds, refusals)
        consumer = Consumer(consumer_config(self.project, self.name))
        wanting = any(writer.wants_assignments(sink) for sink in self.stores.sinks)
        loop = Loop(
            consumer,
            batching=self._batching(),
            deliver=way.deliver,
            begin=(lambda place: self._begin(consumer, place)) if wanting else None,
            evolve=way.evolve,
            report=Report(self.health),
            stop=self.stop,
            pool=Pool(settings.buffer_rows, settings.buffer_mb * writer.MIB),
            waits=(min(DRAIN_SECONDS, settings.write_timeout_seconds), LEAVE_SECONDS),
        )
        with closing(refusals):
            loop.run()

    def _batching(self) -> dict[str, writer.Batching]:
        """Return the batching of each topic: what the sinks like, unless tailrace.toml says otherwise."""
        settings = self.project.settings.worker(self.name)
        found = {}
        for topic, sinks in self.stores.by_topic.items():
            liked = smallest([writer.batching(sink) for sink in sinks])
            linger = liked.linger_seconds if settings.linger_seconds is None else settings.linger_seconds
            found[topic] = writer.Batching(settings.batch_rows or liked.rows, liked.bytes, linger)
        return found

    def _refusals(self) -> Refusals:
        """Return what becomes of what is refused, as tailrace.toml says."""
        settings = self.project.settings.worker(self.name)
        letters = topics.dead_letters(self.project.name, self.name)
        holding = Holding(self.project.endpoints.kafka, letters) if settings.on_reject == "hold" else None
        lately = partial(latest, self.project.endpoints.kafka, letters, RECENT)
        return Refusals(breaker=Breaker(lately) if settings.breaker else None, holding=holding)

    def _begin(self, consumer: Any, place: Place) -> None:
        """Tell the sinks where a partition begins."""
        offset = beginning(consumer, place)
        for sink in self.stores.by_topic[place[0]]:
            writer.assigned(sink, place[0], place[1], offset)

    def _connect(self) -> None:
        """Look at every store."""
        for sink in self.stores.sinks:
            writer.connect(sink)

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


class Way:
    """What becomes of the batches of a worker, under the contracts in force; ``evolve`` follows a newer one."""

    def __init__(
        self, worker: Worker, park: Callable[[Sequence[DeadLetter]], None], timeout: float, refusals: Refusals
    ) -> None:
        self._worker, self._park, self._timeout, self._refusals = worker, park, timeout, refusals
        self._delivery = self._made()

    def deliver(self, messages: Sequence[Message]) -> Delivered:
        """Make one batch durable."""
        return self._delivery.deliver(messages)

    def evolve(self, cause: Evolved) -> tuple[str, ...]:
        """Look for a newer contract and open the sinks under it; return the topic when there was one."""
        worker = self._worker
        news = worker.stores.follow(cause, worker.registry)
        self._delivery = self._made()
        if not news:
            return ()
        worker.health.evolutions.labels(worker.name, cause.topic).inc()
        log.info("sinks follow a newer contract", worker=worker.name, topic=cause.topic, news=list(news))
        return (cause.topic,)

    def _made(self) -> Delivery:
        worker, stores = self._worker, self._worker.stores
        decoder = stores.decoder(worker.registry.writer)
        refusals = self._refusals.of(worker.project.sink(worker.name), stores.sinks)
        return Delivery(worker.name, decoder, stores.by_topic, self._park, self._timeout, refusals)


LARGE = {"message.max.bytes": 20_000_000}  # a parked record is larger than the record; the broker has the last word


READING: dict[str, Any] = {
    "max.poll.interval.ms": 300_000,
    "socket.timeout.ms": 15_000,  # of each request, a commit's too
    "partition.assignment.strategy": "cooperative-sticky",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": True,
    "auto.commit.interval.ms": 1000,
    "enable.auto.offset.store": False,
    "fetch.max.bytes": 16_777_216,
    "fetch.wait.max.ms": 50,
    "fetch.queue.backoff.ms": 20,  # how long a full queue keeps a partition from being fetched; a second elsewise
    "fetch.error.backoff.ms": 100,
    "log_level": 2,
}


def consumer_config(project: Project, name: str) -> dict[str, Any]:
    """Return the settings of the worker's group member."""
    static = membership.member(name)
    return {
        "bootstrap.servers": project.endpoints.kafka,
        "group.id": topics.group(project.name, name),
        "client.id": f"{project.name}.{name}",
        **({"group.instance.id": static} if static else {}),
        "session.timeout.ms": 45_000 if static else 10_000,
        "heartbeat.interval.ms": 1_000,
        "queued.max.messages.kbytes": 256
        * project.settings.worker(name).buffer_mb,  # a quarter: read ahead of the lanes
        **READING,
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

"""How anything knows that everything committed so far has arrived: Kafka's own offsets, hop by hop.

A marker is written to the heartbeat table. When Connect has committed a source offset past it and its token shows in
the heartbeat's raw topic, everything before it is in Kafka. The end offsets at that moment have to be passed by each
processor's group, the end offsets of what those wrote by each sink's group; raw topics that a sink takes are passed by
its group as well. Filtered rows, idle partitions and dead letters need no special case. Every wait shares one deadline;
what did not pass is named, with the reason if seen.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace import topics
from tailrace.control import local
from tailrace.control.services import Services
from tailrace.deadline import Deadline, wait_for
from tailrace.errors import Refused, Unreachable
from tailrace.kafka import reader
from tailrace.source import heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer

    from tailrace.kafka import Offsets, Place
    from tailrace.project import Project

EVERY = 0.1
QUIET_SECONDS = 5.0  # of silence before a long wait says how far it is
HELD_FOR = 12.0  # seconds for which a table may be held before it counts: it looks for its contract every ten
GONE_FOR = 20.0  # seconds without any member before a group counts as not running: restarts take a few


@dataclass(frozen=True, slots=True)
class Crossed:
    """A position that every sink has passed: ``lsn`` in the source, ends of the raw topics and of what sinks read.

    ``conformed`` has raw topics too, where a sink takes them.
    """

    lsn: int
    raw: Mapping[Place, int]
    conformed: Mapping[Place, int]


def cross(project: Project, *, timeout: float = 120.0, say: Callable[[str], None] = lambda _: None) -> Crossed:
    """Return when everything committed before this call is in every sink; Unreachable says which hop did not pass."""
    with Services(project) as services:
        barrier = Barrier(services, Deadline.after(timeout), say)
        lsn = barrier.source()
        raw = barrier.processors()
        return Crossed(lsn, raw, barrier.sinks())


class Barrier:
    """One crossing; the hops are taken in order: source, processors, sinks."""

    def __init__(self, services: Services, deadline: Deadline, say: Callable[[str], None]) -> None:
        self._services, self._deadline, self._say = services, deadline, say
        self._project, self._admin = services.project, services.admin
        self._quiet = Deadline.after(QUIET_SECONDS)

    def source(self) -> int:
        """Write the marker and wait until Kafka holds everything committed before it; return its position."""
        topic = topics.heartbeat(self._project.name)
        start = self._admin.ends([topic])
        if not start:
            raise Refused(f"There is no topic {topic}.", hint="Run `tailrace apply`: the heartbeat has to be captured.")
        token = secrets.token_hex(8)
        lsn = heartbeat.mark(self._services.database, token)
        heartbeat.mark(self._services.database, f"{token}+")  # a record after it carries the source offset past it
        self._say(f"marker written at LSN {lsn}")
        self._seen(start, token)
        self._wait(lambda: self._connect_passed(lsn), "Kafka Connect to commit the marker's position")
        self._say("Kafka holds everything up to the marker")
        return lsn

    def processors(self) -> Offsets:
        """Wait until every processor has passed the present ends of the raw topics; return those."""
        ends: Offsets = {}
        for name in self._project.processors:
            tables = self._project.tables_of(name)
            if tables:
                ends |= self._group("processor", name, [topics.raw(self._project.name, table) for table in tables])
        return ends

    def sinks(self) -> Offsets:
        """Wait until every sink has passed the present ends of the topics that it reads; return those."""
        ends: Offsets = {}
        for name in self._project.sinks:
            ends |= self._group("sink", name, list(self._project.topics_of(name)))
        return ends

    def _group(self, kind: str, name: str, names: list[str]) -> Offsets:
        """Wait until one worker's group has passed the present ends of some topics."""
        ends, starts = self._admin.ends(names), self._admin.starts(names)
        needed = needs(ends, starts)
        group = topics.group(self._project.name, name)
        watch = _Membership(self._admin.members, group, kind, name)
        waiting = _Waiting(lambda: local.find(self._project, name))
        left = dict(needed)

        def passed() -> bool:
            nonlocal left
            committed = self._admin.committed(group, names)
            left = lacking(needed, committed)
            self._tell(lambda: f"{kind} {name}: {to_go(left, committed, starts):,} records to go")
            watch.look()
            waiting.look(left)
            return not left

        try:
            self._wait(passed, f"the {kind} {name} to pass {len(needed)} partitions")
        except Unreachable as error:
            raise watch.explain(left) from error
        self._say(f"{kind} {name} has passed")
        return ends

    def _seen(self, start: Offsets, token: str) -> None:
        """Wait until the token shows in the heartbeat's raw topic."""
        consumer = reader(self._admin.bootstrap, f"{self._project.name}-barrier")
        consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in start.items()])
        try:
            self._wait(lambda: self._token(consumer, token.encode()), "the marker to show in its raw topic", every=0.0)
        finally:
            consumer.close()

    def _token(self, consumer: Consumer, token: bytes) -> bool:
        """Poll once; a failed connector is checked for whenever nothing came."""
        message = consumer.poll(min(1.0, self._deadline.remaining()))
        self._tell(lambda: "waiting for the marker to show in its raw topic")
        if message is None:
            self._running()
            return False
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001 - librdkafka's own code
            raise Unreachable("The heartbeat topic cannot be read.", detail=str(error)) from KafkaException(error)
        return error is None and token in (message.value() or b"")

    def _connect_passed(self, lsn: int) -> bool:
        name = self._project.connector.name
        self._tell(lambda: f"waiting for the connector {name}")
        if position(self._services.connect.offsets(name) or {}) >= lsn:
            return True
        self._running()
        return False

    def _running(self) -> None:
        """Raise Unreachable when the connector has failed or does not exist."""
        name = self._project.connector.name
        status = self._services.connect.status(name)
        if status is None:
            raise Unreachable(f"There is no connector {name}.", hint="Run `tailrace apply`.")
        if status.failed:
            raise Unreachable(
                f"The connector {name} has failed.",
                detail=status.trace or status.shown,
                hint="Mend the cause, then run `tailrace apply` again: it restarts what has failed.",
            )

    def _tell(self, news: Callable[[], str]) -> None:
        """Say how far it is, now and then."""
        if self._quiet.passed():
            self._say(news())
            self._quiet = Deadline.after(QUIET_SECONDS)

    def _wait(self, condition: Callable[[], bool], what: str, *, every: float = EVERY) -> None:
        wait_for(condition, timeout=self._deadline.remaining(), what=what, every=every, hint="`tailrace status`")


class _Membership:
    """Watches whether a group has members at all, so that a worker that does not run is named early."""

    def __init__(self, members: Callable[[str], int], group: str, kind: str, name: str) -> None:
        self._members, self._group, self._kind, self._name = members, group, kind, name
        self._gone = Deadline.after(GONE_FOR)
        self._next = Deadline.after(1.0)

    def look(self) -> None:
        """Ask once a second; raise Unreachable when nobody has been there for ``GONE_FOR`` seconds."""
        if not self._next.passed():
            return
        self._next = Deadline.after(1.0)
        if self._members(self._group):
            self._gone = Deadline.after(GONE_FOR)
        elif self._gone.passed():
            raise Unreachable("nobody is there")

    def explain(self, left: Mapping[Place, int]) -> Unreachable:
        """Say what did not pass, and why where that can be seen."""
        members = self._members(self._group)
        places = ", ".join(f"{topic}/{partition} to {end}" for (topic, partition), end in sorted(left.items())[:3])
        run = f"`tailrace run {self._kind} {self._name}` starts it."
        return Unreachable(
            f"The {self._kind} {self._name} did not pass the marked position.",
            detail=f"Its group {self._group} has {members} members and is behind in {len(left)} partitions: {places}.",
            hint=run if not members else f"Its log is in .tailrace/logs/{self._name}.log.",
        )


class _Waiting:
    """Watches whether what did not pass belongs to a table that is held: then no wait brings it on."""

    def __init__(self, find: Callable[[], local.LocalWorker | None]) -> None:
        self._find = find
        self._held, self._next = Deadline.after(HELD_FOR), Deadline.after(1.0)

    def look(self, left: Mapping[Place, int]) -> None:
        """Ask once a second; raise Refused when a table in the way has been held for ``HELD_FOR`` seconds."""
        if not left or not self._next.passed():
            return
        self._next = Deadline.after(1.0)
        held = in_the_way(self._find(), left)
        if held is None:
            self._held = Deadline.after(HELD_FOR)
        elif self._held.passed():
            raise Refused(f"The table {held.table} is held.", detail=held.problem, hint=held.hint)


def in_the_way(worker: local.LocalWorker | None, left: Mapping[Place, int]) -> local.Held | None:
    """Return the held table to which a partition belongs that a group has not passed; None where there is none."""
    for topic, held in (worker.held if worker else {}).items():
        if any((topic, partition) in left for partition in held.partitions):
            return held
    return None


def needs(ends: Mapping[Place, int], starts: Mapping[Place, int]) -> Offsets:
    """Return the offsets that a group has to reach; a partition that holds nothing asks for nothing."""
    return {place: end for place, end in ends.items() if end > starts.get(place, 0)}


def lacking(needed: Mapping[Place, int], committed: Mapping[Place, int]) -> Offsets:
    """Return what a group has not reached; no committed offset is a negative number."""
    return {place: end for place, end in needed.items() if committed.get(place, -1) < end}


def to_go(left: Mapping[Place, int], committed: Mapping[Place, int], starts: Mapping[Place, int]) -> int:
    """Return how many records lie before the offsets that a group has not reached."""
    return sum(end - max(committed.get(place, -1), starts.get(place, 0)) for place, end in left.items())


def position(offset: Mapping[str, object]) -> int:
    """Return the LSN that a committed Debezium offset covers.

    ``lsn`` is that of the change it belongs to. A change behind the marker's position was committed behind it as well,
    and Connect commits an acknowledged prefix only: so either of the two says that the marker's past is in Kafka.
    An offset of a running snapshot covers nothing.
    """
    if offset.get("snapshot"):
        return -1
    return max((int(str(offset[name])) for name in ("lsn_proc", "lsn") if offset.get(name) is not None), default=-1)

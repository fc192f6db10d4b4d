"""Whether the recorded epoch still holds: one look at cluster, server, slot and connector, and a pure judgement of it.

``reasons`` says, one line each, what ended the epoch (hard: versions would lie, or changes are missing) and what casts
doubt on it (soft: rows may be left in the stores that the source no longer has). Each is mended by the same command,
``tailrace epoch bump``. Only reading happens here.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import psycopg2
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace import epoch, topics
from tailrace.connector import HEARTBEAT
from tailrace.control.services import Services
from tailrace.deadline import Deadline
from tailrace.errors import ProjectError, Unreachable
from tailrace.kafka import reader
from tailrace.source import lineage, signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tailrace.epoch import Epoch
    from tailrace.kafka import KafkaAdmin
    from tailrace.project import Project
    from tailrace.source.lineage import Lineage
    from tailrace.source.signals import Notice

READ_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that speaks against the epoch; a hard one forbids to go on."""

    said: str
    hard: bool = True


@dataclass(frozen=True)
class Facts:
    """What was seen. ``now`` is the record as it would be written today, with the recorded number.

    ``needed`` are the topics of the project; others that the record has are past. ``offset`` is Connect's, None where
    it has none; ``known`` says that Connect has the connector at all. ``notices`` are those of this epoch.
    ``streamed`` says that the raw topics hold something, ``counts`` are the partitions of every topic there is.
    """

    recorded: Epoch
    now: Epoch
    server: Lineage
    offset: Mapping[str, Any] | None
    known: bool
    streamed: bool
    needed: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notices: Sequence[Notice] = ()


def names(project: Project) -> list[str]:
    """Return every topic whose identity the record holds: raw and conformed."""
    captured = [topics.raw(project.name, table) for table in (*project.connector.tables, HEARTBEAT)]
    records = dict.fromkeys(project.record_of(table) for table in project.tables)
    return [*captured, *(topics.conformed(project.name, record) for record in records)]


def present(services: Services, server: Lineage, recorded: Epoch | None) -> Epoch:
    """Return the record as it would be written today; number, boundaries and phase are the recorded ones."""
    project, admin = services.project, services.admin
    counts = admin.partitions()
    there = [name for name in names(project) if name in counts]
    held = recorded or epoch.Epoch(1, "", "")
    raw = {topics.raw(project.name, table) for table in project.connector.tables}
    added = {name: [0] * counts[name] for name in there if name in raw and name not in held.topics}
    begins = dict(held.begins)
    if added and held.epoch > 1:  # a table that came with this epoch has no older life
        begins[str(held.epoch)] = {**begins.get(str(held.epoch), {}), **added}
    return epoch.Epoch(
        epoch=held.epoch,
        slot=project.connector.slot,
        system_identifier=server.system_identifier,
        topics=admin.topic_ids(there) if there else {},
        partitions={name: counts[name] for name in there},
        timeline=server.timeline,
        begins=begins,
        notified=held.notified,
        phase=held.phase,
    )


def look(services: Services, recorded: Epoch) -> Facts:
    """Look once at everything.

    The slot is read before Connect's offset, which is never behind it then, and the WAL's end after it.
    """
    project = services.project
    server = lineage.read(services.database, project.connector.slot)
    name = project.connector.name
    offset = services.connect.offsets(name)
    server = replace(server, position=lineage.read(services.database, project.connector.slot).position)
    raw = [topics.raw(project.name, table) for table in project.connector.tables]
    return Facts(
        recorded=recorded,
        now=present(services, server, recorded),
        server=server,
        offset=offset,
        known=services.connect.config(name) is not None,
        streamed=any(services.admin.ends(raw).values()),
        needed=names(project),
        counts=services.admin.partitions(),
        notices=notices(services.admin, project.connector.notifications, recorded.notified),
    )


def reasons(facts: Facts) -> list[Reason]:
    """Return what ended the epoch or casts doubt on it, hard reasons first."""
    found = [*map(Reason, _topics(facts)), *map(Reason, _server(facts)), *map(Reason, _slot(facts))]
    began = signals.snapshots(facts.notices)
    if began > 1:
        said = f"the connector took its snapshot {began} times in this epoch: its offsets were reset, or it was stopped"
        found.append(Reason(f"{said} meanwhile; rows that vanished in between may be left in the stores", hard=False))
    if facts.recorded.phase != epoch.SETTLED:
        found.append(Reason(f"epoch {facts.recorded.epoch} has begun and is not finished: no sweep yet", hard=False))
    return found


def _topics(facts: Facts) -> list[str]:
    lines = facts.recorded.differences(facts.now.topics, facts.now.partitions)
    return [line for line in lines if line.split(" ", 1)[0] in facts.needed]


def _server(facts: Facts) -> list[str]:
    recorded, server = facts.recorded, facts.server
    if recorded.system_identifier != server.system_identifier:
        return ["the Postgres server is another one than this epoch began with (its system identifier differs)"]
    kept = server.slot is not None and server.slot.failover
    if recorded.timeline and recorded.timeline != server.timeline and not kept:
        moved = f"the Postgres server is on timeline {server.timeline}, this epoch began on {recorded.timeline}"
        return [f"{moved}: it was restored, or a standby without the slot took over"]
    return []


def _slot(facts: Facts) -> list[str]:
    recorded, slot, read = facts.recorded, facts.server.slot, position(facts.offset)
    lines = []
    if recorded.slot != facts.now.slot:
        lines.append(f"slot: {recorded.slot} -> {facts.now.slot}")
    if slot is None:
        if facts.streamed or facts.offset:
            lines.append(f"the slot {facts.now.slot} is gone, and with it every change since it was dropped")
    elif slot.wal_status == "lost":
        lines.append(f"the slot {facts.now.slot} is lost: Postgres removed WAL that it still needed")
    elif read is not None and slot.confirmed > read:
        behind = slot.confirmed - read
        lines.append(f"the slot {facts.now.slot} begins {behind:,} bytes after what was read: it was recreated")
    if read is not None and read > facts.server.position:
        lines.append("the connector has read further than the server's WAL goes: the database was restored")
    if not facts.offset and facts.known and facts.streamed and _completed(facts.notices):
        lines.append("Connect has no offset of the connector any more: it would take its snapshot again")
    return lines


def _completed(found: Sequence[Notice]) -> bool:
    return any(each.aggregate == signals.INITIAL and each.type == signals.COMPLETED for each in found)


def position(offset: Mapping[str, Any] | None) -> int | None:
    """Return the LSN up to which the connector has read; None during a snapshot and before it."""
    if not offset or offset.get("snapshot"):
        return None
    return max((int(offset[name]) for name in ("lsn_proc", "lsn") if offset.get(name) is not None), default=None)


class Watch:
    """The judgement for somebody who asks every second: it is taken again every few seconds only."""

    def __init__(self, project: Project, *, every: float = 15.0) -> None:
        self._project, self._every = project, every
        self._due, self._held = Deadline.after(0), Verdict()

    def verdict(self) -> Verdict:
        """Return number and reasons as last seen; nothing while a server does not answer, which others show."""
        if self._due.passed():
            self._due = Deadline.after(self._every)
            try:
                with Services(self._project) as services:
                    self._held = judge(services)
            except (Unreachable, ProjectError, psycopg2.Error):
                self._held = Verdict(self._held.epoch)
        return self._held


@dataclass(frozen=True, slots=True)
class Verdict:
    """The recorded epoch, 0 where there is none, and what speaks against it."""

    epoch: int = 0
    reasons: tuple[Reason, ...] = ()


def judge(services: Services) -> Verdict:
    """Read the record and judge it."""
    recorded = epoch.read(services.admin, services.project.name)
    return Verdict() if recorded is None else Verdict(recorded.epoch, tuple(reasons(look(services, recorded))))


def notices(admin: KafkaAdmin, topic: str, since: int) -> list[Notice]:
    """Return the notifications from an offset on; none where the connector sends none."""
    end = admin.ends([topic]).get((topic, 0), 0) if topic else 0
    start = max(since, admin.starts([topic]).get((topic, 0), 0)) if end else 0
    if start >= end:
        return []
    found, deadline = [], Deadline.after(READ_WITHIN)
    with closing(reader(admin.bootstrap, f"{topic}-reading")) as consumer:
        consumer.assign([TopicPartition(topic, 0, start)])
        while not deadline.passed():
            message = consumer.poll(min(1.0, deadline.remaining()))
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(signals.notice(message.value()))
            elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001 - librdkafka's own code
                raise KafkaException(error)
            if error is not None or message.offset() >= end - 1:
                return [each for each in found if each is not None]
    raise Unreachable(f"The notifications in {topic} could not be read in {READ_WITHIN:g} s.")

"""``tailrace epoch bump``: the one way out when an epoch has ended, whatever ended it.

1. Processors stop (and sinks that read a raw topic, or a topic that was recreated or grows): nobody writes with the old
   number.
2. The connector stops; what is missing in source and Kafka is made, topics with too few partitions grow.
3. Groups are set to the beginning of what was recreated, which only the last epoch's record tells. The next one is
   written to the control topic, with the raw topics' ends: what lies before them keeps its epoch.
4. Connector offsets are reset and the slot is dropped: Debezium makes it anew, with a consistent snapshot.
5. Workers and connector start; when the snapshot is through and conformed, rows that vanished meanwhile are swept.

The phase in the control record says how far it came. Interrupted before 5, it begins again with another number;
interrupted in 5, it goes on there. Done twice, it does no harm: versions guard every store.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg2

from tailrace import epoch, topics
from tailrace.connector import HEARTBEAT
from tailrace.control import epochs
from tailrace.control.barrier import Barrier
from tailrace.control.halt import halted
from tailrace.control.plan import resources
from tailrace.control.resources import topics as topic_kind
from tailrace.control.resources.connector import ConnectorResource
from tailrace.control.resources.heartbeat import OwnTable
from tailrace.control.resources.publication import PublicationResource
from tailrace.control.sweep import Swept, sweep
from tailrace.crashpoint import Command, reach
from tailrace.deadline import Deadline, wait_for
from tailrace.errors import Refused
from tailrace.source import lineage, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.control.epochs import Facts, Reason
    from tailrace.control.resources.topics import Declared
    from tailrace.control.services import Services
    from tailrace.epoch import Epoch
    from tailrace.kafka import Offsets
    from tailrace.project import Project

    Say = Callable[[str], None]

SLOT_FREE_WITHIN = 60.0


@dataclass(frozen=True)
class Intent:
    """What the command would do: from which epoch to which, why, which topics grow, who has to stop."""

    recorded: Epoch
    number: int
    reasons: Sequence[Reason]
    growing: Mapping[str, int]
    fresh: frozenset[str]
    stopping: Sequence[str]

    @property
    def goes_on(self) -> bool:
        """Whether an epoch that has begun is only brought to its end."""
        return self.number == self.recorded.epoch

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        said = [asdict(reason) for reason in self.reasons]
        shown = {"from": self.recorded.epoch, "to": self.number, "reasons": said, "growing": dict(self.growing)}
        return {**shown, "recreated": sorted(self.fresh), "stopping": list(self.stopping)}


def intent(project: Project, facts: Facts) -> Intent:
    """Decide; Refused where a topic would have to lose partitions. Pure."""
    recorded, why = facts.recorded, epochs.reasons(facts)
    growing = grown(topic_kind.declared(project), facts.counts)
    fresh = frozenset(name for name, held in recorded.topics.items() if facts.now.topics.get(name) != held)
    fresh &= set(facts.needed)
    went_on = recorded.phase == epoch.SNAPSHOT and not growing and signals.snapshots(facts.notices) <= 1
    if went_on and not any(reason.hard for reason in why):
        return Intent(recorded, recorded.epoch, why, {}, frozenset(), ())
    changing = fresh | set(growing)
    stopping = [name for name in project.processors if project.tables_of(name)]
    stopping += [
        name for name in project.sinks if project.raw_tables_of(name) or changing & set(project.topics_of(name))
    ]
    return Intent(recorded, recorded.epoch + 1, why, growing, fresh, tuple(stopping))


def grown(declared: Sequence[Declared], counts: Mapping[str, int]) -> dict[str, int]:
    """Return the topics that have fewer partitions than they should, with their new counts; Refused for more."""
    wanted = {topic.name: topic.partitions for topic in declared if topic.name in counts}
    for name, count in wanted.items():
        if counts[name] > count:
            raise Refused(
                f"The topic {name} has {counts[name]} partitions where tailrace.toml says {count}.",
                detail="A topic cannot lose partitions, and raw and conformed topics have the same number.",
                hint=f"Set partitions = {max(counts.values())} in [topics] of tailrace.toml, then run it again.",
            )
    return {name: count for name, count in wanted.items() if counts[name] < count}


def first_offsets(project: Project, worker: str, fresh: frozenset[str], starts: Offsets) -> Offsets:
    """Return where a group has to be set: to the beginning of what was recreated.

    A processor reads a table's raw topic again from its oldest record also when its conformed topic was recreated.
    """
    if worker in project.processors:
        tables = project.tables_of(worker)
        again = {
            topics.raw(project.name, table)
            for table in tables
            if {topics.raw(project.name, table), topics.conformed(project.name, project.record_of(table))} & fresh
        }
    else:
        again = set(project.topics_of(worker)) & fresh
    return {place: start for place, start in starts.items() if place[0] in again}


class Bump:
    """One run of the command."""

    def __init__(self, services: Services, say: Say) -> None:
        self._services, self._say = services, say
        self._project, self._admin = services.project, services.admin
        self._name = services.project.connector.name

    def intent(self) -> Intent:
        """Look and decide; nothing is changed."""
        recorded = epoch.read(self._admin, self._project.name)
        if recorded is None:
            raise Refused(f"The pipeline {self._project.name} has no epoch yet.", hint="Run `tailrace apply`.")
        return intent(self._project, epochs.look(self._services, recorded))

    def run(self, wanted: Intent, *, timeout: float) -> tuple[Swept, ...]:
        """Begin the new epoch and bring it to its end."""
        deadline = Deadline.after(timeout)
        if not wanted.goes_on:
            self._begin(wanted)
        return self._finish(deadline)

    def _begin(self, wanted: Intent) -> None:
        with halted(self._project, self._admin, wanted.stopping, self._say) as alone:
            self._stop_connector()
            self._make(wanted.growing)
            self._set_offsets(wanted)
            follower = self._write(wanted)
            reach(Command.EPOCH_WRITTEN)
            self._drop_slot()
            reach(Command.SLOT_DROPPED)
        for name in alone:
            self._say(f"nobody here starts {name} again: `tailrace run all`, or wherever it runs")
        self._say(f"epoch {follower.epoch} has begun; the connector takes its snapshot")
        ConnectorResource(self._services).apply()
        self._record(replace(follower, phase=epoch.SNAPSHOT))
        reach(Command.SNAPSHOT_AWAITED)

    def _stop_connector(self) -> None:
        if self._services.connect.config(self._name) is not None:
            self._say(f"stopping the connector {self._name}")
            self._services.connect.stop(self._name)

    def _make(self, growing: Mapping[str, int]) -> None:
        """Make what is missing in the source and in Kafka."""
        for name, count in growing.items():
            self._say(f"{name} grows to {count} partitions")
            topic_kind.grow(self._admin, name, count)
        kinds = (OwnTable, PublicationResource, topic_kind.TopicResource)
        for resource in resources(self._services):
            if isinstance(resource, kinds) and (step := resource.inspect()).action in ("create", "change"):
                self._say(f"{step.action} {step.kind} {step.name}")
                resource.apply()

    def _write(self, wanted: Intent) -> Epoch:
        """Write the next epoch: from the raw topics' present ends on, a record belongs to it."""
        project = self._project
        server = lineage.read(self._services.database, project.connector.slot)
        now = epochs.present(self._services, server, wanted.recorded)
        raw = [topics.raw(project.name, table) for table in (*project.connector.tables, HEARTBEAT)]
        ends = self._admin.ends(raw)
        begins = {name: [ends[name, number] for number in range(now.partitions[name])] for name in raw}
        notices = project.connector.notifications
        told = self._admin.ends([notices]).get((notices, 0), 0) if notices else 0
        follower = replace(wanted.recorded.followed(now, begins), notified=told)
        self._record(follower)
        return follower

    def _record(self, found: Epoch) -> None:
        epoch.write(self._project.endpoints.kafka, self._project.name, found)

    def _set_offsets(self, wanted: Intent) -> None:
        starts = self._admin.starts(epochs.names(self._project))
        for worker in wanted.stopping:
            group = topics.group(self._project.name, worker)
            offsets = first_offsets(self._project, worker, wanted.fresh, starts)
            if offsets:
                self._say(f"{worker} reads {len(offsets)} partitions from their beginning")
                self._admin.rewind(group, offsets)

    def _drop_slot(self) -> None:
        """Forget the source offset and the slot; the stopped connector lets go of it within seconds."""
        if self._services.connect.config(self._name) is not None:
            self._services.connect.reset_offsets(self._name)
        slot = self._project.connector.slot
        wait_for(
            lambda: self._dropped(slot),
            timeout=SLOT_FREE_WITHIN,
            every=0.25,
            what=f"the slot {slot} to be free",
            hint="Something else reads from it: SELECT active_pid FROM pg_replication_slots.",
        )

    def _dropped(self, slot: str) -> bool:
        with self._services.database.cursor() as cursor, suppress(psycopg2.errors.ObjectInUse):
            cursor.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE slot_name = %s AND NOT active",
                (slot,),
            )
        return slot not in self._services.catalogue().slots

    def _finish(self, deadline: Deadline) -> tuple[Swept, ...]:
        """Wait for the snapshot and its way through the processors, sweep, and say that the epoch is settled."""
        found = epoch.need(self._admin, self._project.name)
        self._wait_snapshot(found, deadline)
        barrier = Barrier(self._services, deadline, self._say)
        barrier.source()
        barrier.processors()
        records = dict.fromkeys(self._project.record_of(table) for table in self._project.tables)
        swept = tuple(sweep(self._services, found.epoch, record, self._say) for record in records)
        reach(Command.EPOCH_SWEPT)
        self._record(replace(found, phase=epoch.SETTLED))
        return swept

    def _wait_snapshot(self, found: Epoch, deadline: Deadline) -> None:
        self._say("waiting for the snapshot")
        wait_for(
            self._snapshot_done,
            timeout=deadline.remaining(),
            every=0.5,
            what="the snapshot to be complete",
            hint="It goes on by itself; run the same command again to wait for it.",
        )
        notices = epochs.notices(self._admin, self._project.connector.notifications, found.notified)
        if signals.snapshots(notices) > 1:
            raise Refused(
                "The snapshot was interrupted and began anew.",
                detail="Rows that vanished between the two would be left in the stores.",
                hint="Run `tailrace epoch bump` again: it begins another epoch.",
            )

    def _snapshot_done(self) -> bool:
        """Say whether the connector streams; a task that failed raises."""
        self._services.connect.wait_running(self._name)
        offset = self._services.connect.offsets(self._name) or {}
        return bool(offset) and (
            not offset.get("snapshot") or bool(offset.get("snapshot_completed") or offset.get("last_snapshot_record"))
        )

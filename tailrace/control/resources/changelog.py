"""Changelogs: one compacted topic per table whose unchanged long values are restored from the processor's images.

Which tables those are is asked of the catalogue: columns that may be stored out of line, and no REPLICA IDENTITY FULL.
The topic is what tells the processor to keep images. It is left alone when the table no longer needs it. Images belong
to an epoch, so a changelog may get more partitions when a new epoch gives its table more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewPartitions

from tailrace import topics
from tailrace.control.checks.tables import restored
from tailrace.control.resources.topics import HOUR_MS, LETTER_BYTES, Declared, TopicResource, compare
from tailrace.errors import Unreachable
from tailrace.kafka import TIMEOUT

if TYPE_CHECKING:
    from tailrace.kafka import KafkaAdmin
    from tailrace.project import Project
    from tailrace.resource import Step
    from tailrace.source.catalogue import Catalogue

CONFIG = {
    "cleanup.policy": "compact",
    "compression.type": "producer",
    "max.message.bytes": str(LETTER_BYTES),
    "min.compaction.lag.ms": str(HOUR_MS),  # a claim stays until whoever takes the partition has read it
    "delete.retention.ms": str(24 * HOUR_MS),  # longer than a process keeps the images of a partition it gave up
}


def declared(project: Project, seen: Catalogue) -> list[Declared]:
    """Return the changelogs that a project needs."""
    wanted = project.settings.topics
    return [
        Declared(topics.changelog(project.name, worker, table), wanted.partitions, wanted.replication, CONFIG)
        for worker in project.processors
        for table in project.tables_of(worker)
        if table not in project.outboxes and table in seen.tables and restored(project.connector, seen.tables[table])
    ]


class ChangelogTopic(TopicResource):
    """One changelog."""

    def __init__(self, admin: KafkaAdmin, topic: Declared) -> None:
        super().__init__(admin, topic)
        self._cluster, self._wanted = admin, topic

    def inspect(self) -> Step:
        """Compare settings, and the partition count, which may grow."""
        return allowed(super().inspect(), self._wanted, self._cluster.partitions().get(self._wanted.name))

    def apply(self) -> None:
        """Create the topic, change its settings, add partitions."""
        super().apply()
        count = self._cluster.partitions().get(self._wanted.name, 0)
        if count < self._wanted.partitions:
            self._grow()

    def _grow(self) -> None:
        name = self._wanted.name
        try:
            more = [NewPartitions(name, self._wanted.partitions)]
            self._cluster.client.create_partitions(more, request_timeout=TIMEOUT)[name].result()
        except KafkaException as error:
            raise Unreachable(f"Kafka does not grow the topic {name}.", detail=error.args[0].name()) from error


def allowed(step: Step, topic: Declared, count: int | None) -> Step:
    """Return the step with a conflict over too few partitions turned into a change."""
    if step.action != "conflict" or count is None or count > topic.partitions:
        return step
    same = compare(replace(topic, partitions=count), count, topic.config)
    return replace(same, action="change", lines=(f"partitions: {count} -> {topic.partitions}",))

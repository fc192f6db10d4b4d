"""Topics: which ones a project needs, with their partition counts and policies, and how they are made.

A partition count is never changed (key -> partition is fixed for the life of an epoch): another count is a conflict.
Only the settings named here are compared; others are the operator's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType

from tailrace import topics
from tailrace.connector import SIGNAL
from tailrace.deadline import wait_for
from tailrace.errors import Unreachable
from tailrace.kafka import TIMEOUT
from tailrace.resource import Step
from tailrace.topics import MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailrace.kafka import KafkaAdmin
    from tailrace.project import Project

KIND = "topic"
HOUR_MS = 3_600_000
LETTER_BYTES = MESSAGE_BYTES + 64 * 1024  # a dead letter holds the message and the headers that say why
RAW = {"cleanup.policy": "delete", "compression.type": "producer", "max.message.bytes": str(MESSAGE_BYTES)}
CONFORMED = {
    "cleanup.policy": "compact",
    "compression.type": "producer",
    "max.message.bytes": str(MESSAGE_BYTES),
    "min.compaction.lag.ms": str(24 * HOUR_MS),
    "delete.retention.ms": str(7 * 24 * HOUR_MS),
}
DEAD_LETTERS = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "max.message.bytes": str(LETTER_BYTES),
    "retention.ms": "-1",  # what expires unread is lost
}
CONTROL = {"cleanup.policy": "compact"}
NOTICES = {"cleanup.policy": "delete", "retention.ms": "-1"}  # a few per snapshot; they tell when one was taken again
BEATS = {"cleanup.policy": "delete", "retention.ms": str(24 * HOUR_MS)}


@dataclass(frozen=True)
class Declared:
    """One topic as the project wants it."""

    name: str
    partitions: int
    replication: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


def declared(project: Project) -> list[Declared]:
    """Return every topic of a project, in the order of one row's trip."""
    settings, name = project.settings.topics, project.name
    raw = {**RAW, "retention.ms": str(settings.raw_retention_hours * HOUR_MS)}
    captured = [*project.connector.tables, f"{topics.HEARTBEAT_SCHEMA}.{topics.HEARTBEAT_TABLE}"]
    records = dict.fromkeys(project.record_of(table) for table in project.tables)
    workers = [worker for worker in project.processors if project.tables_of(worker)] + list(project.sinks)

    def topic(title: str, config: Mapping[str, str], partitions: int = settings.partitions) -> Declared:
        return Declared(title, partitions, settings.replication, config)

    return [
        *(topic(topics.raw(name, table), raw) for table in captured),
        topic(beats(project), BEATS, 1),
        *([topic(topics.raw(name, SIGNAL), BEATS, 1)] if SIGNAL in project.connector.published else []),
        *([topic(project.connector.notifications, NOTICES, 1)] if project.connector.notifications else []),
        *_unread(project, topic),
        *(topic(topics.conformed(name, record), CONFORMED) for record in records),
        *(topic(topics.events(name, route), raw) for route in project.routes),
        *(topic(topics.dead_letters(name, worker), DEAD_LETTERS) for worker in workers),
        topic(topics.control(name), CONTROL, 1),
    ]


def _unread(project: Project, topic: Callable[[str, Mapping[str, str], int], Declared]) -> list[Declared]:
    """Return the topics of what is no row: nobody reads them, but a connector waits forever for one that is missing."""
    config, found = project.connector.config, []
    if config.get("message.prefix.exclude.list") != ".*":
        found.append(topics.messages(project.name))
    if config.get("provide.transaction.metadata") == "true":
        found.append(topics.transactions(project.name))
    return [topic(name, BEATS, 1) for name in found]


def beats(project: Project) -> str:
    """Return the topic of Debezium's own heartbeats, which carry no row."""
    prefix = project.connector.config.get("topic.heartbeat.prefix", "__debezium-heartbeat")
    return f"{prefix}.{project.connector.prefix}"


def grow(admin: KafkaAdmin, name: str, count: int) -> None:
    """Give a topic more partitions; only a new epoch may do that."""
    try:
        admin.client.create_partitions([NewPartitions(name, count)], request_timeout=TIMEOUT)[name].result()
    except KafkaException as error:
        raise failed(name, error) from error
    wait_for(lambda: admin.partitions().get(name) == count, timeout=30, what=f"{name} to have {count} partitions")


def failed(name: str, error: KafkaException) -> Unreachable:
    """Return what to raise when Kafka refuses to make or change a topic."""
    said = error.args[0]
    return Unreachable(f"Kafka does not make the topic {name}.", detail=f"{said.name()}: {said.str()}")


class TopicResource:
    """One topic."""

    def __init__(self, admin: KafkaAdmin, topic: Declared) -> None:
        self._admin, self._topic = admin, topic

    def inspect(self) -> Step:
        """Compare partition count and settings."""
        count = self._admin.partitions().get(self._topic.name)
        return compare(self._topic, count, {} if count is None else self._config())

    def apply(self) -> None:
        """Create the topic, or change its settings."""
        if self._topic.name in self._admin.partitions():
            self._alter()
        else:
            self._create()

    def _config(self) -> dict[str, str]:
        place = ConfigResource(ResourceType.TOPIC, self._topic.name)
        try:
            found = self._admin.client.describe_configs([place], request_timeout=TIMEOUT)[place].result()
        except KafkaException as error:
            raise failed(self._topic.name, error) from error
        return {name: str(entry.value) for name, entry in found.items()}

    def _create(self) -> None:
        topic = self._topic
        new = NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.config))
        try:
            self._admin.client.create_topics([new], request_timeout=TIMEOUT)[topic.name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise failed(self._topic.name, error) from error
        wait_for(lambda: topic.name in self._admin.topic_ids([topic.name]), timeout=30, what=f"the topic {topic.name}")

    def _alter(self) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in self._topic.config.items()
        ]
        place = ConfigResource(ResourceType.TOPIC, self._topic.name, incremental_configs=entries)
        try:
            self._admin.client.incremental_alter_configs([place], request_timeout=TIMEOUT)[place].result()
        except KafkaException as error:
            raise failed(self._topic.name, error) from error


def compare(topic: Declared, count: int | None, config: Mapping[str, str]) -> Step:
    """Return the step that the cluster calls for; ``count`` is None when there is no such topic."""
    if count is None:
        settings = [f"{name} = {value}" for name, value in topic.config.items()]
        return Step(KIND, topic.name, "create", (f"{topic.partitions} partitions", *settings))
    if count != topic.partitions:
        line = f"it has {count} partitions where tailrace.toml says {topic.partitions}; a count is fixed for an epoch"
        more = "`tailrace epoch bump` adds them, with a new epoch"
        fewer = f"a topic cannot lose partitions: set [topics] partitions = {count}"
        line = f"{line}: {more if topic.partitions > count else fewer}"
        return Step(KIND, topic.name, "conflict", (line,))
    lines = tuple(
        f"{name}: {config.get(name)} -> {value}" for name, value in topic.config.items() if config.get(name) != value
    )
    return Step(KIND, topic.name, "change" if lines else "none", lines)

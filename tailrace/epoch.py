"""The epoch: which life of the offset space this is, and how anybody notices that it ended.

``apply`` records epoch, topic ids, partition counts, slot and system identifier in ``<pipeline>.control``. A worker
reads the record at its start and compares ids and counts with the cluster: after a topic was recreated or its
partition count changed, versions would lie, so it refuses to start and says what to do.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace import topics
from tailrace.deadline import Deadline
from tailrace.errors import Refused, Unreachable
from tailrace.kafka import KafkaAdmin, Outbox, reader

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = b"pipeline"


@dataclass(frozen=True)
class Epoch:
    """What the control topic says. ``topics`` maps raw and conformed topics to their ids, ``partitions`` to counts."""

    epoch: int
    slot: str
    system_identifier: str
    topics: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, int] = field(default_factory=dict)

    def differences(self, ids: Mapping[str, str], counts: Mapping[str, int]) -> list[str]:
        """Say, one line each, where the cluster is not what was recorded."""
        lines = []
        for name, recorded in self.topics.items():
            if name not in ids:
                lines.append(f"{name} is gone")
            elif ids[name] != recorded:
                lines.append(f"{name} was recreated")
            elif counts.get(name) != self.partitions.get(name):
                lines.append(f"{name} has {counts.get(name)} partitions instead of {self.partitions.get(name)}")
        return lines

    def check(self, admin: KafkaAdmin) -> None:
        """Raise Refused when the cluster is not what was recorded."""
        lines = self.differences(admin.topic_ids(list(self.topics)), admin.partitions())
        if lines:
            raise Refused(
                "The topics are not those that this epoch began with.",
                detail="; ".join(lines),
                hint="Versions would go backwards: recreate topics and stores together, then `tailrace apply`.",
            )


def read(admin: KafkaAdmin, pipeline: str, *, timeout: float = 20) -> Epoch | None:
    """Return the newest record of the control topic, or None when there is none."""
    topic = topics.control(pipeline)
    if topic not in admin.partitions():
        return None
    consumer = reader(admin.bootstrap, f"{pipeline}-control")
    consumer.assign([TopicPartition(topic, 0, 0)])
    deadline, newest = Deadline.after(timeout), None
    try:
        while not deadline.passed():
            message = consumer.poll(min(1.0, deadline.remaining()))
            if message is None:
                continue
            error = message.error()
            if error is None:
                newest = message.value() if message.key() == KEY else newest
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own code
                return _parse(newest)
            elif not error.retriable():
                raise KafkaException(error)
    finally:
        consumer.close()
    raise Unreachable(f"The control topic {topic} could not be read in {timeout:g} s.")


def need(admin: KafkaAdmin, pipeline: str) -> Epoch:
    """Return the checked epoch of a pipeline, or raise Refused when nothing was applied or the topics changed."""
    found = read(admin, pipeline)
    if found is None:
        raise Refused(f"The pipeline {pipeline} has no control record.", hint="Run `tailrace apply` first.")
    found.check(admin)
    return found


def write(bootstrap: str, pipeline: str, epoch: Epoch) -> None:
    """Write the record and wait until it is acknowledged."""
    outbox = Outbox(bootstrap, f"{pipeline}-control")
    value = json.dumps(asdict(epoch), sort_keys=True).encode()
    outbox.send(topics.control(pipeline), key=KEY, value=value, partition=0)
    outbox.flush(30)


def _parse(value: bytes | None) -> Epoch | None:
    return None if value is None else Epoch(**json.loads(value))

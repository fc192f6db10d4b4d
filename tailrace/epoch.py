"""The epoch: which life of the offset space this is, and how anybody notices that it ended.

``apply`` records epoch, topic ids, partition counts, slot and server in ``<pipeline>.control``. A worker reads the
record at its start and compares ids and counts with the cluster: after a topic was recreated or its partition count
changed, versions would lie, so it refuses to start and says what to do. ``tailrace epoch bump`` writes the next epoch.

A raw topic may live through several epochs. ``begins`` says at which offsets each of them began, so that a raw record
has the same version whenever it is processed (docs/decisions/0006).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tailrace import topics
from tailrace.deadline import Deadline
from tailrace.errors import Refused, Unreachable
from tailrace.kafka import KafkaAdmin, Outbox, reader

KEY = b"pipeline"
MEND = "`tailrace epoch bump` begins a new epoch: a new snapshot, then what vanished meanwhile is swept."
RESETTING = "resetting"  # the number is written, connector and slot are not yet made anew
SNAPSHOT = "snapshot"  # the connector takes its snapshot; the sweep is to come
SETTLED = ""

Begins = Mapping[str, Sequence[int]]  # by topic, the first offset of each partition


class Ages:
    """Which epoch the offsets of one topic belong to.

    ``begins`` are (epoch, first offset of each partition), oldest first; what lies before all of them is of ``first``.
    """

    def __init__(self, begins: Sequence[tuple[int, Sequence[int]]] = (), *, first: int = 1) -> None:
        self._first, self._begins = first, tuple(reversed(begins))

    def at(self, partition: int, offset: int) -> int:
        """Return the epoch of one record."""
        for number, offsets in self._begins:
            if offset >= (offsets[partition] if partition < len(offsets) else 0):
                return number
        return self._first


@dataclass(frozen=True)
class Epoch:
    """What the control topic says. ``topics`` maps raw and conformed topics to their ids, ``partitions`` to counts.

    ``begins`` is by epoch, then by raw topic: the first offset of each partition that belongs to that epoch.
    ``notified`` is where this epoch's messages in the notifications topic begin. ``phase`` says what is left to do.
    """

    epoch: int
    slot: str
    system_identifier: str
    topics: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, int] = field(default_factory=dict)
    timeline: int = 0  # of the Postgres server; 0 where it was not recorded
    begins: Mapping[str, Begins] = field(default_factory=dict)
    notified: int = 0
    phase: str = SETTLED

    def ages(self, topic: str) -> Ages:
        """Return which epoch each offset of a raw topic belongs to."""
        found = sorted((int(number), offsets[topic]) for number, offsets in self.begins.items() if topic in offsets)
        return Ages(found, first=1 if topic in self.topics else self.epoch)

    def born(self, topic: str) -> int:
        """Return the epoch in which the present life of a raw topic began: with a recreated one offsets begin anew."""
        found = sorted((int(number), offsets[topic]) for number, offsets in self.begins.items() if topic in offsets)
        if found and not any(found[0][1]):
            return found[0][0]
        return 1 if topic in self.topics else self.epoch

    def followed(self, now: Epoch, ends: Begins) -> Epoch:
        """Return the next epoch: ``now`` is the cluster and the server, ``ends`` where the raw topics end.

        A raw topic that was recreated begins anew at offset 0; nothing of its former life is left to be told apart.
        """
        fresh = {name for name, recorded in self.topics.items() if name in now.topics and now.topics[name] != recorded}
        kept = {
            number: {topic: offsets for topic, offsets in held.items() if topic not in fresh}
            for number, held in self.begins.items()
        }
        first = {topic: [0] * len(offsets) if topic in fresh else list(offsets) for topic, offsets in ends.items()}
        return replace(now, epoch=self.epoch + 1, begins={**kept, str(self.epoch + 1): first}, phase=RESETTING)

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
                hint=f"Versions would go backwards. {MEND}",
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


def confirm(admin: KafkaAdmin, pipeline: str, known: int) -> None:
    """Raise Refused when another epoch began since the number ``known`` was read.

    A processor asks after it has joined its group and before it gives a record a version. A bump writes its record
    while the group is empty: so whoever read the old one before that finds out here.
    """
    found = read(admin, pipeline)
    if found is None or found.epoch != known:
        number = "no epoch" if found is None else f"epoch {found.epoch}"
        raise Refused(
            "A new epoch began while this worker was starting.",
            detail=f"It read epoch {known}, the control topic has {number}.",
            hint="Start it again; `tailrace run all` does so by itself.",
        )


def write(bootstrap: str, pipeline: str, epoch: Epoch) -> None:
    """Write the record and wait until it is acknowledged."""
    outbox = Outbox(bootstrap, f"{pipeline}-control")
    value = json.dumps(asdict(epoch), sort_keys=True).encode()
    outbox.send(topics.control(pipeline), key=KEY, value=value, partition=0)
    outbox.flush(30)


def _parse(value: bytes | None) -> Epoch | None:
    """Return the record; what a newer release wrote into it and this one does not know is left out."""
    if value is None:
        return None
    known, found = {each.name for each in fields(Epoch)}, json.loads(value)
    return Epoch(**{name: part for name, part in found.items() if name in known})

"""A pipeline without its source: a project with one record, its conformed topic, and a hand that fills it.

Sink workers cannot tell it from a real pipeline: contract registered, epoch written, headers as a processor's.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace import deadletter, epoch, project, topics
from tailrace.change import BEFORE, Change, Provenance
from tailrace.deadline import wait_for
from tailrace.kafka import KafkaAdmin, Outbox, reader
from tailrace.registry import Registry
from tailrace.sink import worker
from tailrace.testing import PARCEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tailrace.deadletter import DeadLetter
    from tailrace.endpoints import Endpoints

PARTITIONS = 3


class Conformed:
    """One pipeline of its own; ``sinks`` are the texts of sinks/*.py by name."""

    def __init__(self, folder: Path, endpoints: Endpoints, sinks: dict[str, str], settings: str = "") -> None:
        self.folder, self.endpoints = folder, endpoints
        self.name = f"t{uuid4().hex[:8]}"
        self.topic = topics.conformed(self.name, "parcel")
        self.admin, self.contract = KafkaAdmin(endpoints.kafka), PARCEL
        self._write_files(sinks, settings)
        self._sinks = list(sinks)
        self._outbox = Outbox(endpoints.kafka, f"{self.name}-test")
        self.schema_id = self._apply()

    def load(self) -> project.Project:
        return project.load(self.folder)

    def send(self, changes: Iterable[Change]) -> None:
        """Write changes as a processor does, each key in its own partition, and wait until Kafka has them."""
        for change in changes:
            headers: list[tuple[str, bytes | None]] = list(
                Provenance(
                    change.version, change.op, change.lsn, change.committed_us, change.tx, change.origin
                ).headers()
            )
            if change.before:
                headers.append((BEFORE, PARCEL.encode(change.before, self.schema_id)))
            self._outbox.send(
                self.topic,
                key=PARCEL.encode_key(change.key),
                value=None if change.value is None else self.contract.encode(change.value, self.schema_id),
                headers=headers,
                partition=change.key["id"] % PARTITIONS,
            )
        self._outbox.flush(30)

    def send_raw(self, key: bytes | None, value: bytes | None, partition: int = 0) -> None:
        """Write bytes that no processor would write."""
        self._outbox.send(self.topic, key=key, value=value, partition=partition)
        self._outbox.flush(30)

    def committed(self, sink: str) -> dict[int, int]:
        """Return the committed offsets of a sink's group by partition; -1001 where there is none."""
        found = self.admin.committed(topics.group(self.name, sink), [self.topic])
        return {partition: offset for (_, partition), offset in found.items()}

    def wait_until_committed(self, sink: str, timeout: float = 60) -> None:
        """Wait until a sink's group has committed all there is."""
        ends = {partition: end for (_, partition), end in self.admin.ends([self.topic]).items() if end}

        def caught_up() -> bool:
            committed = self.committed(sink)
            return all(committed[partition] == end for partition, end in ends.items())

        wait_for(caught_up, timeout=timeout, what=f"the group of {sink} to commit {ends}")

    def dead_letters(self, sink: str) -> list[DeadLetter]:
        """Return everything in a sink's dead-letter topic."""
        topic = topics.dead_letters(self.name, sink)
        end = self.admin.ends([topic])[topic, 0]
        consumer = reader(self.endpoints.kafka, f"{self.name}-test")
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages: list[Any] = []

        def complete() -> bool:
            messages.extend(message for message in consumer.consume(100, 0.2) if message.error() is None)
            return len(messages) >= end

        wait_for(complete, timeout=30, what=f"{end} dead letters")
        consumer.close()
        return [deadletter.read(message.key(), message.value(), message.headers()) for message in messages]

    def remove(self) -> None:
        """Remove the topics and groups."""
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        for future in client.delete_topics(list(self._topics())).values():
            future.result(30)
        known = [group.group_id for group in client.list_consumer_groups().result(30).valid]
        mine = [group for group in known if group.startswith(f"{self.name}.")]
        for future in client.delete_consumer_groups(mine).values() if mine else ():
            future.exception(30)  # a group whose member was killed goes by itself

    def _topics(self) -> dict[str, int]:
        letters = {topics.dead_letters(self.name, sink): 1 for sink in self._sinks}
        return {self.topic: PARTITIONS, topics.control(self.name): 1, **letters}

    def _write_files(self, sinks: dict[str, str], settings: str) -> None:
        for name in ("connectors", "schemas", "sinks", "processors"):
            (self.folder / name).mkdir(parents=True)
        connector = {
            "topic.prefix": f"{self.name}.raw",
            "table.include.list": "public.parcel",
            "database.dbname": "parcels",
            "slot.name": "parcels",
            "publication.name": "parcels",
        }
        (self.folder / "tailrace.toml").write_text(
            f'[pipeline]\nname = "{self.name}"\nconnector = "parcels"\n{settings}'
        )
        (self.folder / "connectors" / "parcels.json").write_text(json.dumps(connector))
        (self.folder / "schemas" / "parcel.avsc").write_text(json.dumps(PARCEL.schema))
        for name, text in sinks.items():
            (self.folder / "sinks" / f"{name}.py").write_text(text)
        self.endpoints.save(self.folder)

    def _apply(self) -> int:
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        made = [NewTopic(topic, partitions, 1) for topic, partitions in self._topics().items()]
        for future in client.create_topics(made).values():
            future.result(30)
        registry = Registry(self.endpoints.registry)
        number = registry.register(self.topic, PARCEL.schema)
        registry.close()
        ids = wait_for(lambda: self.admin.topic_ids([self.topic]), timeout=30, what="the new topics")
        epoch.write(self.endpoints.kafka, self.name, epoch.Epoch(1, "parcels", "1", ids, {self.topic: PARTITIONS}))
        return number


class Running:
    """A sink worker in a thread of this process."""

    def __init__(self, loaded: project.Project, sink: str) -> None:
        self.stop = threading.Event()
        self.result: int | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(loaded, sink), name=f"worker-{sink}")
        self._thread.start()

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self, timeout: float = 40) -> None:
        """Ask it to stop and wait until it has."""
        self.stop.set()
        self._thread.join(timeout)
        assert self.ended(), "the worker does not stop"

    def _run(self, loaded: project.Project, sink: str) -> None:
        try:
            self.result = worker.run(loaded, sink, stop=self.stop)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error


@contextmanager
def running(loaded: project.Project, sink: str) -> Iterator[Running]:
    """Run a sink worker in a thread, and stop it at the end."""
    found = Running(loaded, sink)
    try:
        yield found
    finally:
        found.end()

"""A pipeline without its database: raw topics filled by hand with Debezium envelopes, and the processor as a process.

A processor cannot tell it from a real pipeline: contracts registered, epoch written, messages as Debezium writes them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace import deadletter, epoch, health, project, topics
from tailrace.deadline import wait_for
from tailrace.kafka import KafkaAdmin, Outbox, reader
from tailrace.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.deadletter import DeadLetter
    from tailrace.endpoints import Endpoints

ROOT = Path(__file__).resolve().parent.parent
ENTRY = "import sys; from tailrace.cli import main; main()"


def column(name: str, kind: str, *, semantic: str = "", postgres: str = "", optional: bool = True) -> dict[str, Any]:
    """Return a column of a Connect schema as Debezium writes it."""
    made: dict[str, Any] = {"type": kind, "optional": optional, "field": name}
    if semantic:
        made |= {"name": semantic, "version": 1}
    if postgres:
        made["parameters"] = {"__debezium.source.column.type": postgres}
    return made


READING_COLUMNS = [
    column("id", "int64", postgres="INT8", optional=False),
    column("sensor", "string", postgres="TEXT", optional=False),
    column("value", "string", postgres="NUMERIC"),
    column("note", "string", postgres="TEXT"),
    column("taken_at", "string", semantic="io.debezium.time.ZonedTimestamp", postgres="TIMESTAMPTZ", optional=False),
]
READING_SCHEMA = {
    "type": "record", "name": "Reading", "key": ["id"],
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "sensor", "type": "string"},
        {"name": "value", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}]},
        {"name": "note", "type": ["null", "string"]},
        {"name": "taken_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}  # fmt: skip


def reading(number: int, **other: Any) -> dict[str, Any]:
    """Return a row of ``public.reading`` as JSON carries it."""
    row = {
        "id": number, "sensor": f"s{number % 7}", "value": f"{number}.2500", "note": None,
        "taken_at": "2026-01-02T03:04:05.000006Z",
    }  # fmt: skip
    return {**row, **other}


def connect_schema(columns: Sequence[Mapping[str, Any]], table: str = "reading") -> dict[str, Any]:
    """Return the Connect schema of a table's envelope."""
    images = [
        {"type": "struct", "fields": list(columns), "optional": True, "name": f"{table}.Value", "field": image}
        for image in ("before", "after")
    ]
    return {"type": "struct", "fields": images, "optional": False, "name": f"{table}.Envelope", "version": 2}


def payload(op: str, *, before: Any = None, after: Any = None, **source: Any) -> dict[str, Any]:
    """Return the payload of an envelope."""
    origin = {
        "version": "3.7.0.Final", "connector": "postgresql", "snapshot": "false", "schema": "public",
        "table": "reading", "ts_ms": 1_767_322_800_123, "ts_us": 1_767_322_800_123_456, "txId": 77, "lsn": 4711,
    }  # fmt: skip
    return {"before": before, "after": after, "source": {**origin, **source}, "op": op, "ts_ms": 1_767_322_800_200}


def message(body: Mapping[str, Any], columns: Sequence[Mapping[str, Any]] = READING_COLUMNS) -> bytes:
    """Return a whole message, schema first as Connect's JsonConverter writes it."""
    return json.dumps({"schema": connect_schema(columns), "payload": body}, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Message:
    """What was read from a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    milliseconds: int  # Kafka's timestamp, since 1970

    def header(self, name: str) -> str | None:
        """Return one header as text."""
        found = dict(self.headers).get(name)
        return None if found is None else found.decode()


class RawPipeline:
    """One pipeline of its own with the table ``public.reading``; ``functions`` is the text of processors/conform.py."""

    def __init__(self, folder: Path, endpoints: Endpoints, *, functions: str = "", partitions: int = 3) -> None:
        self.folder, self.endpoints, self.partitions = folder, endpoints, partitions
        self.name = f"t{uuid4().hex[:8]}"
        self.raw = topics.raw(self.name, "public.reading")
        self.topic = topics.conformed(self.name, "reading")
        self.letters = topics.dead_letters(self.name, "conform")
        self.admin = KafkaAdmin(endpoints.kafka)
        self.outbox = Outbox(endpoints.kafka, f"{self.name}-test")
        self._write_files(functions)
        self.contract = project.load(folder).contract("reading")

    def send(self, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Queue one raw message; ``outbox.flush`` makes it certain."""
        self.outbox.send(self.raw, key=key, value=value, partition=partition, headers=[("origin", b"test")])

    def write(self, *rows: Mapping[str, Any], op: str = "c") -> None:
        """Write rows as changes, each in the partition of its id, and wait until Kafka has them."""
        for row in rows:
            self.send(row["id"] % self.partitions, b'{"id":%d}' % row["id"], message(payload(op, after=row)))
        self.outbox.flush(30)

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the processor as a process; its log goes to ``worker.log``."""
        with (self.folder / "worker.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", ENTRY, "run", "processor", "conform", "--project", str(self.folder)],
                stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment},
            )  # fmt: skip

    def log(self) -> str:
        """Return what the workers have said."""
        return (self.folder / "worker.log").read_text()

    def committed(self) -> dict[int, int]:
        """Return the committed offsets of the processor's group; -1001 where there is none."""
        found = self.admin.committed(topics.group(self.name, "conform"), [self.raw])
        return {partition: offset for (_, partition), offset in found.items()}

    def ends(self) -> dict[int, int]:
        """Return the end offsets of the raw topic."""
        return {partition: end for (_, partition), end in self.admin.ends([self.raw]).items()}

    def wait_until_committed(self, timeout: float = 60) -> None:
        """Wait until the processor has committed all there is."""
        ends = {partition: end for partition, end in self.ends().items() if end}

        def caught_up() -> bool:
            committed = self.committed()
            return all(committed[partition] == end for partition, end in ends.items())

        wait_for(caught_up, timeout=timeout, what=f"the processor to commit {ends}; it says: {self.log()[-2000:]}")

    def outputs(self) -> list[Message]:
        """Return everything in the conformed topic."""
        return self.read(self.topic)

    def value(self, found: Message) -> dict[str, Any]:
        """Return the record in a conformed message."""
        assert found.value is not None
        return self.contract.decode(found.value)

    def dead_letters(self) -> list[DeadLetter]:
        """Return everything in the dead-letter topic."""
        return [deadletter.read(found.key, found.value, found.headers) for found in self.read(self.letters)]

    def read(self, topic: str, timeout: float = 60) -> list[Message]:
        """Return everything in a topic, up to its present end."""
        ends = {partition: end for (_, partition), end in self.admin.ends([topic]).items()}
        consumer = reader(self.endpoints.kafka, f"{self.name}-test")
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        found: list[Message] = []

        def complete() -> bool:
            found.extend(
                Message(got.partition(), got.offset(), got.key(), got.value(), got.headers() or [], got.timestamp()[1])
                for got in consumer.consume(5000, 0.2)
                if got.error() is None
            )
            return len(found) >= sum(ends.values())

        wait_for(complete, timeout=timeout, what=f"{ends} of {topic}")
        consumer.close()
        return found

    def apply(self) -> None:
        """Make the topics, register the contract, write the epoch."""
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        made = [NewTopic(topic, partitions, 1) for topic, partitions in self._topics().items()]
        for future in client.create_topics(made).values():
            future.result(30)
        registry = Registry(self.endpoints.registry)
        registry.register(self.topic, self.contract.schema)
        registry.close()
        names = [self.raw, self.topic]

        def known() -> dict[str, str] | None:
            ids = self.admin.topic_ids(names)
            return ids if len(ids) == len(names) else None

        ids = wait_for(known, timeout=30, what="the new topics")
        counts = dict.fromkeys(names, self.partitions)
        epoch.write(self.endpoints.kafka, self.name, epoch.Epoch(1, "readings", "1", ids, counts))

    def truncate(self, *, partition: int, before: int) -> None:
        """Remove the oldest raw records, as retention does."""
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        for future in client.delete_records([TopicPartition(self.raw, partition, before)]).values():
            future.result(30)

    def remove(self) -> None:
        """Remove the topics and the group."""
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        for future in client.delete_topics(list(self._topics())).values():
            future.result(30)
        for future in client.delete_consumer_groups([topics.group(self.name, "conform")]).values():
            future.exception(30)  # a group whose member was killed goes by itself

    def _topics(self) -> dict[str, int]:
        counts = {self.raw: self.partitions, self.topic: self.partitions}
        return {**counts, self.letters: 1, topics.control(self.name): 1}

    def _write_files(self, functions: str) -> None:
        for name in ("connectors", "schemas", "sinks", "processors"):
            (self.folder / name).mkdir(parents=True)
        connector = {
            "topic.prefix": f"{self.name}.raw",
            "table.include.list": "public.reading",
            "database.dbname": "readings",
            "slot.name": "readings",
            "publication.name": "readings",
        }
        settings = f'[pipeline]\nname = "{self.name}"\nconnector = "readings"\n'
        (self.folder / "tailrace.toml").write_text(settings)
        (self.folder / "connectors" / "readings.json").write_text(json.dumps(connector))
        (self.folder / "schemas" / "reading.avsc").write_text(json.dumps(READING_SCHEMA))
        if functions:
            (self.folder / "processors" / "conform.py").write_text(functions)
        self.endpoints.save(self.folder)


def probe(folder: Path, path: str) -> tuple[int, str]:
    """Ask the health server of the processor of a project; 0 while it does not listen."""
    port = health.RunFile(folder, "conform").read().get("port", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:  # the worker is not that far yet, or already gone
        return 0, ""


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM, timeout: float = 45) -> int:
    """Send a signal to a process of ours and return its exit code."""
    if process.poll() is None:
        process.send_signal(number)
    return process.wait(timeout)


def wait_until_ready(folder: Path, process: subprocess.Popen[bytes], say: Callable[[], str]) -> None:
    """Wait until /ready is true; fail at once when the process has ended."""

    def ready() -> bool:
        assert process.poll() is None, say()[-3000:]
        return probe(folder, "/ready")[0] == 200

    wait_for(ready, timeout=60, what="the processor to be ready")

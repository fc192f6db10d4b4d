"""Connectors of their own, without a pipeline: what Debezium itself sends, and how to hold it at one record.

A topic that takes no message, however small, is a place where a connector's task ends: what lies before was sent and
is committed in its offset, what lies behind never reaches Kafka. Connect killed then and started again, with the topic
as it should be, shows what the connector forgets.
"""

from __future__ import annotations

import io
import json
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from tailrace.deadline import wait_for
from tailrace.demo import database
from tailrace.kafka import KafkaAdmin, reader
from tailrace.source.connect import Connect
from tests.bank import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailrace.endpoints import Endpoints

WAIT = 60.0
AWAY = ".away"
LIMIT, MESSAGES = "max.message.bytes", "message.prefix.exclude.list"
_OTHERS = ("signal.", "notification.", "heartbeat.", "incremental.")


def shipped(name: str, dbname: str, tables: tuple[str, ...]) -> dict[str, str]:
    """Return the reference project's connector settings, for other tables and without what needs a pipeline."""
    own = json.loads((ROOT / "connectors" / "bank.json").read_text())
    kept = {key: value for key, value in own.items() if not key.startswith(_OTHERS)}
    named = dict.fromkeys(("topic.prefix", "slot.name", "publication.name"), name)
    listed = ",".join(f"public.{table}" for table in tables)
    limits = {"max.batch.size": "1", MESSAGES: ".*"}  # messages have a topic of their own, which is not there
    return {**kept, **named, **limits, "database.dbname": dbname, "table.include.list": listed}


def diverted(**predicates: str) -> dict[str, str]:
    """Return settings that send tables' records of which a predicate of Connect holds to ``<topic>.away``.

    A predicate is given by its class, its value is the ``name`` that it takes, if any.
    """
    place = "org.apache.kafka.connect.transforms"
    made = {"transforms": ",".join(predicates), "predicates": ",".join(predicates)}
    for predicate, name in predicates.items():
        made |= {
            f"transforms.{predicate}.type": f"{place}.RegexRouter",
            f"transforms.{predicate}.regex": r"(.*\.public\..*)",
            f"transforms.{predicate}.replacement": f"$1{AWAY}",
            f"transforms.{predicate}.predicate": predicate,
            f"predicates.{predicate}.type": f"{place}.predicates.{predicate}",
            **({f"predicates.{predicate}.name": name} if name else {}),
        }
    return made


@dataclass(frozen=True)
class Source:
    """One database of the stack, and the servers around it."""

    endpoints: Endpoints
    name: str

    def create(self, *statements: str) -> None:
        with closing(database.connect(self.endpoints.database("postgres"), autocommit=True)) as opened:
            opened.cursor().execute(f"CREATE DATABASE {self.name}")
        self.run(*statements)

    def run(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        with closing(database.connect(self.endpoints.database(self.name), autocommit=True)) as opened:
            for statement in statements:
                opened.cursor().execute(statement)

    def transaction(self, *statements: str, copied: tuple[str, list[str]] | None = None) -> int:
        """Run statements, or one COPY into a table, in one transaction; return its number."""
        with closing(database.connect(self.endpoints.database(self.name))) as opened, opened.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            if copied:
                cursor.copy_expert(f"COPY {copied[0]} FROM STDIN", io.StringIO("\n".join(copied[1]) + "\n"))
            cursor.execute("SELECT pg_current_xact_id()::text::bigint")
            (number,) = cursor.fetchone() or (0,)
            opened.commit()
        return int(number)

    def aborted(self, *statements: str) -> None:
        """Run statements in one transaction that is rolled back."""
        with closing(database.connect(self.endpoints.database(self.name))) as opened, opened.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            opened.rollback()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(database.connect(self.endpoints.database(self.name), autocommit=True)) as opened:
            cursor = opened.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

    def topics(self, *names: str, closed: bool = False) -> None:
        """Make topics of one partition; closed ones take no message."""
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        config = {LIMIT: "1"} if closed else {}
        for future in client.create_topics([NewTopic(name, 1, 1, config=config) for name in names]).values():
            future.result(30)

    def open(self, *names: str) -> None:
        """Let closed topics take messages."""
        client = AdminClient({"bootstrap.servers": self.endpoints.kafka, "log_level": 2})
        entry = ConfigEntry(LIMIT, "1048576", incremental_operation=AlterConfigOpType.SET)
        places = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in names]
        for future in client.incremental_alter_configs(places).values():
            future.result(30)

    def read(self, topic: str) -> list[Said]:
        """Return everything in a topic, each partition in its order."""
        ends = KafkaAdmin(self.endpoints.kafka).ends([topic])
        consumer = reader(self.endpoints.kafka, "debezium-test")
        consumer.assign([TopicPartition(topic, partition, 0) for _, partition in ends])
        found: list[Any] = []

        def complete() -> bool:
            found.extend(message for message in consumer.consume(1000, 0.2) if message.error() is None)
            return len(found) >= sum(ends.values())

        wait_for(complete, timeout=WAIT, what=f"{ends} of {topic}")
        consumer.close()
        return [Said(each.key() or b"", each.value(), dict(each.headers() or ())) for each in found]


@dataclass(frozen=True)
class Said:
    """One message."""

    raw_key: bytes
    raw_value: bytes | None
    headers: dict[str, bytes]

    @property
    def key(self) -> Any:
        """The column ``id`` of a table's key, or what the key is where a router made it."""
        parsed = json.loads(self.raw_key or b"null")
        return parsed["id"] if isinstance(parsed, dict) else parsed

    @property
    def payload(self) -> Any:
        """What a message of Debezium's says, None for a tombstone."""
        return None if self.raw_value is None else json.loads(self.raw_value)["payload"]


@dataclass(frozen=True)
class Capture:
    """One connector with its slot, its publication and its topics, all called ``name``."""

    source: Source
    name: str
    tables: tuple[str, ...]
    there: tuple[str, ...] = ()  # its topics, without the prefix
    closed: tuple[str, ...] = ()  # those that take no message
    config: Mapping[str, str] = field(default_factory=dict)

    def topic(self, name: str) -> str:
        return f"{self.name}.{name}"

    def start(self) -> None:
        listed = ", ".join(f"public.{table}" for table in self.tables)
        self.source.run(f"CREATE PUBLICATION {self.name} FOR TABLE {listed}")
        self.source.topics(*map(self.topic, self.there))
        if self.closed:
            self.source.topics(*map(self.topic, self.closed), closed=True)
        with closing(Connect(self.source.endpoints.connect)) as connect:
            connect.put(self.name, {**shipped(self.name, self.source.name, self.tables), **self.config})

    def wait_until_streaming(self) -> None:
        """Wait until the slot is read from: what is written from now on is streamed."""
        slot = f"SELECT FROM pg_replication_slots WHERE slot_name = '{self.name}' AND active"
        wait_for(lambda: self.source.query(slot), timeout=WAIT, what=f"{self.name} to stream")

    def offset(self) -> dict[str, Any]:
        """Return the committed offset."""
        with closing(Connect(self.source.endpoints.connect)) as connect:
            return connect.offsets(self.name) or {}

    def wait_until_held(self, topic: str, count: int, tx: int) -> None:
        """Wait until the committed offset is in a transaction, and assert how many of its records were sent."""
        wait_for(lambda: self.offset().get("txId") == tx, timeout=WAIT, what=f"the offset of {self.name}")
        assert len(self.read(topic)) == count

    def wait_for_records(self, topic: str, count: int) -> None:
        place = (self.topic(topic), 0)
        admin = KafkaAdmin(self.source.endpoints.kafka)
        wait_for(lambda: admin.ends([place[0]]).get(place, 0) >= count, timeout=WAIT, what=f"{count} in {place[0]}")

    def release(self) -> None:
        """Let the closed topics take messages."""
        self.source.open(*map(self.topic, self.closed))

    def read(self, topic: str) -> list[Said]:
        return self.source.read(self.topic(topic))

    def remove(self) -> None:
        """Remove connector and slot."""
        with closing(Connect(self.source.endpoints.connect)) as connect:
            connect.delete(self.name)
        drop = f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{self.name}'"
        left = f"SELECT FROM pg_replication_slots WHERE slot_name = '{self.name}'"

        def gone() -> bool:
            self.source.query(f"{drop} AND NOT active")
            return not self.source.query(left)

        wait_for(gone, timeout=WAIT, what=f"the slot {self.name} to be dropped")

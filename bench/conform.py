"""Conform events per second of one process, on rows of ten columns.

Alone: decode, conform and Avro against orjson and fastavro doing only that with the same messages. End to end: records
in a topic become acknowledged records in another, against a bare client that reads and writes the same bytes.
The two of a pair take turns, so that a busy machine slows both; the best rounds are compared.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import orjson
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace import contract
from tailrace.health import Health
from tailrace.kafka import Outbox, reader
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.handler import ConformHandler
from tailrace.stream.processor import collect_seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.endpoints import Endpoints

EVENTS, BATCH, ROUNDS = 40_000, 4_000, 3
FLOOR = 30_000
TEXTS = ("name", "email", "phone", "city", "street", "note")
COLUMNS = [
    {"type": "int64", "optional": False, "field": "id"},
    *({"type": "string", "optional": False, "field": name} for name in TEXTS),
    {
        "type": "string",
        "optional": False,
        "field": "balance",
        "parameters": {"__debezium.source.column.type": "NUMERIC"},
    },
    {"type": "boolean", "optional": False, "field": "preferred"},
    {"type": "string", "optional": False, "field": "at", "name": "io.debezium.time.ZonedTimestamp"},
]
SCHEMA = {
    "type": "record", "name": "Customer", "key": ["id"],
    "fields": [
        {"name": "id", "type": "long"},
        *({"name": name, "type": "string"} for name in TEXTS),
        {"name": "balance", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}},
        {"name": "preferred", "type": "boolean"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}  # fmt: skip


@dataclass
class Raw:
    """One raw record, as the consumer gives it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def records() -> list[Raw]:
    """Return the messages, made before any clock starts."""
    images = [{"type": "struct", "fields": COLUMNS, "optional": True, "field": name} for name in ("before", "after")]
    schema = json.dumps({"type": "struct", "fields": images}, separators=(",", ":"))
    source = {"ts_ms": 1_767_322_800_123, "ts_us": 1_767_322_800_123_456, "lsn": 4711, "txId": 77, "schema": "public"}
    found = []
    for number in range(EVENTS):
        row = {name: f"{name} {number}" for name in TEXTS}
        row |= {"id": number, "balance": f"{number}.25", "preferred": True, "at": "2026-01-02T03:04:05.000006Z"}  # type: ignore[dict-item]  # JSON values of every sort
        body = json.dumps({"before": None, "after": row, "source": source, "op": "c"}, separators=(",", ":"))
        value = f'{{"schema":{schema},"payload":{body}}}'.encode()
        found.append(Raw(number, 0, b'{"id":%d}' % number, value, []))
    return found


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Measure both pairs, with the processor's own gc settings for all."""
    collect_seldom()
    batch = records()
    alone = compare(lambda: conform_alone(batch), lambda: bare_codec(batch))
    source, target = f"bench.{uuid.uuid4().hex[:8]}.raw", f"bench.{uuid.uuid4().hex[:8]}.out"
    client = AdminClient({"bootstrap.servers": endpoints.kafka})
    for future in client.create_topics([NewTopic(name, 1, 1) for name in (source, target)]).values():
        future.result(30)
    try:
        fill(endpoints, source, batch)
        whole = compare(lambda: conform_whole(endpoints, source, target), lambda: bare_copy(endpoints, source, target))
    finally:
        for future in client.delete_topics([source, target]).values():
            future.result(30)
    return [*rows("conform alone, ten columns", *alone, None), *rows("conform, Kafka to Kafka", *whole, FLOOR)]


def rows(name: str, value: float, baseline: float, floor: int | None) -> list[dict[str, Any]]:
    """Return two lines: events a second against the absolute floor, and the same against bare clients."""
    figure = {"value": round(value), "unit": "events/s"}
    return [
        {"name": name, **figure, "baseline": None, "ratio": None, "floor": floor},
        {"name": f"{name}, against bare", **figure, "baseline": round(baseline),
         "ratio": round(value / baseline, 3), "floor": None},
    ]  # fmt: skip


def compare(ours: Callable[[], None], bare: Callable[[], None]) -> tuple[float, float]:
    """Return the best events per second of both, taking turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for run, taken in zip((ours, bare), seconds, strict=True):
            begun = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begun)
    return EVENTS / min(seconds[0]), EVENTS / min(seconds[1])


def conformer(topic: str, target: str) -> Conformer:
    """Return a conformer of the bench's table."""
    plan = TablePlan(topic, target, contract.build("customer", SCHEMA, where="bench"), 1)
    return Conformer([plan], epoch=1, worker="bench")


def conform_alone(batch: list[Raw]) -> None:
    """Decode, conform and encode, in slices as the processor does."""
    ours = conformer("raw", "out")
    for start in range(0, EVENTS, 500):
        assert not ours.batch("raw", 0, batch[start : start + 500]).letters


def bare_codec(batch: list[Raw]) -> None:
    """Parse the whole message and encode a ready record: no types, no checks, no headers."""
    schema = fastavro.parse_schema(SCHEMA)
    made = contract.build("customer", SCHEMA, where="bench")
    ours = conformer("raw", "out").batch("raw", 0, batch[:1]).outputs[0].value
    assert ours is not None
    ready = made.decode(ours)
    for raw in batch:
        orjson.loads(raw.value or b"")
        out = BytesIO()
        fastavro.schemaless_writer(out, schema, ready)


def fill(endpoints: Endpoints, topic: str, batch: list[Raw]) -> None:
    """Write the raw records."""
    with closing(Outbox(endpoints.kafka, "bench")) as outbox:
        for raw in batch:
            outbox.send(topic, key=raw.key, value=raw.value, partition=0)
        outbox.flush(60)


def each_batch(endpoints: Endpoints, topic: str, take: Callable[[list[Any]], None]) -> None:
    """Read the topic once, in batches."""
    consumer = reader(endpoints.kafka, "bench", **{"enable.partition.eof": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    seen, deadline = 0, time.monotonic() + 120
    while seen < EVENTS:
        assert time.monotonic() < deadline, "the topic does not come to its end"
        found = consumer.consume(BATCH, 0.5)
        if found:
            take(found)
        seen += len(found)
    consumer.close()


def conform_whole(endpoints: Endpoints, source: str, target: str) -> None:
    """Read, conform, write and wait for every acknowledgement, with the processor's own handler."""
    with closing(Outbox(endpoints.kafka, "bench")) as outbox, asyncio.Runner() as runner:
        handler = ConformHandler(
            conformer(source, target), outbox, health=Health("bench"), letters_to="none", stop=asyncio.Event()
        )

        def take(found: list[Any]) -> None:
            assert runner.run(handler.batch(source, 0, [as_raw(message) for message in found]))

        each_batch(endpoints, source, take)


def as_raw(message: Any) -> Raw:
    """Return a consumed message as the processor sees it."""
    return Raw(message.offset(), 0, message.key(), message.value(), [])


def bare_copy(endpoints: Endpoints, source: str, target: str) -> None:
    """Read and write the same bytes, acknowledged, and nothing else."""
    with closing(Outbox(endpoints.kafka, "bench")) as outbox:

        def take(found: list[Any]) -> None:
            for message in found:
                outbox.send(target, key=message.key(), value=message.value(), partition=0)
            outbox.flush(60)

        each_batch(endpoints, source, take)

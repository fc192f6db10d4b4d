"""Images restored per second: a changelog becomes a partition's state, against a bare client that only reads it.

Every restore begins with nothing on disk, as after the loss of a machine. What a row without long values costs in a
table that keeps images is measured without Kafka, against the same table keeping none.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.conform import EVENTS, Raw, conformer, records
from tailrace.kafka import Outbox, reader
from tailrace.stream.changelog import entries
from tailrace.stream.images import Images
from tailrace.stream.library import Disk, RocksStore
from tailrace.stream.state import States

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailrace.endpoints import Endpoints

IMAGES, ROUNDS, FLOOR = 600_000, 3, 300_000
RAW = "raw"
IMAGE = b'\0\0\0\0\0\0\0\1{"note string":"' + b"long " * 16 + b'"}'


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Measure restore and conform."""
    topic = f"bench.{uuid.uuid4().hex[:8]}.changelog"
    client = AdminClient({"bootstrap.servers": endpoints.kafka})
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    try:
        fill(endpoints, topic)
        restored, bare = compare(lambda: restore(endpoints, topic), lambda: read(endpoints, topic))
    finally:
        client.delete_topics([topic])[topic].result(30)
    batch = records()
    kept, none = compare(lambda: conform(batch, keeps=True), lambda: conform(batch, keeps=False))
    name = "state restored from its changelog"
    return [
        {"name": name, "value": round(IMAGES / restored), "unit": "images/s", "baseline": None, "ratio": None,
         "floor": FLOOR},
        {"name": f"{name}, against bare", "value": round(IMAGES / restored), "unit": "images/s",
         "baseline": round(IMAGES / bare), "ratio": round(bare / restored, 3), "floor": None},
        {"name": "conform, short rows of a table with images", "value": round(EVENTS / kept), "unit": "events/s",
         "baseline": round(EVENTS / none), "ratio": round(none / kept, 3), "floor": 0.85},
    ]  # fmt: skip


def compare(ours: Callable[[], None], bare: Callable[[], None]) -> tuple[float, float]:
    """Return the best seconds of both, taking turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for run, taken in zip((ours, bare), seconds, strict=True):
            begun = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begun)
    return min(seconds[0]), min(seconds[1])


def fill(endpoints: Endpoints, topic: str) -> None:
    """Write the changelog of one partition."""
    with closing(Outbox(endpoints.kafka, "bench")) as outbox:
        changes = {b'{"id":%d}' % number: IMAGE for number in range(IMAGES)}
        for key, value in entries(0, 1, changes):
            outbox.send(topic, key=key, value=value, partition=0)
        outbox.flush(60)


def restore(endpoints: Endpoints, topic: str) -> None:
    """Take the partition, as a processor does that was just assigned it."""
    with tempfile.TemporaryDirectory() as folder, closing(Outbox(endpoints.kafka, "bench")) as outbox:
        disk = Disk(Path(folder), endpoints.kafka, {RAW: topic})
        states = States({RAW: topic}, disk, outbox)
        states.own([(RAW, 0)])
        images = states.of(RAW, 0)
        assert images is not None
        assert images.store.get(b'{"id":7}') == IMAGE
        disk.close()


def read(endpoints: Endpoints, topic: str) -> None:
    """Read the same messages and keep nothing."""
    with closing(reader(endpoints.kafka, "bench")) as consumer:
        consumer.assign([TopicPartition(topic, 0, 0)])
        seen, deadline = 0, time.monotonic() + 120
        while seen < IMAGES:
            assert time.monotonic() < deadline, "the topic does not come to its end"
            seen += sum(message.value() is not None for message in consumer.consume(20_000, 0.5))


def conform(batch: list[Raw], *, keeps: bool) -> None:
    """Conform rows without long values, with one image in the store so that each row is looked for."""
    ours = conformer(RAW, "out")
    with tempfile.TemporaryDirectory() as folder:
        store = RocksStore(Path(folder) / "images")
        store.write({b"another": IMAGE})
        images = Images(store) if keeps else None
        for start in range(0, EVENTS, 500):
            assert not ours.batch(RAW, 0, batch[start : start + 500], images=images).letters
        store.drop()

"""Records per second of one sink worker whose sink does nothing, against a bare consumer of the same topic.

The loop alone (fetching, lanes, threads, offsets, reports), and with what every real sink needs too: headers, key and
Avro value of each record made a Change. Ten columns, three partitions, all take turns; the best rounds are compared.
Processor time is what a busy machine changes least.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.tape import ORDER, changes
from tailrace.change import Provenance
from tailrace.health import Health
from tailrace.kafka import Outbox, reader
from tailrace.sink.decode import Decoder
from tailrace.sink.delivery import Delivered, Delivery
from tailrace.sink.lane import Pool
from tailrace.sink.loop import Loop
from tailrace.sink.report import Report
from tailrace.sink.worker import READING, collect_seldom
from tailrace.sink.writer import MIB, Batching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailrace.change import Change, Rejection
    from tailrace.endpoints import Endpoints

RECORDS, PARTITIONS, ROUNDS = 400_000, 3, 3
FLOOR = 300_000


class Nothing:
    """The sink."""

    records: Sequence[str] = ("order",)

    def write(self, batch: Sequence[Change], *, timeout: float) -> Sequence[Rejection]:  # noqa: ARG002 - the protocol's
        """Take it."""
        return ()

    def close(self) -> None:
        """Need nothing."""


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Measure both, each against a bare consumer."""
    collect_seldom()
    topic = f"bench.{uuid.uuid4().hex[:8]}.conformed.order"
    client = AdminClient({"bootstrap.servers": endpoints.kafka})
    client.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    decoder = Decoder({topic: ORDER}, lambda _: ORDER.parsed)
    whole = Delivery("bench", decoder, {topic: (Nothing(),)}, lambda _: None, 60.0).deliver
    runs: dict[str, Callable[[], float]] = {
        "bare": lambda: bare(endpoints, topic),
        "alone": lambda: worker(endpoints, topic, taken),
        "whole": lambda: worker(endpoints, topic, whole),
    }
    best, spent = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, float("inf"))
    try:
        fill(endpoints, topic)
        for name, run in [*runs.items()] * ROUNDS:
            begun = time.process_time()
            best[name] = max(best[name], run())
            spent[name] = min(spent[name], 1e6 * (time.process_time() - begun) / RECORDS)
    finally:
        client.delete_topics([topic])[topic].result(30)
    return [
        row("worker loop, no-op sink", best["alone"], None, FLOOR),
        row("worker loop, no-op sink, against bare consumer", best["alone"], best["bare"], None),
        row("worker with decoding, no-op sink, against bare consumer", best["whole"], best["bare"], None),
        time_row("worker loop, no-op sink, processor time of a record", spent["alone"], spent["bare"]),
        time_row("worker with decoding, no-op sink, processor time of a record", spent["whole"], spent["bare"]),
    ]


def row(name: str, value: float, baseline: float | None, floor: int | None) -> dict[str, Any]:
    """Return one line of the table."""
    ratio = None if baseline is None else round(value / baseline, 3)
    return {"name": name, "value": round(value), "unit": "records/s", "baseline": baseline and round(baseline),
            "ratio": ratio, "floor": floor}  # fmt: skip


def time_row(name: str, value: float, baseline: float) -> dict[str, Any]:
    """Return one line about processor time, librdkafka's threads and start and end of a run included."""
    return {"name": name, "value": round(value, 2), "unit": "us", "baseline": round(baseline, 2),
            "ratio": round(value / baseline, 2), "floor": None}  # fmt: skip


def fill(endpoints: Endpoints, topic: str) -> None:
    """Write the records as a processor does."""
    with closing(Outbox(endpoints.kafka, "bench")) as outbox:
        for change in changes(RECORDS):
            origin = Provenance(change.version, "c", change.lsn, change.committed_us, "77", f"raw/0/{change.offset}")
            outbox.send(
                topic,
                key=ORDER.encode_key(change.key),
                value=None if change.value is None else ORDER.encode(change.value, 1),
                headers=[*origin.headers()],
                partition=change.offset % PARTITIONS,
            )
        outbox.flush(60)


def taken(messages: Sequence[Any]) -> Delivered:
    """Do nothing with a batch."""
    return Delivered(len(messages), 0, 0, ())


def bare(endpoints: Endpoints, topic: str) -> float:
    """Return records/s of a consumer that throws everything away."""
    with closing(reader(endpoints.kafka, "bench", **{**READING, "enable.partition.eof": False})) as consumer:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
        seen, begun = len(consumer.consume(1, 30)), time.perf_counter()
        deadline = begun + 120
        while seen < RECORDS:
            assert time.perf_counter() < deadline, "the topic does not come to its end"
            seen += len(consumer.consume(1000, 0.5))
        return RECORDS / (time.perf_counter() - begun)


def worker(endpoints: Endpoints, topic: str, deliver: Callable[[Sequence[Any]], Delivered]) -> float:
    """Return records/s of the worker's loop from its first batch to its last."""
    stop, lock, seen, times = threading.Event(), threading.Lock(), [0], list[float]()

    def timed(messages: Sequence[Any]) -> Delivered:
        with lock:
            times.append(time.perf_counter())
        done = deliver(messages)
        with lock:
            seen[0] += len(messages)
            times.append(time.perf_counter())
        if seen[0] >= RECORDS:
            stop.set()
        return done

    config = {"bootstrap.servers": endpoints.kafka, "group.id": f"bench-{uuid.uuid4().hex}", "log_level": 2, **READING}
    loop = Loop(
        Consumer(config),
        batching={topic: Batching(rows=5000)},
        deliver=timed,
        begin=None,
        evolve=lambda _: (),
        report=Report(Health("bench")),
        stop=stop,
        pool=Pool(200_000, 128 * MIB),
    )
    limit = threading.Timer(120, stop.set)
    limit.start()
    loop.run()
    limit.cancel()
    assert seen[0] >= RECORDS, "the worker does not come to the end of the topic"
    return RECORDS / (max(times) - min(times))

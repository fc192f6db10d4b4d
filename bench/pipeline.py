"""The whole pipeline: a backlog of 200,000 flights from the raw topics into all three stores.

The workers are started only when Debezium has written the whole backlog, so the figure is theirs and not Debezium's.
The baseline is a bare consumer that reads the same raw topic and does nothing, in the same run.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from confluent_kafka import TopicPartition

from tailrace import project, topics
from tailrace.deadline import Deadline, wait_for
from tailrace.kafka import KafkaAdmin, reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.endpoints import Endpoints

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "flights"
ROWS = 200_000
TABLE = "public.flights"
KEEP = "delete from flights where ctid not in (select ctid from flights limit %s)"


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return rows/s of the processor and of each sink, and of all until the last store is done."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-flights-") as folder:
        copy = Path(folder) / "flights"
        shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns(".tailrace", "__pycache__"))
        endpoints.save(copy)
        loaded = project.load(copy)
        load_rows(copy, loaded)
        tailrace(copy, "apply", "--yes")
        admin = KafkaAdmin(endpoints.kafka)
        raw = topics.raw(loaded.name, TABLE)
        wait_for(lambda: total(admin, raw) >= ROWS, timeout=300, every=1, what="Debezium to write the backlog")
        bare = bare_rate(endpoints.kafka, raw, admin)
        with workers(copy):
            seconds = finish_times(admin, loaded, raw)
    return rows(seconds, bare)


def load_rows(copy: Path, loaded: project.Project) -> None:
    """Fill the database and keep ROWS flights."""
    spec = importlib.util.spec_from_file_location("flights_load", copy / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load(copy)
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(KEEP, (ROWS,))


def tailrace(folder: Path, *arguments: str) -> None:
    """Run one command of the product."""
    subprocess.run([sys.executable, "-m", "tailrace", *arguments, "--project", str(folder)], check=True)


@contextmanager
def workers(folder: Path, *only: str) -> Iterator[None]:
    """Run every worker of the project, or only some."""
    chosen = [part for name in only for part in ("--only", name)]
    command = [sys.executable, "-m", "tailrace", "run", "all", *chosen, "--project", str(folder)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def total(admin: KafkaAdmin, topic: str) -> int:
    """Return how many records a topic has had."""
    return sum(admin.ends([topic]).values())


def bare_rate(bootstrap: str, topic: str, admin: KafkaAdmin) -> float:
    """Return records/s of a consumer that throws everything away."""
    ends = admin.ends([topic])
    consumer = reader(bootstrap, "bench-bare")
    consumer.assign([TopicPartition(name, partition, 0) for name, partition in ends])
    left, started, deadline = sum(ends.values()), time.monotonic(), Deadline.after(120)
    while left > 0 and not deadline.passed():
        left -= sum(1 for message in consumer.consume(5000, 1.0) if message.error() is None)
    consumer.close()
    return sum(ends.values()) / (time.monotonic() - started)


def finish_times(admin: KafkaAdmin, loaded: project.Project, raw: str) -> dict[str, float]:
    """Return, by worker, the seconds from the start of all workers until it has passed the backlog."""
    conformed = topics.conformed(loaded.name, loaded.record_of(TABLE))
    processor = next(name for name in loaded.processors if TABLE in loaded.tables_of(name))
    waiting = {processor: raw, **dict.fromkeys(loaded.sinks, conformed)}
    started, seconds = time.monotonic(), {}

    def look() -> bool:
        for worker, topic in list(waiting.items()):
            if worker != processor and processor not in seconds:
                continue
            ends = admin.ends([topic])
            done = admin.committed(topics.group(loaded.name, worker), [topic])
            if all(done.get(place, -1) >= end for place, end in ends.items() if end):
                seconds[worker] = time.monotonic() - started
                del waiting[worker]
        return not waiting

    wait_for(look, timeout=900, every=0.5, what="every store to have the backlog")
    return seconds


def rows(seconds: dict[str, float], bare: float) -> list[dict[str, Any]]:
    """Return the table's rows."""
    figures = {f"pipeline: {name}, {ROWS:,} flights": ROWS / spent for name, spent in seconds.items()}
    figures[f"pipeline: all stores, {ROWS:,} flights"] = ROWS / max(seconds.values())
    return [
        {"name": name, "value": rate, "unit": "rows/s", "baseline": bare, "ratio": rate / bare, "floor": None}
        for name, rate in figures.items()
    ]

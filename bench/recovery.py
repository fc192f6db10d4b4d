"""Seconds until the pipeline is live again (lag under 2 s) after kill -9 of each worker. Runs only when it is named.

The bank with its processor and one sink after the other under ``tailrace run all``, since on a small machine it is the
slowest store that decides what stays live. Customers are updated at a steady rate, 5,000 changes/s or the highest of
its halves at which the pipeline is live before anything is killed; TAILRACE_RECOVERY_RATE sets the first. The lake is
never less behind than its ``flush_seconds``, which is set to half a second here. The last two kills are of the
processor, with the state it has and with a million images in its changelog, which it restores before it goes on.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2

from bench.backlog import FILL, TABLE
from bench.latency import bank
from bench.pipeline import tailrace, workers
from tailrace import project, topics
from tailrace.control.status import Monitor
from tailrace.deadline import Deadline, wait_for
from tailrace.health import RunFile
from tailrace.kafka import KafkaAdmin, Outbox
from tailrace.stream.changelog import CLAIM, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailrace.endpoints import Endpoints

RATE, SLOWEST, CUSTOMERS, TURNS = 5_000, 40, 5_000, 10  # changes/s, rows, transactions a second
PROCESSOR, SINKS = "conform", ("dynamodb", "search", "lake")  # the last takes the most
LIVE, EVERY, TRIAL, WARM_UP = 2.0, 0.25, 12.0, 20.0  # seconds: of lag, between samples, of a trial of a rate, before it
STATELESS, STATEFUL, IMAGES = 15.0, 60.0, 1_000_000
CHANGE = "update customers set name = left(name, 40) || '.', updated_at = now() where id between %s and %s"
IMAGE = b'\0\0\0\0\0\0\0\1{"note string":"' + b"long " * 80 + b'"}'
GIVE_UP = 240.0


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return the seconds of each worker, and of the processor with its state."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-recovery-") as folder:
        place = bank(endpoints, Path(folder))
        settings = (place / "tailrace.toml").read_text()
        (place / "tailrace.toml").write_text(settings.replace("flush_seconds = 2.0", "flush_seconds = 0.5"))
        return of_bank(place)


def of_bank(folder: Path) -> list[dict[str, Any]]:
    """Measure the bank in a folder, whose names nobody else uses."""
    loaded = project.load(folder)
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("alter table customers replica identity default")  # so that the processor keeps a state
        cursor.execute(FILL, (CUSTOMERS,))
    tailrace(folder, "apply", "--yes")
    found = []
    with Monitor(loaded) as monitor:
        for sink in SINKS:
            watched = Watched(loaded, monitor, (PROCESSOR, sink))
            with workers(folder, *watched.names):
                watched.live("the snapshot, and what was changed so far, to be in the store")
                rate = highest(watched, url)
                found.append(row(f"recovery of {sink}", rate, struck(watched, url, rate, sink), STATELESS))
                if sink == SINKS[-1]:
                    found += of_processor(watched, url, rate)
    return found


def of_processor(watched: Watched, url: str, rate: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the processor: with the state it has, and with a million images."""
    yield row(f"recovery of {PROCESSOR}", rate, struck(watched, url, rate, PROCESSOR), STATELESS)
    fill_state(watched.project)
    spent = struck(watched, url, rate, PROCESSOR)
    yield row(f"recovery of {PROCESSOR} with {IMAGES:,} images", rate, spent, STATEFUL)


@dataclass(frozen=True, slots=True)
class Watched:
    """The workers that run, and how far behind they are."""

    project: project.Project
    monitor: Monitor
    names: tuple[str, ...]

    def lag(self) -> float:
        """Return the largest lag of any table in any of the workers."""
        return max(flow.lag_seconds for flow in self.monitor.sample().flows if flow.worker in self.names)

    def live(self, what: str) -> None:
        """Wait until the lag is low twice in a row."""
        seen = [LIVE]

        def low() -> bool:
            seen.append(self.lag())
            return max(seen[-2:]) < LIVE

        wait_for(low, timeout=GIVE_UP, every=EVERY, what=what)


@contextmanager
def load(url: str, rate: int) -> Iterator[None]:
    """Update customers at a steady rate."""
    over, failed = threading.Event(), list[BaseException]()

    def write() -> None:
        rows, turn, begun = rate // TURNS, 0, time.monotonic()
        with closing(psycopg2.connect(url)) as connection:
            while not over.wait(max(0.0, begun + turn / TURNS - time.monotonic())):
                first = 1 + turn * rows % (CUSTOMERS - rows)
                with connection, connection.cursor() as cursor:
                    cursor.execute(CHANGE, (first, first + rows - 1))
                turn += 1

    thread = threading.Thread(target=lambda: failed.extend(raised(write)))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
    assert not failed, failed[0]


def raised(act: Callable[[], None]) -> Iterator[BaseException]:
    """Yield what a call raises."""
    try:
        act()
    except psycopg2.Error as error:
        yield error


def highest(watched: Watched, url: str) -> int:
    """Return the highest rate, halved again and again, at which the pipeline stays live once it is warm."""
    rate = int(os.environ.get("TAILRACE_RECOVERY_RATE", RATE))
    over = threading.Event()
    with load(url, rate // 2):
        over.wait(WARM_UP)
    while rate > SLOWEST:
        watched.live(f"the backlog of {rate} changes/s to be in the store")
        with load(url, rate):
            seen, end = [], Deadline.after(TRIAL)
            while not end.passed():
                seen.append(watched.lag())
                over.wait(EVERY)
        if max(seen[len(seen) // 2 :]) < LIVE:
            return rate
        rate //= 2
    return rate


def struck(watched: Watched, url: str, rate: int, name: str) -> float:
    """Return the seconds until the pipeline is live again under a load, after a worker was killed."""
    with load(url, rate):
        watched.live("the pipeline to be live under the load")
        return killed(watched, name)


def killed(watched: Watched, name: str) -> float:
    """Kill a worker and return the seconds until another process has its name and the pipeline is live again."""
    loaded = watched.project
    old = RunFile(loaded.folder, name).read()["pid"]
    os.kill(old, signal.SIGKILL)
    begun = time.monotonic()
    wait_for(lambda: RunFile(loaded.folder, name).read().get("pid", old) != old, timeout=GIVE_UP, every=0.05,
             what=f"{name} to be started again")  # fmt: skip
    group, before = topics.group(loaded.name, name), committed(loaded, name)
    wait_for(lambda: committed(loaded, name) > before, timeout=GIVE_UP, every=EVERY, what=f"{group} to commit")
    watched.live(f"the pipeline to be live after {name} was killed")
    return time.monotonic() - begun


def committed(loaded: project.Project, name: str) -> int:
    """Return the sum of what a worker has committed of customers."""
    topic = topics.raw(loaded.name, TABLE) if name == PROCESSOR else topics.conformed(loaded.name, "customers")
    found = KafkaAdmin(loaded.endpoints.kafka).committed(topics.group(loaded.name, name), [topic])
    return sum(max(0, offset) for offset in found.values())


def fill_state(loaded: project.Project) -> None:
    """Write a million images into the changelog of customers, as a process that has claimed it would."""
    topic, admin = topics.changelog(loaded.name, PROCESSOR, TABLE), KafkaAdmin(loaded.endpoints.kafka)
    partitions = admin.partitions()[topic]
    with closing(Outbox(loaded.endpoints.kafka, "bench")) as outbox:
        for partition in range(partitions):
            outbox.send(topic, key=CLAIM, value=b"bench", partition=partition)
        outbox.flush(60)
        claims = {partition: end - 1 for (_, partition), end in admin.ends([topic]).items()}
        for partition, claim in claims.items():
            keys = range(10_000_000 + partition, 10_000_000 + IMAGES, partitions)
            for key, value in entries(claim, 1, {b'{"id":%d}' % number: IMAGE for number in keys}):
                outbox.send(topic, key=key, value=value, partition=partition)
            outbox.flush(120)


def row(name: str, rate: int, seconds: float, ceiling: float) -> dict[str, Any]:
    """Return one line of the table."""
    return {"name": f"{name} at {rate:,} changes/s", "value": round(seconds, 1), "unit": "s", "baseline": None,
            "ratio": None, "floor": None, "ceiling": ceiling}  # fmt: skip

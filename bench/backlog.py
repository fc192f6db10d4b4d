"""PostgreSQL to the search index alone: backlogs of 50,000 changes through the whole path, cold and warm.

The bank with its processor and its search worker, both running; the connector is paused while the changes are
committed, and resumed. The clock runs from the first raw record to the last document that OpenSearch acknowledged, so
it leaves out how long a connector takes to wake up. The first hop is in a row of its own: what the connector gives is
the most that the path can. The first backlog meets servers whose Java has still to compile much of what
it needs; the bounds are for the last of some, as workers that run for long meet them. Updates come with both images
(REPLICA IDENTITY FULL, as the bank has it), and both are conformed; inserts have one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import psycopg2

from bench.latency import bank
from bench.pipeline import tailrace, total
from tailrace import project, topics
from tailrace.control import barrier
from tailrace.deadline import wait_for
from tailrace.health import RunFile
from tailrace.kafka import KafkaAdmin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailrace.endpoints import Endpoints

CHANGES, CUSTOMERS, FLOOR = 50_000, 5_000, 10_000
WARMING = 8  # backlogs before the warm ones
WORKERS = (("processor", "conform"), ("sink", "search"))
FILL = "insert into customers (name, email, phone, address) select 'Customer ' || n, n || '@example.org', '+41 ' || n, \
jsonb_build_object('street', 'Street ' || n, 'city', 'Bern') from generate_series(1, %s) n"
CHANGE = "update customers set name = name || '.', updated_at = now() where name like 'Customer %%' and id %% %s = %s"
TABLE = "public.customers"


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return changes/s of the whole path and of its first hop."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-backlog-") as folder:
        laid_out = bank(endpoints, Path(folder))
        for other in (laid_out / "sinks").glob("*.py"):
            if other.stem != "search":
                other.unlink()
        return of_bank(laid_out)


def of_bank(folder: Path) -> list[dict[str, Any]]:
    """Measure the bank in a folder; it may have a history, which is read before."""
    loaded = project.load(folder)
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(FILL, (CUSTOMERS,))
    tailrace(folder, "apply", "--yes")
    with running(folder):
        barrier.cross(loaded, timeout=300)
        found = rows("updates, the first", None, *once(loaded, url, update))
        for _ in range(WARMING):
            once(loaded, url, update)
        found += rows("updates, warm", FLOOR, *once(loaded, url, update))
        return found + rows("inserts, warm", FLOOR, *once(loaded, url, insert))


def once(
    loaded: project.Project, url: str, commit: Callable[[str], None]
) -> tuple[tuple[float, float, float], dict[str, float]]:
    """Let a backlog come through; return its seconds, hop by hop, and each worker's of a processor."""
    told(loaded, "pause", "PAUSED")
    commit(url)
    begun = spent(loaded)
    seconds = timed(loaded)
    return seconds, {name: used - begun[name] for name, used in spent(loaded).items()}


def rows(
    what: str, floor: float | None, seconds: tuple[float, float, float], used: dict[str, float]
) -> list[dict[str, Any]]:
    """Return the table's rows of one backlog."""
    whole, first, second = seconds
    name = f"PostgreSQL to search, a backlog of {CHANGES:,} {what}"
    return [
        {"name": name, "value": round(CHANGES / whole), "unit": "changes/s", "baseline": round(CHANGES / first),
         "ratio": None, "floor": floor},
        {"name": f"{name}, against its first hop", "value": round(CHANGES / whole), "unit": "changes/s",
         "baseline": round(CHANGES / first), "ratio": round(first / whole, 3), "floor": None},
        {"name": f"{name}, until conformed", "value": round(CHANGES / second), "unit": "changes/s",
         "baseline": round(CHANGES / first), "ratio": round(first / second, 3), "floor": None},
        *({"name": f"{name}, processor time of {worker}", "value": round(1e6 * took / CHANGES), "unit": "us",
           "baseline": None, "ratio": None, "floor": None} for worker, took in used.items()),
    ]  # fmt: skip


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Run the processor and the search worker."""
    command = [sys.executable, "-m", "tailrace", "run"]
    started = [subprocess.Popen([*command, *which, "--project", str(folder)]) for which in WORKERS]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)


def told(loaded: project.Project, what: str, state: str) -> None:
    """Pause or resume the connector and wait until it says so."""
    base = f"{loaded.endpoints.connect}/connectors/{loaded.connector.name}"
    httpx.put(f"{base}/{what}", timeout=30).raise_for_status()

    def there() -> bool:
        status = httpx.get(f"{base}/status", timeout=30).json()
        return {each["state"] for each in (status["connector"], *status["tasks"])} == {state}

    wait_for(there, timeout=60, what=f"the connector to be {state}")


def update(url: str) -> None:
    """Commit the changes as updates, many rows in each of some transactions."""
    turns = CHANGES // CUSTOMERS
    with closing(psycopg2.connect(url)) as connection:
        for turn in range(10 * turns):
            with connection, connection.cursor() as cursor:
                cursor.execute(CHANGE, (10, turn % 10))


def insert(url: str) -> None:
    """Commit the changes as inserts, as many in each transaction as of the updates."""
    rows_of_one = CUSTOMERS // 10
    with closing(psycopg2.connect(url)) as connection:
        for _ in range(CHANGES // rows_of_one):
            with connection, connection.cursor() as cursor:
                cursor.execute(FILL, (rows_of_one,))


def spent(loaded: project.Project) -> dict[str, float]:
    """Return the seconds of a processor that each worker has used; noise of the machine changes them little."""
    pids = {name: RunFile(loaded.folder, name).read()["pid"] for _, name in WORKERS}
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: found.user + found.system for name, found in times.items()}


def written(loaded: project.Project) -> int:
    """Return how many records the search worker has made durable."""
    port = RunFile(loaded.folder, "search").read().get("port")
    if port is None:
        return 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith("tailrace_records_total{"))


def timed(loaded: project.Project) -> tuple[float, float, float]:
    """Resume and return the seconds from the first raw record to the last document, raw and conformed record."""
    admin, done = KafkaAdmin(loaded.endpoints.kafka), written(loaded)
    hops = [topics.raw(loaded.name, TABLE), topics.conformed(loaded.name, "customers")]
    before = {topic: total(admin, topic) for topic in hops}
    began: list[float] = []
    ended: dict[str, float] = {}
    told(loaded, "resume", "RUNNING")

    def over() -> bool:
        for topic in (each for each in hops if each not in ended):
            came = total(admin, topic) - before[topic]
            began.extend([time.monotonic()] if came and not began else [])
            ended.update({topic: time.monotonic()} if came >= CHANGES else {})
        return written(loaded) - done >= CHANGES

    wait_for(over, timeout=300, every=0.05, what="every change to be searchable")
    return time.monotonic() - began[0], ended[hops[0]] - began[0], ended[hops[1]] - began[0]

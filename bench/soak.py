"""A million changes through all three sinks: the memory of every worker stays flat. Runs only when it is named.

Customers of the bank are updated again and again; the changes that are on their way are kept under a bound, so that
what is measured is a long run and not one backlog. Resident memory is read twice a second. The figure is the largest
of the second half against the largest of the first half after a warm-up; at the end everything has to be equal
(``tailrace verify``). TAILRACE_SOAK_CHANGES makes it shorter.
"""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg2

from bench.backlog import CHANGE, CUSTOMERS, FILL, TABLE
from bench.latency import bank
from bench.pipeline import tailrace, total, workers
from tailrace import project, topics
from tailrace.deadline import wait_for
from tailrace.health import RunFile
from tailrace.kafka import KafkaAdmin

if TYPE_CHECKING:
    from tailrace.endpoints import Endpoints

CHANGES, ON_THE_WAY = 1_000_000, 30_000
WARM_UP, CEILING = 0.2, 1.15  # a share of the run; memory of the second half against the first
MIB = 1024 * 1024


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return the memory of each worker, its second half against its first."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-soak-") as folder:
        return of_bank(bank(endpoints, Path(folder)), int(os.environ.get("TAILRACE_SOAK_CHANGES", CHANGES)))


def of_bank(folder: Path, changes: int) -> list[dict[str, Any]]:
    """Soak the bank in a folder, whose names nobody else uses."""
    loaded = project.load(folder)
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(FILL, (CUSTOMERS,))
    tailrace(folder, "apply", "--yes")
    names = [*loaded.processors, *loaded.sinks]
    over = threading.Event()
    with workers(folder):
        wait_for(lambda: pending(loaded) == 0, timeout=300, every=0.5, what="the snapshot to be in every store")
        sizes: dict[str, list[int]] = {name: [] for name in names}
        watching = threading.Thread(target=watch, args=(loaded, sizes, over))
        watching.start()
        try:
            change(loaded, url, changes)
            wait_for(lambda: pending(loaded) == 0, timeout=900, every=0.5, what="the last change to be in every store")
        finally:
            over.set()
            watching.join(30)
        tailrace(folder, "verify")
    return [row(name, changes, found) for name, found in sizes.items()]


def change(loaded: project.Project, url: str, changes: int) -> None:
    """Commit the changes, a tenth of the customers in each transaction, while not too many are on their way."""
    made = turn = 0
    with closing(psycopg2.connect(url)) as connection:
        while made < changes:
            with connection, connection.cursor() as cursor:
                cursor.execute(CHANGE, (10, turn % 10))
                made += cursor.rowcount
            turn += 1
            if turn % 10 == 0:
                wait_for(lambda: pending(loaded) < ON_THE_WAY, timeout=900, every=0.5, what="the slowest store")


def pending(loaded: project.Project) -> int:
    """Return how many records the group that is furthest behind has before it; an empty topic counts as one."""
    return max(behind(loaded).values())


def behind(loaded: project.Project) -> dict[str, int]:
    """Return how many records each worker has before it in the topic of customers."""
    admin = KafkaAdmin(loaded.endpoints.kafka)
    hops = dict.fromkeys(loaded.processors, topics.raw(loaded.name, TABLE))
    hops |= dict.fromkeys(loaded.sinks, topics.conformed(loaded.name, "customers"))
    found = {}
    for name, topic in hops.items():
        done = sum(max(0, offset) for offset in admin.committed(topics.group(loaded.name, name), [topic]).values())
        found[name] = (total(admin, topic) or 1) - done
    return found


def watch(loaded: project.Project, sizes: dict[str, list[int]], over: threading.Event) -> None:
    """Note the resident memory of every worker until it is over."""
    processes = {name: psutil.Process(RunFile(loaded.folder, name).read()["pid"]) for name in sizes}
    while not over.wait(0.5):
        for name, process in processes.items():
            sizes[name].append(process.memory_info().rss)


def row(name: str, changes: int, sizes: list[int]) -> dict[str, Any]:
    """Return one line of the table."""
    begin = int(WARM_UP * len(sizes))
    middle = (begin + len(sizes)) // 2
    first, second = max(sizes[begin:middle]), max(sizes[middle:])
    return {"name": f"soak of {changes:,} changes: memory of {name}", "value": round(second / MIB), "unit": "MiB",
            "baseline": round(first / MIB), "ratio": round(second / first, 3), "floor": None,
            "ceiling": CEILING}  # fmt: skip

"""Milliseconds from a source commit until DynamoDB and the search index show it, at 500 and at 50 changes/s.

The bank with its processor and the worker of one store after the other, so that on a small machine each is measured
and not what all of them leave of it; the servers' Java has 45 s of the higher rate to compile what it needs. One
customer gets a new number in its name a dozen times a second, among changes of other customers; the store is asked, by
a consistent GetItem or a realtime get, every few milliseconds for the newest number it shows. The hops come from
Kafka's own timestamps of the raw and the conformed record. The lake is not in here: it closes an object every
``flush_seconds``, and that is its latency.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psycopg2
from confluent_kafka import TopicPartition

from bench.pipeline import tailrace, workers
from tailrace import aws, project, topics, web
from tailrace.deadline import Deadline, wait_for
from tailrace.demo import database
from tailrace.demo.probe import number
from tailrace.kafka import KafkaAdmin, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailrace.endpoints import Endpoints

    Asking = Callable[[project.Project, int], Callable[[], str | None]]

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("connectors", "schemas", "processors", "sinks", "migrations")
RATES = {500: 40, 50: 4}  # changes/s, and how many of them make one mark
SECONDS, WARM_UP, AGAIN, OTHERS = 20.0, 45.0, 5.0, 200  # the first warm-up is of the servers
ASK = 0.03  # seconds between two questions to a store
P50, P99 = 150.0, 500.0  # milliseconds
NEW = "insert into customers (name, email) values (%s, %s) returning id"
MARK = "update customers set name = %s where id = %s"


@dataclass(frozen=True, slots=True)
class Load:
    """So many changes/s, every so many of which is a mark; those of the first ``warm_up`` seconds do not count."""

    rate: int
    every: int
    warm_up: float

    @property
    def first(self) -> int:
        """Return the first mark that counts."""
        return int(self.warm_up * self.rate / self.every)


@dataclass
class Marks:
    """When each mark was committed and first seen, by where; seconds since 1970."""

    customer: int
    committed: list[float] = field(default_factory=list)
    seen: dict[str, dict[int, float]] = field(default_factory=dict)

    def milliseconds(self, since: str, until: str, first: int) -> list[float]:
        """Return what lies between two places, for the marks from ``first`` on that both have."""
        begun = dict(enumerate(self.committed)) if since == "commit" else self.seen[since]
        ended = self.seen[until]
        return sorted(1000 * (ended[mark] - at) for mark, at in begun.items() if mark >= first and mark in ended)


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return p50 and p99 of each store and of each hop at each rate."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-latency-") as folder:
        return of_bank(bank(endpoints, Path(folder)))


def bank(endpoints: Endpoints, folder: Path) -> Path:
    """Lay out the bank in an empty folder, with its database, and return the folder."""
    shutil.copy(ROOT / "tailrace.toml", folder)
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    endpoints.save(folder)
    database.prepare(endpoints, project.load(folder).connector.database, folder / "migrations")
    return folder


def of_bank(folder: Path) -> list[dict[str, Any]]:
    """Measure the bank in a folder, whose names nobody else uses."""
    loaded = project.load(folder)
    tailrace(folder, "apply", "--yes")
    found = []
    for store, (sink, _) in STORES.items():
        with workers(folder, *loaded.processors, sink):
            for number, (rate, every) in enumerate(RATES.items()):
                load = Load(rate, every, AGAIN if number else WARM_UP)
                found += rows(store, load, run(loaded, store, load))
    return found


def run(loaded: project.Project, store: str, load: Load) -> Marks:
    """Make changes at a rate and look for the marks in every place on the way to a store."""
    url = loaded.endpoints.database(loaded.connector.database)
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            customers = [entered(cursor, f"latency {load.rate} {each}") for each in range(OTHERS + 1)]
            marks = Marks(customers[0])
            ask = STORES[store][1](loaded, marks.customer)
            wait_for(lambda: ask() is not None, timeout=240, what=f"{store} to show the customer")
            offsets = KafkaAdmin(loaded.endpoints.kafka).ends(kafka_topics(loaded).values())
            over = threading.Event()
            looker = threading.Thread(target=look, args=(marks, store, ask, over))
            looker.start()
            write(cursor, marks, customers, load)
            over.set()
            looker.join(30)
    for name, topic in kafka_topics(loaded).items():
        marks.seen[name] = dict(timestamps(loaded, topic, offsets, marks.customer))
    return marks


def entered(cursor: Any, name: str) -> int:
    """Enter a customer and return its key."""
    cursor.execute(NEW, (name, f"{name.replace(' ', '.')}.{time.time_ns()}@example.org"))
    return int(cursor.fetchone()[0])


def write(cursor: Any, marks: Marks, customers: list[int], load: Load) -> None:
    """Commit changes one by one, evenly; every so many one of them is a mark."""
    begun, made, pause = time.monotonic(), 0, threading.Event()
    while (ahead := made / load.rate) < load.warm_up + SECONDS:
        pause.wait(max(0.0, begun + ahead - time.monotonic()))
        if made % load.every:
            cursor.execute(MARK, (f"other {made}", customers[1 + made % OTHERS]))
        else:
            mark, at = len(marks.committed), time.time()
            cursor.execute(MARK, (f"probe {mark}", marks.customer))
            marks.committed.append(at)
        made += 1


def look(marks: Marks, name: str, ask: Callable[[], str | None], over: threading.Event) -> None:
    """Note when each mark is first seen; a newer one shows that the older ones have passed."""
    seen, found, pause = marks.seen.setdefault(name, {}), -1, threading.Event()
    last: Deadline | None = None
    while last is None or not (last.passed() or found == len(marks.committed) - 1):
        newest, now = number(ask()), time.time()
        seen.update(dict.fromkeys(range(found + 1, newest + 1), now))
        found = max(found, newest)
        if last is None and over.is_set():
            last = Deadline.after(20)
        pause.wait(ASK)


def ask_dynamodb(loaded: project.Project, customer: int) -> Callable[[], str | None]:
    """Return what reads the customer's name from DynamoDB, None while it is not there."""
    client = aws.client("dynamodb", loaded.endpoints.dynamodb)
    table = next(sink.table for sink in loaded.sinks["dynamodb"] if hasattr(sink, "table"))
    key = {"pk": {"S": f"CUSTOMER#{customer}"}, "sk": {"S": "PROFILE"}}

    def ask() -> str | None:
        item: dict[str, Any] = client.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
        return str(item["name"]["S"]) if item else None

    return ask


def ask_search(loaded: project.Project, customer: int) -> Callable[[], str | None]:
    """Return what reads the customer's name from the search index, None while it is not there."""
    alias = next(sink.alias for sink in loaded.sinks["search"] if hasattr(sink, "alias"))
    client = web.client(loaded.endpoints.opensearch, timeout=10)

    def ask() -> str | None:
        answer = client.get(f"/{alias}/_doc/{customer}", params={"_source": "name"})
        return str(answer.json()["_source"]["name"]) if answer.is_success else None

    return ask


def kafka_topics(loaded: project.Project) -> dict[str, str]:
    """Return the topics of customers."""
    return {
        "raw": topics.raw(loaded.name, "public.customers"),
        "conformed": topics.conformed(loaded.name, "customers"),
    }


def timestamps(
    loaded: project.Project, topic: str, offsets: dict[Any, int], customer: int
) -> Iterator[tuple[int, float]]:
    """Yield each mark and Kafka's timestamp of its record."""
    ends = KafkaAdmin(loaded.endpoints.kafka).ends([topic])
    contract, key = loaded.contract("customers"), b'{"id":%d}' % customer
    with closing(reader(loaded.endpoints.kafka, "bench-latency")) as consumer:
        consumer.assign([TopicPartition(*place, offsets[place]) for place in ends])
        left, deadline = sum(end - offsets[place] for place, end in ends.items()), Deadline.after(60)
        while left > 0 and not deadline.passed():
            for message in consumer.consume(5000, 0.5):
                if message.error() is not None:
                    continue
                left -= 1
                if message.key() == key and message.value() is not None:
                    value = message.value()
                    record = orjson.loads(value)["payload"]["after"] if value[0] else contract.decode(value)
                    if (mark := number(record["name"])) >= 0:
                        yield mark, message.timestamp()[1] / 1000


STORES: dict[str, tuple[str, Asking]] = {"DynamoDB": ("dynamodb", ask_dynamodb), "search": ("search", ask_search)}


def rows(store: str, load: Load, marks: Marks) -> list[dict[str, Any]]:
    """Return the table's rows of one store at one rate."""
    found = []
    for since, until in (("commit", store), ("commit", "raw"), ("raw", "conformed"), ("conformed", store)):
        spent = marks.milliseconds(since, until, load.first)
        whole = since == "commit" and until == store
        what = f"{since} to {until} at {load.rate} changes/s" + ("" if until == store else f" (for {store})")
        for share, name, most in ((0.5, "p50", P50), (0.99, "p99", P99)):
            value = spent[min(len(spent) - 1, int(share * len(spent)))]
            found.append(
                {"name": f"{what}, {name}", "value": round(value, 1), "unit": "ms", "baseline": None, "ratio": None,
                 "floor": None, "ceiling": most if whole else None}
            )  # fmt: skip
    return found

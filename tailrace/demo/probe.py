"""How long a change takes from its commit in Postgres until each store shows it, measured from outside.

A probe customer gets a new number in its name several times a second, beside the live traffic. One thread per store
asks that store, with the store's own client and as a reader would, for the newest number it shows: a consistent
``GetItem``, a search through the alias, new Parquet objects of the lake. Latency is the time from just before the
commit until the answer that shows it, so it includes the pause between two questions. A store that is busy or away is
asked again: its numbers then say so.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
import psycopg2
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog
from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws, web
from tailrace.deadline import Deadline
from tailrace.demo import database, reference
from tailrace.demo.traffic import PROBE_EMAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tailrace.demo.reference import Stores
    from tailrace.project import Project

EVERY = 0.25  # seconds between two marks
PAUSES = {"DynamoDB": 0.03, "search": 0.1, "lake": 0.15}  # seconds between two questions
LAST_WAIT = 20.0  # seconds that the last marks are waited for
STORE_TROUBLE = (ClientError, BotoCoreError, httpx.HTTPError, KeyError)
_NAME = re.compile(r"probe (\d+)")
log = structlog.get_logger()


@dataclass
class Latencies:
    """Seconds from commit to visible in one store; ``missed`` marks were not seen before the last wait ended."""

    store: str
    seconds: list[float] = field(default_factory=list)
    missed: int = 0

    def percentile(self, share: float) -> float:
        """Return the smallest measured value that ``share`` of all are not above; NaN where there is none."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """Return n, p50 and p99, in seconds, as one JSON object."""
        found = {"store": self.store, "n": len(self.seconds), "missed": self.missed}
        shares = {"p50": 0.5, "p99": 0.99} if self.seconds else {}
        return {**found, **{name: round(self.percentile(share), 3) for name, share in shares.items()}}


class Board:
    """The marks that were committed, by number, and when; shared by the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: list[float] = []

    def add(self, at: float) -> None:
        """Note the time of the next mark."""
        with self._lock:
            self._at.append(at)

    def __len__(self) -> int:
        with self._lock:
            return len(self._at)

    def since(self, first: int, last: int) -> list[float]:
        """Return the commit times of the marks ``first`` to ``last``, both included."""
        with self._lock:
            return self._at[first : last + 1]


class Probe:
    """The threads that mark and look, from ``start`` to ``finish``."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._board = Board()
        self._stop = threading.Event()
        self._deadline: Deadline | None = None
        self._clients = ExitStack()
        self._opened = database.connect(
            project.endpoints.database(project.connector.database), autocommit=True, name="tailrace demo probe"
        )
        self._customer = self._enter()
        self.results = [Latencies(store) for store in PAUSES]
        places = reference.stores(project)
        asks = [make(project, places, self._customer, self._clients) for make in (_dynamodb, _search, _lake)]
        self._marking = threading.Thread(target=self._mark, name="probe-mark", daemon=True)
        self._looking = [
            threading.Thread(target=self._look, args=(result, ask), name=f"probe-{result.store}", daemon=True)
            for result, ask in zip(self.results, asks, strict=True)
        ]

    def start(self) -> None:
        """Begin to mark and to look."""
        for thread in (self._marking, *self._looking):
            thread.start()

    def finish(self) -> list[Latencies]:
        """Stop marking, wait for the last marks, remove the probe customer, and return what was measured."""
        self._stop.set()
        self._marking.join(LAST_WAIT)
        self._deadline = Deadline.after(LAST_WAIT)
        for thread in self._looking:
            thread.join(LAST_WAIT + 10)
        with self._clients, closing(self._opened), self._opened.cursor() as cursor:
            cursor.execute("delete from customers where id = %s", (self._customer,))
        return self.results

    def _enter(self) -> int:
        with self._opened.cursor() as cursor:
            cursor.execute("delete from customers where email = %s", (PROBE_EMAIL,))
            cursor.execute("insert into customers (name, email) values ('probe', %s) returning id", (PROBE_EMAIL,))
            (key,) = cursor.fetchone() or (0,)
        return int(key)

    def _mark(self) -> None:
        with self._opened.cursor() as cursor:
            while not self._stop.wait(EVERY):
                at, mark = time.monotonic(), len(self._board)
                try:
                    cursor.execute("update customers set name = %s where id = %s", (f"probe {mark}", self._customer))
                except psycopg2.OperationalError as error:
                    log.warning("the bank does not take the probe's marks", reason=type(error).__name__)
                    return
                self._board.add(at)

    def _look(self, result: Latencies, ask: Callable[[], int]) -> None:
        """Note every mark when it is first seen; a newer number shows that the older ones have passed."""
        seen = -1
        pause = threading.Event()
        while not self._over(seen):
            try:
                newest = ask()
            except STORE_TROUBLE as error:
                log.debug("the store does not answer the probe", store=result.store, reason=type(error).__name__)
                newest = seen
            now = time.monotonic()
            result.seconds += [now - at for at in self._board.since(seen + 1, newest)]
            seen = max(seen, newest)
            pause.wait(PAUSES[result.store])
        result.missed = len(self._board) - 1 - seen

    def _over(self, seen: int) -> bool:
        if self._deadline is None:
            return False
        return seen == len(self._board) - 1 or self._deadline.passed()


def number(name: object) -> int:
    """Return the number in the probe's name, or -1 before the first mark."""
    match = _NAME.fullmatch(str(name))
    return int(match[1]) if match else -1


def _dynamodb(project: Project, places: Stores, customer: int, opened: ExitStack) -> Callable[[], int]:
    client = opened.enter_context(closing(aws.client("dynamodb", project.endpoints.dynamodb)))
    key = {"pk": {"S": f"CUSTOMER#{customer}"}, "sk": {"S": "PROFILE"}}

    def ask() -> int:
        item: Mapping[str, Any] = client.get_item(TableName=places.table, Key=key, ConsistentRead=True).get("Item", {})
        return number(item["name"]["S"]) if "name" in item else -1

    return ask


def _search(project: Project, places: Stores, customer: int, opened: ExitStack) -> Callable[[], int]:
    client = opened.enter_context(web.client(project.endpoints.opensearch, timeout=10))
    body = {"query": {"ids": {"values": [str(customer)]}}, "_source": ["name"]}

    def ask() -> int:
        answer = client.post(f"/{places.alias}/_search", json=body)
        hits: Sequence[Any] = answer.raise_for_status().json()["hits"]["hits"]
        return number(hits[0]["_source"]["name"]) if hits else -1

    return ask


def _lake(project: Project, places: Stores, customer: int, opened: ExitStack) -> Callable[[], int]:
    client = opened.enter_context(closing(aws.client("s3", project.endpoints.s3, s3={"addressing_style": "path"})))
    read: set[str] = set()
    newest = -1

    def ask() -> int:
        nonlocal newest
        for page in client.get_paginator("list_objects_v2").paginate(
            Bucket=places.bucket, Prefix=f"{places.customers}/dt="
        ):
            for name in [entry["Key"] for entry in page.get("Contents", ()) if entry["Key"] not in read]:
                body = client.get_object(Bucket=places.bucket, Key=name)["Body"].read()
                newest = max(newest, _highest(body, customer))
                read.add(name)
        return newest

    return ask


def _highest(parquet: bytes, customer: int) -> int:
    """Return the highest number of the probe customer in one object."""
    table = pq.read_table(BytesIO(parquet), columns=["id", "name"])
    names = table.filter(pc.equal(table["id"], customer))["name"].to_pylist()
    return max(map(number, names), default=-1)

"""What changes the bank while faults strike: the demo's traffic, and beside it the changes that pipelines break on.

Rough changes are hot keys, a row deleted and inserted again, large transactions, transactions that stay open, long
values that stay where they are, COPY, columns that come and go. They move no money, so the sum of all balances is what
it was. It may rest, so that everything stands still. A database that goes away is waited for; anything else that fails
is trouble of the drill.
"""

from __future__ import annotations

import io
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extras import Json

from tailrace.demo import database, traffic
from tailrace.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class with a lower-case name

FIRST_KEY, KEYS = 1_000_000_000, 200  # customers that the rough changes begin with; the traffic may take them over
HOT = 5
LONG = 20_000  # characters: stored out of line
MOST_ROWS = 2_000  # of one large transaction
OPEN_SECONDS = 3.0
AGAIN_SECONDS = 0.5
RESTS_WITHIN = 60.0
OVERTAKEN = (
    psycopg2.errors.LockNotAvailable, psycopg2.errors.UniqueViolation, psycopg2.errors.ForeignKeyViolation,
    psycopg2.extensions.TransactionRollbackError,
)  # fmt: skip
TRANSFERS = "insert into transfers (amount, note) select 1 + n, 'drill' from generate_series(1, %s) n"
CUSTOMER = (
    "insert into customers (id, name, email, address) values (%s, %s, %s, %s) on conflict (id) do update"
    " set name = excluded.name, address = excluded.address"
)


@dataclass
class Done:
    """What was committed, by kind, and how often the traffic was there first."""

    changes: Counter[str] = field(default_factory=Counter)
    overtaken: int = 0


class Rough:
    """The rough changes, on one connection at a time."""

    def __init__(self, seed: int, stop: threading.Event, *, columns: bool = True) -> None:
        self._rng, self._stop = Random(f"{seed}/rough"), stop  # noqa: S311 - choices of a workload, not secrets
        self._kinds: dict[str, tuple[float, Callable[[Any], int]]] = {
            "hot key": (50, self._hot), "delete and insert again": (20, self._again), "long value": (10, self._long),
            "beside a long value": (20, self._beside), "open transaction": (0.5, self._open), "COPY": (0.3, self._copy),
            "large transaction": (0.1, self._large), "column": (0.3 if columns else 0, self._column),
        }  # fmt: skip
        self.done = Done()

    def once(self, opened: Connection) -> None:
        """Make one change in a transaction of its own."""
        kind = self._rng.choices(list(self._kinds), [weight for weight, _ in self._kinds.values()])[0]
        with opened, opened.cursor() as cursor:
            count = self._kinds[kind][1](cursor)
        self.done.changes[kind] += count

    def insert(self, opened: Connection, rows: int) -> None:
        """Insert so many rows in one transaction."""
        with opened, opened.cursor() as cursor:
            cursor.execute(TRANSFERS, (rows,))
        self.done.changes["rows in one transaction"] += rows

    def _key(self) -> int:
        return FIRST_KEY + self._rng.randrange(KEYS)

    def _hot(self, cursor: Any) -> int:
        key = FIRST_KEY + self._rng.randrange(HOT)
        cursor.execute(CUSTOMER, (key, f"hot {self._rng.random()}", "hot@example.org", None))
        return 1

    def _again(self, cursor: Any) -> int:
        key = self._key()
        cursor.execute("delete from customers where id = %s", (key,))
        if self._rng.random() < 0.8:  # else it stays away until somebody inserts it
            cursor.execute(CUSTOMER, (key, f"again {self._rng.random()}", "again@example.org", None))
        return 2

    def _long(self, cursor: Any) -> int:
        text = "".join(self._rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=LONG))
        cursor.execute(CUSTOMER, (self._key(), "long", "long@example.org", Json({"city": "Long", "text": text})))
        return 1

    def _beside(self, cursor: Any) -> int:
        cursor.execute("update customers set phone = %s where id = %s", (str(self._rng.random()), self._key()))
        return int(cursor.rowcount)

    def _copy(self, cursor: Any) -> int:
        rows = self._rng.randint(10, 300)
        cursor.copy_expert("copy transfers (amount, note) from stdin", io.StringIO("1.00\tcopied\n" * rows))
        return rows

    def _large(self, cursor: Any) -> int:
        rows = self._rng.randint(100, MOST_ROWS)
        cursor.execute(TRANSFERS, (rows,))
        cursor.execute("delete from transfers where note = 'drill' and id % 3 = 0")
        return rows + int(cursor.rowcount)

    def _open(self, cursor: Any) -> int:
        cursor.execute(CUSTOMER, (self._key(), "kept open", "open@example.org", None))
        self._stop.wait(self._rng.uniform(0.5, OPEN_SECONDS))
        return 1

    def _column(self, cursor: Any) -> int:
        cursor.execute("set local lock_timeout = '2s'")
        cursor.execute("alter table transfers add column if not exists drill int default 1")
        if self._rng.random() < 0.5:
            cursor.execute("alter table transfers drop column drill")
        return 1


class Workload:
    """Both kinds of changes, each in a thread; ``trouble`` is what ended one that was not asked to stop.

    ``large`` rows are inserted in one transaction when it goes on for the first time.
    """

    def __init__(self, url: str, *, seed: int, rate: float, keys_change: bool, large: int = 0) -> None:
        self._url, self._seed, self._rate = url, seed, rate
        self._stop = threading.Event()
        self._large, self._phase = large, 0
        self._threads: list[threading.Thread] = []
        self.keys_change = keys_change
        self.rough = Rough(seed, self._stop)
        self.moved: Counter[str] = Counter()
        self.interrupted = 0
        self.trouble: list[BaseException] = []

    def start(self) -> None:
        """Begin, or go on."""
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._guarded, args=(act,), name="workload")
            for act in (self._traffic, self._roughly)
        ]
        self._phase += 1
        for thread in self._threads:
            thread.start()

    def rest(self) -> None:
        """Stop and wait until no transaction is open."""
        self._stop.set()
        for thread in self._threads:
            thread.join(RESTS_WITHIN)
        if any(thread.is_alive() for thread in self._threads):
            self.trouble.append(Unreachable(f"The workload did not come to rest in {RESTS_WITHIN:g} s."))
        self._threads.clear()

    def change_keys(self, *, wanted: bool) -> None:
        """Change primary keys from now on, or let them be; when this returns, no such change is under way."""
        if wanted != self.keys_change:
            self.rest()
            self.keys_change = wanted
            self.start()

    def as_dict(self) -> dict[str, Any]:
        """Return what was committed."""
        return {"traffic": dict(self.moved), "rough": dict(self.rough.done.changes), "interrupted": self.interrupted}

    def _guarded(self, act: Callable[[Connection], None]) -> None:
        """Act until told to stop, with a new connection whenever the database went away."""
        try:
            while not self._stop.is_set():
                try:
                    with closing(database.connect(self._url)) as opened:
                        act(opened)
                except (Unreachable, psycopg2.OperationalError, psycopg2.InterfaceError):
                    self.interrupted += 1
                    self._stop.wait(AGAIN_SECONDS)
        except BaseException as error:  # noqa: BLE001 - it is told as trouble
            self.trouble.append(error)

    def _traffic(self, opened: Connection) -> None:
        seed = self._seed + 1_000_003 * self._phase  # or each phase would do the same once more
        made = traffic.Traffic(opened, seed=seed, rate=self._rate, keys_change=self.keys_change)
        try:
            made.run(self._stop)
        finally:
            self.moved.update(made.report.committed)

    def _roughly(self, opened: Connection) -> None:
        if self._large and self._phase > 1:
            self.rough.insert(opened, self._large)
            self._large = 0
        while not self._stop.wait(2.0 / self._rate):
            try:
                self.rough.once(opened)
            except OVERTAKEN:
                self.rough.done.overtaken += 1

"""The traffic generator: runs what the ledger chooses against Postgres, at a given rate, until told to stop.

One process, one connection, one transaction at a time, so the ledger always equals the database. Where somebody else
changed a row first, the transaction is rolled back and the ledger is read again. The sum of all balances is compared
at the end with what it was at the start.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import structlog
from psycopg2 import sql

from tailrace.demo import ledger
from tailrace.demo.ledger import Ledger, Step, Transaction
from tailrace.errors import Fatal, Refused, Unreachable

if TYPE_CHECKING:
    import threading

    from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class with a lower-case name

PROBE_EMAIL = "probe@tailrace.example"  # the customer of tailrace.demo.probe, which the traffic leaves alone
CATCH_UP = 1.0  # seconds of delay that are made good; what is later than that is let go
EDITABLE = ("name", "email", "phone", "date_of_birth", "address", "preferred")
STATEMENTS = {
    ledger.ADD_CUSTOMER: "insert into customers (id, name, email, phone, date_of_birth, address, preferred) values "
    "(%(id)s, %(name)s, %(email)s, %(phone)s, %(date_of_birth)s, %(address)s, %(preferred)s)",
    ledger.EDIT_CUSTOMER: "update customers set {} = %(value)s, updated_at = now() where id = %(id)s",
    ledger.REKEY_CUSTOMER: "update customers set id = %(new)s, updated_at = now() where id = %(id)s",
    ledger.DROP_CUSTOMER: "delete from customers where id = %(id)s",
    ledger.ADD_ACCOUNT: "insert into accounts (id, customer_id, type) values (%(id)s, %(customer)s, %(type)s)",
    ledger.EDIT_ACCOUNT: "update accounts set status = %(status)s where id = %(id)s",
    ledger.REKEY_ACCOUNT: "update accounts set id = %(new)s where id = %(id)s",
    ledger.DROP_ACCOUNT: "delete from accounts where id = %(id)s and balance = 0",
    ledger.DEBIT: "update accounts set balance = balance - %(amount)s where id = %(id)s",
    ledger.CREDIT: "update accounts set balance = balance + %(amount)s where id = %(id)s",
    ledger.BOOK: "insert into transfers (id, from_account, to_account, amount, note) values "
    "(%(id)s, %(source)s, %(target)s, %(amount)s, %(note)s)",
}
log = structlog.get_logger()


@dataclass
class Report:
    """What the traffic did; ``changes`` counts rows changed by committed statements, cascades not included."""

    seconds: float = 0.0
    changes: int = 0
    committed: Counter[str] = field(default_factory=Counter)
    rolled_back: int = 0
    overtaken: int = 0
    balance_before: str = ""
    balance_after: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as one JSON object."""
        rate = round(self.changes / self.seconds, 1) if self.seconds else 0.0
        return {
            "seconds": round(self.seconds, 2),
            "changes": self.changes,
            "changes_per_second": rate,
            "transactions": dict(self.committed.most_common()),
            "rolled_back": self.rolled_back,
            "overtaken": self.overtaken,
            "balance_before": self.balance_before,
            "balance_after": self.balance_after,
        }


class _Overtaken(Exception):
    """A row is not what the ledger holds: somebody else was here."""


class Traffic:
    """The generator on one connection, which it owns while it runs."""

    def __init__(self, opened: Connection, *, seed: int, rate: float, keys_change: bool = True) -> None:
        self._opened, self._keys_change = opened, keys_change
        self._rng = Random(seed)  # noqa: S311 - choices of a workload, not secrets
        self._rate = rate
        self.ledger = self._read()
        self.report = Report()

    def run(self, stop: threading.Event, *, seconds: float | None = None) -> Report:
        """Make traffic until ``stop`` is set or ``seconds`` are over; Fatal when money came or went."""
        self.report.balance_before = total(self._opened)
        started = due = time.monotonic()
        while not stop.is_set() and (seconds is None or time.monotonic() - started < seconds):
            due = max(due, time.monotonic() - CATCH_UP) + self.step() / self._rate
            stop.wait(max(0.0, due - time.monotonic()))
        self.report.seconds = time.monotonic() - started
        self.report.balance_after = total(self._opened)
        if self.report.balance_after != self.report.balance_before:
            raise Fatal(
                "The sum of all balances changed.",
                detail=f"{self.report.balance_before} before, {self.report.balance_after} after.",
                hint="Somebody else paid in or out meanwhile, or the traffic generator is wrong.",
            )
        return self.report

    def step(self) -> int:
        """Run one transaction and return how many changes it asked for."""
        transaction = self.ledger.choose()
        try:
            with self._opened, self._opened.cursor() as cursor:
                for step in transaction.steps:
                    _execute(cursor, step)
                if transaction.undone:
                    self._opened.rollback()
        except (_Overtaken, psycopg2.IntegrityError, psycopg2.extensions.TransactionRollbackError) as error:
            log.debug("transaction overtaken", kind=transaction.kind, reason=type(error).__name__)
            self.report.overtaken += 1
            self.ledger = self._read()
        except psycopg2.OperationalError as error:
            raise Unreachable("The bank's database went away.", detail=type(error).__name__) from error
        else:
            self._note(transaction)
        return len(transaction.steps)

    def _note(self, transaction: Transaction) -> None:
        if transaction.undone:
            self.report.rolled_back += 1
            return
        self.ledger.apply(transaction)
        self.report.committed[transaction.kind] += 1
        self.report.changes += len(transaction.steps)

    def _read(self) -> Ledger:
        """Return a ledger that holds what the database holds."""
        fresh = Ledger(self._rng, self._next_key, keys_change=self._keys_change)
        with self._opened, self._opened.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read")  # both answers from one moment
            cursor.execute("select id from customers where email <> %s order by id", (PROBE_EMAIL,))
            customers = [key for (key,) in cursor.fetchall()]
            cursor.execute("select id, customer_id, (balance * 100)::bigint from accounts order by id")
            fresh.load(customers, cursor.fetchall())
        if len(fresh.customers) < ledger.SMALLEST or not fresh.accounts:
            raise Refused("The bank is empty.", hint="`tailrace demo seed` creates its tables and fills them.")
        return fresh

    def _next_key(self, table: str) -> int:
        with self._opened.cursor() as cursor:
            cursor.execute("select nextval(pg_get_serial_sequence(%s, 'id'))", (table,))
            (key,) = cursor.fetchone() or (0,)
        return int(key)


def total(opened: Connection) -> str:
    """Return the sum of all balances, as the database adds it up."""
    with opened, opened.cursor() as cursor:
        cursor.execute("select sum(balance)::text from accounts")
        (found,) = cursor.fetchone() or ("",)
    return str(found)


def _execute(cursor: Any, step: Step) -> None:
    """Run one step; every step changes one row, or the ledger is out of date."""
    statement: Any = STATEMENTS[step.name]
    if step.name == ledger.EDIT_CUSTOMER:
        assert step.values["column"] in EDITABLE
        statement = sql.SQL(statement).format(sql.Identifier(step.values["column"]))
    cursor.execute(statement, dict(step.values))
    if cursor.rowcount != 1:
        raise _Overtaken(step.name)

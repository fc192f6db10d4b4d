"""The rows the bank starts with: customers and two accounts each, loaded by COPY, the same for the same seed.

It fills an empty bank only; a bank that has customers is left as it is.
"""

from __future__ import annotations

import csv
from io import StringIO
from random import Random
from typing import TYPE_CHECKING, Any

from tailrace.demo import ledger, people

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class with a lower-case name

CUSTOMERS, ACCOUNTS_EACH = 2_000, 2
MOST_CENTS = 2_000_000
_CUSTOMER_COLUMNS = ("id", "name", "email", "phone", "date_of_birth", "address", "preferred")
_ACCOUNT_COLUMNS = ("id", "customer_id", "type", "balance")
_NULL = "\\N"


def fill(opened: Connection, *, seed: int, customers: int = CUSTOMERS) -> tuple[int, int]:
    """Fill an empty bank and return how many customers and accounts were added."""
    with opened, opened.cursor() as cursor:
        cursor.execute("lock table customers in exclusive mode")
        cursor.execute("select exists (select from customers)")
        if cursor.fetchone() == (True,):
            return 0, 0
        people_rows, account_rows = rows(seed, customers)
        _copy(cursor, "customers", _CUSTOMER_COLUMNS, people_rows)
        _copy(cursor, "accounts", _ACCOUNT_COLUMNS, account_rows)
        for table, count in (("customers", len(people_rows)), ("accounts", len(account_rows))):
            cursor.execute("select setval(pg_get_serial_sequence(%s, 'id'), %s)", (table, count))
    return len(people_rows), len(account_rows)


def rows(seed: int, customers: int) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows of customers and accounts."""
    rng = Random(seed)  # noqa: S311 - made-up people, not secrets
    made = [(key, *people.person(rng, key).values()) for key in range(1, customers + 1)]
    kinds = ("checking", "savings")
    accounts = [
        (key * ACCOUNTS_EACH + turn + 1, key + 1, kinds[turn % 2], ledger.amount(rng.randrange(MOST_CENTS)))
        for key in range(customers)
        for turn in range(ACCOUNTS_EACH)
    ]
    return made, accounts


def _copy(cursor: Any, table: str, columns: Sequence[str], values: Iterable[Sequence[Any]]) -> None:
    lines = StringIO()
    writer = csv.writer(lines)
    for row in values:
        writer.writerow([_NULL if value is None else value for value in row])
    lines.seek(0)
    cursor.copy_expert(f"copy {table} ({', '.join(columns)}) from stdin (format csv, null '{_NULL}')", lines)

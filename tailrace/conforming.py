"""How a user says what a row becomes: the ``@conform`` decorator and what a row is.

A conform function is pure: row in, record (or None) out, no clock, no network, no state. ``None`` filters the row:
a row that leaves the filter becomes a delete downstream. The record keeps the table's primary-key columns unchanged.
The same function runs in the processor and in ``tailrace verify``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Row = dict[str, Any]
"""One row: column name to Python value. numeric is Decimal, json and jsonb are JSON text, uuid is UUID,
timestamptz is a datetime in UTC, timestamp a naive datetime, bytea is bytes, an array a list, NULL is None. What Python
has no value for (infinity, years BC, 24:00:00) is Postgres's own text; docs/types.md has every type."""


@dataclass(frozen=True, slots=True)
class ConformFunction:
    """A user's function with the table it reads (``schema.table``) and the record it makes."""

    table: str
    record: str
    function: Callable[[Row], Mapping[str, Any] | None]

    def __call__(self, row: Row) -> Mapping[str, Any] | None:
        """Call the user's function, so that it stays testable as what it is."""
        return self.function(row)


def conform(table: str, *, to: str) -> Callable[[Callable[[Row], Mapping[str, Any] | None]], ConformFunction]:
    """Declare that rows of ``table`` (``schema.table``) become records of the contract ``schemas/<to>.avsc``."""

    def declare(function: Callable[[Row], Mapping[str, Any] | None]) -> ConformFunction:
        return ConformFunction(table=table, record=to, function=function)

    return declare

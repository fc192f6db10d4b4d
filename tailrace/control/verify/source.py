"""Rows of a captured table, read through psycopg2: the whole table once, or some keys again with their xmin.

Values are taken from Postgres' own text form by casts stated here, so that no driver default decides: json stays text,
numeric is an exact Decimal, timestamptz a datetime in UTC. A value that Python cannot hold (infinity, year 10000) is
an ``Unreadable``, which no contract takes. Generated columns are left out: the source does not publish them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg2
import psycopg2.extensions as pg
import psycopg2.extras

from tailrace.control.verify.expected import text
from tailrace.errors import ProjectError
from tailrace.source import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tailrace.conforming import Row

Key = tuple[str, ...]
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that Python has no form for; it names the type only."""

    type: str


@dataclass(frozen=True, slots=True)
class Version:
    """One row as it stood: ``xmin`` changes with every write, so that a change there and back is seen."""

    xmin: str
    row: Row


class Source:
    """One database, read in repeatable-read transactions of one table each."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tables: dict[str, catalogue.Table] = {}

    def table(self, name: str) -> catalogue.Table:
        """Return the catalogue's picture of a table, or raise ProjectError."""
        if name not in self._tables:
            with catalogue.session(self._url) as connection:
                self._tables.update(catalogue.read(connection, [name]).tables)
        if name not in self._tables:
            raise ProjectError(f"The captured table {name} does not exist.", hint="Run `tailrace check`.")
        return self._tables[name]

    def rows(self, table: str) -> Iterator[Row]:
        """Yield every row of a table, of one snapshot."""
        columns = self._columns(table)
        names = ", ".join(catalogue_name(name) for name in columns)
        with catalogue.session(self._url) as connection:
            _steady(connection)
            with connection.cursor(name="tailrace_verify") as cursor:
                cursor.itersize = PAGE
                cursor.execute(f"SELECT {names} FROM {catalogue.quote(table)}")
                for values in cursor:
                    yield dict(zip(columns, values, strict=True))

    def versions(self, table: str, key: Sequence[str], wanted: Sequence[Key]) -> dict[Key, Version]:
        """Return the rows under some keys as they are now; keys that no row has are left out."""
        found: dict[Key, Version] = {}
        with catalogue.session(self._url) as connection:
            connection.autocommit = True
            _read_as_text(connection)
            for start in range(0, len(wanted), PAGE):
                found |= self._some(connection, table, key, wanted[start : start + PAGE])
        return found

    def _some(
        self, connection: pg.connection, table: str, key: Sequence[str], wanted: Sequence[Key]
    ) -> dict[Key, Version]:
        try:
            with connection.cursor() as cursor:
                columns = self._columns(table)
                cursor.execute(self._by_key(table, key), [list(part) for part in zip(*wanted, strict=True)])
                return {
                    wanted[place - 1]: Version(xmin, dict(zip(columns, values, strict=True)))
                    for place, xmin, *values in cursor
                }
        except psycopg2.DataError:  # a text that is no key at all, as damaged things in a store may hold
            halves = [wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]] if len(wanted) > 1 else []
            parts = [self._some(connection, table, key, half) for half in halves]
            return {place: version for part in parts for place, version in part.items()}

    def _by_key(self, table: str, key: Sequence[str]) -> str:
        shown = self.table(table).by_name
        columns = ", ".join("t." + catalogue_name(name) for name in self._columns(table))
        names = ", ".join(f"k{number}" for number in range(len(key)))
        texts = ", ".join(["%s::text[]"] * len(key))
        same = " AND ".join(
            f"t.{catalogue_name(name)} = k.k{number}::{shown[name].shown}" for number, name in enumerate(key)
        )
        return (
            f"SELECT k.place, t.xmin::text, {columns} FROM unnest({texts}) WITH ORDINALITY AS k ({names}, place)"
            f" JOIN {catalogue.quote(table)} t ON {same}"
        )

    def _columns(self, table: str) -> list[str]:
        return [column.name for column in self.table(table).columns if not column.generated]


def catalogue_name(column: str) -> str:
    """Return a column's name quoted for SQL, fit for a statement with parameters."""
    return '"' + column.replace('"', '""').replace("%", "%%") + '"'


def key_text(value: Any) -> str:
    """Return a key column's value as text that Postgres casts back."""
    return "\\x" + value.hex() if isinstance(value, bytes) else text(value)


def _steady(connection: pg.connection) -> None:
    """Make the connection read one snapshot, for as long as that takes."""
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
    _read_as_text(connection)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")


def _read_as_text(connection: pg.connection) -> None:
    """State every cast; what is not named here arrives as Postgres' text."""
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'; SET bytea_output = 'hex'")
    for oids, name, cast in _CASTS:
        pg.register_type(pg.new_type(oids, name, _nullable(name, cast)), connection)


def _nullable(name: str, cast: Callable[[str], Any]) -> Callable[[str | bytes | None, Any], Any]:
    def read(shown: str | bytes | None, _: Any) -> Any:
        if shown is None:
            return None
        try:
            return cast(str(shown))
        except (ValueError, OverflowError):
            return Unreadable(name)

    return read


def _instant(shown: str) -> datetime:
    return datetime.fromisoformat(shown).astimezone(UTC)


def _bytes(shown: str) -> bytes:
    return bytes.fromhex(shown.removeprefix("\\x"))


_CASTS: tuple[tuple[tuple[int, ...], str, Callable[[str], Any]], ...] = (
    ((114, 3802), "json", str),
    ((1700,), "numeric", Decimal),
    ((1082,), "date", date.fromisoformat),
    ((1083,), "time", time.fromisoformat),
    ((1114,), "timestamp", datetime.fromisoformat),
    ((1184,), "timestamptz", _instant),
    ((2950,), "uuid", UUID),
    ((17,), "bytea", _bytes),
)

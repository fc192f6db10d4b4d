"""Rows of a captured table, read through psycopg2: the whole table once, or some keys again with their xmin.

Values are taken from Postgres' own text form by the casts of ``reading``, so that no driver default decides: json stays
text, numeric is an exact Decimal, timestamptz a datetime in UTC. Generated columns are left out: the source does not
publish them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions as pg
import psycopg2.extras

from tailrace.control.verify import reading
from tailrace.control.verify.expected import text
from tailrace.errors import ProjectError
from tailrace.source import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tailrace.conforming import Row
    from tailrace.control.verify.reading import Read

Key = tuple[str, ...]
PAGE = 5_000


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
        take = self._taking(table)
        names = self._selected(table)
        with catalogue.session(self._url) as connection:
            _steady(connection)
            with connection.cursor(name="tailrace_verify") as cursor:
                cursor.itersize = PAGE
                cursor.execute(f"SELECT {names} FROM {catalogue.quote(table)}")
                yield from map(take, cursor)

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
                take = self._taking(table)
                cursor.execute(self._by_key(table, key), [list(part) for part in zip(*wanted, strict=True)])
                return {wanted[place - 1]: Version(xmin, take(values)) for place, xmin, *values in cursor}
        except psycopg2.DataError:  # a text that is no key at all, as damaged things in a store may hold
            halves = [wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]] if len(wanted) > 1 else []
            parts = [self._some(connection, table, key, half) for half in halves]
            return {place: version for part in parts for place, version in part.items()}

    def _by_key(self, table: str, key: Sequence[str]) -> str:
        shown = self.table(table).by_name
        columns = self._selected(table, "t.")
        names = ", ".join(f"k{number}" for number in range(len(key)))
        texts = ", ".join(["%s::text[]"] * len(key))
        same = " AND ".join(
            f"t.{catalogue_name(name)} = k.k{number}::{shown[name].shown}" for number, name in enumerate(key)
        )
        return (
            f"SELECT k.place, t.xmin::text, {columns} FROM unnest({texts}) WITH ORDINALITY AS k ({names}, place)"
            f" JOIN {catalogue.quote(table)} t ON {same}"
        )

    def _columns(self, table: str) -> list[catalogue.Column]:
        return [column for column in self.table(table).columns if not column.generated]

    def _selected(self, table: str, prefix: str = "") -> str:
        columns = self._columns(table)
        return ", ".join(reading.expression(column, prefix + catalogue_name(column.name)) for column in columns)

    def _taking(self, table: str) -> Callable[[Sequence[Any]], Row]:
        """Return what makes a row of the values of ``_selected``."""
        columns = self._columns(table)
        names = [column.name for column in columns]
        readers = [(column.name, read) for column in columns if (read := reading.reader(column))]

        def take(values: Sequence[Any]) -> Row:
            row = dict(zip(names, values, strict=True))
            for name, read in readers:
                if row[name] is not None:
                    row[name] = read(row[name])
            return row

        return take


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
        cursor.execute(reading.SESSION)
    for oids, name, cast in reading.CASTS:
        pg.register_type(pg.new_type(oids, name, _nullable(cast)), connection)


def _nullable(cast: Read) -> Callable[[str | bytes | None, Any], Any]:
    return lambda shown, _: None if shown is None else cast(str(shown))

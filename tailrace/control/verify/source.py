"""Rows of a captured table, read through psycopg2: the whole table or parts of it, or some keys again with their xmin.

Values are taken from Postgres' own text form by the casts of ``reading``, so that no driver default decides: json stays
text, numeric is an exact Decimal, timestamptz a datetime in UTC. Generated columns are left out: the source does not
publish them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions as pg
import psycopg2.extras

from tailrace.control.verify import reading
from tailrace.control.verify.expected import text
from tailrace.control.verify.meter import Meter
from tailrace.control.verify.ranges import MOST, NOWHERE, ROWS, Part, Ranges, Span
from tailrace.errors import ProjectError, Unreachable
from tailrace.source import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tailrace.conforming import Row
    from tailrace.control.verify.reading import Read
    from tailrace.control.verify.replica import Replica

Key = tuple[str, ...]
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class Version:
    """One row as it stood: ``xmin`` changes with every write, so that a change there and back is seen."""

    xmin: str
    row: Row


class Source:
    """One database, or its replica, read in repeatable-read transactions of one table each."""

    def __init__(self, url: str, meter: Meter | None = None, replica: Replica | None = None) -> None:
        self._url, self._replica = url if replica is None else replica.url, replica
        self._meter = meter or Meter()
        self._tables: dict[str, catalogue.Table] = {}

    def table(self, name: str) -> catalogue.Table:
        """Return the catalogue's picture of a table, or raise ProjectError."""
        if name not in self._tables:
            with catalogue.session(self._url) as connection:
                self._tables.update(catalogue.read(connection, [name]).tables)
        if name not in self._tables:
            raise ProjectError(f"The captured table {name} does not exist.", hint="Run `tailrace check`.")
        return self._tables[name]

    @contextmanager
    def snapshot(self, table: str) -> Iterator[Snapshot]:
        """Open one snapshot of a table."""
        with catalogue.session(self._url) as connection:
            _steady(connection)
            try:
                yield Snapshot(connection, self._meter, table, self._plain(table), self._taking(table))
            except psycopg2.errors.SerializationFailure as error:  # of a standby: rows were removed that it still needs
                raise Unreachable(
                    "The replica gave up a long read for the sake of its replay.",
                    hint="Raise max_standby_streaming_delay there, or switch hot_standby_feedback on.",
                ) from error

    def layout(self, table: str) -> str:
        """Return what the rows of a table are made of."""
        return ", ".join(f"{column.name} {column.shown}" for column in self._columns(table))

    def catch_up(self) -> None:
        """Return once what is read here is as new as what a store may have by now: at once, unless it is a replica."""
        if self._replica is not None:
            self._replica.catch_up()

    def versions(self, table: str, key: Sequence[str], wanted: Sequence[Key]) -> dict[Key, Version]:
        """Return the rows under some keys as they are now; keys that no row has are left out."""
        found: dict[Key, Version] = {}
        with catalogue.session(self._url) as connection:
            connection.autocommit = True
            _read_as_text(connection)
            paced = list(self._meter.over(f"{table} again", wanted))
            for start in range(0, len(paced), PAGE):
                found |= self._some(connection, table, key, paced[start : start + PAGE])
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

    def _plain(self, table: str) -> str:
        """Return the columns for a statement without parameters."""
        return ", ".join(reading.expression(column, _quoted(column.name)) for column in self._columns(table))

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


class Snapshot:
    """One table as it was at one moment."""

    def __init__(
        self, connection: pg.connection, meter: Meter, table: str, names: str, take: Callable[[Sequence[Any]], Row]
    ) -> None:
        self._connection, self._meter, self._take = connection, meter, take
        self._table, self._names = table, names
        self._place = catalogue.quote(table)

    def cut(self, column: str, kind: str) -> Ranges:
        """Cut the table into ranges."""
        name = _quoted(column)
        ordered = f"SELECT {name}::text AS bound, row_number() OVER (ORDER BY {name}) - 1 AS place"
        every = f"{ordered}, count(*) OVER () AS count FROM {self._place}"
        chosen = f"place > 0 AND place % greatest({ROWS}, count / {MOST}) = 0"
        found = self._all(f"SELECT bound FROM ({every}) q WHERE {chosen} ORDER BY place")
        bounds = dict.fromkeys(int(bound) if kind == "number" else bound for (bound,) in found)
        return Ranges(column, kind, tuple(bounds))

    def digests(self, ranges: Ranges) -> dict[int, str]:
        """Return a digest of each range that holds rows: their number, and two sums of 64-bit hashes of their text."""
        row = f"SELECT {_range_of(ranges)} AS part, ROW({self._names})::text AS shown FROM {self._place}"
        hashed = "count(*), sum(hashtextextended(shown, 0)), sum(hashtextextended(shown, 1))"
        found = self._all(f"SELECT part, {hashed} FROM ({row} OFFSET 0) q GROUP BY part")
        return {part: f"{count}:{first}:{second}" for part, count, first, second in found}

    def rows(self, ranges: Ranges | None = None, numbers: Collection[int] = ()) -> Iterator[Row]:
        """Yield every row, or at least those of some ranges."""
        spans = None if ranges is None else Part(ranges, frozenset(numbers) - {NOWHERE}).spans
        where = "" if ranges is None or spans is None else f" WHERE {_within(ranges.column, spans)}"
        with self._connection.cursor(name="tailrace_verify") as cursor:
            cursor.itersize = PAGE
            cursor.execute(f"SELECT {self._names} FROM {self._place}{where}")
            yield from self._meter.over(self._table, map(self._take, cursor), self._estimate())

    def _estimate(self) -> int:
        """Return about how many rows there are; 0 where nobody has counted."""
        ((count,),) = self._all(
            "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = %s::regclass", self._place
        )
        return int(count)

    def _all(self, sql: str, *parameters: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall()


def _range_of(ranges: Ranges) -> str:
    """Return the SQL of the range that a row is in; bounds are numbers and UUIDs, which need no quoting but quotes."""
    if not ranges.bounds:
        return "0"
    type_ = "int8" if ranges.kind == "number" else "uuid"
    listed = ",".join(map(str, ranges.bounds))
    name = _quoted(ranges.column)
    return f"coalesce(width_bucket({name}::{type_}, '{{{listed}}}'::{type_}[]), -1)"


def _within(column: str, spans: Sequence[Span]) -> str:
    """Return the SQL that is true for the rows between some bounds."""
    name = _quoted(column)
    sides = [
        " AND ".join(
            part
            for part in (low is not None and f"{name} >= '{low}'", high is not None and f"{name} < '{high}'")
            if part
        )
        or "true"
        for low, high in spans
    ]
    return " OR ".join(f"({side})" for side in sides) or "false"


def _quoted(column: str) -> str:
    """Return a column's name quoted for SQL without parameters."""
    return '"' + column.replace('"', '""') + '"'


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

"""The Postgres catalogue as values: tables, keys, replica identity, publications, slots, server settings.

``read`` takes one picture of it, which ``check``, ``plan`` and ``schema derive`` judge without another query.
It assumes a role that may read pg_catalog; it reads no row of any user's table and writes nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extras

from tailrace.endpoints import without_password
from tailrace.errors import Unreachable
from tailrace.source import queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 30
IDENTITIES = {"n": "NOTHING", "i": "INDEX", "d": "DEFAULT", "f": "FULL"}  # weakest first
OTHERS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``type`` is the base type's name in pg_type (domains resolved, ``_x`` is an array of x)."""

    name: str
    type: str
    shown: str  # as a person writes it, numeric(14,2)
    modifier: int = -1  # atttypmod, -1 where the type has none
    nullable: bool = True
    enum: bool = False
    generated: bool = False
    defaulted: bool = False
    storage: str = "p"  # p plain, x and e may be TOASTed, m only as a last resort
    comment: str = ""
    item: str = ""  # of an array, its elements' type in pg_type
    sort: str = "b"  # pg_type.typtype of the type or, of an array, of its elements: b base, e enum, c composite ...
    dimensions: int = 0  # as an array was declared; Postgres does not enforce it
    loose: bool = False  # its collation calls different texts equal


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One foreign key, and whether an index begins with its columns."""

    name: str
    columns: tuple[str, ...]
    indexed: bool


@dataclass(frozen=True, slots=True)
class Unique:
    """One unique index, the primary key's included. ``whole`` says that it has no WHERE."""

    name: str
    columns: tuple[str, ...]  # empty names where it is over expressions
    primary: bool = False
    immediate: bool = True
    whole: bool = True
    valid: bool = True
    identity: bool = False  # REPLICA IDENTITY USING INDEX names it


@dataclass(frozen=True, slots=True)
class Leaf:
    """One partition that holds rows: it has a replica identity and a TOAST table of its own."""

    name: str
    identity: str = "DEFAULT"
    identity_columns: tuple[str, ...] = ()
    toasted: bool = False
    logged: bool = True
    foreign: bool = False  # a foreign table, which no publication takes


@dataclass(frozen=True, slots=True)
class Table:
    """One table or partition root.

    ``key`` is what messages are keyed by: the columns that message.key.columns names, the primary key elsewhere.
    ``toasted`` says that Postgres keeps a TOAST table beside it. Of a partition root, ``identity`` is the weakest of
    its leaves, and ``toasted`` is any leaf's.
    """

    name: str  # schema.table
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    identity: str = "DEFAULT"  # or FULL, NOTHING, INDEX
    toasted: bool = False
    partitioned: bool = False
    comment: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()
    primary: tuple[str, ...] | None = None  # where message.key.columns names the key: the primary key, if any
    identity_columns: tuple[str, ...] = ()  # of the index that INDEX names
    uniques: tuple[Unique, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    root: str = ""  # of a partition, the table that it is a part of
    logged: bool = True
    hidden: bool = False  # row level security hides rows from the connector's role
    readable: bool = True  # by that role

    @property
    def by_name(self) -> dict[str, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    @property
    def telling(self) -> Unique | None:
        """The index that tells rows apart by the key: unique at once, over every row, without NULLs; None without."""
        found = (index for index in self.uniques if set(index.columns) == set(self.key))
        solid = not any(self.by_name[name].nullable for name in self.key if name in self.by_name)
        return next((each for each in found if solid and each.immediate and each.whole and each.valid), None)

    @property
    def distinct(self) -> bool:
        """Whether no two rows have the same key."""
        return bool(self.key) and (self.primary is None or self.telling is not None)


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication; ``filtered`` names tables that have a row filter or a column list."""

    name: str
    all_tables: bool
    schemas: tuple[str, ...]
    operations: frozenset[str]
    via_root: bool
    tables: tuple[str, ...]
    filtered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """One replication slot. ``retained_bytes`` is the WAL that it holds back."""

    name: str
    plugin: str
    database: str
    active: bool
    wal_status: str
    retained_bytes: int


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One picture of the server.

    ``names`` has every table of the database but partitions, ``tables`` those that were asked for.
    """

    database: str
    server_version: int  # 180004 is 18.4
    system_identifier: str
    encoding: str
    settings: Mapping[str, str]
    replication_role: bool
    names: tuple[str, ...]
    tables: Mapping[str, Table]
    publications: Mapping[str, Publication]
    slots: Mapping[str, Slot]
    others: Mapping[str, str] = field(default_factory=dict)  # what was asked for and is no table: what it is instead
    role: str = ""  # whose rights were looked at


def quote(name: str) -> str:
    """Return an identifier quoted for SQL; ``schema.table`` becomes two quoted parts."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))


@contextmanager
def session(url: str) -> Iterator[Connection]:
    """Open an autocommit connection with deadlines, or raise Unreachable saying why; it closes at the end."""
    try:
        connection = psycopg2.connect(
            url,
            connect_timeout=CONNECT_SECONDS,
            application_name="tailrace",
            options=f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={CONNECT_SECONDS}s",
        )
    except psycopg2.OperationalError as error:
        raise unreachable(url, str(error)) from error
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def unreachable(url: str, said: str) -> Unreachable:
    """Return what to raise for the words of a connection that failed; the password stays out."""
    line = (said.strip().splitlines() or ["no answer"])[0].strip()
    hints = {
        "password authentication failed": "Check user and password: TAILRACE_POSTGRES, or [endpoints] postgres.",
        "no password supplied": "Put user and password into TAILRACE_POSTGRES, or into [endpoints] postgres.",
        "does not exist": "Create it, or mend database.dbname in the connector.",
        "translate host name": "Check the host name in TAILRACE_POSTGRES, or in [endpoints] postgres.",
    }
    refused = "Connection refused" in said or "timeout expired" in said
    hint = next((text for sign, text in hints.items() if sign in said), "Is the server up? Check host and port.")
    problem = "PostgreSQL does not answer." if refused else "PostgreSQL does not let us in."
    return Unreachable(problem, detail=f"{without_password(url)}: {line}", hint=hint)


def rows(connection: Connection, sql: str, parameters: Sequence[Any] | None = None) -> list[Any]:
    """Run one query and return its rows as named tuples."""
    with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
        cursor.execute(sql, parameters)  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        return cursor.fetchall()


def read(
    connection: Connection, wanted: Sequence[str], *, keys: Mapping[str, tuple[str, ...]] | None = None, role: str = ""
) -> Catalogue:
    """Take one picture of the catalogue, with the details of the ``wanted`` tables that exist.

    ``keys`` are the columns that messages of some tables are keyed by, as Connector.keys gives them. ``role`` is the
    one whose rights are looked at: the role that asks, where that one does not exist.
    """
    server = rows(connection, queries.SERVER, (role,))[0]
    found = rows(connection, queries.TABLES, (server.role, list(wanted)))
    return Catalogue(
        database=server.database,
        server_version=server.version,
        system_identifier=server.system_identifier,
        encoding=server.encoding,
        settings={row.name: row.setting for row in rows(connection, queries.SETTINGS)},
        replication_role=server.replication_role,
        names=tuple(row.name for row in rows(connection, queries.NAMES)),
        tables=_tables(connection, found, keys or {}),
        publications={row.name: _publication(row) for row in rows(connection, queries.PUBLICATIONS)},
        slots={row.name: Slot(*row) for row in rows(connection, queries.SLOTS)},
        others={row.name: OTHERS[row.kind] for row in rows(connection, queries.OTHERS, (list(wanted),))},
        role=server.role,
    )


def _publication(row: Any) -> Publication:
    operations = [name for name in ("insert", "update", "delete", "truncate") if getattr(row, name)]
    return Publication(
        name=row.name,
        all_tables=row.all_tables,
        schemas=tuple(row.schemas),
        operations=frozenset(operations),
        via_root=row.via_root,
        tables=tuple(row.tables),
        filtered=tuple(row.filtered),
    )


def _tables(connection: Connection, found: Sequence[Any], keys: Mapping[str, tuple[str, ...]]) -> dict[str, Table]:
    oids = [row.oid for row in found]
    parts = _Parts({oid: [] for oid in oids}, {oid: [] for oid in oids}, {oid: [] for oid in oids}, {})
    for row in rows(connection, queries.COLUMNS, (oids,)):
        parts.columns[row.oid].append(Column(*row[1:]))
    for row in rows(connection, queries.FOREIGN_KEYS, (oids,)):
        parts.foreign[row.oid].append(ForeignKey(row.name, tuple(row.columns), row.indexed))
    for row in rows(connection, queries.UNIQUES, (oids,)):
        parts.uniques[row.oid].append(Unique(row.name, tuple(row.columns), *row[3:]))
    for row in rows(connection, queries.LEAVES, (oids,)):
        leaf = Leaf(row.name, IDENTITIES[row.identity], tuple(row.columns or ()), row.toasted, row.logged, row.foreign)
        parts.leaves.setdefault(row.oid, []).append(leaf)
    return {row.name: _table(row, parts, keys.get(row.name)) for row in found}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What belongs to tables, by their oids."""

    columns: dict[int, list[Column]]
    foreign: dict[int, list[ForeignKey]]
    uniques: dict[int, list[Unique]]
    leaves: dict[int, list[Leaf]]


def _table(row: Any, parts: _Parts, key: tuple[str, ...] | None) -> Table:
    primary, leaves = tuple(row.key or ()), parts.leaves.get(row.oid, [])
    uniques = tuple(parts.uniques[row.oid])
    identity = IDENTITIES[row.identity]
    columns = next((index.columns for index in uniques if index.identity), ())
    if leaves:
        order = list(IDENTITIES.values())
        weakest = min(leaves, key=lambda leaf: order.index(leaf.identity))
        identity, columns = weakest.identity, weakest.identity_columns
    chosen = key is not None and set(key) != set(primary)
    return Table(
        name=row.name,
        columns=tuple(parts.columns[row.oid]),
        key=key if chosen and key else primary,
        identity=identity,
        toasted=row.toasted,
        partitioned=row.partitioned,
        comment=row.comment or "",
        foreign_keys=tuple(parts.foreign[row.oid]),
        primary=primary if chosen else None,
        identity_columns=columns,
        uniques=uniques,
        leaves=tuple(leaves),
        root=row.root or "",
        logged=row.logged,
        hidden=row.hidden,
        readable=row.readable,
    )

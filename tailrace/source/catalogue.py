"""The Postgres catalogue as values: tables, keys, replica identity, publications, slots, server settings.

``read`` takes one picture of it, which ``check``, ``plan`` and ``schema derive`` judge without another query.
It assumes a role that may read pg_catalog; it reads no row of any user's table and writes nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extras

from tailrace.endpoints import without_password
from tailrace.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812 - the driver's class is lower case

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 30
IDENTITIES = {"d": "DEFAULT", "f": "FULL", "n": "NOTHING", "i": "INDEX"}


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


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One foreign key, and whether an index begins with its columns."""

    name: str
    columns: tuple[str, ...]
    indexed: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One table or partition root. ``toasted`` says that Postgres keeps a TOAST table beside it."""

    name: str  # schema.table
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    identity: str = "DEFAULT"  # or FULL, NOTHING, INDEX
    toasted: bool = False
    partitioned: bool = False
    comment: str = ""
    foreign_keys: tuple[ForeignKey, ...] = ()

    @property
    def by_name(self) -> dict[str, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}


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
    """One picture of the server. ``names`` has every table of the database, ``tables`` those that were asked for."""

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


def read(connection: Connection, wanted: Sequence[str]) -> Catalogue:
    """Take one picture of the catalogue, with the details of the ``wanted`` tables that exist."""
    server = rows(connection, _SERVER)[0]
    names = tuple(row.name for row in rows(connection, _NAMES))
    found = rows(connection, _TABLES, (list(wanted),))
    return Catalogue(
        database=server.database,
        server_version=server.version,
        system_identifier=server.system_identifier,
        encoding=server.encoding,
        settings={row.name: row.setting for row in rows(connection, _SETTINGS)},
        replication_role=server.replication_role,
        names=names,
        tables=_tables(connection, found),
        publications={row.name: _publication(row) for row in rows(connection, _PUBLICATIONS)},
        slots={row.name: Slot(*row) for row in rows(connection, _SLOTS)},
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


def _tables(connection: Connection, found: Sequence[Any]) -> dict[str, Table]:
    oids = [row.oid for row in found]
    columns: dict[int, list[Column]] = {oid: [] for oid in oids}
    for row in rows(connection, _COLUMNS, (oids,)):
        columns[row.oid].append(Column(*row[1:]))
    foreign: dict[int, list[ForeignKey]] = {oid: [] for oid in oids}
    for row in rows(connection, _FOREIGN_KEYS, (oids,)):
        foreign[row.oid].append(ForeignKey(row.name, tuple(row.columns), row.indexed))
    return {
        row.name: Table(
            name=row.name,
            columns=tuple(columns[row.oid]),
            key=tuple(row.key or ()),
            identity=IDENTITIES[row.identity],
            toasted=row.toasted,
            partitioned=row.partitioned,
            comment=row.comment or "",
            foreign_keys=tuple(foreign[row.oid]),
        )
        for row in found
    }


_SERVER = """
SELECT current_database() AS database, current_setting('server_version_num')::int AS version,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       pg_encoding_to_char(d.encoding) AS encoding,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS replication_role
FROM pg_database d WHERE d.datname = current_database()
"""
_SETTINGS = """
SELECT name, setting FROM pg_settings
WHERE name IN ('wal_level', 'max_slot_wal_keep_size', 'max_replication_slots', 'max_wal_senders')
"""
_NAMES = """
SELECT n.nspname || '.' || c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema'
ORDER BY 1
"""
_TABLES = """
SELECT c.oid::bigint AS oid, n.nspname || '.' || c.relname AS name, c.relreplident AS identity,
       c.relkind = 'p' AS partitioned, obj_description(c.oid, 'pg_class') AS comment,
       c.reltoastrelid <> 0 OR EXISTS (
           SELECT FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid WHERE l.reltoastrelid <> 0
       ) AS toasted,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM pg_constraint p CROSS JOIN unnest(p.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
        WHERE p.conrelid = c.oid AND p.contype = 'p') AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname || '.' || c.relname = ANY (%s)
ORDER BY 2
"""
_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, a.atttypid AS type, a.atttypmod AS modifier, a.attnotnull AS required
    FROM pg_attribute a WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attrelid, b.attnum, t.typbasetype, CASE WHEN t.typtypmod <> -1 THEN t.typtypmod ELSE b.modifier END,
           b.required OR t.typnotnull
    FROM base b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT b.attrelid::bigint AS oid, a.attname AS name, t.typname AS type,
       format_type(a.atttypid, a.atttypmod) AS shown, b.modifier, NOT b.required AS nullable,
       t.typtype = 'e' AS enum, a.attgenerated <> '' AS generated, a.atthasdef AS defaulted,
       a.attstorage AS storage, coalesce(col_description(a.attrelid, a.attnum), '') AS comment,
       coalesce(i.typname, '') AS item, coalesce(i.typtype, t.typtype) AS sort, a.attndims AS dimensions
FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd'
LEFT JOIN pg_type i ON i.typarray = t.oid
JOIN pg_attribute a ON a.attrelid = b.attrelid AND a.attnum = b.attnum
ORDER BY b.attrelid, b.attnum
"""
_FOREIGN_KEYS = """
SELECT f.conrelid::bigint AS oid, f.conname AS name,
       (SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM unnest(f.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number) AS columns,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.conrelid AND i.indpred IS NULL
               AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey) AS indexed
FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = ANY (%s)
ORDER BY 2
"""
_PUBLICATIONS = """
SELECT p.pubname AS name, p.puballtables AS all_tables, p.pubviaroot AS via_root, p.pubinsert AS insert,
       p.pubupdate AS update, p.pubdelete AS delete, p.pubtruncate AS truncate,
       coalesce((SELECT array_agg(n.nspname::text) FROM pg_publication_namespace s
                 JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid), '{}') AS schemas,
       coalesce(array_agg(m.nspname || '.' || c.relname ORDER BY m.nspname, c.relname)
                FILTER (WHERE c.oid IS NOT NULL), '{}') AS tables,
       coalesce(array_agg(m.nspname || '.' || c.relname)
                FILTER (WHERE r.prqual IS NOT NULL OR r.prattrs IS NOT NULL), '{}') AS filtered
FROM pg_publication p
LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid
LEFT JOIN pg_class c ON c.oid = r.prrelid
LEFT JOIN pg_namespace m ON m.oid = c.relnamespace
GROUP BY p.oid
"""
_SLOTS = """
SELECT slot_name AS name, coalesce(plugin, '') AS plugin, coalesce(database, '') AS database, active,
       coalesce(wal_status, '') AS wal_status,
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS retained
FROM pg_replication_slots
"""

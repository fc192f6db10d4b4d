"""Connections of the demo to Postgres, and the plain SQL migrations of a project folder.

Migrations are the files of ``migrations/`` in the order of their names, each run once in a transaction of its own and
recorded with its checksum in ``public.schema_migrations``. There is no way back but a new file.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import errors, sql

from tailrace.errors import ProjectError, Refused
from tailrace.source import catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class with a lower-case name

    from tailrace.endpoints import Endpoints

MAINTENANCE = "postgres"  # the database that every server has
RECORD = """create table if not exists public.schema_migrations (
    name text primary key, sha256 text not null, applied_at timestamptz not null default now())"""


def connect(url: str, *, autocommit: bool = False, name: str = "tailrace demo") -> Connection:
    """Open a connection, or raise Unreachable without the password in its words."""
    try:
        opened = psycopg2.connect(url, connect_timeout=10, application_name=name)
    except psycopg2.OperationalError as error:
        raise catalogue.unreachable(url, str(error)) from error
    opened.autocommit = autocommit
    return opened


def prepare(endpoints: Endpoints, database: str, folder: Path) -> list[str]:
    """Create the database when it is missing, run the migrations that are new, and return their names."""
    with closing(connect(endpoints.database(MAINTENANCE), autocommit=True)) as server, server.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", (database,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
    with closing(connect(endpoints.database(database))) as opened:
        return migrate(opened, folder)


def migrate(opened: Connection, folder: Path) -> list[str]:
    """Run the files of ``folder`` that have not run yet, in order, and return their names."""
    done = _done(opened)
    ran = []
    for path in sorted(folder.glob("*.sql")):
        text = path.read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        if path.name not in done:
            _run(opened, path.name, text.decode(), digest)
            ran.append(path.name)
        elif done[path.name] != digest:
            raise Refused(
                f"migrations/{path.name} has changed since it ran.",
                hint="A migration that ran stays as it is: put the change into a new file.",
            )
    return ran


def _done(opened: Connection) -> dict[str, str]:
    with opened, opened.cursor() as cursor:
        cursor.execute(RECORD)
        cursor.execute("select name, sha256 from public.schema_migrations")
        return dict(cursor.fetchall())


def _run(opened: Connection, name: str, text: str, digest: str) -> None:
    try:
        with opened, opened.cursor() as cursor:
            cursor.execute(text)
            cursor.execute("insert into public.schema_migrations (name, sha256) values (%s, %s)", (name, digest))
    except (errors.ProgrammingError, errors.IntegrityError, errors.DataError) as error:
        raise ProjectError(
            f"migrations/{name} fails.", detail=_first_line(error), hint="Nothing of this file was kept."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

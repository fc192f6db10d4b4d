"""Reading the lake: Parquet objects through pyarrow's S3 file system, queried with DuckDB. It writes nothing.

Two views: ``history``, every change once, and ``current``, the newest version of every key, deleted ones gone. The
objects are those that the commit log names; in a folder without a log they are all that there are, and changes are
told apart by (_partition, _offset, _version). An object may be removed while a query runs, after its rows were
compacted into another; the query is then asked again. It shares no code with ``tailrace.sink``.
"""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
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
    from datetime import datetime

    Take = Callable[[duckdb.DuckDBPyConnection, pa.Schema], "T"]

T = TypeVar("T")
ATTEMPTS = 3
MEMORY = "1GB"  # of DuckDB
THERE = "_op <> 'd'"
DATE = re.compile(r"/dt=([^/]+)/")


@dataclass(frozen=True, slots=True)
class LakeFolder:
    """One table of the lake: where it is and the columns of its key; ``raw`` says that it holds raw envelopes."""

    s3: str
    bucket: str
    zone: str
    table: str
    key: tuple[str, ...]
    raw: bool = False

    @property
    def there(self) -> str:
        """The SQL that is true of the newest change of a key whose row is there."""
        return "_op <> 'd' AND key IS NOT NULL" if self.raw else THERE

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
        return self.ask(lambda connection, _: connection.sql(sql).to_arrow_table())

    def ask(self, take: Take[T], *, date: str = "", as_of: datetime | None = None) -> T:
        """Return what ``take`` makes of a connection with both views; it is called again when objects went away.

        ``date`` limits both to one source commit date, ``as_of`` to what was committed by then.
        """
        for _ in range(ATTEMPTS):
            contents = self.contents(date)
            try:
                objects = self._open(contents.names)
                with _connection(objects, self._folder, logged=contents.logged, as_of=as_of) as connection:
                    return take(connection, objects.schema)
            except FileNotFoundError as error:
                if self.contents(date) == contents:
                    raise self._lost() from error
            except (duckdb.IOException, duckdb.InvalidInputException):
                if self.contents(date) == contents:
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

    def contents(self, date: str = "") -> Contents:
        """Return the objects that are the table now, or those of one source commit date."""
        found = self._found()
        if not date:
            return found
        return Contents(tuple(name for name in found.names if f"/dt={date}/" in name), logged=found.logged)

    def dates(self) -> list[str]:
        """Return the source commit dates that the table has objects of."""
        return sorted({match[1] for name in self.contents().names if (match := DATE.search(name))})

    def _found(self) -> Contents:
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

    def _lost(self) -> Refused:
        return Refused(
            f"An object that the log of {self._folder.path} names is not in the bucket.",
            hint="`tailrace verify` names it; `tailrace replay sink NAME --to beginning` writes its changes anew.",
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
def _connection(
    objects: ds.Dataset, folder: LakeFolder, *, logged: bool, as_of: datetime | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a DuckDB connection with the two views over a dataset; beyond its memory it spills to a scratch folder."""
    with TemporaryDirectory(prefix="tailrace-lake-") as spill, closing(duckdb.connect()) as connection:
        for name, value in (("TimeZone", "UTC"), ("memory_limit", MEMORY), ("temp_directory", spill)):
            connection.execute(f"SET {name} = '{value}'")
        connection.register("objects", _fit(objects))
        connection.execute(f"CREATE TEMP VIEW history AS {history_sql('objects', logged=logged, as_of=as_of)}")
        current = current_sql("objects", folder.key, as_of, folder.there)
        connection.execute(f"CREATE TEMP VIEW current AS {current}")
        yield connection


def _fit(objects: ds.Dataset) -> Any:
    """Return what DuckDB can read: it has no numbers of more than 38 digits, those become text."""
    carried = {field.name: carry(field.type) for field in objects.schema}
    if all(carried[field.name] == field.type for field in objects.schema):
        return objects
    columns = {
        field.name: ds.field(field.name) if carried[field.name] == field.type
        else ds.field(field.name).cast(carried[field.name])
        for field in objects.schema
    }  # fmt: skip
    return objects.scanner(columns=columns)


def carry(kind: pa.DataType) -> pa.DataType:
    """Return the type that DuckDB is given for another one."""
    if pa.types.is_list(kind):
        return pa.list_(carry(kind.value_type))
    return pa.string() if pa.types.is_decimal256(kind) else kind


def history_sql(source: str, *, logged: bool = False, as_of: datetime | None = None) -> str:
    """Return the query for every change once, also without the log while an object is being compacted."""
    once = "" if logged else " QUALIFY row_number() OVER (PARTITION BY _partition, _offset, _version) = 1"
    return f"SELECT * FROM {source}{_until(as_of)}{once}"


def current_sql(source: str, key: Sequence[str], as_of: datetime | None = None, there: str = THERE) -> str:
    """Return the query for the newest version of every key, without the deleted ones and without our columns."""
    columns = ", ".join(quote(name) for name in key)
    age = f"row_number() OVER (PARTITION BY {columns} ORDER BY _version DESC)"
    newest = f"SELECT * FROM {source}{_until(as_of)} QUALIFY {age} = 1"
    return f"SELECT * EXCLUDE ({', '.join(LAKE_COLUMNS)}) FROM ({newest}) WHERE {there}"


def _until(as_of: datetime | None) -> str:
    return "" if as_of is None else f" WHERE _committed_at <= TIMESTAMPTZ '{as_of.isoformat(sep=' ')}'"


def quote(name: str) -> str:
    """Quote an identifier for DuckDB."""
    return '"' + name.replace('"', '""') + '"'

"""``tailrace lake latest`` and ``tailrace lake export``: a table of the lake as files, or as SQL that others can run.

DuckDB streams; nothing holds a whole table. A file appears under its name when it is complete. Numbers keep every
digit: Parquet has the lake's own types, CSV and JSON have decimals as text.
"""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws
from tailrace.control.lake import carry, current_sql, quote
from tailrace.errors import Refused, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import duckdb

    from tailrace.contract import Contract
    from tailrace.control.lake import LakeFolder, LakeReader

FORMATS = ("parquet", "csv", "jsonl", "json")
COPY = {"csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json", "json": "FORMAT json, ARRAY true"}
ROWS = 64 * 1024
DUCKDB_DIGITS = 38


@dataclass(frozen=True, slots=True)
class Exported:
    """One file."""

    name: str
    rows: int
    bytes: int


def latest_sql(folder: LakeFolder, contract: Contract, name: str, as_of: datetime | None) -> str:
    """Return the SQL of a DuckDB view of the newest version of every key; it needs no log and nothing of ours."""
    for field in contract.fields:
        item = field.item or field
        if item.kind == "decimal" and item.precision > DUCKDB_DIGITS:
            raise Refused(
                f"DuckDB has no numbers of {item.precision} digits: {field.name} would be rounded.",
                hint="`tailrace lake latest` without --sql keeps every digit.",
            )
    objects = f"s3://{folder.path}/dt=*/*.parquet"
    source = f"read_parquet('{objects}', union_by_name = true, hive_partitioning = false)"
    return f"CREATE OR REPLACE VIEW {quote(name)} AS {current_sql(source, folder.key, as_of)};"


def latest(reader: LakeReader, path: Path, form: str, as_of: datetime | None = None) -> Exported:
    """Write the newest version of every row, deleted ones left out, to one file."""
    return reader.ask(partial(write, view="current", path=path, form=form), as_of=as_of)


def export(
    reader: LakeReader, place: str, form: str, *, only_latest: bool, s3: str, say: Callable[[Exported], None]
) -> list[Exported]:
    """Write every change, a folder for each source commit date, or the newest version of every row, to a new place."""
    with TemporaryDirectory(prefix="tailrace-export-") as scratch, closing(_target(place, s3)) as target:
        done = []
        for date in [""] if only_latest else reader.dates():
            view, name = ("current", f"data.{form}") if only_latest else ("history", f"dt={date}/data.{form}")
            made = reader.ask(partial(write, view=view, path=Path(scratch) / f"data.{form}", form=form), date=date)
            done.append(Exported(target.take(Path(made.name), name), made.rows, made.bytes))
            say(done[-1])
        return done


def write(connection: duckdb.DuckDBPyConnection, schema: pa.Schema, *, view: str, path: Path, form: str) -> Exported:
    """Write one view to a file, which has its name when it is complete."""
    part = path.with_name(f"{path.name}.part")
    rows = _parquet(connection, view, schema, part) if form == "parquet" else _text(connection, view, part, form)
    part.replace(path)
    return Exported(str(path), rows, path.stat().st_size)


def _parquet(connection: duckdb.DuckDBPyConnection, view: str, schema: pa.Schema, path: Path) -> int:
    """Write Parquet with the lake's own types."""
    found = connection.table(view)
    wanted = pa.schema([schema.field(name) for name in found.columns])
    carried = pa.schema([pa.field(field.name, carry(field.type)) for field in wanted])
    rows = 0
    with pq.ParquetWriter(path, wanted, compression="zstd") as writer:
        for batch in found.to_arrow_reader(ROWS):
            writer.write_table(pa.Table.from_batches([batch]).cast(carried).cast(wanted))
            rows += batch.num_rows
    return rows


def _text(connection: duckdb.DuckDBPyConnection, view: str, path: Path, form: str) -> int:
    """Write CSV or JSON, decimals as text: DuckDB would make floats of them in JSON."""
    found = connection.table(view)
    columns = ", ".join(
        f"{quote(name)}::{re.sub(r'DECIMAL[(][0-9]+,[0-9]+[)]', 'VARCHAR', str(kind))} AS {quote(name)}"
        for name, kind in zip(found.columns, found.types, strict=True)
    )
    target = str(path).replace("'", "''")
    answer = connection.execute(f"COPY (SELECT {columns} FROM {view}) TO '{target}' ({COPY[form]})").fetchone()
    return int(answer[0]) if answer else 0


def _target(place: str, s3: str) -> _Folder | _Bucket:
    return _Bucket(place, s3) if place.startswith("s3://") else _Folder(Path(place))


class _Folder:
    """A new folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Refused(f"{folder} is there already and not empty.", hint="Name a new folder.")

    def take(self, path: Path, name: str) -> str:
        """Move a complete file in, return where it is."""
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        shutil.copyfile(path, part)
        part.replace(target)
        return str(target)

    def close(self) -> None:
        """Close nothing."""


class _Bucket:
    """A new place in a bucket of the same S3."""

    def __init__(self, place: str, s3: str) -> None:
        parts = urlsplit(place)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        if not self._bucket or not self._prefix:
            raise UsageError("--out s3://BUCKET/FOLDER lacks one of them.")
        self._s3 = aws.client("s3", s3, s3={"addressing_style": "path"})
        try:
            found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + "/", MaxKeys=1)
        except (ClientError, BotoCoreError) as error:
            raise Unreachable(f"{place} cannot be read.", detail=type(error).__name__) from error
        if found.get("Contents"):
            raise Refused(f"{place} is there already.", hint="Name a new folder.")

    def take(self, path: Path, name: str) -> str:
        """Upload a complete file, return where it is."""
        key = f"{self._prefix}/{name}"
        try:
            self._s3.upload_file(str(path), self._bucket, key)
        except (S3UploadFailedError, BotoCoreError) as error:
            raise Unreachable(f"s3://{self._bucket}/{key} cannot be written.", detail=type(error).__name__) from error
        return f"s3://{self._bucket}/{key}"

    def close(self) -> None:
        """Close the connections."""
        self._s3.close()

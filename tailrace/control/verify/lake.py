"""A table of the lake as ``verify`` reads it: the newest version of each key over its Parquet objects, deletes applied.

Its objects are those that the commit log names, or all where there is no log. They are copied to a scratch folder (once
each, by their ETag). DuckDB finds which row is the newest of its key; pyarrow then reads exactly those rows, because
DuckDB knows no decimals beyond 38 digits. What the log promises is looked at too: every object is there, and no change
is in two of them.
"""

from __future__ import annotations

import tempfile
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import duckdb
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from tailrace import aws
from tailrace.control import lake_log
from tailrace.control.verify import lake_digest
from tailrace.control.verify.expected import plain, text
from tailrace.control.verify.store import Fields, Pair, Seen
from tailrace.errors import Refused, Unreachable
from tailrace.targets import LAKE_COLUMNS, LakeTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.contract import Field
    from tailrace.control.verify.ranges import Part, Ranges

ROWS = 10_000
VERSION = "_version"
GONE = ("404", "NoSuchKey")
TWICE = """
SELECT count(*) - count(DISTINCT (_partition, _offset, _version))
FROM read_parquet(?, union_by_name = true, hive_partitioning = false)
"""
NEWEST = """
SELECT filename, list(file_row_number ORDER BY file_row_number) FROM (
    SELECT filename, file_row_number, _op,
           row_number() OVER (PARTITION BY {key} ORDER BY _version DESC, filename) AS age
    FROM read_parquet(?, filename = true, file_row_number = true, union_by_name = true, hive_partitioning = false)
    {where}
) WHERE age = 1 AND _op <> 'd' GROUP BY filename ORDER BY filename
"""


class Lake:
    """One table of the lake."""

    def __init__(self, pair: Pair, bucket: str, url: str) -> None:
        target = pair.target
        assert isinstance(target, LakeTable)
        self.name, self.pairs = f"{target.zone}/{target.table}", (pair,)
        self._bucket, self._client = bucket, aws.client("s3", url, s3={"addressing_style": "path"})
        self._scratch = tempfile.TemporaryDirectory(prefix="tailrace-verify-")
        self._copies: dict[str, Path] = {}
        self._missing: set[str] = set()
        self._log = lake_log.Snapshot(0, {})

    def close(self) -> None:
        """Close the connections and remove the scratch folder."""
        self._client.close()
        self._scratch.cleanup()

    def expected(self, pair: Pair, record: Mapping[str, Any]) -> tuple[str, Fields]:
        """Return the row that a record has to be."""
        fields = {field.name: _rendered(field, record[field.name]) for field in pair.contract.fields}
        return _identity(pair, fields), fields

    def scan(self, part: Part | None = None) -> Iterator[Seen]:
        """Yield the newest row of every key that is not deleted."""
        self._copy()
        files = [str(path) for path in self._copies.values()]
        if not files:
            return
        key = ", ".join(map(lake_digest.quoted, self.pairs[0].contract.key))
        with duckdb.connect() as database:
            database.execute("SET memory_limit = '512MB'")
            where = lake_digest.within(part)
            newest = database.execute(NEWEST.format(key=key, where=where), [files]).fetchall()
        for filename, numbers in newest:
            yield from self._rows(filename, numbers)

    def digests(self, pair: Pair, ranges: Ranges) -> dict[int, str] | None:
        """Return digests of the newest rows, which DuckDB makes of all their values without Python seeing one."""
        self._copy()
        return lake_digest.digests([str(path) for path in self._copies.values()], pair.contract, ranges)

    def fetch(self, pair: Pair, identities: Sequence[str]) -> dict[str, Seen]:  # noqa: ARG002 - one pair only
        """Return the newest rows of some keys."""
        wanted = set(identities)
        return {seen.identity: seen for seen in self.scan() if seen.identity in wanted}

    def may_be_gone(self, fields: Fields) -> bool:  # noqa: ARG002 - the protocol's signature
        """Say no: nothing removes rows by itself."""
        return False

    def faults(self) -> list[str]:
        """Return where the log's promises do not hold: an object that is not there, a change in two objects."""
        missing = sorted(self._missing & self._listed().keys()) if self._missing else []
        found = [f"{self._bucket}/{key} is in the log and not in the bucket" for key in missing]
        if self._log.sequence and self._copies:
            with duckdb.connect() as database:
                twice = database.execute(TWICE, [[str(path) for path in self._copies.values()]]).fetchall()[0][0]
            if twice:
                found.append(f"{self._bucket}/{self.name}: {twice} changes are in two objects that the log names")
        return found

    def _rows(self, filename: str, numbers: Sequence[int]) -> Iterator[Seen]:
        pair = self.pairs[0]
        with pq.ParquetFile(filename) as file:
            table = file.read()
        held = table.take(numbers)
        own = [name for name in LAKE_COLUMNS if name in table.column_names and name != VERSION]
        for batch in held.drop_columns(own).to_batches(max_chunksize=ROWS):
            for row in batch.to_pylist():
                version = row.pop(VERSION, None)
                fields = dict.fromkeys(pair.optional) | {
                    name: _read(pair.contract.by_name.get(name), value) for name, value in row.items()
                }
                key = tuple(_asked(pair.contract.by_name[name], fields.get(name)) for name in pair.contract.key)
                yield Seen(_identity(pair, fields), fields, key, pair, version)

    def _copy(self) -> None:
        """Bring the scratch folder up to date: new objects in, removed ones out."""
        listed = self._listed()
        self._missing.clear()
        for tag in self._copies.keys() - listed.keys():
            self._copies.pop(tag).unlink()
        for tag in listed.keys() - self._copies.keys():
            path = Path(self._scratch.name) / f"{uuid4().hex}.parquet"
            try:
                self._client.download_file(self._bucket, listed[tag], str(path))
            except ClientError as error:
                if error.response["Error"]["Code"] in GONE:
                    self._missing.add(listed[tag])  # perhaps removed since: what it held is in another object then
                    continue
                raise self._refused(error) from error
            except BotoCoreError as error:
                raise self._silent(error) from error
            self._copies[tag] = path

    def _listed(self) -> dict[str, str]:
        """Return object names by what says what is in them: the name that the log gives, else name and ETag."""
        try:
            self._log = lake_log.follow(self._read, self._log)
            if self._log.sequence:
                return {name: name for name in (f"{self.name}/{key}" for key in self._log.objects)}
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self.name + "/")
            objects = [entry for page in pages for entry in page.get("Contents", ())]
        except ClientError as error:
            raise self._refused(error) from error
        except BotoCoreError as error:
            raise self._silent(error) from error
        names = [(entry["Key"], entry["ETag"].strip('"')) for entry in objects if entry["Key"].endswith(".parquet")]
        return {f"{name}-{tag}": name for name, tag in names}

    def _read(self, name: str) -> bytes | None:
        """Return a file of the table's folder, None where there is none."""
        try:
            return bytes(self._client.get_object(Bucket=self._bucket, Key=f"{self.name}/{name}")["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return None
            raise

    def _refused(self, error: ClientError) -> Refused | Unreachable:
        code = error.response["Error"]["Code"]
        if code == "NoSuchBucket":
            return Refused(f"There is no bucket {self._bucket}.", hint="Run `tailrace apply`.")
        return Unreachable(f"S3 refuses to read {self._bucket}/{self.name}.", detail=code)

    def _silent(self, error: BotoCoreError) -> Unreachable:
        return Unreachable("S3 does not answer.", detail=type(error).__name__)


def _asked(field: Field, value: Any) -> str:
    """Return a key column's value as text that Postgres casts back."""
    return "\\x" + str(value).removeprefix("hex ") if field.kind == "bytes" else str(value)


def _identity(pair: Pair, fields: Fields) -> str:
    return repr(tuple(fields.get(name) for name in pair.contract.key))


def _rendered(field: Field, value: Any) -> Any:
    """Return what a row has to hold, in the form that ``_read`` gives."""
    if field.item and value is not None:
        return [_rendered(field.item, entry) for entry in value]
    if value is None or field.kind in ("boolean", "int", "long", "float", "double", "string", "json"):
        return value
    if field.kind in ("decimal", "numeric"):
        return plain(value) if field.kind == "decimal" else format(value, "f")
    return "hex " + value.hex() if field.kind == "bytes" else text(value)


def _read(field: Field | None, value: Any) -> Any:
    if field is None:
        return f"unexpected: {value!r}"
    if field.item and isinstance(value, list):
        return [_read(field.item, entry) for entry in value]
    if field.kind in ("decimal", "numeric") and isinstance(value, str):
        return _number(field, value)
    if isinstance(value, Decimal):
        return plain(value) if field.kind == "decimal" else f"decimal {value}"
    if isinstance(value, bytes):
        return "hex " + value.hex()
    return value if value is None or isinstance(value, bool | int | float | str) else text(value)


def _number(field: Field, shown: str) -> str:
    """Return a number's text in one spelling; what is no number stays as it is."""
    try:
        number = Decimal(shown)
    except InvalidOperation:
        return shown
    return plain(number) if field.kind == "decimal" else format(number, "f")

"""A million rows verified in full, and by --changed with nothing and with 100 rows changed. Runs only when it is named.

The stores are filled by bare clients, no pipeline runs. Search and lake hold every row; DynamoDB Local, which takes
minutes for a million, holds those of a second, smaller table. The baseline is the full comparison of the same stores.
TAILRACE_VERIFY_ROWS and TAILRACE_VERIFY_ITEMS make it shorter.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
from opensearchpy import OpenSearch

from tailrace import aws, project
from tailrace.control.verify import Report, verify
from tailrace.control.verify.run import Manner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailrace.endpoints import Endpoints
    from tailrace.project import Project

ROWS, ITEMS, CHANGED = 1_000_000, 200_000, 100
CHUNK = 20_000
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTE = "n" * 60
CREATE = """
CREATE TABLE {table} (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2) NOT NULL, at timestamptz NOT NULL,
                      note text);
INSERT INTO {table} SELECT n, 'name ' || n, n / 100.0, '2026-01-02 03:04:05+00', '{note}'
FROM generate_series(1, {rows}) n;
ANALYZE {table}
"""
FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "name", "type": "string"},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "note", "type": ["null", "string"]},
]
COLUMNS = pa.schema(
    [
        ("id", pa.int64()), ("name", pa.string()), ("price", pa.decimal128(12, 2)),
        ("at", pa.timestamp("us", tz="UTC")), ("note", pa.string()), ("_op", pa.string()),
        ("_version", pa.int64()), ("_partition", pa.int32()), ("_offset", pa.int64()),
    ]
)  # fmt: skip
SINKS = {
    "found": 'from tailrace import SearchIndex\nthings = SearchIndex("{name}", record="things")\n',
    "kept": 'from tailrace import LakeTable\nthings = LakeTable("things", record="things")\n',
    "keyed": (
        "from tailrace import DynamoDBTable\n"
        'cards = DynamoDBTable("{name}", record="cards", pk="CARD#{{id}}", sk="-")\n'
    ),
}
MAPPING = {
    "id": "long",
    "name": "keyword",
    "price": "keyword",
    "at": "date",
    "note": "keyword",
    "tailrace_deleted": "boolean",
}


def measure(endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return the seconds of each way, by sink."""
    rows = int(os.environ.get("TAILRACE_VERIFY_ROWS", ROWS))
    items = min(int(os.environ.get("TAILRACE_VERIFY_ITEMS", ITEMS)), rows)
    name = f"verify{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-verify-") as place:
        filled = Filled(endpoints, Path(place), name)
        filled.fill(rows, items)
        return [
            row
            for sink, count in (("found", rows), ("kept", rows), ("keyed", items))
            for row in filled.time(sink, count)
        ]


class Filled:
    """One project with its database and its stores."""

    def __init__(self, endpoints: Endpoints, folder: Path, name: str) -> None:
        self.name, self.folder, self._endpoints = name, folder, endpoints
        tables = {"public.things": "things", "public.cards": "cards"}
        connector = {"database.dbname": name, "topic.prefix": f"{name}.raw", "table.include.list": ",".join(tables)}
        files = {
            "tailrace.toml": f'[pipeline]\nname = "{name}"\nconnector = "c"\n[lake]\nbucket = "{name}"\n',
            "connectors/c.json": json.dumps(connector),
            **{f"schemas/{each}.avsc": json.dumps(shape(each)) for each in tables.values()},
            **{f"sinks/{each}.py": text.format(name=name) for each, text in SINKS.items()},
        }
        for place, content in files.items():
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).write_text(content)
        endpoints.save(folder)
        self.project: Project = project.load(folder)
        self._search = OpenSearch([endpoints.opensearch], timeout=60)
        self._s3 = aws.client("s3", endpoints.s3)
        self._dynamodb = aws.client("dynamodb", endpoints.dynamodb)
        self._objects = 0

    def sql(self, text: str, database: str = "") -> None:
        with closing(psycopg2.connect(self._endpoints.database(database or self.name))) as connection:
            connection.autocommit = True
            connection.cursor().execute(text)

    def fill(self, rows: int, items: int) -> None:
        self.sql(f"CREATE DATABASE {self.name}", "postgres")
        for table, count in (("things", rows), ("cards", items)):
            self.sql(CREATE.format(table=table, rows=count, note=NOTE))
        properties = {field: {"type": kind} for field, kind in MAPPING.items()}
        hidden = {"filter": {"bool": {"must_not": {"term": {"tailrace_deleted": True}}}}}
        body = {"mappings": {"properties": properties}, "aliases": {self.name: hidden}}
        self._search.indices.create(index=f"{self.name}-000001", body=body)
        self._s3.create_bucket(Bucket=self.name)
        keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
        kinds = [{"AttributeName": each, "AttributeType": "S"} for each in ("pk", "sk")]
        self._dynamodb.create_table(
            TableName=self.name, KeySchema=keys, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST"
        )
        for start in range(1, rows + 1, CHUNK):
            numbers = range(start, min(start + CHUNK, rows + 1))
            self.documents(numbers)
            self.objects(numbers)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.items, [range(start, min(start + 25, items + 1)) for start in range(1, items + 1, 25)]))

    def documents(self, numbers: Sequence[int], name: str = "name") -> None:
        lines = []
        for number in numbers:
            head = {"index": {"_id": str(number)}}
            price = str(Decimal(number).scaleb(-2))
            body = {
                "id": number,
                "name": f"{name} {number}",
                "price": price,
                "at": "2026-01-02T03:04:05.000000Z",
                "note": NOTE,
            }
            lines += [json.dumps(head), json.dumps(body)]
        answer = self._search.bulk(index=f"{self.name}-000001", body="\n".join(lines) + "\n")
        assert not answer["errors"]

    def objects(self, numbers: Sequence[int], name: str = "name") -> None:
        self._objects += 1
        made = [
            {"id": number, "name": f"{name} {number}", "price": Decimal(number).scaleb(-2), "at": AT, "note": NOTE,
             "_op": "u", "_version": self._objects, "_partition": 0, "_offset": self._objects * CHUNK + place}
            for place, number in enumerate(numbers)
        ]  # fmt: skip
        body = BytesIO()
        pq.write_table(pa.Table.from_pylist(made, schema=COLUMNS), body, compression="zstd")
        key = f"conformed/things/dt=2026-01-02/p0-{self._objects:012d}.parquet"
        self._s3.put_object(Bucket=self.name, Key=key, Body=body.getvalue())

    def items(self, numbers: Sequence[int], name: str = "name") -> None:
        puts = [
            {"PutRequest": {"Item": {
                "pk": {"S": f"CARD#{number}"}, "sk": {"S": "-"}, "id": {"N": str(number)},
                "name": {"S": f"{name} {number}"}, "price": {"N": str(Decimal(number).scaleb(-2))},
                "at": {"S": "2026-01-02T03:04:05.000000Z"}, "note": {"S": NOTE},
                "_v": {"N": "281474976710656"}, "_type": {"S": "cards"},
            }}}
            for number in numbers
        ]  # fmt: skip
        for start in range(0, len(puts), 25):
            answer = self._dynamodb.batch_write_item(RequestItems={self.name: puts[start : start + 25]})
            assert not answer["UnprocessedItems"]

    def change(self, sink: str, count: int) -> None:
        """Change some rows and what the stores hold of them."""
        numbers = list(range(1, count + 1, max(1, count // CHANGED)))[:CHANGED]
        table, write = {
            "found": ("things", self.documents), "kept": ("things", self.objects), "keyed": ("cards", self.items),
        }[sink]  # fmt: skip
        self.sql(f"UPDATE {table} SET name = '{sink} ' || id WHERE id IN ({','.join(map(str, numbers))})")
        write(numbers, sink)

    def prove(self, sink: str, *, changed: bool) -> Report:
        report = verify(
            self.project, wait=lambda: None, only=[sink], manner=Manner(self.folder / sink, changed=changed, seed=1)
        )
        assert report.ok, report.as_dict()
        return report

    def time(self, sink: str, count: int) -> list[dict[str, Any]]:
        """Return one row for each way; every sink keeps its proofs by itself."""
        full = self.prove(sink, changed=False)
        nothing = self.prove(sink, changed=True)
        self.change(sink, count)
        some = self.prove(sink, changed=True)
        if sink == "found":
            self.objects(list(range(1, count + 1, max(1, count // CHANGED)))[:CHANGED], sink)
        return [
            row(f"verify {sink}: all {count:,} rows", full.seconds),
            row(f"verify {sink} --changed: none", nothing.seconds, full.seconds),
            row(f"verify {sink} --changed: {CHANGED} rows", some.seconds, full.seconds),
        ]


def shape(name: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "key": ["id"], "fields": FIELDS}


def row(name: str, seconds: float, full: float | None = None) -> dict[str, Any]:
    """Return a row of the report; --changed may never take longer than the whole."""
    ratio = None if full is None else round(seconds / full, 3)
    return {
        "name": name, "value": round(seconds, 1), "unit": "s", "baseline": None if full is None else round(full, 1),
        "ratio": ratio, "ceiling": None if full is None else 1.0,
    }  # fmt: skip

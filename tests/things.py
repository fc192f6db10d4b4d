"""A project with one table and three stores, written and damaged by bare clients; no pipeline runs."""

from __future__ import annotations

import json
import uuid
from contextlib import closing, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
from opensearchpy import OpenSearch

from tailrace import aws, project
from tailrace.control.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tailrace.control.verify import Report
    from tailrace.project import Project
    from tests.providers import RunningStack

SCHEMA = {
    "type": "record",
    "name": "Thing",
    "key": ["id"],
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "exact", "type": ["null", {"type": "string", "logicalType": "numeric"}]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "meta", "type": ["null", {"type": "string", "logicalType": "json"}]},
        {"name": "flag", "type": "boolean"},
        {"name": "ratio", "type": "double"},
        {"name": "blob", "type": ["null", "bytes"]},
        {"name": "shout", "type": "string"},
    ],
}
CREATE = """
CREATE TABLE things (
    id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2) NOT NULL, exact numeric, at timestamptz NOT NULL,
    meta jsonb, flag boolean NOT NULL, ratio float8 NOT NULL, blob bytea, secret text,
    twice bigint GENERATED ALWAYS AS (id * 2) STORED
);
INSERT INTO things VALUES
    (1, 'a#b', 1.50, 1.500, '2026-01-02 03:04:05.6+02', '{"n": 12345678901234567890.5, "l": [1, null]}',
     true, 0.1, 'x', 's'),
    (2, 'zwei', 0, NULL, '2026-01-02 03:04:05', NULL, false, -1e100, NULL, 's'),
    (3, 'filtered', 9.99, 3, '2026-01-02 03:04:05', NULL, false, 0, NULL, 's')
"""
PROCESSOR = """
from tailrace import conform

@conform("public.things", to="thing")
def thing(row):
    return None if row["name"] == "filtered" else {**row, "shout": row["name"].upper()}
"""
SINKS = """
from tailrace import DynamoDBTable, Index, LakeTable, SearchIndex

keyed = DynamoDBTable("{name}", record="thing", pk="THING#{{name}}", sk="ID#{{id}}",
                      indexes=(Index("flagged", pk="FLAG", sk="{{id}}", when="flag"),))
found = SearchIndex("{name}", record="thing", text=("name",))
kept = LakeTable("things", record="thing")
"""
ITEMS: list[dict[str, Any]] = [
    {
        "pk": {"S": "THING#a%23b"}, "sk": {"S": "ID#1"}, "flagged_pk": {"S": "FLAG"}, "flagged_sk": {"S": "1"},
        "id": {"N": "1"}, "name": {"S": "a#b"}, "price": {"N": "1.50"}, "exact": {"N": "1.5"},
        "at": {"S": "2026-01-02T01:04:05.600000Z"}, "flag": {"BOOL": True}, "ratio": {"N": "0.1"}, "blob": {"B": b"x"},
        "meta": {"M": {"n": {"N": "12345678901234567890.5"}, "l": {"L": [{"N": "1"}, {"NULL": True}]}}},
        "shout": {"S": "A#B"}, "_v": {"N": "281474976710656"}, "_type": {"S": "thing"},
    },
    {
        "pk": {"S": "THING#zwei"}, "sk": {"S": "ID#2"}, "id": {"N": "2"}, "name": {"S": "zwei"}, "price": {"N": "0"},
        "exact": {"NULL": True}, "at": {"S": "2026-01-02T03:04:05.000000Z"}, "flag": {"BOOL": False},
        "ratio": {"N": "-1E+100"}, "blob": {"NULL": True}, "meta": {"NULL": True},
        "shout": {"S": "ZWEI"}, "_v": {"N": "281474976710657"}, "_type": {"S": "thing"},
    },
    {
        "pk": {"S": "THING#gone"}, "sk": {"S": "ID#4"}, "_deleted": {"BOOL": True}, "_v": {"N": "281474976710658"},
        "_type": {"S": "thing"},
    },
]  # fmt: skip
DOCUMENTS: dict[str, dict[str, Any]] = {
    "1": {
        "id": 1, "name": "a#b", "price": "1.50", "exact": "1.500", "at": "2026-01-02T01:04:05.600000Z", "flag": True,
        "meta": {"n": 0, "l": [1, None]}, "ratio": 0.1, "blob": "eA==", "shout": "A#B",
    },
    "2": {
        "id": 2, "name": "zwei", "price": "0.00", "exact": None, "at": "2026-01-02T03:04:05.000000Z", "flag": False,
        "meta": None, "ratio": -1e100, "blob": None, "shout": "ZWEI",
    },
    "4": {"tailrace_deleted": True},
}  # fmt: skip
MAPPING = {
    "mappings": {
        "dynamic": "strict",
        "properties": {
            "id": {"type": "long"}, "name": {"type": "text"}, "price": {"type": "scaled_float", "scaling_factor": 100},
            "exact": {"type": "keyword"}, "at": {"type": "date"}, "flag": {"type": "boolean"},
            "meta": {"type": "flat_object"}, "ratio": {"type": "double"}, "blob": {"type": "binary"},
            "shout": {"type": "keyword"}, "tailrace_deleted": {"type": "boolean"},
        },
    },
}  # fmt: skip
COLUMNS = pa.schema(
    [
        ("id", pa.int64()), ("name", pa.string()), ("price", pa.decimal128(12, 2)), ("exact", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")), ("meta", pa.string()), ("flag", pa.bool_()), ("ratio", pa.float64()),
        ("blob", pa.binary()), ("shout", pa.string()), ("_op", pa.string()), ("_version", pa.int64()),
        ("_lsn", pa.int64()), ("_committed_at", pa.timestamp("us", tz="UTC")), ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)  # fmt: skip


class Stores:
    """The three stores of one test project, written and damaged with bare clients."""

    def __init__(self, loaded: Project) -> None:
        self.project, self.name = loaded, loaded.name
        self.dynamodb = aws.client("dynamodb", loaded.endpoints.dynamodb)
        self.s3 = aws.client("s3", loaded.endpoints.s3)
        self.search = OpenSearch([loaded.endpoints.opensearch])
        self.index = f"{self.name}-000001"

    def create(self) -> None:
        keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
        kinds = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
        self.dynamodb.create_table(
            TableName=self.name, KeySchema=keys, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST"
        )
        self.s3.create_bucket(Bucket=self.name)
        hidden = {"filter": {"bool": {"must_not": {"term": {"tailrace_deleted": True}}}}}
        self.search.indices.create(index=self.index, body={**MAPPING, "aliases": {self.name: hidden}})

    def fill(self) -> None:
        for item in ITEMS:
            self.dynamodb.put_item(TableName=self.name, Item=item)
        for place, document in DOCUMENTS.items():
            self.put_document(place, document)
        first = [row(1, "old name", 1), row(2, "zwei", 2, ratio=-1e100), row(4, "gone", 3), row(3, "was here", 4)]
        self.put_object(0, first)
        self.put_object(4, [row(1, "a#b", 5), row(4, None, 6), row(3, None, 7)])

    def put_document(self, place: str, document: dict[str, Any]) -> None:
        text = json.dumps(document).replace('"n": 0', '"n": 12345678901234567890.5')
        self.search.index(index=self.index, id=place, body=text, params={"refresh": "true"})

    def put_object(self, offset: int, rows: list[dict[str, Any]]) -> None:
        body = BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), body)
        key = f"conformed/things/dt=2026-01-02/p0-{offset:012d}.parquet"
        self.s3.put_object(Bucket=self.name, Key=key, Body=body.getvalue())

    def damage_item(self, **changes: Any) -> None:
        self.dynamodb.put_item(TableName=self.name, Item={**ITEMS[0], **changes})

    def remove(self) -> None:
        self.dynamodb.delete_table(TableName=self.name)
        listed = self.s3.list_objects_v2(Bucket=self.name).get("Contents", ())
        for entry in listed:
            self.s3.delete_object(Bucket=self.name, Key=entry["Key"])
        self.s3.delete_bucket(Bucket=self.name)
        self.search.indices.delete(index=self.index)
        for client in (self.dynamodb, self.s3, self.search):
            client.close()

    def verify(self, **options: Any) -> Report:
        return verify(self.project, wait=lambda: None, **options)

    def run(self, sql: str) -> None:
        with closing(psycopg2.connect(self.project.endpoints.database(self.name))) as connection, connection:
            connection.cursor().execute(sql)


def row(number: int, name: str | None, version: int, *, ratio: float = 0.1) -> dict[str, Any]:
    """Return one row of the lake; without a name it is a delete."""
    meta = {"_op": "u", "_version": version, "_committed_at": 0, "_partition": 0, "_offset": version}
    if name is None:
        return {"id": number, **meta, "_op": "d"}
    made = {"id": number, "name": name, "shout": name.upper(), "ratio": ratio, **meta}
    document = DOCUMENTS.get(str(number), {})
    return made | {
        "price": pa.scalar(document.get("price", "0.00")).cast(pa.decimal128(12, 2)).as_py(),
        "exact": document.get("exact"),
        "at": pa.scalar((document.get("at") or "2026-01-01T00:00:00Z")[:-1]).cast(pa.timestamp("us")).as_py(),
        "meta": '{"l": [1, null], "n": 12345678901234567890.5}' if number == 1 else None,
        "flag": document.get("flag", False),
        "blob": b"x" if number == 1 else None,
    }


@contextmanager
def filled(stack: RunningStack, folders: pytest.TempPathFactory) -> Iterator[Stores]:
    """Give the stores of a project of its own, filled."""
    name = f"verify{uuid.uuid4().hex[:8]}"
    folder = folders.mktemp(name)
    write_project(folder, name)
    stack.endpoints.save(folder)
    with database(stack, name):
        made = Stores(project.load(folder))
        made.create()
        made.fill()
        yield made
        made.remove()


class database:  # noqa: N801 - used like a function
    """A database of its own for one test module, with the table in it."""

    def __init__(self, stack: RunningStack, name: str) -> None:
        self._stack, self._name = stack, name

    def _run(self, where: str, sql: str) -> None:
        with closing(psycopg2.connect(self._stack.endpoints.database(where))) as connection:
            connection.autocommit = True
            connection.cursor().execute(sql)

    def __enter__(self) -> None:
        self._run("postgres", f"CREATE DATABASE {self._name}")
        self._run(self._name, CREATE)

    def __exit__(self, *_: object) -> None:
        self._run("postgres", f"DROP DATABASE {self._name} WITH (FORCE)")


def write_project(folder: Path, name: str) -> None:
    connector = {"database.dbname": name, "topic.prefix": f"{name}.raw", "table.include.list": "public.things"}
    files = {
        "tailrace.toml": f'[pipeline]\nname = "{name}"\nconnector = "c"\n[lake]\nbucket = "{name}"\n',
        "connectors/c.json": json.dumps(connector),
        "schemas/thing.avsc": json.dumps(SCHEMA),
        "processors/shaping.py": PROCESSOR,
        "sinks/all.py": SINKS.format(name=name),
    }
    for place, content in files.items():
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(content)


def found(report: Report) -> set[tuple[str, str, str, tuple[str, ...]]]:
    return {
        (check.store.split()[0], entry.kind, entry.key, entry.fields)
        for check in report.checks
        for entry in check.differences
    }

"""verify on real stores: contents written by bare clients, then damaged one thing at a time, each found by name."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from io import BytesIO
from typing import TYPE_CHECKING, Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opensearchpy import OpenSearch

from tailrace import aws, project
from tailrace.control.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@pytest.fixture(scope="module")
def stores(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    name = f"verify{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp(name)
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


def test_stores_that_hold_what_the_source_says_are_equal_in_every_row(stores: Stores) -> None:
    report = stores.verify(values=True)

    assert [entry for check in report.checks for entry in check.differences] == []
    assert report.ok
    assert {(check.store.split()[0], check.compared, check.equal) for check in report.checks} == {
        ("DynamoDB", 2, 2),
        ("Search", 2, 2),
        ("Lake", 2, 2),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", {"S": "a#c"}),
        ("id", {"S": "1"}),
        ("price", {"N": "1.51"}),
        ("exact", {"NULL": True}),
        ("at", {"S": "2026-01-02T01:04:05.600001Z"}),
        ("meta", {"M": {"n": {"N": "12345678901234567890"}, "l": {"L": [{"N": "1"}, {"NULL": True}]}}}),
        ("flag", {"BOOL": False}),
        ("blob", {"B": b"y"}),
        ("flagged_sk", {"S": "2"}),
        ("_type", {"S": "else"}),
    ],
)
def test_one_damaged_attribute_of_one_item_is_named(stores: Stores, field: str, value: dict[str, Any]) -> None:
    stores.damage_item(**{field: value})
    try:
        differences = found(stores.verify(only=["all"]))
    finally:
        stores.damage_item()

    if field == "_type":  # then it is the item of no known record, and the known one is gone
        assert ("DynamoDB", "extra", "THING#a%23b / ID#1", ()) in differences
    else:
        assert differences == {("DynamoDB", "different", "THING#a%23b / ID#1", (field,))}


def test_a_missing_and_an_extra_item_are_named(stores: Stores) -> None:
    moved = {**ITEMS[0], "pk": {"S": "THING#else"}}
    key = {name: ITEMS[0][name] for name in ("pk", "sk")}
    stores.dynamodb.delete_item(TableName=stores.name, Key=key)
    stores.dynamodb.put_item(TableName=stores.name, Item=moved)
    try:
        differences = found(stores.verify())
    finally:
        stores.dynamodb.delete_item(TableName=stores.name, Key={**key, "pk": moved["pk"]})
        stores.damage_item()

    assert differences == {
        ("DynamoDB", "missing", "THING#a%23b / ID#1", ()),
        ("DynamoDB", "extra", "THING#else / ID#1", ()),
    }


@pytest.mark.parametrize("field", ["id", "name", "price", "exact", "at", "flag", "meta", "ratio", "blob", "shout"])
def test_one_damaged_field_of_one_document_is_named(stores: Stores, field: str) -> None:
    other = {
        "id": 7, "name": "x", "price": "1.5001", "exact": "1.50", "at": "2026-01-02T01:04:05.600001Z", "flag": None,
        "meta": {"n": 1}, "ratio": 0.1000000000000001, "blob": "eQ==", "shout": "a#b",
    }  # fmt: skip
    stores.put_document("1", {**DOCUMENTS["1"], field: other[field]})
    try:
        differences = found(stores.verify())
    finally:
        stores.put_document("1", DOCUMENTS["1"])

    assert differences == {("Search", "different", "1", (field,))}


def test_a_missing_an_extra_and_an_undeleted_document_are_named(stores: Stores) -> None:
    stores.search.delete(index=stores.index, id="1", params={"refresh": "true"})
    stores.put_document("3", DOCUMENTS["1"])
    stores.put_document("4", {**DOCUMENTS["2"], "id": 4})
    try:
        differences = found(stores.verify())
    finally:
        stores.search.delete(index=stores.index, id="3", params={"refresh": "true"})
        stores.put_document("1", DOCUMENTS["1"])
        stores.put_document("4", DOCUMENTS["4"])

    assert differences == {("Search", "missing", "1", ()), ("Search", "extra", "3", ()), ("Search", "extra", "4", ())}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row(1, "a#c", 8)], ("different", "(1,)", ("name", "shout"))),
        ([row(2, "zwei", 8)], ("different", "(2,)", ("ratio",))),
        ([row(2, None, 8)], ("missing", "(2,)", ())),
        ([row(4, "back", 8)], ("extra", "(4,)", ())),
        ([row(3, "filtered", 8)], ("extra", "(3,)", ())),
    ],
)
def test_one_wrong_newest_row_of_the_lake_is_named(
    stores: Stores, rows: list[dict[str, Any]], expected: tuple[str, str, tuple[str, ...]]
) -> None:
    stores.put_object(8, rows)
    try:
        differences = found(stores.verify())
    finally:
        key = "conformed/things/dt=2026-01-02/p0-000000000008.parquet"
        stores.s3.delete_object(Bucket=stores.name, Key=key)

    assert differences == {("Lake", *expected)}


def test_a_row_that_stands_in_two_objects_counts_once(stores: Stores) -> None:
    stores.put_object(5, [row(1, "a#b", 5)])
    try:
        report = stores.verify()
    finally:
        key = "conformed/things/dt=2026-01-02/p0-000000000005.parquet"
        stores.s3.delete_object(Bucket=stores.name, Key=key)

    assert report.ok


def test_an_alias_that_shows_delete_markers_is_a_fault(stores: Stores) -> None:
    alias = {"index": stores.index, "alias": stores.name}
    hidden = {"bool": {"must_not": {"term": {"tailrace_deleted": True}}}}
    stores.search.indices.update_aliases(body={"actions": [{"add": {**alias, "filter": {"match_all": {}}}}]})
    try:
        report = stores.verify()
    finally:
        stores.search.indices.update_aliases(body={"actions": [{"add": {**alias, "filter": hidden}}]})

    assert not report.ok
    assert len(report.faults) == 1


def test_values_are_shown_only_when_they_are_asked_for(stores: Stores) -> None:
    stores.damage_item(name={"S": "a#c"})
    try:
        silent, shown = stores.verify(), stores.verify(values=True)
    finally:
        stores.damage_item()

    assert "a#c" not in json.dumps(silent.as_dict())
    [entry] = [entry for check in shown.checks for entry in check.differences]
    assert entry.actual == {"name": "S:a#c"}
    assert entry.expected == {"name": "S:a#b"}

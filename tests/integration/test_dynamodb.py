"""What the DynamoDB writer leaves in a real table, and a real bucket, is what verify expects to find."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg2
import pytest

from tailrace import aws, contract, project
from tailrace.change import Change
from tailrace.control.verify import expected, verify
from tailrace.control.verify.compare import Doubt
from tailrace.control.verify.dynamodb import DynamoDB
from tailrace.control.verify.settle import Settling, settle
from tailrace.control.verify.source import Version
from tailrace.control.verify.store import Pair
from tailrace.sink.dynamodb import DynamoDBWriter
from tailrace.targets import DynamoDBTable, Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tailrace.project import Project
    from tests.providers import RunningStack

JSON = {"type": "string", "logicalType": "json"}
NUMERIC = {"type": "string", "logicalType": "numeric"}
THING = contract.build(
    "thing",
    {
        "type": "record",
        "name": "thing",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "owner", "type": "string"},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "marks", "type": ["null", {"type": "array", "items": NUMERIC}], "default": None},
            {"name": "blobs", "type": {"type": "array", "items": "bytes"}},
            {"name": "body", "type": ["null", JSON], "default": None},
            {"name": "note", "type": "string"},
            {"name": "raw", "type": "bytes"},
            {"name": "until", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
        ],
    },
    where="test",
)
BIG = 450_000


def thing(number: int, **fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"id": number, "owner": "ada", "tags": [], "marks": None, "blobs": [], "body": None}
    return {**usual, "note": "", "raw": b"", "until": None, **fields}


def changed(value: dict[str, Any] | None, before: dict[str, Any] | None = None, version: int = 1) -> Change:
    number = (value or before or {})["id"]
    op = "d" if value is None else "c" if before is None else "u"
    at = ("things", 0, version, b"", None)
    return Change("thing", {"id": number}, value, before, version, op, None, 0, "", "", *at)


@dataclass
class Table:
    """A table, its writer, and verify's reader of it."""

    client: Any
    s3: Any
    bucket: str
    target: DynamoDBTable
    pairs: list[Pair]
    writer: DynamoDBWriter
    store: DynamoDB

    def write(self, *changes: Change) -> list[str]:
        return [rejection.reason for rejection in self.writer.write(changes, timeout=30)]

    def wanted(self, *records: dict[str, Any]) -> dict[str, Any]:
        fitted = [{name: expected.fit(THING.by_name[name], record[name]) for name in record} for record in records]
        return dict(self.store.expected(pair, record) for pair in self.pairs for record in fitted)

    def found(self) -> dict[str, Any]:
        return {seen.identity: seen.fields for seen in self.store.scan()}


@pytest.fixture
def table(stack: RunningStack) -> Iterator[Table]:
    name = f"things-{uuid4().hex[:8]}"
    target = DynamoDBTable(
        name,
        "thing",
        pk="OWNER#{owner}",
        sk="THING#{id}",
        ttl="until",
        sets=("tags", "marks", "blobs"),
        mirrors=(Mirror(pk="THING#{id}", sk="-"),),
        oversize="s3",
    )
    client, s3 = (aws.client(service, getattr(stack.endpoints, service)) for service in ("dynamodb", "s3"))
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    kinds = [{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")]
    client.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=keys, AttributeDefinitions=kinds)
    s3.create_bucket(Bucket=name)
    pairs = [Pair("public.things", "dynamodb", THING, shape) for shape in target.shapes]
    writer = DynamoDBWriter(target, THING, stack.endpoints, bucket=name)
    store = DynamoDB(name, pairs, stack.endpoints, name)
    yield Table(client, s3, name, target, pairs, writer, store)
    client.delete_table(TableName=name)
    for entry in s3.list_objects_v2(Bucket=name).get("Contents", ()):
        s3.delete_object(Bucket=name, Key=entry["Key"])
    s3.delete_bucket(Bucket=name)
    for each in (client, s3, writer, store):
        each.close()


def test_every_key_holds_what_verify_expects_after_moves_and_deletes(table: Table) -> None:
    first, second, third = thing(1), thing(2, owner="bob#"), thing(3)
    moved = thing(1, owner="bob#", note="moved")
    table.write(changed(first), changed(second), changed(third))

    table.write(changed(moved, first, 2), changed(None, third, 2))

    assert table.found() == table.wanted(moved, second)
    shapes = {seen.identity: seen.pair for seen in table.store.scan()}
    assert shapes == {
        identity: pair
        for pair in table.pairs
        for identity in (table.store.expected(pair, record)[0] for record in (moved, second))
    }


def test_sets_empty_values_and_nulls_are_what_verify_expects(table: Table) -> None:
    full = thing(1, tags=["b", "", "a"], marks=[Decimal("1.50"), Decimal("9" * 38)], blobs=[b"", b"\x00"])
    refused = [thing(2, tags=["a", "a"]), thing(3, marks=[Decimal(1), Decimal("1.0")])]

    reasons = table.write(changed(full), *map(changed, refused), changed(thing(4, marks=[])))

    assert [("each value once" in reason) for reason in reasons] == [True, True]
    assert table.found() == table.wanted(full, thing(4, marks=[]))
    (item,) = table.client.query(
        TableName=table.target.table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "THING#4"}},
    )["Items"]
    assert "tags" not in item
    for record in refused:
        with pytest.raises(expected.Unfit):
            table.wanted(record)


def test_values_over_the_limit_lie_in_objects_that_verify_follows(table: Table) -> None:
    large = [
        thing(1, note="é" * BIG),
        thing(2, body=json.dumps({"deep": ["x" * BIG, 1.10]})),
        thing(3, raw=b"\x00\xff" * BIG, note="n" * BIG, body='"small"'),
    ]
    assert table.write(*map(changed, large)) == []

    assert table.found() == table.wanted(*large)

    table.write(*map(changed, large))  # the same versions again: nothing new, no second object
    keys = [entry["Key"] for entry in table.s3.list_objects_v2(Bucket=table.bucket)["Contents"]]
    assert len(keys) == 4 * 2  # four values, under two keys each
    assert all(key.startswith(f"overflow/{table.target.table}/") and "ada" not in key for key in keys)

    shrunk = thing(1, note="short")
    table.write(changed(shrunk, large[0], 2))
    assert table.found() == table.wanted(shrunk, *large[1:])

    table.s3.delete_object(Bucket=table.bucket, Key=next(key for key in keys if "-body-" in key))
    assert table.found() != table.wanted(shrunk, *large[1:])


def test_without_a_policy_an_item_over_the_limit_is_refused_with_its_size(table: Table, stack: RunningStack) -> None:
    writer = DynamoDBWriter(replace(table.target, oversize="reject"), THING, stack.endpoints)

    (rejection,) = writer.write([changed(thing(1, note="x" * BIG))], timeout=30)
    writer.close()

    assert "of 409600 bytes" in rejection.reason
    assert table.found() == {}


class Source:
    """Rows that stand still."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows: dict[tuple[str, ...], Version] = {(str(row["id"]),): Version("7", row) for row in rows}

    def versions(self, _table: str, _key: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> dict[Any, Version]:
        return {key: self._rows[key] for key in wanted}

    def catch_up(self) -> None:
        """Be as new as anything."""


def test_an_item_removed_after_its_time_to_live_is_not_missing_and_before_it_is(table: Table) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    over, still = thing(1, until=now - timedelta(hours=1)), thing(2, until=now + timedelta(hours=1))
    table.write(changed(over), changed(still))
    assert table.found() == table.wanted(over, still)

    own = table.pairs[0]
    for record in (over, still):  # DynamoDB removes an item some time after its _ttl, if at all
        key = {"pk": {"S": "OWNER#ada"}, "sk": {"S": f"THING#{record['id']}"}}
        table.client.delete_item(TableName=table.target.table, Key=key)
    doubts = [Doubt(table.store.expected(own, record)[0], (str(record["id"]),)) for record in (over, still)]
    work = Settling(Source([over, still]), table.store, own, None, doubts)  # type: ignore[arg-type]  # rows at rest
    settle([work], wait=lambda: None, rounds=2, values=False, say=lambda _: None)

    assert work.settled_equal == 1
    assert [(entry.kind, entry.key) for entry in work.differences] == [("missing", doubts[1].identity)]


CREATE = """
CREATE TABLE thing (
    id bigint PRIMARY KEY, owner text NOT NULL, tags text[] NOT NULL, marks numeric[], blobs bytea[] NOT NULL,
    body jsonb, note text NOT NULL, raw bytea NOT NULL, until timestamptz
);
INSERT INTO thing VALUES
    (1, 'ada', '{b,a}', '{1.50,2}', '{}', NULL, '', '', NULL),
    (2, 'bob', '{}', NULL, '{"\\\\x00"}', '{"deep": [1.10]}', repeat('é', 450000), '\\x01', NULL),
    (3, 'ada', '{}', '{}', '{}', NULL, '', '', '2026-01-02 03:04:05+00'),
    (4, 'eve', '{x,x}', NULL, '{}', NULL, '', '', NULL)
"""
ROWS = [
    thing(1, tags=["b", "a"], marks=[Decimal("1.50"), Decimal(2)]),
    thing(2, owner="bob", blobs=[b"\x00"], body='{"deep": [1.10]}', note="é" * BIG, raw=b"\x01"),
    thing(3, marks=[], until=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
]
SINK = """
from tailrace import DynamoDBTable, Mirror

things = DynamoDBTable({name!r}, record="thing", pk="OWNER#{{owner}}", sk="THING#{{id}}", ttl="until", oversize="s3",
                       sets=("tags", "marks", "blobs"), mirrors=(Mirror(pk="THING#{{id}}", sk="-"),))
"""


@pytest.fixture
def source(table: Table, stack: RunningStack, tmp_path: Path) -> Iterator[Project]:
    """Give a project over the table, with rows of its own in Postgres."""
    name = table.bucket.replace("-", "")
    connector = {"database.dbname": name, "topic.prefix": f"{name}.raw", "table.include.list": "public.thing"}
    files = {
        "tailrace.toml": f'[pipeline]\nname = "{name}"\nconnector = "c"\n[lake]\nbucket = "{table.bucket}"\n',
        "connectors/c.json": json.dumps(connector),
        "schemas/thing.avsc": json.dumps(THING.schema),
        "sinks/items.py": SINK.format(name=table.target.table),
    }
    for place, content in files.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(content)
    stack.endpoints.save(tmp_path)
    run(stack, "postgres", f"CREATE DATABASE {name}")
    run(stack, name, CREATE)
    yield project.load(tmp_path)
    run(stack, "postgres", f"DROP DATABASE {name} WITH (FORCE)")


def run(stack: RunningStack, where: str, sql: str) -> None:
    with closing(psycopg2.connect(stack.endpoints.database(where))) as connection:
        connection.autocommit = True
        connection.cursor().execute(sql)


def test_verify_proves_every_shape_of_a_table_from_the_rows_of_the_source(
    table: Table, source: Project, stack: RunningStack
) -> None:
    def differences() -> list[tuple[str, str]]:
        report = verify(source, wait=lambda: None)
        assert [check.equal for check in report.checks] == [3, 3]
        return sorted((entry.kind, entry.key) for check in report.checks for entry in check.differences)

    refused = [("rejected", "4"), ("rejected", "4")]  # a repeated value in a set, under either key
    table.write(*map(changed, ROWS))
    assert differences() == refused

    run(stack, source.name, "UPDATE thing SET owner = 'eve' WHERE id = 1")
    table.write(changed({**ROWS[0], "owner": "eve"}, ROWS[0], 2))
    key = {"pk": {"S": "THING#3"}, "sk": {"S": "-"}}
    table.client.delete_item(TableName=table.target.table, Key=key)  # as DynamoDB does after its time to live
    assert differences() == refused

    (left,) = table.client.query(
        TableName=table.target.table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "THING#1"}},
    )["Items"]
    table.client.put_item(TableName=table.target.table, Item={**left, "pk": {"S": "THING#9"}})
    assert differences() == [("extra", "THING#9 / -"), *refused]

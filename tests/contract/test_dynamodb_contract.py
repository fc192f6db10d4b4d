"""The DynamoDB writer keeps the promises of every sink, on a real DynamoDB, read by a plain boto3 client."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from tailrace import aws
from tailrace.sink.dynamodb import DynamoDBWriter
from tailrace.sink.dynamodb_items import ITEM_BYTES
from tailrace.sink.dynamodb_values import DEPTH, document, item_size
from tailrace.targets import DynamoDBTable, Index
from tailrace.testing import PARCEL, Answer, DoorContract, Store, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tailrace.endpoints import Endpoints
    from tailrace.targets import Sink
    from tests.providers import RunningStack

FIELDS = [field.name for field in PARCEL.fields]


class DynamoDBStore:
    """One table of its own."""

    unwritable: Mapping[str, Any] = {"note": "x" * 410_000}

    def __init__(self, endpoints: Endpoints, write: Any = "transact") -> None:
        active = Index("by_owner", pk="{owner}", sk="{id}", when="active")
        self.endpoints = endpoints
        self.target = DynamoDBTable(
            f"parcels-{uuid4().hex[:8]}",
            "parcel",
            pk="OWNER#{owner}",
            sk="PARCEL#{id}",
            indexes=(active,),
            write=write,
        )
        self.client = aws.client("dynamodb", endpoints.dynamodb)
        create_table(self.client, self.target.table)

    def open(self) -> DynamoDBWriter:
        return DynamoDBWriter(self.target, PARCEL, self.endpoints)

    def items(self) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("scan").paginate(TableName=self.target.table, ConsistentRead=True)
        read = TypeDeserializer().deserialize
        return [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]

    def current(self) -> Sequence[Mapping[str, Any]]:
        return [typed(item) for item in self.items() if not item.get("_deleted")]


def create_table(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
    )


def typed(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as the contract's record, adding nothing to what the table holds."""
    record = {name: item[name] for name in FIELDS}
    record["id"] = int(record["id"])
    if record["detail"] is not None:
        record["detail"] = json.dumps(record["detail"], sort_keys=True)
    if record["at"] is not None:
        record["at"] = datetime.fromisoformat(record["at"])
    return record


@pytest.fixture(params=["transact", "put"])
def table(stack: RunningStack, request: pytest.FixtureRequest) -> Iterator[DynamoDBStore]:
    made = DynamoDBStore(stack.endpoints, request.param)
    yield made
    made.client.delete_table(TableName=made.target.table)
    made.client.close()


SHAPE = (("Content-Type", "application/x-amz-json-1.0"),)
SLOW = b'{"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "slow"}'


class TestDynamoDBWriter(DoorContract):
    throttled, away = Answer(400, SLOW, SHAPE), Answer(503, b"{}", SHAPE)

    @pytest.fixture
    def store(self, table: DynamoDBStore) -> Store:
        return table

    def address(self, store: Store) -> str:
        assert isinstance(store, DynamoDBStore)
        return store.endpoints.dynamodb

    def open_at(self, store: Store, url: str) -> Sink:
        assert isinstance(store, DynamoDBStore)
        return DynamoDBWriter(store.target, PARCEL, replace(store.endpoints, dynamodb=url))

    def test_numbers_are_numbers_and_json_is_a_map(self, table: DynamoDBStore) -> None:
        record = parcel(1, detail='{"deep": [1.10, {"big": 12345678901234567890}], "none": null}')
        table.open().write([Tape().put(record)], timeout=10)

        (item,) = table.items()

        assert item["amount"] == Decimal("10.5")
        assert item["detail"] == {"deep": [Decimal("1.10"), {"big": Decimal(12345678901234567890)}], "none": None}
        assert item["by_owner_pk"] == "ada"

    def test_an_item_leaves_a_sparse_index_when_its_condition_ends(self, table: DynamoDBStore) -> None:
        tape, sink = Tape(), table.open()
        sink.write([tape.put(parcel(1))], timeout=10)
        sink.write([tape.put(parcel(1, active=False), before=parcel(1))], timeout=10)

        (item,) = table.items()

        assert "by_owner_pk" not in item
        assert "by_owner_sk" not in item

    def test_a_tombstone_holds_its_version_and_a_time_to_live_and_nothing_else(self, table: DynamoDBStore) -> None:
        tape = Tape()
        put, delete = tape.put(parcel(1)), tape.delete(parcel(1))
        table.open().write([put], timeout=10)
        table.open().write([delete], timeout=10)

        (item,) = table.items()

        assert set(item) == {"pk", "sk", "_v", "_type", "_deleted", "_ttl"}
        assert item["_v"] == delete.version

    def test_stale_writes_are_counted_and_the_rest_of_their_call_lands(self, table: DynamoDBStore) -> None:
        tape, sink = Tape(), table.open()
        old = [tape.put(parcel(number, note="old")) for number in range(250)]
        sink.write([tape.put(parcel(number, note="new")) for number in range(0, 250, 7)], timeout=30)

        written = sink.write(old, timeout=30)

        assert written.stale == len(range(0, 250, 7))
        notes = {item["id"]: item["note"] for item in table.current()}
        assert notes == {number: "old" if number % 7 else "new" for number in range(250)}

    def test_many_large_items_are_cut_into_calls_that_fit(self, table: DynamoDBStore) -> None:
        tape = Tape()
        batch = [tape.put(parcel(number, note="x" * 390_000)) for number in range(25)]

        assert list(table.open().write(batch, timeout=60)) == []

        assert len(table.current()) == 25

    def test_an_item_that_only_dynamodb_knows_to_be_invalid_is_found_among_good_ones(
        self, table: DynamoDBStore
    ) -> None:
        tape = Tape()
        batch = [tape.put(parcel(1)), tape.put(parcel(2, detail='{"": 1}')), tape.put(parcel(3))]

        rejections = table.open().write(batch, timeout=10)

        assert [rejection.position for rejection in rejections] == [1]
        assert sorted(item["id"] for item in table.current()) == [1, 3]

    @pytest.mark.parametrize("table", ["transact"], indirect=True)
    @pytest.mark.parametrize(
        "value",
        [
            {"S": "é€😀"},
            {"B": b"\x00\xff"},
            {"BOOL": True},
            {"L": []},
            {"L": [{"NULL": True}, {"S": ""}, {"L": [{"M": {}}]}]},
            {"M": {"é": {"N": "0"}, "b": {"SS": ["", "abc"]}}},
            {"NS": ["1", "-12", "1.5", "15000", "-0.001"]},
            {"N": "-" + "1" * 38},
            {"N": "12345E+100"},
        ],
    )
    def test_sizes_are_those_of_dynamodb_to_the_byte(self, table: DynamoDBStore, value: dict[str, Any]) -> None:
        item: dict[str, Any] = {"pk": {"S": "é"}, "sk": {"S": "-"}, "fill": {"S": ""}, "value": value}
        item["fill"] = {"S": "x" * (ITEM_BYTES - item_size(item))}
        table.client.put_item(TableName=table.target.table, Item=item)

        item["fill"] = {"S": item["fill"]["S"] + "x"}
        with pytest.raises(ClientError, match=r"[Ss]ize"):
            table.client.put_item(TableName=table.target.table, Item=item)

    @pytest.mark.parametrize("table", ["transact"], indirect=True)
    def test_json_is_taken_as_deep_as_dynamodb_takes_it(self, table: DynamoDBStore) -> None:
        tape = Tape()
        deep = ["[" * levels + "1" + "]" * levels for levels in (DEPTH, DEPTH + 1)]

        rejections = table.open().write([tape.put(parcel(n, detail=text)) for n, text in enumerate(deep)], timeout=10)

        assert [(rejection.position, "deeper" in rejection.reason) for rejection in rejections] == [(1, True)]
        item = {"pk": {"S": "p"}, "sk": {"S": "s"}, "x": {"L": [document(deep[0])]}}
        with pytest.raises(ClientError, match=r"[Nn]est"):
            table.client.put_item(TableName=table.target.table, Item=item)

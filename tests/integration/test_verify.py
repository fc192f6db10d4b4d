"""verify on real stores: contents written by bare clients, then damaged one thing at a time, each found by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import things
from tests.things import DOCUMENTS, ITEMS, Stores, found, row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.providers import RunningStack


@pytest.fixture(scope="module")
def stores(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with things.filled(stack, tmp_path_factory) as made:
        yield made


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

"""What a change becomes in DynamoDB, and what is refused rather than rounded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tailrace import contract
from tailrace.errors import Rejected
from tailrace.sink.dynamodb import CALL_BYTES, chunks, newest
from tailrace.sink.dynamodb_answers import CODES
from tailrace.sink.dynamodb_items import Put, Renderer
from tailrace.sink.dynamodb_keys import key_part
from tailrace.sink.dynamodb_values import Unfit, document, item_size, number, seconds, set_of
from tailrace.targets import DynamoDBTable, Index, Mirror
from tailrace.testing import PARCEL, Tape, parcel

OWNED = DynamoDBTable("t", "parcel", pk="OWNER#{owner}", sk="PARCEL#{id}", ttl="at")


def put(place: str, version: int, size: int = 10) -> Put:
    return Put((place, ""), version, {}, size, 0)


def test_a_record_becomes_key_fields_version_and_type() -> None:
    change = Tape().put(parcel(7, owner="a#b%c", note=None))

    (made,) = Renderer(OWNED, PARCEL).puts(change, 3, 0.0)

    assert made.place == ("OWNER#a%23b%25c", "PARCEL#7")
    assert made.position == 3
    assert made.item["note"] == {"NULL": True}
    assert made.item["amount"] == {"N": "10.5000"}
    assert made.item["at"] == {"S": "2026-01-02T03:04:05.678901Z"}
    assert made.item["_v"] == {"N": str(change.version)}
    assert made.item["_type"] == {"S": "parcel"}
    assert made.item["_ttl"] == {"N": str(int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()))}


def test_a_moved_record_leaves_a_tombstone_of_the_same_version_where_it_was() -> None:
    change = Tape().put(parcel(1, owner="bob"), before=parcel(1, owner="ada"))

    old, new = Renderer(OWNED, PARCEL).puts(change, 0, 1000.0)

    assert (old.place[0], new.place[0]) == ("OWNER#ada", "OWNER#bob")
    assert old.version == new.version == change.version
    assert old.item["_deleted"] == {"BOOL": True}
    assert old.item["_ttl"] == {"N": str(1000 + 7 * 24 * 3600)}


def test_a_delete_that_cannot_tell_its_key_is_rejected_with_what_to_do() -> None:
    change = Tape().delete({"id": 1})

    with pytest.raises(Rejected) as caught:
        Renderer(OWNED, PARCEL).puts(_without_before(change), 0, 0.0)

    assert "owner" in caught.value.detail
    assert "REPLICA IDENTITY FULL" in caught.value.hint


def test_a_delete_by_primary_key_needs_no_row_before() -> None:
    target = DynamoDBTable("t", "parcel", pk="PARCEL#{id}", sk="-")

    (made,) = Renderer(target, PARCEL).puts(_without_before(Tape().delete({"id": 1})), 0, 0.0)

    assert made.place == ("PARCEL#1", "-")


def _without_before(change: Any) -> Any:
    return replace(change, before=None)


@pytest.mark.parametrize(
    "value",
    [Decimal("NaN"), Decimal("Infinity"), Decimal("1" * 39), Decimal("1E-131"), Decimal("1E126"), float("nan"), 1e300],
)
def test_numbers_that_dynamodb_would_round_or_refuse_are_unfit(value: Any) -> None:
    with pytest.raises(Unfit):
        number(value)


@pytest.mark.parametrize("value", [Decimal("9" * 38), Decimal("-1E-130"), Decimal("0E-200"), Decimal("1" + "0" * 60)])
def test_numbers_within_its_limits_keep_every_digit(value: Decimal) -> None:
    assert Decimal(number(value)["N"]) == value


def test_json_numbers_stay_exact_and_too_deep_json_is_unfit() -> None:
    assert document("[1.10, 12345678901234567890]") == {"L": [{"N": "1.10"}, {"N": "12345678901234567890"}]}
    with pytest.raises(Unfit):
        document("[" * 40 + "]" * 40)


def test_keys_of_different_values_never_render_alike() -> None:
    assert key_part("a%23") != key_part("a#")
    assert key_part(True) == "true"
    assert key_part(date(2026, 1, 2)) == "2026-01-02"
    assert seconds(date(1970, 1, 2)) == 86_400


def test_sizes_follow_dynamodbs_rules() -> None:
    item: dict[str, Any] = {"é": {"S": "é"}, "n": {"N": "-12345"}, "l": {"L": [{"NULL": True}]}}

    assert item_size(item) == (2 + 2) + (1 + 5) + (1 + 3 + 2)


def test_a_batch_names_each_item_once_with_its_newest_version() -> None:
    assert newest([put("a", 1), put("b", 5), put("a", 3), put("b", 2)]) == [put("a", 3), put("b", 5)]


def test_calls_hold_at_most_a_hundred_puts_and_four_megabytes() -> None:
    assert [len(chunk) for chunk in chunks(put(str(n), 1) for n in range(250))] == [100, 100, 50]
    large = [put(str(n), 1, CALL_BYTES // 2) for n in range(5)]
    assert [len(chunk) for chunk in chunks(large)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("None", "INNOCENT"),
        ("ConditionalCheckFailed", "STALE"),
        ("TransactionConflict", "CONFLICT"),
        ("ThrottlingError", "THROTTLED"),
        ("ValidationError", "INVALID"),
    ],
)
def test_every_reason_of_a_cancelled_call_has_one_verdict(code: str, name: str) -> None:
    assert CODES[code].name == name


@pytest.mark.parametrize(("owner", "number"), [("", 1), ("x" * 2049, 1), ("é" * 1025, 1)])
def test_a_key_that_is_empty_or_too_long_is_rejected_before_anything_is_sent(owner: str, number: int) -> None:
    target = DynamoDBTable("t", "parcel", pk="{owner}", sk="{id}")

    with pytest.raises(Rejected) as caught:
        Renderer(target, PARCEL).puts(Tape().put(parcel(number, owner=owner)), 0, 0.0)

    assert owner not in str(caught.value) or not owner


def test_an_update_that_cannot_tell_where_the_item_was_is_rejected_and_an_insert_is_not() -> None:
    renderer = Renderer(OWNED, PARCEL)
    insert = Tape().put(parcel(1))

    with pytest.raises(Rejected, match="update does not say"):
        renderer.puts(replace(insert, op="u"), 0, 0.0)

    assert [made.place for made in renderer.puts(insert, 0, 0.0)] == [("OWNER#ada", "PARCEL#1")]
    assert len(renderer.puts(replace(insert, op="r"), 0, 0.0)) == 1


def test_a_row_whose_key_was_invalid_before_moves_in_without_a_tombstone() -> None:
    target = DynamoDBTable("t", "parcel", pk="NOTE#{note}", sk="{id}")
    change = Tape().put(parcel(1, note="now"), before=parcel(1, note=None))

    (made,) = Renderer(target, PARCEL).puts(change, 0, 0.0)

    assert made.place == ("NOTE#now", "1")


def test_a_mirror_has_everything_but_the_indexes() -> None:
    target = DynamoDBTable(
        "t",
        "parcel",
        pk="PARCEL#{id}",
        sk="-",
        indexes=(Index("active", pk="ACTIVE", sk="{id}", when="active"),),
        mirrors=(Mirror(pk="OWNER#{owner}", sk="{id}"),),
        ttl="at",
    )

    own, mirror = Renderer(target, PARCEL).puts(Tape().put(parcel(1)), 0, 0.0)

    assert mirror.place == ("OWNER#ada", "1")
    assert own.item.keys() - mirror.item.keys() == {"active_pk", "active_sk"}
    assert {**own.item, **mirror.item} == {**own.item, "pk": {"S": "OWNER#ada"}, "sk": {"S": "1"}}


@pytest.mark.parametrize(
    ("kind", "values", "made"),
    [
        ("string", ["b", "", "a"], {"SS": ["b", "", "a"]}),
        ("long", [3, -1], {"NS": ["3", "-1"]}),
        ("bytes", [b"", b"x"], {"BS": [b"", b"x"]}),
        ("string", [], None),
    ],
)
def test_an_array_becomes_a_set_of_its_kind_and_an_empty_one_no_attribute(kind: str, values: Any, made: Any) -> None:
    assert set_of(arrays(kind))(values) == made


@pytest.mark.parametrize(("kind", "values"), [("string", ["a", "a"]), ("long", [1, 1]), ("string", ["a", None])])
def test_a_repeated_value_or_a_null_has_no_place_in_a_set(kind: str, values: Any) -> None:
    with pytest.raises(Unfit):
        set_of(arrays(kind))(values)


def arrays(kind: str) -> contract.Field:
    schema = {
        "type": "record",
        "name": "r",
        "key": ["id"],
        "fields": [{"name": "id", "type": "long"}, {"name": "many", "type": {"type": "array", "items": kind}}],
    }
    return contract.build("r", schema, where="test").by_name["many"]


def test_a_json_value_that_looks_like_a_pointer_is_refused_only_where_there_are_pointers() -> None:
    change = Tape().put(parcel(1, detail='{"_s3": "x", "bytes": 1, "sha256": "y"}'))

    assert len(Renderer(OWNED, PARCEL).puts(change, 0, 0.0)) == 1
    with pytest.raises(Rejected, match="pointer"):
        Renderer(replace(OWNED, oversize="s3"), PARCEL).puts(change, 0, 0.0)


def test_an_item_too_large_without_any_value_that_may_overflow_is_rejected() -> None:
    schema = {
        "type": "record",
        "name": "r",
        "key": ["id"],
        "fields": [{"name": "id", "type": "long"}, {"name": "many", "type": {"type": "array", "items": "string"}}],
    }
    target = DynamoDBTable("t", "r", pk="R", sk="{id}", oversize="s3")
    change = replace(Tape().put(parcel(1)), record="r", value={"id": 1, "many": ["x" * 500_000]})

    with pytest.raises(Rejected, match="of 409600 bytes"):
        Renderer(target, contract.build("r", schema, where="test")).puts(change, 0, 0.0)

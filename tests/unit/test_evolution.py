"""What may follow a contract, and which one is in force."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.contract import Contract, build
from tailrace.errors import Refused
from tailrace.evolution import added, ahead, evolved, newer, unreadable
from tests.shop import DECIMAL, FIELDS, avsc, shop

NOTE: dict[str, Any] = {"name": "gift", "type": ["null", "string"], "default": None}
COUNT: dict[str, Any] = {"name": "count", "type": ["null", "int"], "default": None}


class Registered:
    """A registry that knows the newest schema of some topics."""

    def __init__(self, **by_topic: Contract) -> None:
        self.schemas = {f"shop.conformed.{record}": contract.schema for record, contract in by_topic.items()}

    def latest(self, topic: str) -> tuple[int, dict[str, Any]] | None:
        found = self.schemas.get(topic)
        return None if found is None else (1, dict(found))


def with_field(name: str, **changes: Any) -> Contract:
    return avsc([{**entry, **changes} if entry["name"] == name else entry for entry in FIELDS])


def test_a_contract_grows_by_nullable_fields_behind_its_own_and_by_wider_types() -> None:
    before = avsc([*FIELDS, COUNT])
    after = added(before, [NOTE], {"count": "long"})

    assert [field.name for field in after.fields] == [*(field.name for field in before.fields), "gift"]
    assert after.by_name["count"].kind == "long"
    assert after.by_name["count"].nullable
    assert after.key == before.key
    assert ahead(before, after) == ("field gift", "field count as long")


@pytest.mark.parametrize(
    ("fields", "widened"),
    [
        ([{"name": "gift", "type": "string"}], {}),
        ([{"name": "gift", "type": "string", "default": ""}], {}),
        ([{"name": "gift", "type": ["null", "string"]}], {}),
        ([{"name": "note", "type": ["null", "string"], "default": None}], {}),
        ([NOTE, NOTE], {}),
        ([], {"id": "int"}),
        ([], {"id": "double"}),
        ([], {"note": "long"}),
        ([], {"absent": "long"}),
    ],
)
def test_what_older_records_could_not_be_read_under_is_refused(
    fields: list[dict[str, Any]], widened: dict[str, str]
) -> None:
    with pytest.raises(Refused, match="cannot grow so"):
        added(avsc(), fields, widened)


def test_the_same_schema_is_no_news_whatever_its_order_and_documentation() -> None:
    shuffled = avsc([{**entry, "doc": "said since"} for entry in reversed(FIELDS)])

    assert newer(avsc(), avsc().schema) is None
    assert newer(avsc(), shuffled.schema) is None


def test_a_registered_evolution_is_the_newer_contract() -> None:
    later = newer(avsc(), added(avsc(), [NOTE]).schema)

    assert later is not None
    assert later.name == "orders"
    assert ahead(avsc(), later) == ("field gift",)


@pytest.mark.parametrize(
    ("registered", "why"),
    [
        (avsc(FIELDS[:-1]), "field placed_at is not in it"),
        (with_field("paid", type="string"), "field paid has another type"),
        (with_field("total", type={**DECIMAL, "scale": 3}), "field total has another type"),
        (with_field("id", type="int"), "field id has another type"),
        (with_field("paid", type=["null", "boolean"]), "field paid has another type"),
        (with_field("note", type=["null", "string"], default="x"), "field note has another default"),
        (avsc([*FIELDS, {"name": "gift", "type": "string"}]), "field gift is new"),
        (avsc(key=("id", "buyer_id")), "its key is id, buyer_id"),
        (build("orders", {**avsc().schema, "name": "Others"}, where="x"), "called Others instead of Orders"),
    ],
)
def test_a_registered_schema_that_is_neither_is_refused_by_what_is_wrong(registered: Contract, why: str) -> None:
    with pytest.raises(Refused) as caught:
        newer(avsc(), registered.schema)

    assert why in caught.value.detail
    assert "tailrace apply" in caught.value.hint


def test_a_registered_schema_that_is_no_contract_is_refused() -> None:
    with pytest.raises(Refused, match="neither"):
        newer(avsc(), {"type": "record", "name": "Orders", "fields": []})


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("long", True), ("int", True), ("float", False), ("string", False), ("bytes", False),
        ({"type": "long", "logicalType": "timestamp-micros"}, False), ({"type": "int", "logicalType": "date"}, False),
    ],
)  # fmt: skip
def test_a_value_is_read_only_as_what_it_was_written_as(kind: Any, *, read: bool) -> None:
    assert unreadable(avsc(), with_field("buyer_id", type=kind)) == (() if read else ("buyer_id",))


def test_a_decimal_is_read_under_more_digits_and_never_under_another_scale() -> None:
    assert unreadable(with_field("total", type={**DECIMAL, "precision": 20}), avsc()) == ()
    assert unreadable(with_field("total", type={**DECIMAL, "scale": 3}), avsc()) == ("total",)


def test_the_contract_in_force_is_the_registered_evolution_and_the_file_where_there_is_none() -> None:
    project, later = shop(), added(avsc(), [NOTE])

    assert evolved(project, Registered(orders=later)).contract("orders").by_name.keys() > avsc().by_name.keys()
    assert evolved(project, Registered(orders=avsc())) is project
    assert evolved(project, Registered()) is project
    assert evolved(project, Registered(orders=later), records=()) is project

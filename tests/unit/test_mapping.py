"""The mapping, the ids and the documents of a contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest

from tailrace import contract
from tailrace.contract import Contract, Field
from tailrace.control.resources import search
from tailrace.errors import ProjectError, Refused, Rejected
from tailrace.evolution import added
from tailrace.sink import mapping
from tailrace.targets import DELETED_FIELD, GeoPoint, Nested, Object, SearchIndex, Text
from tailrace.testing import PARCEL, parcel


def shape(*kinds: str) -> Contract:
    """Return a contract whose key is one column of each kind."""
    logical = {"date": "int", "numeric": "string", "uuid": "string", "timestamp-micros": "long"}
    fields = [
        {"name": f"k{index}", "type": {"type": logical[kind], "logicalType": kind} if kind in logical else kind}
        for index, kind in enumerate(kinds)
    ]
    schema = {"type": "record", "name": "r", "fields": fields, "key": [entry["name"] for entry in fields]}
    return contract.build("r", schema, where="test")


def identity(kinds: tuple[str, ...], *values: Any) -> str:
    made = shape(*kinds)
    return mapping.document_id(made, dict(zip(made.key, values, strict=True)))


def test_an_id_is_never_empty_and_no_key_can_be_taken_for_the_hash_of_another() -> None:
    long = "é" * 300
    hashed = identity(("string",), long)
    assert identity(("string",), "").startswith("sha256:")
    assert len({hashed, identity(("string",), hashed), identity(("string",), "")}) == 3


def test_the_mapping_is_strict_and_says_every_field() -> None:
    body = mapping.index_body(SearchIndex("parcels", record="parcel", text=("note",)), PARCEL)

    keyword = {"type": "keyword", "ignore_above": 8191}
    assert body["mappings"] == {
        "dynamic": "strict",
        "properties": {
            "id": {"type": "long"},
            "owner": keyword,
            "amount": keyword,
            "exact": keyword,
            "note": {"type": "text", "fields": {"keyword": keyword}},
            "active": {"type": "boolean"},
            "detail": {"type": "flat_object"},
            "at": {"type": "date", "format": "strict_date_optional_time"},
            DELETED_FIELD: {"type": "boolean"},
        },
    }


def test_the_alias_hides_delete_markers_and_takes_writes() -> None:
    target = SearchIndex("parcels", record="parcel")

    assert mapping.index_name(target) == "parcels-000001"
    assert mapping.index_body(target, PARCEL)["aliases"] == {
        "parcels": {"filter": {"bool": {"must_not": {"term": {DELETED_FIELD: True}}}}, "is_write_index": True}
    }


def test_a_document_holds_the_fields_asked_for_and_always_the_key() -> None:
    target = SearchIndex("parcels", record="parcel", fields=("note",))

    assert orjson.loads(mapping.Renderer(target, PARCEL).document(parcel(7))) == {"id": 7, "note": "parcel 7"}


@pytest.mark.parametrize(
    ("precision", "scale", "expected"),
    [(14, 2, {"type": "scaled_float", "scaling_factor": 100}), (16, 2, {"type": "keyword", "ignore_above": 8191})],
)
def test_a_decimal_is_a_number_only_where_a_double_holds_all_its_digits(
    precision: int, scale: int, expected: dict[str, Any]
) -> None:
    assert (
        mapping.field_mapping(Field("price", "decimal", nullable=False, precision=precision, scale=scale)) == expected
    )


def test_the_id_of_one_key_column_is_its_text() -> None:
    assert identity(("string",), "a|b%") == "a|b%"
    assert identity(("long",), -5) == "-5"
    assert identity(("boolean",), True) == "true"
    assert identity(("date",), date(2026, 1, 2)) == "2026-01-02"
    assert identity(("numeric",), Decimal("1E+2")) == "100"
    assert identity(("uuid",), UUID(int=5)) == "00000000-0000-0000-0000-000000000005"


def test_composite_keys_never_meet() -> None:
    pairs = [("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c"), ("a", "b%7Cc"), ("a%", "7Cb|c"), ("", "a|b|c")]

    assert len({identity(("string", "string"), *pair) for pair in pairs}) == len(pairs)
    assert identity(("string", "string"), "a|b", "50%") == "a%7Cb|50%25"


def test_an_id_longer_than_opensearch_takes_is_a_digest() -> None:
    longest = "é" * 256

    assert identity(("string",), longest) == longest
    assert identity(("string",), longest + "x").startswith("sha256:")
    assert identity(("string",), longest + "x") != identity(("string",), longest + "y")


def test_an_instant_is_shown_in_utc_with_six_digits() -> None:
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))

    assert identity(("timestamp-micros",), east) == "2026-01-01T00:00:00.000000Z"
    assert identity(("timestamp-micros",), datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detail", "[1]"),
        ("detail", "null"),
        ("detail", '"text"'),
        ("at", datetime(2026, 1, 1)),  # noqa: DTZ001 - the missing zone is the point
        ("amount", "Infinity"),
        ("amount", "NaN7"),
    ],
)
def test_what_the_index_cannot_hold_is_rejected_by_field_and_without_its_value(field: str, value: Any) -> None:
    record = parcel(1, **{field: Decimal(value) if field == "amount" else value})

    with pytest.raises(Rejected) as caught:
        mapping.Renderer(SearchIndex("parcels", record="parcel"), PARCEL).document(record)

    assert field in caught.value.problem
    assert str(value) not in str(caught.value)


def test_a_number_that_json_has_no_word_for_is_rejected() -> None:
    made = contract.build(
        "r", {"type": "record", "key": ["id"], "fields": [{"name": "id", "type": "double"}]}, where="test"
    )
    for value in (float("nan"), float("inf")):
        with pytest.raises(Rejected, match="finite"):
            mapping.Renderer(SearchIndex("r", record="r"), made).document({"id": value})


def test_json_travels_as_it_is_on_one_line() -> None:
    record = parcel(1, detail='{\n "n": 1.10,\r\n "big": 12345678901234567890123 }')

    document = mapping.Renderer(SearchIndex("parcels", record="parcel"), PARCEL).document(record)

    assert b'"n": 1.10,' in document
    assert b"12345678901234567890123" in document
    assert b"\n" not in document
    assert b"\r" not in document


def test_an_index_gains_only_the_fields_that_it_lacks() -> None:
    target = SearchIndex("parcels", record="parcel")
    there = mapping.index_body(target, PARCEL)["mappings"]["properties"]
    later = added(PARCEL, [{"name": "weight", "type": ["null", "double"], "default": None}])

    assert mapping.missing(target, PARCEL, there) == {}
    assert mapping.missing(target, later, there) == {"weight": {"type": "double"}}
    assert mapping.missing(SearchIndex("parcels", record="parcel", fields=("note",)), later, there) == {}


def test_a_field_that_grows_wider_needs_no_other_index() -> None:
    target = SearchIndex("sizes", record="sizes")
    fields = [{"name": "id", "type": "long"}, {"name": "n", "type": "int"}, {"name": "x", "type": "float"}]
    narrow = contract.build("sizes", {"type": "record", "name": "sizes", "key": ["id"], "fields": fields}, where="test")
    there = mapping.index_body(target, narrow)["mappings"]["properties"]

    assert mapping.missing(target, added(narrow, [], {"n": "long", "x": "double"}), there) == {}


def test_an_index_whose_field_has_another_type_cannot_follow_and_the_way_out_is_named() -> None:
    target = SearchIndex("parcels", record="parcel")
    there = {**mapping.index_body(target, PARCEL)["mappings"]["properties"], "id": {"type": "integer"}}

    with pytest.raises(Refused, match="cannot follow") as caught:
        mapping.missing(target, PARCEL, there)

    assert "id is integer instead of long" in caught.value.detail
    assert "tailrace search rebuild parcels" in caught.value.hint


def test_an_index_of_the_narrower_types_that_were_mapped_once_serves_until_the_contract_grows() -> None:
    target = SearchIndex("sizes", record="sizes")
    fields = [{"name": "id", "type": "long"}, {"name": "n", "type": "int"}, {"name": "x", "type": "float"}]
    narrow = contract.build("sizes", {"type": "record", "name": "sizes", "key": ["id"], "fields": fields}, where="test")
    body = mapping.index_body(target, narrow)
    there = {**body["mappings"]["properties"], "n": {"type": "integer"}, "x": {"type": "float"}}
    found = {"mappings": {"dynamic": "strict", "properties": there}, "aliases": body["aliases"]}

    assert mapping.missing(target, narrow, there) == {}
    assert search.compare("sizes", body, "sizes-1", found, narrow=mapping.narrower(narrow)).action == "none"
    assert search.compare("sizes", body, "sizes-1", found).action == "conflict"
    with pytest.raises(Refused, match="cannot follow"):
        mapping.missing(target, added(narrow, [], {"n": "long"}), there)


RICH = SearchIndex(
    "parcels",
    record="parcel",
    text=("owner", Text("note", analyzer="folded", also=("english",))),
    objects=(Nested("detail", {"size": "keyword"}),),
    points=(GeoPoint("place", lat="amount", lon="exact"),),
    analysis={"analyzer": {"folded": {"tokenizer": "standard", "filter": ["lowercase", "asciifolding"]}}},
    shards=3,
    replicas=2,
    refresh_seconds=0.5,
)


def test_what_is_declared_is_in_the_body_of_the_index() -> None:
    body = mapping.index_body(RICH, PARCEL)

    index, properties = body["settings"]["index"], body["mappings"]["properties"]
    assert (index["number_of_shards"], index["number_of_replicas"], index["refresh_interval"]) == (3, 2, "500ms")
    assert index["analysis"] == RICH.analysis
    assert properties["note"]["analyzer"] == "folded"
    assert properties["note"]["fields"]["english"] == {"type": "text", "analyzer": "english"}
    assert properties["place"] == {"type": "geo_point"}
    assert properties["detail"] == {"type": "nested", "dynamic": "false", "properties": {"size": {"type": "keyword"}}}


def test_a_place_is_made_of_two_fields_and_is_null_where_one_is() -> None:
    render = mapping.Renderer(RICH, PARCEL).document

    there = orjson.loads(render(parcel(1, amount=Decimal("47.3700"), exact=Decimal("8.54"), detail="[]")))
    assert there["place"] == "POINT (8.54 47.3700)"
    assert orjson.loads(render(parcel(1, exact=None)))["place"] is None


def test_a_point_of_postgres_is_a_place_with_its_longitude_first_and_anything_else_is_rejected() -> None:
    render = mapping.Renderer(SearchIndex("parcels", record="parcel", points=(GeoPoint("note"),)), PARCEL).document

    assert orjson.loads(render(parcel(1, note="(8.54,-47.37)")))["note"] == "POINT (8.54 -47.37)"
    with pytest.raises(Rejected, match="note"):
        render(parcel(1, note="somewhere"))


def test_an_array_of_objects_is_nested_and_any_other_array_is_rejected() -> None:
    render = mapping.Renderer(RICH, PARCEL).document

    assert orjson.loads(render(parcel(1, detail='[{"size": 1.10}, {}]')))["detail"] == [{"size": 1.1}, {}]
    for odd in ("[1]", '[{"size": 1}, 2]', "7", "null"):
        with pytest.raises(Rejected, match="detail"):
            render(parcel(1, detail=odd))


@pytest.mark.parametrize(
    "target",
    [
        SearchIndex("parcels", record="parcel", text=("nothing",)),
        SearchIndex("parcels", record="parcel", text=("amount",)),
        SearchIndex("parcels", record="parcel", fields=("nothing",)),
        SearchIndex("parcels", record="parcel", objects=(Object("note", {}),)),
        SearchIndex("parcels", record="parcel", points=(GeoPoint("place", lat="note", lon="amount"),)),
        SearchIndex("parcels", record="parcel", points=(GeoPoint("place"),)),
    ],
)
def test_a_declaration_that_the_contract_does_not_bear_is_refused_by_name(target: SearchIndex) -> None:
    with pytest.raises(ProjectError, match="parcels"):
        mapping.index_body(target, PARCEL)


def stands(target: SearchIndex, **settings: Any) -> dict[str, Any]:
    """Return what OpenSearch says of an index made for a target."""
    body = mapping.index_body(target, PARCEL)
    index = {name: shown(value) for name, value in {**body["settings"]["index"], **settings}.items()}
    return {"mappings": body["mappings"], "settings": {"index": index}, "aliases": body["aliases"]}


def shown(value: Any) -> Any:
    return {name: shown(each) for name, each in value.items()} if isinstance(value, dict) else str(value)


def step(wanted: SearchIndex, found: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    made = search.compare("parcels", mapping.index_body(wanted, PARCEL), "parcels-000001", found, load="30s")
    return made.action, made.lines


def test_what_opensearch_can_do_in_place_is_a_change_and_the_rest_names_the_way_to_a_new_index() -> None:
    plain = SearchIndex("parcels", record="parcel", text=("note",), objects=(Object("detail", {"size": "keyword"}),))

    assert step(plain, stands(plain)) == ("none", ())
    for better in (
        replace(plain, text=(Text("note", also=("english",)),)),
        replace(plain, objects=(Object("detail", {"size": "keyword", "weight": "double"}),)),
        replace(plain, points=(GeoPoint("place", lat="amount", lon="exact"),)),
        replace(plain, replicas=2),
        replace(plain, refresh_seconds=5),
    ):
        action, [line] = step(better, stands(plain))
        assert action == "change", line
    for other in (
        replace(plain, text=(Text("note", analyzer="english"),)),
        replace(plain, text=("owner", "note")),
        replace(plain, text=()),
        replace(plain, objects=(Nested("detail", {"size": "keyword"}),)),
        replace(plain, objects=(Object("detail", {"size": "long"}),)),
        replace(plain, shards=2),
        replace(plain, analysis={"analyzer": {"own": {"tokenizer": "standard"}}}),
    ):
        action, lines = step(other, stands(plain))
        assert action == "conflict", other
        assert all("`tailrace search rebuild parcels`" in line for line in lines)


def test_an_analyzer_that_is_no_longer_declared_needs_a_new_index() -> None:
    assert step(SearchIndex("parcels", record="parcel", text=("note",)), stands(
        SearchIndex("parcels", record="parcel", text=(Text("note", analyzer="english"),))
    ))[0] == "conflict"  # fmt: skip


def test_a_refresh_interval_of_a_load_is_the_workers_to_set_back() -> None:
    plain = SearchIndex("parcels", record="parcel")

    assert step(plain, stands(plain, refresh_interval="30s")) == ("none", ())
    assert step(plain, stands(plain, refresh_interval="7s")) == ("change", ("refresh_interval: 7s -> 1s",))

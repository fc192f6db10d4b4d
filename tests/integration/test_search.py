"""The search writer on a real OpenSearch: item by item, missing index, exact values, what people search for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConflictError, NotFoundError

from tailrace import contract
from tailrace.control.resources.search import compare
from tailrace.deadline import wait_for
from tailrace.errors import Fatal, Retryable
from tailrace.sink import mapping
from tailrace.sink.search import SearchWriter
from tailrace.targets import DELETED_FIELD, GeoPoint, Nested, SearchIndex, Text
from tailrace.testing import PARCEL, Tape, parcel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace.contract import Contract
    from tailrace.endpoints import Endpoints
    from tests.providers import RunningStack

EVERY_KIND = contract.build(
    "parcel",
    {
        "type": "record",
        "name": "parcel",
        "key": ["id", "part"],
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "part", "type": "string"},
            {"name": "flag", "type": "boolean"},
            {"name": "small", "type": "int"},
            {"name": "real", "type": "float"},
            {"name": "wide", "type": "double"},
            {"name": "blob", "type": "bytes"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}},
            {"name": "huge", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}},
            {"name": "exact", "type": {"type": "string", "logicalType": "numeric"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "clock", "type": {"type": "long", "logicalType": "time-micros"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
            {"name": "ident", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "detail", "type": ["null", {"type": "string", "logicalType": "json"}], "default": None},
        ],
    },
    where="test",
)
ALL: dict[str, Any] = {
    "id": 2**63 - 1,
    "part": "a|b%",
    "flag": True,
    "small": -(2**31),
    "real": 1.5,
    "wide": 0.1,
    "blob": b"\x00\xff",
    "price": Decimal("999999999999.99"),
    "huge": Decimal("12345678901234567890.123456789012345678"),
    "exact": Decimal("NaN"),
    "day": date(1, 1, 1),
    "clock": time(23, 59, 59, 999999),
    "at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "local": datetime(2026, 3, 29, 2, 30),  # noqa: DTZ001 - local times have no zone
    "ident": UUID(int=1),
    "note": "x" * 40_000,
    "detail": '{"n": 123456789012345678901234567890,\n "d": 1.10, "list": [1, null, {"x": "y"}], "text": "a\\nb"}',
}


@dataclass
class Search:
    """One index behind an alias of its own."""

    endpoints: Endpoints
    target: SearchIndex
    contract: Contract
    client: OpenSearch

    def writer(self) -> SearchWriter:
        """Return a new writer."""
        return SearchWriter(self.target, self.contract, self.endpoints)

    def source(self, identity: str) -> Any:
        """Return a document as it is stored, delete markers too."""
        return self.client.get(index=mapping.index_name(self.target), id=identity)["_source"]

    def hits(self, query: dict[str, Any]) -> list[str]:
        """Return the ids that a query finds through the alias."""
        self.client.indices.refresh(index=self.target.alias)
        answer = self.client.search(index=self.target.alias, body={"query": query, "size": 100})
        return sorted(hit["_id"] for hit in answer["hits"]["hits"])


def made(stack: RunningStack, target: SearchIndex, shape: Contract) -> Search:
    client = OpenSearch(stack.endpoints.opensearch)
    client.indices.create(index=mapping.index_name(target), body=mapping.index_body(target, shape))
    return Search(stack.endpoints, target, shape, client)


@pytest.fixture
def search(stack: RunningStack) -> Iterator[Search]:
    target = SearchIndex(f"parcels-{uuid.uuid4().hex[:8]}", record="parcel", text=("note",))
    there = made(stack, target, PARCEL)
    yield there
    there.client.indices.delete(index=mapping.index_name(target), params={"ignore_unavailable": "true"})
    there.client.close()


@pytest.fixture
def every(stack: RunningStack) -> Iterator[Search]:
    target = SearchIndex(f"every-{uuid.uuid4().hex[:8]}", record="parcel", text=("note",))
    there = made(stack, target, EVERY_KIND)
    yield there
    there.client.indices.delete(index=mapping.index_name(target))
    there.client.close()


def test_every_kind_is_stored_exactly_and_found(every: Search) -> None:
    change = replace(Tape().put(parcel(1)), key={"id": ALL["id"], "part": ALL["part"]}, value=ALL)

    assert list(every.writer().write([change], timeout=30)) == []

    source = every.source(f"{2**63 - 1}|a%7Cb%25")
    assert source == {
        "id": 2**63 - 1, "part": "a|b%", "flag": True, "small": -(2**31), "real": 1.5, "wide": 0.1, "blob": "AP8=",
        "price": "999999999999.99", "huge": "12345678901234567890.123456789012345678", "exact": "NaN",
        "day": "0001-01-01", "clock": "23:59:59.999999", "at": "9999-12-31T23:59:59.999999Z",
        "local": "2026-03-29T02:30:00.000000", "ident": "00000000-0000-0000-0000-000000000001", "note": "x" * 40_000,
        "detail": {"n": 123456789012345678901234567890, "d": 1.1, "list": [1, None, {"x": "y"}], "text": "a\nb"},
    }  # fmt: skip
    assert every.hits({"range": {"price": {"gte": "999999999999.98"}}}) == [f"{2**63 - 1}|a%7Cb%25"]
    assert every.hits({"term": {"detail.list.x": "y"}}) == [f"{2**63 - 1}|a%7Cb%25"]


def test_one_document_that_the_index_refuses_is_rejected_without_its_value_and_the_rest_lands(search: Search) -> None:
    tape = Tape()
    deep = '{"a":' * 30 + "1" + "}" * 30
    twice = '{"a": 1, "a": 2}'
    batch = [
        tape.put(parcel(1)),
        tape.put(parcel(2, detail=twice)),
        tape.put(parcel(3)),
        tape.put(parcel(4, detail=deep)),
    ]

    rejections = search.writer().write(batch, timeout=30)

    assert {rejection.position for rejection in rejections} >= {1}
    assert all("OpenSearch cannot index the document" in rejection.reason for rejection in rejections)
    assert set(search.hits({"match_all": {}})) >= {"1", "3"}


def test_when_the_newest_change_of_a_key_is_rejected_the_one_before_it_is_written(search: Search) -> None:
    tape = Tape()
    good = parcel(1, note="good")
    batch = [tape.put(good), tape.put(parcel(1, detail='{"a": 1, "a": 2}'), before=good)]

    rejections = search.writer().write(batch, timeout=30)

    assert [rejection.position for rejection in rejections] == [1]
    assert search.source("1")["note"] == "good"


def test_many_changes_of_one_key_end_as_its_newest_by_version_not_by_place(search: Search) -> None:
    tape = Tape()
    batch = [tape.put(parcel(1, note=f"note {number}")) for number in range(20)]

    written = search.writer().write(list(reversed(batch)), timeout=30)

    assert list(written) == []
    assert search.source("1")["note"] == "note 19"
    assert search.client.get(index=mapping.index_name(search.target), id="1")["_version"] == batch[-1].version


def test_a_delete_leaves_a_marker_that_the_alias_hides(search: Search) -> None:
    tape = Tape()
    writer = search.writer()
    put = tape.put(parcel(1))
    writer.write([put, tape.delete(parcel(1))], timeout=30)

    again = writer.write([put], timeout=30)

    assert search.source("1") == {DELETED_FIELD: True}
    assert search.hits({"match_all": {}}) == []
    assert (again.stale, list(again)) == (1, [])


def test_an_old_write_after_a_delete_is_refused_long_after_opensearch_has_forgotten_its_own_deletes(
    search: Search,
) -> None:
    name, tape = mapping.index_name(search.target), Tape()
    search.client.indices.put_settings(index=name, body={"index.gc_deletes": "1s"})
    put, delete = tape.put(parcel(1)), tape.delete(parcel(1))
    search.writer().write([put, delete], timeout=30)
    bare: dict[str, Any] = {"index": name, "id": "bare"}
    with pytest.raises(NotFoundError):  # the delete of nothing is remembered like any other
        search.client.delete(**bare, params={"version": 9, "version_type": "external"})

    def forgotten() -> bool:
        search.client.indices.refresh(index=name)
        try:
            search.client.index(**bare, body={"id": 2}, params={"version": 5, "version_type": "external"})
        except ConflictError:
            return False
        return True

    wait_for(forgotten, timeout=60, what="OpenSearch to forget a delete of version 9 and take version 5")

    assert search.writer().write([put], timeout=30).stale == 1
    assert search.source("1") == {DELETED_FIELD: True}


def test_a_missing_index_stops_the_worker_and_is_not_made_by_accident(search: Search) -> None:
    name = mapping.index_name(search.target)
    search.client.indices.delete(index=name)

    with pytest.raises(Fatal) as at_start:
        search.writer().connect()
    with pytest.raises(Fatal) as at_write:
        search.writer().write([Tape().put(parcel(1))], timeout=30)

    assert "tailrace apply" in at_start.value.hint
    assert "tailrace apply" in at_write.value.hint
    assert not search.client.indices.exists(index=name)
    assert not search.client.indices.exists(index=search.target.alias)


def test_an_index_under_the_name_of_the_alias_is_not_written(search: Search) -> None:
    search.client.indices.delete(index=mapping.index_name(search.target))
    search.client.indices.create(index=search.target.alias)
    try:
        with pytest.raises(Fatal):
            search.writer().write([Tape().put(parcel(1))], timeout=30)
        assert search.client.count(index=search.target.alias)["count"] == 0
    finally:
        search.client.indices.delete(index=search.target.alias)


def test_a_cluster_that_is_down_is_a_pause(stack: RunningStack) -> None:
    down = replace(stack.endpoints, opensearch="http://127.0.0.1:1")
    writer = SearchWriter(SearchIndex("parcels", record="parcel"), PARCEL, down)

    with pytest.raises(Retryable):
        writer.connect()
    with pytest.raises(Retryable):
        writer.write([Tape().put(parcel(1))], timeout=5)


def test_people_find_words_and_exact_values(search: Search) -> None:
    tape = Tape()
    search.writer().write([tape.put(parcel(1, note="Ada Lovelace, Bern")), tape.put(parcel(2, note="Bob"))], timeout=30)

    assert search.hits({"match": {"note": "lovelace"}}) == ["1"]
    assert search.hits({"term": {"note.keyword": "Bob"}}) == ["2"]
    assert search.hits({"term": {"owner": "ada"}}) == ["1", "2"]


RICH: dict[str, Any] = {
    "text": ("owner", Text("note", analyzer="folded", also=("english",))),
    "objects": (Nested("detail", {"size": "keyword", "color": "keyword"}),),
    "points": (GeoPoint("place", lat="amount", lon="exact"),),
    "analysis": {"analyzer": {"folded": {"tokenizer": "standard", "filter": ["lowercase", "asciifolding"]}}},
    "shards": 2,
}


def test_analyzers_places_and_nested_objects_are_searched_as_declared(stack: RunningStack) -> None:
    there = made(stack, SearchIndex(f"rich-{uuid.uuid4().hex[:8]}", record="parcel", **RICH), PARCEL)
    try:
        record = parcel(
            1, note="Zürich parcels", amount=Decimal("47.3700"), exact=Decimal("8.54"),
            detail='[{"size": "s", "color": "red"}, {"size": "l", "color": "blue", "other": 1.10}]',
        )  # fmt: skip
        assert list(there.writer().write([Tape().put(record)], timeout=30)) == []

        assert there.hits({"match": {"note": "zurich"}}) == ["1"]
        assert there.hits({"match": {"note.english": "parcel"}}) == ["1"]
        assert there.hits({"geo_distance": {"distance": "5km", "place": {"lat": 47.37, "lon": 8.55}}}) == ["1"]
        both = [{"term": {"detail.size": "s"}}, {"term": {"detail.color": "blue"}}]
        assert there.hits({"nested": {"path": "detail", "query": {"bool": {"must": both}}}}) == []
        assert there.hits({"nested": {"path": "detail", "query": both[1]}}) == ["1"]
        found = there.client.indices.get(index=mapping.index_name(there.target))[mapping.index_name(there.target)]
        body = mapping.index_body(there.target, PARCEL)
        assert compare(there.target.alias, body, mapping.index_name(there.target), found).lines == ()
    finally:
        there.client.indices.delete(index=mapping.index_name(there.target))
        there.client.close()


def test_a_place_that_is_not_on_earth_is_rejected_and_the_rest_lands(stack: RunningStack) -> None:
    target = SearchIndex(f"rich-{uuid.uuid4().hex[:8]}", record="parcel", points=RICH["points"])
    there, tape = made(stack, target, PARCEL), Tape()
    try:
        far = tape.put(parcel(1, amount=Decimal(91), exact=Decimal(0)))
        rejections = there.writer().write([far, tape.put(parcel(2))], timeout=30)

        assert [(each.position, "place" in each.reason) for each in rejections] == [(0, True)]
        assert there.hits({"exists": {"field": "place"}}) == ["2"]
    finally:
        there.client.indices.delete(index=mapping.index_name(target))
        there.client.close()


def refresh_interval(search: Search) -> str:
    found = search.client.indices.get_settings(index=search.target.alias)
    return str(found[mapping.index_name(search.target)]["settings"]["index"]["refresh_interval"])


def test_an_index_refreshes_rarely_while_its_worker_is_far_behind_and_as_declared_afterwards(search: Search) -> None:
    tape, writer = Tape(), search.writer()
    writer.connect()
    writer.write([tape.put(parcel(number)) for number in range(1, 1001)], timeout=60)  # committed long ago
    assert refresh_interval(search) == "30s"

    wait_for(lambda: refresh_interval(search) == "1s", timeout=30, what="the declared interval")
    writer.write([tape.put(parcel(number)) for number in range(1, 1001)], timeout=60)
    assert refresh_interval(search) == "30s"
    writer.close()
    assert refresh_interval(search) == "1s"


def test_an_interval_that_a_crash_left_is_set_back_by_the_next_worker_and_another_one_is_left_alone(
    search: Search,
) -> None:
    for left, expected in (("30s", "1s"), ("7s", "7s")):
        search.client.indices.put_settings(index=search.target.alias, body={"index": {"refresh_interval": left}})
        writer = search.writer()
        writer.connect()
        writer.close()
        assert refresh_interval(search) == expected


def test_a_load_leaves_the_interval_alone_where_that_is_declared(search: Search) -> None:
    quiet = replace(search, target=replace(search.target, load_refresh_seconds=None))
    writer, tape = quiet.writer(), Tape()
    writer.connect()

    writer.write([tape.put(parcel(number)) for number in range(1, 1001)], timeout=60)

    assert refresh_interval(search) == "1s"
    writer.close()

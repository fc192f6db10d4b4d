"""Rebuilding a search index: names, what may be found, and which markers are old."""

from __future__ import annotations

import pytest

from tailrace.control.markers import old
from tailrace.control.rebuild import find, number_of, other_form
from tailrace.errors import UsageError
from tailrace.targets import SearchIndex
from tailrace.version import pack
from tests import shop


def test_an_alias_is_found_with_its_sink_and_an_unknown_one_names_those_that_are_there() -> None:
    loaded = shop.shop(sinks={"search": (SearchIndex("orders", record="orders"),)})

    assert find(loaded, "orders") == ("search", SearchIndex("orders", record="orders"))
    with pytest.raises(UsageError, match="oders") as caught:
        find(loaded, "oders")
    assert "orders" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "number"),
    [("orders-000001", 1), ("orders-000012", 12), ("orders-1", 0), ("orders-rebuild", 0), ("orders", 0),
     ("orders-000001-old", 0), ("other-000001", 0)],
)  # fmt: skip
def test_only_a_numbered_name_is_one_of_the_indexes_of_an_alias(name: str, number: int) -> None:
    assert number_of(SearchIndex("orders", record="orders"), name) == number


def test_a_marker_is_old_when_its_raw_record_is_gone_whatever_its_epoch() -> None:
    assert old(pack(1, 9), 10)
    assert old(pack(3, 9), 10)
    assert not old(pack(1, 10), 10)
    assert not old(pack(2, 0), 0)


def test_documents_are_of_another_form_when_fields_come_or_go_or_a_text_becomes_a_place() -> None:
    text, place = {"type": "text"}, {"type": "geo_point"}

    assert other_form({"a": text}, {"a": {"type": "keyword"}}) == []
    assert other_form({"a": text, "b": text}, {"b": text, "c": text}) == ["a", "c"]
    assert other_form({"a": text}, {"a": place}) == ["a"]
    assert other_form({"a": place}, {"a": place}) == []

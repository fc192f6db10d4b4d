"""An item at a place that its row has left: the row before, as a change has to name it, for the sink to go there."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import contract
from tailrace.control.repair import strays
from tailrace.control.strays import row_before
from tailrace.control.verify.dynamodb import SEPARATOR, place_of
from tailrace.control.verify.report import Check, Difference, Report
from tailrace.project import load
from tailrace.sink.dynamodb_items import Renderer
from tailrace.targets import DynamoDBTable, Mirror
from tailrace.testing import PARCEL, Tape, parcel
from tests.providers import ROOT

if TYPE_CHECKING:
    from tailrace.sink.dynamodb_items import Place

OWNED = DynamoDBTable("t", "parcel", pk="OWNER#{owner}", sk="PARCEL#{id}", mirrors=(Mirror("ALL", "{owner}#{id}"),))
KINDS: dict[str, tuple[Any, Any]] = {
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "string": ("string", st.text(min_size=1)),
    "boolean": ("boolean", st.booleans()),
    "uuid": ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    "date": ({"type": "int", "logicalType": "date"}, st.dates(min_value=date(1000, 1, 1))),
    "timestamp": (
        {"type": "long", "logicalType": "timestamp-micros"},
        st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    ),
    "decimal": (
        {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3},
        st.integers(-(10**11), 10**11).map(lambda number: Decimal(number).scaleb(-3)),
    ),
}


def named(place: Place) -> str:
    """Name a place as a report does."""
    return place[0].replace("/", "//") + SEPARATOR + place[1]


@given(st.text(min_size=1).filter(lambda owner: owner != "bob"))
def test_a_change_from_the_row_before_leaves_the_place_and_puts_the_row_where_it_is(owner: str) -> None:
    renderer, tape = Renderer(OWNED, PARCEL), Tape()
    was, row = parcel(7, owner=owner), parcel(7, owner="bob")
    for left in renderer.puts(tape.put(was), 0, 0.0):
        before = row_before(OWNED, PARCEL, named(left.place), row)
        assert before is not None
        assert {**before, "owner": "bob"} == row

        puts = renderer.puts(tape.put(row, before=before), 0, 0.0)

        assert left.place in [put.place for put in puts if put.leaves]
        there = [put.place for put in renderer.puts(tape.put(row), 0, 0.0)]
        assert [put.place for put in puts if not put.leaves] == there


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_columns_of_every_kind_that_keys_are_made_of_are_read_back(kind: str, data: st.DataObject) -> None:
    shape, values = KINDS[kind]
    fields = [{"name": "id", "type": "long"}, {"name": "at", "type": shape}]
    made = contract.build("thing", {"type": "record", "name": "thing", "key": ["id"], "fields": fields}, where="test")
    target = DynamoDBTable("t", "thing", pk="AT#{at}", sk="#{id}")
    one, other = data.draw(values), data.draw(values)
    [put] = Renderer(target, made).puts(Tape().put({"id": 1, "at": one}), 0, 0.0)

    assert row_before(target, made, named(put.place), {"id": 1, "at": other}) == {"id": 1, "at": one}


def test_what_another_store_calls_its_things_is_no_place() -> None:
    assert row_before(OWNED, PARCEL, "7", parcel(7, owner="bob")) is None


@pytest.mark.parametrize(
    "place", [("OWNER#ada", "PARCEL#x"), ("OWNER#ada", "BOX#7"), ("ada", "7"), ("OWNER#a#b", "PARCEL#7")]
)
def test_a_place_that_no_row_makes_has_no_row_before(place: tuple[str, str]) -> None:
    assert row_before(OWNED, PARCEL, named(place), parcel(7, owner="bob")) is None


@given(st.text(), st.text())
def test_a_place_is_read_back_from_its_name(pk: str, sk: str) -> None:
    assert place_of(named((pk, sk))) == (pk, sk)


def test_a_report_says_where_rows_were_of_the_tables_that_have_items_too_many_and_of_no_other_store() -> None:
    project = load(ROOT)
    too_many = Difference("extra", "CUSTOMER#9 / ACCOUNT#5", row=("5",))
    stale = Difference("stale", "CUSTOMER#8 / ACCOUNT#6", row=("6",))
    checks = [
        Check("public.accounts", "dynamodb", "DynamoDB bank", 5, [too_many, stale]),
        Check("public.customers", "search", "Search customers", 5, [Difference("extra", "9", row=("9",))]),
    ]

    [(record, were)] = strays(project, Report(checks)).items()

    assert record == "accounts"
    accounts = project.contract(record)
    assert were(accounts, {"id": 5, "customer_id": 3}) == [{"id": 5, "customer_id": 9}]
    assert were(accounts, {"id": 6, "customer_id": 3}) == []

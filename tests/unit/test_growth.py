"""How `schema derive` lets a contract grow: what is in it stays, what cannot follow is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tailrace.contract import Contract
from tailrace.control.growth import Growth, grow
from tailrace.evolution import added
from tailrace.source.catalogue import Column
from tests.shop import FIELDS, ORDERS, avsc

GIFT: dict[str, Any] = {"name": "gift", "type": ["null", "string"], "default": None}
COUNT: dict[str, Any] = {"name": "count", "type": "int"}


def grown(contract: Contract, *columns: Column, registered: Contract | None = None, function: bool = False) -> Growth:
    return grow(contract, registered, (*ORDERS.columns, *columns), function=function)


def test_a_contract_that_fits_does_not_change() -> None:
    found = grown(avsc())
    assert (found.contract.schema, found.grown, found.kept, found.incompatible) == (avsc().schema, (), (), ())


def test_new_columns_become_nullable_fields_behind_the_others_whatever_their_place_or_constraint() -> None:
    table = replace(ORDERS, columns=(Column("colour", "text", "text", nullable=False, comment="RAL"), *ORDERS.columns))
    found = grow(avsc(), None, table.columns, function=False)

    assert found.grown == ("field colour",)
    assert list(found.contract.by_name) == [*avsc().by_name, "colour"]
    assert found.contract.schema["fields"][-1] == {
        "name": "colour", "type": ["null", "string"], "default": None, "doc": "RAL",
    }  # fmt: skip


def test_what_is_registered_beyond_the_file_comes_first_even_if_its_column_is_gone() -> None:
    found = grown(avsc(), Column("colour", "text", "text"), registered=added(avsc(), [GIFT]))

    assert list(found.contract.by_name)[-2:] == ["gift", "colour"]
    assert found.kept == ("gift",)
    assert found.incompatible == ()


def test_a_type_follows_its_column_to_a_wider_one_and_never_back() -> None:
    narrow = avsc([*FIELDS, COUNT])
    wide = added(narrow, [], {"count": "long"})
    small, large = Column("count", "int4", "integer", nullable=False), Column("count", "int8", "bigint", nullable=False)

    assert grown(narrow, large).grown == ("field count as long",)
    assert grown(narrow, large).contract.by_name["count"].kind == "long"
    assert grown(wide, small).contract.by_name["count"].kind == "long"
    assert grown(narrow, small, registered=wide).contract.by_name["count"].kind == "long"


def test_a_field_without_column_stays_if_it_has_a_default_and_is_incompatible_otherwise() -> None:
    columns = tuple(column for column in ORDERS.columns if column.name not in ("note", "paid"))
    found = grow(avsc(), None, columns, function=False)

    assert found.kept == ("note",)
    assert found.incompatible == ("paid is no column any more, and has no default",)
    assert found.contract.by_name.keys() == avsc().by_name.keys()


def test_a_column_that_cannot_be_followed_is_incompatible_and_the_field_stays_what_it_is() -> None:
    changed = {"paid": Column("paid", "text", "text", nullable=False), "buyer_id": Column("buyer_id", "int8", "bigint")}
    columns = tuple(changed.get(column.name, column) for column in ORDERS.columns)
    found = grow(avsc(), None, columns, function=False)

    assert found.grown == ()
    assert [line.split()[0] for line in found.incompatible] == ["buyer_id", "paid"]
    assert "may be NULL" in found.incompatible[0]


def test_columns_that_the_contract_ignores_or_cannot_hold_do_not_join_it() -> None:
    ignoring = Contract("orders", {**avsc().schema, "ignore": ["secret"]}, avsc().fields, avsc().key)
    found = grown(ignoring, Column("secret", "text", "text"), Column("area", "polygon", "polygon"))

    assert found.grown == ()
    assert found.contract.schema["ignore"] == ["secret"]


def test_a_function_decides_about_its_fields_and_only_what_is_registered_is_added() -> None:
    found = grow(avsc(), added(avsc(), [GIFT]), (ORDERS.columns[0], Column("other", "text", "text")), function=True)

    assert (found.grown, found.kept, found.incompatible) == (("field gift",), (), ())

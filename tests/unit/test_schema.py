"""Contracts as `schema derive` writes them from a table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tailrace import contract
from tailrace.control.checks.contracts import check
from tailrace.control.schema import pretty, schema_of
from tailrace.errors import ProjectError
from tailrace.source.catalogue import Column
from tests.shop import ORDERS, seen, shop


def test_a_derived_contract_fits_the_table_it_came_from() -> None:
    schema, left_out = schema_of("shop", shop().connector, "orders", ORDERS)
    assert left_out == ()
    made = shop(orders=contract.build("orders", schema, where="orders.avsc"))
    assert list(check(made, seen())) == []
    assert made.contracts["orders"].key == ("id",)


def test_nullable_columns_become_unions_with_null_first_and_comments_documentation() -> None:
    table = replace(ORDERS, comment="What people bought.", columns=(
        ORDERS.columns[0], Column("note", "text", "text", comment="for the courier"),
    ))  # fmt: skip
    schema, _ = schema_of("shop", shop().connector, "order-lines", table)
    assert schema["doc"] == "What people bought."
    assert schema["name"] == "OrderLines"
    assert schema["fields"][1] == {
        "name": "note",
        "type": ["null", "string"],
        "default": None,
        "doc": "for the courier",
    }


def test_columns_that_no_contract_holds_are_left_out_and_named() -> None:
    odd = (
        Column("place", "polygon", "polygon"),
        Column("two words", "text", "text"),
        Column("sum", "int8", "bigint", generated=True),
    )
    schema, left_out = schema_of("shop", shop().connector, "orders", replace(ORDERS, columns=(*ORDERS.columns, *odd)))
    assert left_out == ("place", "two words", "sum")
    assert [field["name"] for field in schema["fields"]] == [column.name for column in ORDERS.columns]


@pytest.mark.parametrize("key", [(), ("nope",)])
def test_a_table_without_a_usable_key_is_refused(key: tuple[str, ...]) -> None:
    with pytest.raises(ProjectError, match="no primary key that a contract can hold"):
        schema_of("shop", shop().connector, "orders", replace(ORDERS, key=key))


def test_the_text_of_a_contract_has_one_line_per_field_and_is_its_schema() -> None:
    schema, _ = schema_of("shop", shop().connector, "orders", ORDERS)
    text = pretty(schema)
    assert json.loads(text) == schema
    assert sum('"name": ' in line for line in text.splitlines()) == len(ORDERS.columns) + 1

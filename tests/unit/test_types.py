"""The one table of Postgres types and contract kinds."""

from __future__ import annotations

import pytest

from tailrace import contract
from tailrace.source import types
from tailrace.source.catalogue import Column


def numeric(precision: int, scale: int) -> Column:
    return Column("n", "numeric", f"numeric({precision},{scale})", modifier=(precision << 16 | scale & 0x7FF) + 4)


@pytest.mark.parametrize("type_", sorted(types.FITS))
def test_every_type_of_the_table_derives_to_a_kind_that_a_contract_reads_and_that_fits(type_: str) -> None:
    column = Column("c", type_, type_)
    fields = [{"name": "id", "type": "int"}, {"name": "c", "type": types.avro(column)}]
    field = contract.build("r", {"type": "record", "name": "R", "key": ["id"], "fields": fields}, where="r").fields[1]
    assert field.kind == types.kinds(column)[0]
    assert types.misfit(column, field) == ""


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (numeric(14, 2), (14, 2)),
        (numeric(3, 5), (5, 5)),  # numeric(3,5) holds 0.00999
        (numeric(3, -2), (5, 0)),  # numeric(3,-2) holds 99900
        (Column("n", "numeric", "numeric"), None),
        (Column("m", "money", "money"), (19, 2)),
    ],
)
def test_precision_and_scale_hold_every_value_of_the_column(column: Column, expected: tuple[int, int] | None) -> None:
    assert types.numeric_modifier(column) == expected


def test_an_unbounded_numeric_fits_no_decimal() -> None:
    assert types.kinds(Column("n", "numeric", "numeric")) == ("numeric",)


def test_an_enum_is_text_and_one_bit_a_boolean() -> None:
    assert types.avro(Column("e", "mood", "mood", enum=True)) == "string"
    assert types.avro(Column("b", "bit", "bit(1)", modifier=1)) == "boolean"
    assert types.avro(Column("b", "bit", "bit(8)", modifier=8)) == "string"


@pytest.mark.parametrize("type_", sorted(types.ITEMS))
def test_every_array_of_the_table_derives_to_a_contract_that_fits(type_: str) -> None:
    column = Column("c", f"_{type_}", f"{type_}[]", item=type_)
    fields = [{"name": "id", "type": "int"}, {"name": "c", "type": types.avro(column)}]
    field = contract.build("r", {"type": "record", "name": "R", "key": ["id"], "fields": fields}, where="r").fields[1]
    assert (field.kind, types.misfit(column, field)) == ("array", "")


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (["null", "int"], "its elements fit long or numeric"),
        ("long", "may have NULLs inside"),
        (["null", "long"], ""),
    ],
)
def test_an_array_fits_by_its_elements(items: object, reason: str) -> None:
    fields = [{"name": "id", "type": "int"}, {"name": "c", "type": {"type": "array", "items": items}}]
    field = contract.build("r", {"type": "record", "name": "R", "key": ["id"], "fields": fields}, where="r").fields[1]
    wrong = types.misfit(Column("c", "_int8", "bigint[]", item="int8"), field)
    assert reason in wrong
    assert bool(reason) == bool(wrong)


@pytest.mark.parametrize("type_", [*sorted(types.REFUSED), "geometry", "something_new"])
def test_a_type_outside_the_table_is_refused_with_a_reason(type_: str) -> None:
    column = Column("c", type_, type_)
    assert types.avro(column) is None
    assert types.why_not(column)


@pytest.mark.parametrize("item", ["point", "money", "hstore", "varbit", "interval", "time", "name"])
def test_an_array_that_is_not_sent_whole_is_refused(item: str) -> None:
    column = Column("c", f"_{item}", f"{item}[]", item=item)
    assert types.avro(column) is None
    assert types.why_not(column) == "arrays of this type are not sent whole"


def test_composites_and_multiranges_are_refused_with_what_they_are() -> None:
    assert "composite" in types.why_not(Column("c", "address", "address", sort="c"))
    assert "multirange" in types.why_not(Column("c", "int4multirange", "int4multirange", sort="m"))


def test_an_array_of_an_enum_is_refused_because_a_null_inside_makes_all_of_it_null() -> None:
    assert types.avro(Column("c", "_mood", "mood[]", item="mood", sort="e")) is None


def test_an_array_that_was_declared_with_several_dimensions_is_refused() -> None:
    column = Column("c", "_int4", "integer[]", item="int4", dimensions=2)
    assert types.avro(column) is None
    assert "several dimensions" in types.why_not(column)


@pytest.mark.parametrize(
    ("type_", "bare"),
    [("text", False), ("jsonb", False), ("_text", False), ("_int4", False), ("_date", False), ("_uuid", False),
     ("_bool", True), ("_int2", True), ("_float8", True), ("_numeric", True), ("_timestamptz", True), ("varbit", True)],
)  # fmt: skip
def test_an_unchanged_toast_value_shows_a_placeholder_or_a_bare_null(type_: str, bare: bool) -> None:
    assert types.bare_null(Column("c", type_, type_, storage="x")) is bare


def test_only_what_may_lie_out_of_line_is_toastable() -> None:
    assert types.toastable(Column("c", "text", "text", storage="x"))
    assert types.toastable(Column("c", "numeric", "numeric", storage="m"))
    assert not types.toastable(Column("c", "int8", "bigint", storage="p"))
    assert not types.toastable(Column("c", "numeric", "numeric(14,2)", modifier=(14 << 16 | 2) + 4, storage="m"))

"""The comparison alone: every single difference is found, equal data never reported."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal

import pytest

from tailrace import contract
from tailrace.conforming import ConformFunction
from tailrace.control.verify.compare import Doubt, Ledger, verdict
from tailrace.control.verify.expected import Unfit, fit, record

PARCEL = contract.build(
    "parcel",
    {
        "type": "record",
        "name": "parcel",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}},
            {"name": "note", "type": ["null", "string"], "default": None},
        ],
    },
    where="test",
)
ROW = {"id": 1, "price": Decimal("1.5"), "note": None}


def test_a_ledger_doubts_what_differs_is_missing_or_extra_and_nothing_else() -> None:
    ledger = Ledger()
    for number in range(4):
        ledger.expect(f"k{number}", {"a": number}, (str(number),))
    ledger.see("k0", {"a": 0}, ("0",))
    ledger.see("k1", {"a": 2}, ("1",))
    ledger.see("k2", {"a": 2, "b": 1}, ("2",))
    ledger.see("k9", {"a": 9}, None)

    doubts = ledger.close()

    assert ledger.equal == 1
    assert set(doubts) == {Doubt("k1", ("1",)), Doubt("k2", ("2",)), Doubt("k3", ("3",)), Doubt("k9", None)}


def test_two_rows_under_one_identity_are_in_doubt() -> None:
    ledger = Ledger()
    ledger.expect("same", {"a": 1}, ("1",))
    ledger.expect("same", {"a": 2}, ("2",))
    ledger.see("same", {"a": 2}, ("2",))

    assert ledger.close() == [Doubt("same", ("1",))]


def test_a_thing_seen_twice_is_in_doubt() -> None:
    ledger = Ledger()
    ledger.expect("k", {"a": 1}, ("1",))
    ledger.see("k", {"a": 1}, ("1",))
    ledger.see("k", {"a": 1}, ("1",))

    assert ledger.close() == [Doubt("k", ("1",))]


def test_a_verdict_tells_null_from_zero_from_false_from_absent() -> None:
    values = [None, 0, False, "", "0", 0.0]
    for left in values:
        for right in values:
            same = left is right
            assert (verdict({"a": left}, {"a": right}) is None) == same
    assert verdict({"a": None}, {}) == ("different", ("a",))
    assert verdict(None, None) is None


def test_a_row_becomes_a_record_by_name_and_type_with_the_scale_of_the_contract() -> None:
    made = record({**ROW, "secret": 1}, PARCEL, None)

    assert made == {"id": 1, "price": Decimal("1.50"), "note": None}
    assert str((made or {})["price"]) == "1.50"


def test_a_function_that_filters_makes_no_record() -> None:
    assert record(ROW, PARCEL, ConformFunction("public.p", "parcel", lambda _: None)) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"price": Decimal("1.555")}, "price"),
        ({"price": Decimal("1234.00")}, "price"),
        ({"price": Decimal("NaN")}, "price"),
        ({"price": 1.5}, "price"),
        ({"id": None}, "id"),
        ({"id": True}, "id"),
        ({"note": 7}, "note"),
    ],
)
def test_a_value_that_the_contract_cannot_hold_is_unfit_and_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(Unfit, match=named):
        record({**ROW, **changes}, PARCEL, None)


def test_a_function_that_raises_or_changes_the_key_is_unfit() -> None:
    def divide(_: dict[str, object]) -> dict[str, object]:
        raise ZeroDivisionError

    with pytest.raises(Unfit, match="ZeroDivisionError"):
        record(ROW, PARCEL, ConformFunction("public.p", "parcel", divide))
    with pytest.raises(Unfit, match="key column id"):
        record(ROW, PARCEL, ConformFunction("public.p", "parcel", lambda row: {**row, "id": 2}))


def test_a_decimal_is_never_rounded() -> None:
    assert fit(PARCEL.by_name["price"], Decimal("1.500")) == Decimal("1.50")


def test_a_column_that_the_source_no_longer_has_is_the_default_of_its_field() -> None:
    gone = {"id": 1, "price": Decimal("1.5")}
    assert record(gone, PARCEL, None) == {**ROW, "price": Decimal("1.50")}
    with pytest.raises(Unfit, match="price is missing"):
        record({"id": 1, "note": None}, PARCEL, None)


def test_a_function_sees_the_default_of_a_column_that_is_gone() -> None:
    function = ConformFunction("public.parcel", "parcel", lambda row: {**row, "note": row["note"] or "none"})
    made = record({"id": 1, "price": Decimal("1.5")}, PARCEL, function)
    assert made is not None
    assert made["note"] == "none"


@pytest.mark.parametrize(
    ("shape", "given", "value"),
    [
        ("string", "x", "x"),
        ("double", 1.5, 1.5),
        ("bytes", "\u00ff\u0001", b"\xff\x01"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, "\u00ff\u0038", Decimal("-2.00")),
        ({"type": "string", "logicalType": "numeric"}, "1.50", Decimal("1.50")),
        ({"type": "int", "logicalType": "date"}, 1, date(1970, 1, 2)),
        ({"type": "long", "logicalType": "time-micros"}, 1, time(microsecond=1)),
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            -1,
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ),
        ({"type": "array", "items": ["null", "int"]}, [1, None], [1, None]),
    ],
)
def test_a_default_of_any_kind_is_the_value_that_avro_means_by_it(shape: object, given: object, value: object) -> None:
    fields = [{"name": "id", "type": "long"}, {"name": "a", "type": shape, "default": given}]
    schema = {"type": "record", "name": "r", "key": ["id"], "fields": fields}
    assert record({"id": 1}, contract.build("r", schema, where="test"), None) == {"id": 1, "a": value}

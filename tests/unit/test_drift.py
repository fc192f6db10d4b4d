"""Drift: every change of a column's type against every contract, columns that come and go, what holds a table."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tailrace import contract
from tailrace.errors import Rejected
from tailrace.source import columns, moments
from tailrace.stream.drift import default, judge, verdict
from tailrace.stream.fitting import Fitting
from tests.raw import column

LENGTH, SCALE = columns.SOURCE_LENGTH, columns.SOURCE_SCALE
UTC_DAY, DAY = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 6)  # noqa: DTZ001 - a timestamp without zone is naive


def seen(postgres: str, kind: str, semantic: str = "", bounds: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the Connect schema of a column ``x`` as the connector writes it."""
    made = column("x", kind, semantic=semantic, postgres=postgres.upper())
    if bounds:
        made["parameters"] |= {LENGTH: str(bounds[0]), SCALE: str(bounds[1])}
    return made


def listed(postgres: str, kind: str) -> dict[str, Any]:
    made = seen(f"_{postgres}", "array")
    return {**made, "items": {"type": kind, "optional": True}}


# Each built-in type: its Connect schema, and values of a row as the decoder gives them.
BUILT_IN: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "bool": (seen("bool", "boolean"), [True, False]),
    "int2": (seen("int2", "int16"), [0, 1, -32768]),
    "int4": (seen("int4", "int32"), [0, 7, 16777217, -(2**31)]),
    "int8": (seen("int8", "int64"), [0, 7, 2**40, 2**53 + 1, -(2**63)]),
    "oid": (seen("oid", "int64"), [0, 2**32 - 1]),
    "float4": (seen("float4", "float"), [0.5, 0.0, 1.25, float("inf")]),
    "float8": (seen("float8", "double"), [0.1, 0.5, 1e300]),
    "numeric": (seen("numeric", "string", bounds=(0, 0)), [Decimal("1.5"), Decimal("1e40"), Decimal("0.123456")]),
    "numeric(6,2)": (seen("numeric", "string", bounds=(6, 2)), [Decimal("1.50"), Decimal("9999.99")]),
    "numeric(9,4)": (seen("numeric", "string", bounds=(9, 4)), [Decimal("1.5000"), Decimal("99999.9999")]),
    "money": (seen("money", "string"), [Decimal("1.50"), Decimal("92233720368547758.07")]),
    "text": (seen("text", "string"), ["", "12", "2026-01-02", "null", "67b6e1d2-5f1f-4f4e-9a55-4b2b6f5b3a11"]),
    "varchar": (seen("varchar", "string", bounds=(9, 0)), ["", "1.5"]),
    "bpchar": (seen("bpchar", "string", bounds=(4, 0)), ["ab  "]),
    "bytea": (seen("bytea", "bytes"), [b"", b"\x00x"]),
    "date": (seen("date", "int32", "io.debezium.time.Date"), [date(2026, 1, 2), "infinity"]),
    "time": (seen("time", "int64", "io.debezium.time.MicroTime"), [time(1, 2, 3, 4)]),
    "timestamp": (seen("timestamp", "int64", "io.debezium.time.MicroTimestamp"), [DAY]),
    "timestamptz": (seen("timestamptz", "string", "io.debezium.time.ZonedTimestamp"), [UTC_DAY]),
    "timetz": (seen("timetz", "string", "io.debezium.time.ZonedTime"), ["01:02:03+00"]),
    "interval": (seen("interval", "string", "io.debezium.time.Interval"), ["1 day"]),
    "uuid": (seen("uuid", "string", "io.debezium.data.Uuid"), [UUID(int=7)]),
    "json": (seen("json", "string", "io.debezium.data.Json"), ["[1]", "{}"]),
    "jsonb": (seen("jsonb", "string", "io.debezium.data.Json"), ["[1]", "{}"]),
    "xml": (seen("xml", "string", "io.debezium.data.Xml"), ["<a/>"]),
    "inet": (seen("inet", "string"), ["127.0.0.1"]),
    "bit(1)": (seen("bit", "boolean", bounds=(1, 0)), [True]),
    "bit(8)": (seen("bit", "bytes", "io.debezium.data.Bits", (8, 0)), ["00000001"]),
    "enum": (seen("mood", "string", columns.ENUM), ["glad"]),
    "int4[]": (listed("int4", "int32"), [[1, None], []]),
    "int8[]": (listed("int8", "int64"), [[1, None], [2**40]]),
    "text[]": (listed("text", "string"), [["a", None], []]),
}  # fmt: skip


def contract_of(entry: dict[str, Any], **more: Any) -> contract.Contract:
    key = {"name": "id", "type": "long"}
    return contract.build("things", {"type": "record", "name": "Things", "key": ["id"], "fields": [key, entry], **more},
                          where="things")  # fmt: skip


def derived(name: str) -> contract.Contract:
    """Return the contract that is derived from a table whose column x has this type."""
    return contract_of(columns.field(columns.of_connect(BUILT_IN[name][0])))


def outcome(made: contract.Contract, value: Any) -> str:
    """Say what becomes of a value under a contract: the same, another one, or refused."""
    row = {"id": 1, "x": value}
    try:
        got = made.decode(made.encode(Fitting(made).record(row, ()), 7))["x"]
    except Rejected:
        return "refused"
    shown = moments.shown(value) if isinstance(got, str) and not isinstance(value, str) else value
    return "same" if got == shown else "another"


@pytest.mark.parametrize("before", BUILT_IN)
def test_no_change_of_a_type_lets_a_value_become_another_one(before: str) -> None:
    made = derived(before)
    for after, (schema, given) in BUILT_IN.items():
        judged, why = verdict(schema, made.by_name["x"])
        found = [outcome(made, value) for value in given]
        assert (judged == "fits") == (not why)
        if judged != "never":
            assert "another" not in found, (after, why, found)
        if judged == "fits":
            assert "same" in found, (after, found)
        if before == after:
            assert judged == "fits"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("int4", "int8", "doubtful"), ("int8", "int4", "fits"), ("int2", "int4", "fits"), ("int4", "text", "never"),
        ("text", "int4", "never"), ("varchar", "text", "fits"), ("text", "varchar", "fits"), ("text", "enum", "fits"),
        ("float4", "float8", "never"), ("float8", "float4", "fits"), ("int4", "float8", "never"),
        ("numeric(6,2)", "numeric(9,4)", "doubtful"), ("numeric(9,4)", "numeric(6,2)", "fits"),
        ("numeric(6,2)", "numeric", "doubtful"), ("numeric", "numeric(6,2)", "fits"),
        ("numeric(9,4)", "int8", "doubtful"), ("text", "bytea", "never"),
        ("int4", "numeric(6,2)", "never"), ("date", "timestamp", "never"), ("timestamp", "timestamptz", "never"),
        ("text", "uuid", "never"), ("uuid", "text", "never"), ("json", "jsonb", "fits"), ("json", "text", "never"),
        ("text", "json", "fits"), ("int4[]", "int8[]", "doubtful"), ("int8[]", "int4[]", "fits"),
        ("int4[]", "text[]", "never"), ("int4[]", "int4", "never"), ("bool", "int4", "never"),
    ],
)  # fmt: skip
def test_a_change_of_type_is_judged_by_what_its_values_can_do(before: str, after: str, expected: str) -> None:
    assert verdict(BUILT_IN[after][0], derived(before).by_name["x"])[0] == expected


def test_of_a_type_that_is_not_known_nothing_is_claimed() -> None:
    domain = seen("price", "string")
    assert verdict(domain, derived("numeric(6,2)").by_name["x"]) == ("fits", "")
    assert verdict(seen("counter", "int64"), derived("text").by_name["x"])[0] == "never"
    assert verdict(seen("bigserial", "int64"), derived("int8").by_name["x"])[0] == "fits"


def test_where_the_name_of_a_type_contradicts_its_values_the_values_are_believed() -> None:
    late = [(seen("int4", "string", bounds=(2**31 - 1, 0)), "text"), (seen("text", "int32"), "int4"),
            (seen("int4", "int64"), "int8"), (seen("numeric", "string", bounds=(2**31 - 1, 0)), "text"),
            (seen("text", "int32", "io.debezium.time.Date"), "date"), (seen("int8", "double"), "float8")]  # fmt: skip
    assert [columns.of_connect(schema).type for schema, _ in late] == [kind for _, kind in late]
    assert verdict(late[0][0], derived("int4").by_name["x"])[0] == "never"
    known = ["bool", "oid", "money", "json", "hstore", "xml", "inet", "citext", "timetz", "interval", "numeric"]
    told = [columns.of_connect(BUILT_IN[name][0]).type for name in known if name in BUILT_IN]
    assert told == [name for name in known if name in BUILT_IN]


def test_a_column_that_may_be_null_where_the_contract_forbids_it_is_a_doubt() -> None:
    strict = contract_of({"name": "x", "type": "int"})
    assert verdict(seen("int4", "int32"), strict.by_name["x"]) == (
        "doubtful",
        "it may be NULL, which the contract forbids",
    )
    assert verdict({**seen("int4", "int32"), "optional": False}, strict.by_name["x"])[0] == "fits"


ID = column("id", "int64", postgres="INT8", optional=False)
NOTE = {**seen("text", "string"), "field": "note"}


def test_a_column_that_the_contract_does_not_have_follows_the_policy() -> None:
    made, found = derived("text"), [ID, BUILT_IN["text"][0], NOTE]
    ignored = judge(made, found, "ignore", function=False)
    assert (ignored.held(), ignored.notes) == (None, ("the column note is not in the contract: it is left out",))
    stopped = judge(made, found, "stop", function=False).held()
    assert stopped
    assert (stopped.problem, bool(stopped.wish)) == ("The column note is not in the contract things.", False)
    grown = judge(made, found, "evolve", function=False).held()
    assert grown
    assert grown.wish.fields == ({"name": "note", "type": ["null", "string"], "default": None},)
    assert grown.wish.notes == ()


def test_a_column_that_came_with_values_leaves_a_note_on_the_rows_that_were_there() -> None:
    for added in ({**NOTE, "optional": False}, {**NOTE, "default": "new"}):
        held = judge(derived("text"), [ID, BUILT_IN["text"][0], added], "evolve", function=False).held()
        assert held
        assert held.wish.fields[0]["type"] == ["null", "string"]
        assert "`tailrace snapshot`" in held.wish.notes[0]


def test_columns_that_the_contract_names_to_be_ignored_are_nothing_under_any_policy() -> None:
    made = contract_of({"name": "x", "type": ["null", "string"], "default": None}, ignore=["note"])
    for policy in ("ignore", "evolve", "stop"):
        drift = judge(made, [ID, BUILT_IN["text"][0], NOTE], policy, function=False)
        assert (drift.held(), drift.notes) == (None, ())


def test_a_column_that_no_contract_holds_is_left_out_when_contracts_grow() -> None:
    odd = {**seen("tsquery", "string"), "field": "words"}
    drift = judge(derived("text"), [ID, BUILT_IN["text"][0], odd], "evolve", function=False)
    assert drift.held() is None
    assert "words is left out" in drift.notes[0]


def test_contracts_grow_to_the_wider_type_and_no_further() -> None:
    for before, after, kind in (("int4", "int8", "long"), ("float4", "float8", "double")):
        held = judge(derived(before), [ID, BUILT_IN[after][0]], "evolve", function=False).held()
        assert held
        assert held.wish.widened == {"x": kind}
    text = judge(derived("int4"), [ID, BUILT_IN["text"][0]], "evolve", function=False).held()
    assert text
    assert (text.problem, bool(text.wish)) == ("The column x: text does not fit int; it fits string.", False)


def test_a_field_without_column_has_its_default_or_holds_the_table() -> None:
    filled = judge(derived("text"), [ID], "ignore", function=False)
    assert (filled.held(), filled.fills) == (None, {"x": None})
    needed = contract_of({"name": "x", "type": ["null", "string"]})
    held = judge(needed, [ID], "ignore", function=False).held()
    assert held
    assert held.problem == "There is no column x, which the contract things needs."
    assert judge(needed, [ID], "ignore", function=True).held() is None  # the function may make it


def test_a_key_column_is_never_filled() -> None:
    schema = {
        "type": "record",
        "name": "Things",
        "key": ["id"],
        "fields": [{"name": "id", "type": "long", "default": 0}],
    }
    held = judge(contract.build("things", schema, where="t"), [NOTE], "ignore", function=True).held()
    assert held
    assert "no column id" in held.problem


def test_a_function_may_convert_so_its_table_stops_for_the_type_of_a_key_only() -> None:
    drift = judge(derived("int4"), [ID, BUILT_IN["text"][0]], "evolve", function=True)
    assert (drift.held(), list(drift.doubts)) == (None, ["x"])
    text_id = {**BUILT_IN["text"][0], "field": "id"}
    assert judge(derived("int4"), [text_id, BUILT_IN["int4"][0]], "ignore", function=True).held()


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ("long", 7, 7), ("double", 1, 1.0), ("string", "a", "a"), ("bytes", "\u00ff", b"\xff"), ("boolean", True, True),
        ({"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}, "\u00ff", Decimal("-0.01")),
        ({"type": "string", "logicalType": "numeric"}, "1.50", Decimal("1.50")),
        ({"type": "int", "logicalType": "date"}, 1, date(1970, 1, 2)),
        ({"type": "long", "logicalType": "time-micros"}, 1, time(0, 0, 0, 1)),
        ({"type": "long", "logicalType": "timestamp-micros"}, 0, datetime(1970, 1, 1, tzinfo=UTC)),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, 0, datetime(1970, 1, 1)),  # noqa: DTZ001 - naive by nature
        ({"type": "string", "logicalType": "uuid"}, str(UUID(int=7)), UUID(int=7)),
        ({"type": "array", "items": ["null", {"type": "int", "logicalType": "date"}]}, [0], [date(1970, 1, 1)]),
    ],
)  # fmt: skip
def test_a_default_is_the_value_that_a_row_would_have(shape: Any, given: Any, expected: Any) -> None:
    made = contract_of({"name": "x", "type": shape, "default": given})
    found = default(made.by_name["x"], given)
    assert (found, type(found)) == (expected, type(expected))
    assert outcome(made, found) == "same"

"""What a person edits comes back exactly as it was where nothing was changed, and fits its contract where it was."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import contract
from tailrace.control.dlq.editing import EnvelopeForm, RecordForm
from tailrace.errors import UsageError
from tests.raw import message, payload, reading

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 4}
KINDS: dict[str, Any] = {
    "id": "long", "flag": "boolean", "small": "int", "wide": "double", "name": "string", "blob": "bytes",
    "amount": DECIMAL, "exact": {"type": "string", "logicalType": "numeric"},
    "day": {"type": "int", "logicalType": "date"}, "clock": {"type": "long", "logicalType": "time-micros"},
    "at": {"type": "long", "logicalType": "timestamp-micros"},
    "local": {"type": "long", "logicalType": "local-timestamp-micros"},
    "ident": {"type": "string", "logicalType": "uuid"}, "detail": {"type": "string", "logicalType": "json"},
    "tags": {"type": "array", "items": ["null", DECIMAL]},
}  # fmt: skip
FIELDS = [
    {"name": name, "type": kind if name == "id" else ["null", kind], **({} if name == "id" else {"default": None})}
    for name, kind in KINDS.items()
]
THING = contract.build("thing", {"type": "record", "name": "T", "key": ["id"], "fields": FIELDS}, where="test")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.decimals(-(10**20), 10**20, places=4)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "flag": st.booleans(), "small": st.integers(-(2**31), 2**31 - 1), "wide": st.floats(allow_nan=False),
    "name": TEXTS, "blob": st.binary(), "amount": NUMBERS, "exact": st.decimals(),
    "day": st.dates(), "clock": st.times(), "at": st.datetimes(timezones=st.just(UTC)), "local": st.datetimes(),
    "ident": st.uuids(), "detail": st.dictionaries(TEXTS, st.integers()).map(json.dumps),
    "tags": st.lists(st.none() | NUMBERS, max_size=3),
}  # fmt: skip
RECORDS = st.fixed_dictionaries(
    {"id": st.integers(-(2**63), 2**63 - 1), **{name: st.none() | made for name, made in VALUES.items()}}
)
FULL: dict[str, Any] = {
    "id": 7, "flag": True, "small": 1, "wide": 0.5, "name": "Ada", "blob": b"\xff", "amount": Decimal("1.5000"),
    "exact": Decimal("1.50"), "day": date(2026, 1, 2), "clock": time(3, 4), "at": datetime(2026, 1, 2, tzinfo=UTC),
    "local": datetime(2026, 1, 2), "ident": UUID(int=1), "detail": '{"a": 1}', "tags": [Decimal(1), None],  # noqa: DTZ001 - local
}  # fmt: skip


def form(value: dict[str, Any] = FULL) -> RecordForm:
    return RecordForm(THING, 4, value)


@given(RECORDS)
def test_a_record_that_nobody_changed_is_the_same_record(value: dict[str, Any]) -> None:
    assert form(value).filled(form(value).text) == THING.encode(value, 4)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("name=null", None), ('name="null"', "null"), ("name=", ""), ("name=a=b", "a=b"), ("small=-5", -5),
        ("flag=false", False), ("wide=2", 2.0),
        ("amount=99999999999999999999.0001", Decimal("99999999999999999999.0001")),
        ("exact=NaN", Decimal("NaN")), ("day=2024-02-29", date(2024, 2, 29)), ("blob=AP8=", b"\x00\xff"),
        ("at=2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ('detail={"b": [1]}', '{"b": [1]}'),
        ('tags=["2.5", null]', [Decimal("2.5000"), None]), ("ident=00000000-0000-0000-0000-000000000002", UUID(int=2)),
    ],
)  # fmt: skip
def test_one_field_is_set_and_the_others_stay(assignment: str, expected: Any) -> None:
    made = THING.decode(form().with_fields([assignment]))
    name = assignment.partition("=")[0]
    assert repr(made.pop(name)) == repr(expected)
    assert made == {field: value for field, value in FULL.items() if field != name}


@pytest.mark.parametrize(
    "assignment",
    [
        "small=big", "small=1.5", "small=true", "small=99999999999", "flag=1", "amount=1.00001", "amount=x",
        "day=today",
        "at=2026-01-02", "local=2026-01-02T00:00:00Z", "detail={", "blob=?", "ident=1", "tags=1", "tags=[1]",
        "id=8", "id=null", "unknown=1", "name", "=x",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_its_value_is_not_quoted(assignment: str) -> None:
    with pytest.raises(UsageError) as caught:
        form().with_fields([assignment])
    assert "99999999999" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"id": 7}', form().text.replace('"flag"', '"flags"')])
def test_a_text_that_is_no_whole_record_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        form().filled(text)


def test_a_raw_message_keeps_its_schema_and_everything_but_what_was_set() -> None:
    sent = message(payload("u", before=reading(1), after=reading(1, note="x")))
    made = EnvelopeForm(sent).with_fields(["note=7", "value=null", "id=2"])
    old, new = json.loads(sent), json.loads(made)
    assert new["payload"]["after"] == {**old["payload"]["after"], "note": "7", "value": None, "id": 2}
    assert {**new, "payload": {**new["payload"], "after": None}} == {
        **old,
        "payload": {**old["payload"], "after": None},
    }
    assert json.loads(EnvelopeForm(sent).filled(EnvelopeForm(sent).text)) == old


def test_a_raw_message_without_schema_is_its_own_payload() -> None:
    bare = json.dumps(payload("c", after=reading(1))).encode()
    assert json.loads(EnvelopeForm(bare).with_fields(["sensor=s9"]))["after"]["sensor"] == "s9"


def test_a_message_that_is_no_json_is_text_and_can_only_be_written_anew() -> None:
    shown = EnvelopeForm(b"not json")
    assert shown.text == "not json"
    assert shown.filled("{}") == b"{}"
    for value in (b"not json", b'{"payload": null, "schema": null}', json.dumps(payload("d")).encode()):
        with pytest.raises(UsageError, match="no row"):
            EnvelopeForm(value).with_fields(["a=1"])


def test_a_column_that_the_row_does_not_have_is_named() -> None:
    with pytest.raises(UsageError, match="no column weight"):
        EnvelopeForm(message(payload("c", after=reading(1)))).with_fields(["weight=1"])

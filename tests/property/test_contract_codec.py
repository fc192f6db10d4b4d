"""Whatever fits a contract comes back from Avro and from the key codec exactly as it was."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import contract
from tailrace.change import Provenance
from tailrace.errors import ProjectError, Rejected
from tailrace.stream.conform import Conformer, TablePlan
from tailrace.stream.fitting import Fitting
from tests.raw import READING_SCHEMA, message, payload, reading

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "flag": ("boolean", st.booleans()),
    "small": ("int", st.integers(-(2**31), 2**31 - 1)),
    "large": ("long", st.integers(-(2**63), 2**63 - 1)),
    "real": ("double", st.floats(allow_nan=False)),
    "words": ("string", ANY_TEXT),
    "data": ("bytes", st.binary()),
    "amount": (
        {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2},
        st.integers(-(10**14) + 1, 10**14 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
    ),
    "day": ({"type": "int", "logicalType": "date"}, st.dates()),
    "clock": ({"type": "long", "logicalType": "time-micros"}, st.times()),
    "at": ({"type": "long", "logicalType": "timestamp-micros"}, st.datetimes(timezones=st.just(UTC))),
    "here": ({"type": "long", "logicalType": "local-timestamp-micros"}, st.datetimes()),
    "uuid": ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    "json": ({"type": "string", "logicalType": "json"}, ANY_TEXT),
}
LISTS = {
    f"{name}_list": ({"type": "array", "items": ["null", kind]}, st.lists(st.none() | values, max_size=3))
    for name, (kind, values) in FIELDS.items()
    if name != "json"
}
EVERY = contract.build(
    "every",
    {
        "type": "record", "name": "Every", "key": list(FIELDS),
        "fields": [{"name": name, "type": kind} for name, (kind, _) in (FIELDS | LISTS).items()],
    },
    where="every",
)  # fmt: skip
ROWS = st.fixed_dictionaries({name: values for name, (_, values) in (FIELDS | LISTS).items()})
KEYS = st.fixed_dictionaries({name: values for name, (_, values) in FIELDS.items()})


@dataclass
class Raw:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@given(ROWS)
def test_a_record_comes_back_from_avro(row: dict[str, Any]) -> None:
    record = Fitting(EVERY).record(row, row)
    assert record == row
    assert EVERY.decode(EVERY.encode(record, 7)) == row


@given(ROWS)
def test_the_bytes_are_those_of_fastavro_under_the_contract(row: dict[str, Any]) -> None:
    out = BytesIO()
    fastavro.schemaless_writer(out, EVERY.parsed, row)
    assert EVERY.encode(row, 7) == b"\x00\x00\x00\x00\x07" + out.getvalue()


@given(st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(-(10**9), 10**9, places=3), st.integers(0, 4))
def test_a_decimal_is_held_with_every_digit_or_refused(number: Decimal, scale: int) -> None:
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": scale}
    fields = [{"name": "id", "type": "int"}, {"name": "amount", "type": ["null", kind]}]
    prices = contract.build("price", {"type": "record", "name": "P", "key": ["id"], "fields": fields}, where="price")
    row = {"id": 1, "amount": number}
    _sign, digits, exponent = number.as_tuple()
    fits = isinstance(exponent, int) and exponent >= -scale and len(digits) + exponent + scale <= 12
    holds = fits or number.is_zero()
    for attempt in (lambda: Fitting(prices).record(row, row), lambda: prices.encode(row, 7)):
        with nullcontext() if holds else pytest.raises(Rejected):
            attempt()
    if holds:
        assert prices.decode(prices.encode(row, 7)) == row


@given(KEYS.filter(lambda row: abs(row["real"]) < float("inf")))
def test_a_key_comes_back_from_its_json(row: dict[str, Any]) -> None:
    assert EVERY.decode_key(EVERY.encode_key(row)) == row


def test_an_array_is_no_key_and_holds_neither_arrays_nor_json() -> None:
    listed: Any = {"type": "array", "items": ["null", "int"]}
    for items, key in ((listed, "id"), ({"type": "string", "logicalType": "json"}, "id"), ("int", "many")):
        fields = [{"name": "id", "type": "int"}, {"name": "many", "type": {"type": "array", "items": items}}]
        with pytest.raises(ProjectError):
            contract.build("r", {"type": "record", "name": "R", "key": [key], "fields": fields}, where="r.avsc")


@pytest.mark.parametrize(
    ("values", "reason"),
    [([1, "x"], "str inside"), ([[1]], "list inside"), ([2**31], "32 bits"), ([1, None], "null inside"), (7, "is int")],
)
def test_an_array_with_one_element_that_does_not_fit_is_refused_whole(values: Any, reason: str) -> None:
    fields = [{"name": "id", "type": "int"}, {"name": "many", "type": {"type": "array", "items": "int"}}]
    made = contract.build("r", {"type": "record", "name": "R", "key": ["id"], "fields": fields}, where="r.avsc")
    with pytest.raises(Rejected, match=reason):
        Fitting(made).record({"id": 1, "many": values}, ())


@given(st.integers(-(2**63), 2**63 - 1))
def test_the_short_way_to_a_key_gives_the_same_bytes(number: int) -> None:
    readings = contract.build("reading", READING_SCHEMA, where="reading")
    assert Fitting(readings).key_bytes({"id": number}) == readings.encode_key({"id": number})


def test_headers_are_those_of_a_provenance() -> None:
    plan = TablePlan("raw", "out", contract.build("reading", READING_SCHEMA, where="reading"), 7)

    raw = Raw(5, 0, b'{"id":1}', message(payload("r", after=reading(1), lsn=None)), [])
    made = Conformer([plan], epoch=2, worker="conform").batch("raw", 3, [raw])
    expected = Provenance((2 << 48) + 5, "r", None, 1_767_322_800_123_456, "77", "raw/3/5").headers()
    assert made.outputs[0].headers == expected
    assert datetime.fromtimestamp(made.committed_us[0] / 1e6, UTC).year == 2026

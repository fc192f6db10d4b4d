import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tailrace import contract
from tailrace.errors import ProjectError, Rejected

SCHEMA = {
    "type": "record",
    "name": "order",
    "key": ["id", "day"],
    "fields": [
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {
            "name": "amount",
            "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}],
            "default": None,
        },
        {"name": "exact", "type": ["null", {"type": "string", "logicalType": "numeric"}], "default": None},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}], "default": None},
        {"name": "local", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}], "default": None},
        {"name": "clock", "type": ["null", {"type": "long", "logicalType": "time-micros"}], "default": None},
        {"name": "extra", "type": ["null", {"type": "string", "logicalType": "json"}], "default": None},
        {"name": "flag", "type": ["null", "boolean"], "default": None},
    ],
}
VALUE: dict[str, Any] = {
    "id": UUID("6f1c7a1e-6d83-4a8c-93c1-0d9df0a2a111"),
    "day": date(2026, 11, 21),
    "amount": Decimal("-12.30"),
    "exact": Decimal("1E+50"),
    "at": datetime(2026, 11, 21, 1, 2, 3, 456789, UTC),
    "local": datetime(1969, 1, 1, 0, 0, 0, 1),  # noqa: DTZ001 - a naive datetime is the value under test
    "clock": time(23, 59, 59, 999999),
    "extra": '{"a": 1.10}',
    "flag": None,
}


def order() -> contract.Contract:
    return contract.build("order", json.loads(json.dumps(SCHEMA)), where="order.avsc")


def test_every_kind_survives_encoding_exactly() -> None:
    framed = order().encode(VALUE, 7)
    assert contract.schema_id(framed) == 7
    decoded = order().decode(framed)
    assert decoded == VALUE
    assert str(decoded["amount"]) == "-12.30"


def test_a_key_survives_and_keeps_the_order_of_the_contract() -> None:
    text = order().encode_key(VALUE)
    assert text == b'{"id":"6f1c7a1e-6d83-4a8c-93c1-0d9df0a2a111","day":"2026-11-21"}'
    assert order().decode_key(text) == {"id": VALUE["id"], "day": VALUE["day"]}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"amount": Decimal("1.234")}, ""),
        ({"amount": "12.30"}, "amount is str where decimal"),
        ({"day": None}, "day is null"),
        ({"surplus": 1}, "surplus is not in the contract"),
    ],
)
def test_a_value_that_does_not_fit_is_rejected_naming_the_field_and_no_value(
    change: dict[str, Any], names: str
) -> None:
    with pytest.raises(Rejected) as caught:
        order().encode({**VALUE, **change}, 1)
    assert names in caught.value.detail
    assert "12.30" not in str(caught.value)


@pytest.mark.parametrize(
    "framed", [b"", b"\x00\x00\x00\x00\x07", b"\x01\x00\x00\x00\x07abc", b"\x00\x00\x00\x00\x07\xff"]
)
def test_bytes_that_are_no_framed_value_are_rejected(framed: bytes) -> None:
    with pytest.raises(Rejected):
        order().decode(framed)


@pytest.mark.parametrize("key", [None, b"", b"{}", b"[1]", b'{"id": "x", "day": "2026-11-21"}'])
def test_bytes_that_are_no_key_are_rejected(key: bytes | None) -> None:
    with pytest.raises(Rejected):
        order().decode_key(key)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "does not parse"),
        ('{"type": "record", "name": "x", "fields": [{"name": "a", "type": "nonsense"}]}', "does not parse"),
        ('{"type": "enum", "name": "x", "symbols": ["a"]}', "not an Avro record"),
        ('{"type": "record", "name": "x", "fields": [{"name": "a", "type": "int"}]}', 'no valid "key"'),
        (
            '{"type": "record", "name": "x", "key": ["a"], "fields": [{"name": "a", "type": ["int", "string"]}]}',
            "not supported: field a",
        ),
    ],
)
def test_a_broken_contract_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "x.avsc"
    path.write_text(text)
    with pytest.raises(ProjectError) as caught:
        contract.load(path)
    assert problem in caught.value.problem
    assert "x.avsc" in caught.value.problem

"""The rows that the lake and search benches write: ten columns of the usual kinds, the same in every run."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tailrace import contract, version
from tailrace.change import Change

START = datetime(2026, 1, 1, tzinfo=UTC)
COMMITTED_US = 1_767_225_600_000_000  # START
ORDER = contract.build(
    "order",
    {
        "type": "record",
        "name": "order",
        "key": ["id"],
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "customer", "type": "string"},
            {"name": "email", "type": ["null", "string"], "default": None},
            {"name": "city", "type": ["null", "string"], "default": None},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 14, "scale": 2}},
            {"name": "pieces", "type": "int"},
            {"name": "paid", "type": "boolean"},
            {"name": "due", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
            {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "updated_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    },
    where="bench",
)


def order(number: int) -> dict[str, Any]:
    """Return one record."""
    return {
        "id": number,
        "customer": f"Customer {number % 9973}",
        "email": None if number % 7 == 0 else f"customer{number % 9973}@example.org",
        "city": ("Bern", "Lyon", "Graz", "Gent", "Porto")[number % 5],
        "amount": Decimal(number * 37 % 10**9).scaleb(-2),
        "pieces": number % 100,
        "paid": number % 3 == 0,
        "due": None if number % 11 == 0 else date(2026, 1, 1) + timedelta(days=number % 365),
        "created_at": START + timedelta(microseconds=number * 1009),
        "updated_at": START + timedelta(microseconds=number * 2003),
    }


def changes(count: int) -> list[Change]:
    """Return ``count`` inserts of one partition."""
    return [
        Change(
            record="order",
            key={"id": number},
            value=order(number),
            before=None,
            version=version.pack(1, number),
            op="c",
            lsn=number,
            committed_us=COMMITTED_US + number,
            tx="",
            origin="",
            topic="bench.conformed.order",
            partition=0,
            offset=number,
            raw_key=None,
            raw_value=None,
        )
        for number in range(count)
    ]

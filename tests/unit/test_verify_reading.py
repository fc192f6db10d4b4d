"""Postgres's text as verify reads it: arrays, times, what Python cannot hold."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.contract import Field
from tailrace.control.verify import expected, reading
from tailrace.control.verify.expected import Unfit
from tailrace.source import moments, shapes
from tailrace.source.catalogue import Column

NAIVE = datetime(2026, 1, 2, 3, 4, 5, 600_000)  # noqa: DTZ001 - timestamp without time zone


def column(type_: str, **other: Any) -> Column:
    return Column("c", type_, type_, **other)


def written(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.none() | st.text()))
def test_an_array_of_any_text_comes_back_with_its_nulls(values: list[str | None]) -> None:
    text = "{" + ",".join("NULL" if value is None else written(value) for value in values) + "}"
    assert reading.elements(text, str) == values


@pytest.mark.parametrize(
    ("type_", "text", "values"),
    [
        ("int4", "{}", []),
        ("int4", "{1,NULL,-3}", [1, None, -3]),
        ("int4", "[0:1]={1,2}", [1, 2]),
        ("int4", "{{1,2},{3,NULL}}", [[1, 2], [3, None]]),
        ("text", '{NULL,"NULL",null_,"{}"}', [None, "NULL", "null_", "{}"]),
        ("bool", "{t,f}", [True, False]),
        ("numeric", "{1.50,NaN}", [Decimal("1.50"), Decimal("NaN")]),
        ("date", '{2026-01-02,infinity,"0044-03-15 BC"}', [date(2026, 1, 2), "infinity", "0044-03-15 BC"]),
        ("timestamp", '{"2026-01-02 03:04:05.6"}', [NAIVE]),
        ("bytea", '{"\\\\x00ff"}', [b"\x00\xff"]),
        ("float8", "{1e+20,Infinity}", [1e20, float("inf")]),
    ],
)
def test_an_array_is_read_by_the_type_of_its_elements(type_: str, text: str, values: list[Any]) -> None:
    read = reading.reader(column(f"_{type_}", item=type_))
    assert read is not None
    assert str(read(text)) == str(values)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (reading.day, "2026-01-02", date(2026, 1, 2)),
        (reading.day, "10000-01-01", "10000-01-01"),
        (reading.local, "-infinity", "-infinity"),
        (reading.local, "12026-01-02 03:04:05", "12026-01-02 03:04:05"),
        (reading.instant, "2026-01-02 03:04:05+00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (reading.instant, "0044-03-15 03:04:05+00 BC", "0044-03-15 03:04:05+00 BC"),
        (reading.clock, "24:00:00", "24:00:00"),
        (reading.clock, "23:59:59.5", time(23, 59, 59, 500_000)),
        (reading.zoned_clock, "04:05:06.5+02", "02:05:06.5+00"),
        (reading.zoned_clock, "01:00:00+05:30", "19:30:00+00"),
        (reading.zoned_clock, "23:00:00-02", "01:00:00+00"),
        (reading.zoned_clock, "24:00:00+00", "24:00:00+00"),
    ],
)
def test_a_date_or_time_is_itself_or_the_text_of_postgres(read: reading.Read, text: str, value: Any) -> None:
    assert read(text) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_verify_and_the_processor_write_a_coordinate_alike(value: float) -> None:
    assert reading.shape(f"({value!r},1)") == f"({shapes.digits(value)},1)"


@given(st.dates() | st.times() | st.datetimes() | st.datetimes(timezones=st.just(UTC)))
def test_verify_and_the_processor_write_dates_and_times_alike(value: Any) -> None:
    assert expected.fit(Field("c", "string", nullable=False), value) == moments.shown(value)


def test_a_text_is_no_date_so_the_row_has_to_be_a_dead_letter() -> None:
    with pytest.raises(Unfit, match="str where date"):
        expected.fit(Field("c", "date", nullable=False), "infinity")

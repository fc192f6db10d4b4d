"""How long a slot lives: what it holds, how fast that grows, and how much Postgres keeps for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailrace.control.status import SourceState, Status, growth_of, time_left
from tailrace.control.statusboard import duration, source

MIB = 1024 * 1024


def sample(at: float, retained: int) -> Status:
    return Status(at, SourceState("s", wal_status="reserved", retained_bytes=retained), [], [])


def test_growth_is_what_was_added_between_two_readings_by_second() -> None:
    assert growth_of(sample(10.0, 4 * MIB), 10 * MIB, 13.0) == 2 * MIB
    assert growth_of(sample(10.0, 10 * MIB), 4 * MIB, 13.0) == -2 * MIB


def test_growth_is_unknown_in_the_first_reading_and_after_one_without_a_slot() -> None:
    assert growth_of(None, 5, 1.0) is None
    assert growth_of(Status(1.0, SourceState("s"), [], []), 5, 2.0) is None
    assert growth_of(sample(2.0, 5), 5, 2.0) is None


def test_time_left_is_the_room_left_over_the_growth() -> None:
    assert time_left(20 * MIB, 100 * MIB, 2 * MIB) == 40.0
    assert time_left(200 * MIB, 100 * MIB, 2 * MIB) == 0.0


@pytest.mark.parametrize(("limit", "growth"), [(None, 5.0), (100, None), (100, 0.0), (100, -3.0)])
def test_a_slot_without_limit_or_growth_has_no_end(limit: int | None, growth: float | None) -> None:
    assert time_left(20, limit, growth) is None


@pytest.mark.parametrize(
    ("seconds", "said"), [(30, "30 s"), (119, "119 s"), (600, "10 min"), (7300, "2 h"), (864_000, "10 days")]
)
def test_a_duration_is_said_in_the_unit_people_use(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_board_says_how_long_the_slot_lives() -> None:
    free = SourceState("s", wal_status="extended", retained_bytes=20 * MIB)
    limited = replace(free, limit_bytes=100 * MIB)
    growing = replace(limited, growth=float(MIB), seconds_left=80.0)
    assert "holds 20 MiB of WAL (extended), of 100 MiB at most: 80 s left at the present rate" in source(growing).plain
    assert "of 100 MiB at most" in source(limited).plain
    assert "no limit set" in source(free).plain

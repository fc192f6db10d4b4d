"""The pure parts of a replay: offsets only go back, and the cost is counted."""

from __future__ import annotations

import pytest

from tailrace.cli.replay import parse_place, parse_time
from tailrace.control.replay import Positions, to_beginning, to_offsets
from tailrace.errors import Refused, UsageError

AT = Positions(
    starts={("t", 0): 10, ("t", 1): 0},
    ends={("t", 0): 100, ("t", 1): 5},
    committed={("t", 0): 60, ("t", 1): -1001},
)


def test_a_group_without_a_committed_offset_stands_at_the_oldest_record() -> None:
    assert (AT.current(("t", 0)), AT.current(("t", 1))) == (60, 0)


def test_the_beginning_is_the_oldest_record_that_is_kept() -> None:
    assert to_beginning(AT) == {("t", 0): 10, ("t", 1): 0}


def test_an_offset_forward_is_refused_because_it_would_skip_records() -> None:
    assert to_offsets(AT, {("t", 0): 60}) == {("t", 0): 60}
    with pytest.raises(Refused, match="skip"):
        to_offsets(AT, {("t", 0): 61})


@pytest.mark.parametrize(("place", "offset"), [(("t", 0), 9), (("t", 0), 101), (("t", 2), 0), (("u", 0), 0)])
def test_an_offset_or_a_partition_that_does_not_exist_is_a_usage_error(place: tuple[str, int], offset: int) -> None:
    with pytest.raises(UsageError):
        to_offsets(AT, {place: offset})


def test_a_place_is_read_from_topic_partition_and_offset() -> None:
    assert parse_place("bank.conformed.customers/2=15") == (("bank.conformed.customers", 2), 15)
    for wrong in ("t=1", "t/0", "/0=1", "t/0=-1", "t/x=1"):
        with pytest.raises(UsageError):
            parse_place(wrong)


def test_a_time_is_read_as_iso_or_refused() -> None:
    assert parse_time("2026-01-01T00:00:00Z").timestamp() == 1767225600
    with pytest.raises(UsageError):
        parse_time("yesterday")

"""The pace of a DynamoDB table: never faster than its limit, and near what the table takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.sink.dynamodb_rate import COOLDOWN, CUT, FLOOR, GROWTH, START, Rate

EVENTS = st.lists(st.tuples(st.sampled_from(["grant", "went", "throttled"]), st.floats(0.0, 3.0), st.integers(1, 100)))


@dataclass
class Table:
    """A table that takes ``capacity`` puts a second and a burst of half a second of it, and refuses what is above."""

    capacity: float
    tokens: float = 0.0
    at: float = 0.0
    taken: int = 0
    refused: int = 0

    def put(self, count: int, now: float) -> int:
        self.tokens = min(self.capacity / 2 + 1, self.tokens + (now - self.at) * self.capacity)
        self.at = now
        taken = min(count, int(self.tokens))
        self.tokens -= taken
        return taken


def driven(capacity: float, seconds: float, warm: float, call_seconds: float = 0.005) -> Table:
    """Return what became of a writer that always has a hundred puts to send, and sends one call after the other."""
    rate, table, now = Rate(), Table(capacity), 0.0
    while now < seconds:
        count, delay = rate.grant(100, now)
        now += delay + call_seconds
        taken = table.put(count, now)
        rate.went(taken, now)
        if taken < count:
            rate.throttled(now)
            now += 0.05  # what is throttled rests before it is tried again
        if now >= warm:
            table.taken += taken
            table.refused += count - taken
    return table


@settings(deadline=None, max_examples=25)
@given(st.floats(20, 3000))
def test_a_table_is_written_at_most_of_its_capacity_and_is_seldom_throttled(capacity: float) -> None:
    table = driven(capacity, seconds=90.0, warm=30.0)

    assert table.taken / 60 > 0.6 * capacity
    assert table.refused < 0.1 * (table.taken + table.refused)


@given(st.floats(100, 1000), st.floats(0.0, 0.1))
def test_after_seconds_in_which_nearly_all_was_refused_the_pace_is_back_in_half_a_minute(
    need: float, taken: float
) -> None:
    rate = Rate()
    for tenth in range(100):  # ten seconds as they should be
        rate.went(int(need / 10), tenth / 10)
    for tenth in range(100, 180):
        now = tenth / 10
        granted, _ = rate.grant(int(need / 10), now)
        rate.went(int(granted * taken), now)
        rate.throttled(now)

    for tenth in range(180, 450):
        rate.grant(1, tenth / 10)

    assert 0.7 * need <= rate.limit < math.inf  # it was reached, and not by giving up the limit


@given(EVENTS)
def test_the_limit_is_cut_by_a_share_at_most_once_a_second_and_never_under_the_floor(
    events: list[tuple[str, float, int]],
) -> None:
    rate, now, cut = Rate(), 0.0, -math.inf
    for name, pause, count in events:
        now += pause
        before = rate.limit
        if name == "throttled":
            rate.throttled(now)
            if rate.limit < before:
                assert now >= cut + COOLDOWN
                assert rate.limit >= FLOOR
                cut = now
        elif name == "went":
            rate.went(count, now)
            assert rate.limit == before
        else:
            granted, delay = rate.grant(count, now)
            assert 1 <= granted <= count
            assert delay >= 0
            assert rate.limit >= before


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 100)), max_size=50))
def test_what_was_never_throttled_never_waits(calls: list[tuple[float, int]]) -> None:
    rate, now = Rate(), 0.0
    for pause, wanted in calls:
        now += pause
        assert rate.grant(wanted, now) == (wanted, 0.0)
        rate.went(wanted, now)


@given(st.floats(50, 1000), st.lists(st.integers(1, 100), min_size=20, max_size=60))
def test_calls_that_come_faster_than_the_limit_are_spread_over_time(accepted: float, wanted: list[int]) -> None:
    rate = Rate()
    for tenth in range(50):
        rate.went(int(accepted / 10), tenth / 10)
    rate.throttled(5.0)
    limit = rate.limit
    sent, begin = 0, 5.0

    for count in wanted:
        granted, delay = rate.grant(count, 5.0)
        assert sent <= limit * (5.0 + delay - begin) + 1e-6
        sent += granted

    assert limit <= max(accepted, START) * CUT * 1.1


def test_the_limit_grows_by_a_share_of_itself_and_ends_when_it_is_far_above_the_need() -> None:
    rate = Rate()
    for moment in range(10):
        rate.went(1000, float(moment))
    rate.throttled(9.5)
    first = rate.limit

    rate.grant(1, 10.5)
    second = rate.limit
    rate.grant(1, 11.5)
    assert math.isclose(second - first, first * GROWTH)
    assert math.isclose(rate.limit - second, second * GROWTH)

    rate.grant(1, 60.0)
    assert math.isinf(rate.limit)

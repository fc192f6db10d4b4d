"""A systemic failure stops the worker; poison among good records never does."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tailrace import deadletter
from tailrace.sink.breaker import LEAST, RECENT, SHARE, Breaker, Trip, judge, tripped
from tailrace.sink.lately import outcomes_before

if TYPE_CHECKING:
    from tailrace.deadletter import DeadLetter

PLACE = ("bank.conformed.customers", "search/customers")
WRONG = "OpenSearch cannot index the document at the field name: mapper_parsing_exception."
OUTCOMES = st.lists(st.sampled_from(["", "", WRONG, "too heavy"]), max_size=120)


def fed(batches: list[list[str]]) -> list[Trip | None]:
    """Return what is said of each batch when they come one after the other."""
    breaker, said = Breaker(), []
    for batch in batches:
        said.append(breaker.judge(PLACE, batch))
        breaker.remember(PLACE, batch)
    return said


def test_a_batch_that_is_refused_for_one_reason_trips() -> None:
    assert judge([], [WRONG] * LEAST) == Trip(WRONG, LEAST, LEAST, 0)
    assert judge([], [""] * 499 + [WRONG] * 501) == Trip(WRONG, 501, 1000, 499)


def test_fewer_than_twenty_or_less_than_half_are_parked() -> None:
    assert judge([], [WRONG] * (LEAST - 1)) is None
    assert judge([], [""] * 501 + [WRONG] * 499) is None


def test_reasons_that_differ_in_their_numbers_only_are_one_reason() -> None:
    found = judge([], [f"The item is {size} bytes." for size in range(400_000, 400_000 + LEAST)])
    assert found is not None
    assert (found.reason, found.refused) == ("The item is 400000 bytes.", LEAST)


def test_different_reasons_do_not_add_up() -> None:
    assert judge([], ["one", "two"] * (LEAST - 1)) is None


def test_batches_of_one_change_trip_at_the_twentieth_and_a_good_one_between_does_not_help_for_long() -> None:
    assert [trip is not None for trip in fed([[WRONG]] * LEAST)] == [False] * (LEAST - 1) + [True]
    alternating = fed([[""], [WRONG]] * LEAST)
    assert [position for position, trip in enumerate(alternating) if trip] == [2 * LEAST - 1]


def test_after_any_number_of_good_ones_twenty_refused_are_enough() -> None:
    said = fed([[""] * 5000, *[[WRONG]] * LEAST])
    assert [trip is not None for trip in said] == [False] * LEAST + [True]


def test_a_batch_that_is_tried_again_counts_once() -> None:
    breaker = Breaker()
    assert [breaker.judge(PLACE, [WRONG]) for _ in range(100)] == [None] * 100


def parked(offset: int, reason: str = WRONG, *, sink: str = "search/customers", stage: str = "write") -> DeadLetter:
    place = ("bank.conformed.customers", 0, offset)
    return deadletter.letter(
        worker="w", stage=stage, reason=reason, place=place, key=b"k", value=None, headers=[], sink=sink
    )


def test_a_worker_that_is_started_again_after_it_tripped_goes_on_where_it_stopped() -> None:
    breaker = Breaker(lambda: [parked(offset) for offset in range(5, 5 + LEAST - 1)])
    breaker.begin(PLACE[0], 0, 5 + LEAST - 1, refused=True)
    assert breaker.judge(PLACE, [WRONG]) is not None


def test_only_letters_directly_before_are_looked_back_at_and_only_once() -> None:
    asked = []

    def lately() -> list[DeadLetter]:
        asked.append(1)
        return [parked(offset) for offset in range(100) if offset != 90]

    breaker = Breaker(lately)
    breaker.begin(PLACE[0], 1, 100, refused=True)
    breaker.begin(PLACE[0], 2, 100, refused=False)
    breaker.begin(PLACE[0], 2, 101, refused=True)
    breaker.begin(PLACE[0], 0, 100, refused=True)
    breaker.begin(PLACE[0], 0, 100, refused=True)
    assert breaker.judge(PLACE, [WRONG] * (LEAST - 10)) is None
    assert breaker.judge(PLACE, [WRONG] * (LEAST - 9)) is not None
    assert len(asked) == 2


@given(st.dictionaries(st.integers(0, 30), st.sampled_from(["a", "b", ""]), max_size=30), st.integers(0, 31))
def test_what_lies_before_an_offset_is_told_by_sink_up_to_the_first_that_was_not_parked(
    there: dict[int, str], offset: int
) -> None:
    letters = [parked(number, f"{number}", sink=sink) for number, sink in there.items()]
    held = parked(offset + 1, stage="held")
    found = outcomes_before([held, *letters], "bank.conformed.customers", 0, offset)
    behind = list(itertools.takewhile(there.__contains__, range(offset - 1, -1, -1)))
    assert found.keys() == {there[number] for number in behind}
    for sink, outcomes in found.items():
        assert outcomes == [f"{number}" if there[number] == sink else "" for number in reversed(behind)]


def test_topics_and_sinks_are_judged_each_for_itself() -> None:
    breaker = Breaker()
    for name in ("a", "b", "c"):
        breaker.remember((name, "store"), [WRONG] * (LEAST - 1))
    assert breaker.judge(("d", "store"), [WRONG]) is None
    assert breaker.judge(("a", "store"), [WRONG]) is not None


@given(st.lists(OUTCOMES, max_size=12))
def test_it_trips_only_on_twenty_alike_that_are_half_of_what_is_judged(batches: list[list[str]]) -> None:
    before: list[str] = []
    for batch, trip in zip(batches, fed(batches), strict=True):
        seen = [*before, *batch][-max(RECENT, len(batch)) :]
        most = max((seen.count(reason) for reason in {*batch} - {""}), default=0)
        assert (trip is not None) == (most >= LEAST and most >= SHARE * len(seen))
        if trip is not None:
            assert batch[trip.position] == trip.reason
            assert (trip.refused, trip.judged) == (most, len(seen))
        before += batch


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=40))
def test_a_poison_in_each_batch_of_good_ones_never_trips(batches: list[tuple[int, bool]]) -> None:
    assert not any(fed([[*[""] * (good + 2), *[WRONG] * poison] for good, poison in batches]))


@given(OUTCOMES, st.integers(1, 50))
def test_how_changes_are_cut_into_batches_hides_no_outage(outcomes: list[str], size: int) -> None:
    outage = [*outcomes, *[WRONG] * (2 * LEAST)]
    assert any(fed([outage[start : start + size] for start in range(0, len(outage), size)]))


def test_what_the_worker_ends_with_names_reason_number_example_and_the_way_on() -> None:
    said = tripped(Trip(WRONG, 37, 40, 2), *PLACE, "bank.conformed.customers/0/17")
    assert "search/customers refuses most of bank.conformed.customers" in said.problem
    assert "37 of 40" in said.detail
    assert WRONG in said.detail
    assert "bank.conformed.customers/0/17" in said.detail
    assert "breaker = false" in said.hint

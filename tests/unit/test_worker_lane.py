"""Lanes decide when a batch is written, kept, tried again; offsets never pass what is not durable."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from tailrace.health import Health
from tailrace.sink.lane import MESSAGE_OVERHEAD, Lane, Pool, pause, smallest
from tailrace.sink.report import Report
from tailrace.sink.writer import Batching


@dataclass(frozen=True)
class Note:
    """A message of a given offset and size."""

    number: int
    size: int = 0

    def topic(self) -> str:
        return "topic"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.number

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return b"x" * self.size

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return None


def lane(rows: int = 3, size: int = 10**6, linger: float = 0.0, *, begun: bool = True) -> Lane:
    return Lane(("topic", 0), Batching(rows, size, linger), Pool(12, 10**6), begun=begun)


def filled(numbers: range, found: Lane | None = None, now: float = 0.0) -> Lane:
    made = found or lane()
    for number in numbers:
        made.add(Note(number), now)
    return made


def test_an_empty_lane_has_nothing_to_start() -> None:
    assert lane().wait(0.0) is None


def test_batches_are_cut_at_rows_and_keep_the_order() -> None:
    found = filled(range(5))

    assert [message.offset() for message in found.take()] == [0, 1, 2]
    assert found.delivered() == 3
    assert [message.offset() for message in found.take()] == [3, 4]
    assert found.delivered() == 5
    assert found.size == 0


def test_batches_are_cut_at_bytes() -> None:
    found = lane(rows=100, size=2 * (MESSAGE_OVERHEAD + 10))
    for number in range(5):
        found.add(Note(number, size=10), 0.0)

    assert len(found.take()) == 2


def test_a_batch_in_flight_lets_nothing_else_start() -> None:
    found = filled(range(9))
    found.take()
    found.job = Future()

    assert found.wait(100.0) is None


def test_a_failed_batch_is_the_next_one_again_with_the_same_messages() -> None:
    found = filled(range(5))
    first = list(found.take())

    delay = found.failed("away", after=2.0, now=10.0)

    assert found.wait(10.0) == pytest.approx(delay)
    assert found.wait(10.0 + delay) == 0.0
    assert found.take() == first
    assert found.trouble == "away"
    assert found.delivered() == 3
    assert found.trouble == ""


def test_a_batch_lingers_until_it_is_large_or_old_enough() -> None:
    found = filled(range(2), lane(rows=3, linger=5.0), now=100.0)

    assert found.wait(101.0) == pytest.approx(4.0)
    assert found.wait(105.0) == 0.0
    found.add(Note(2), 101.0)
    assert found.wait(101.0) == 0.0


def test_a_lane_without_room_does_not_linger() -> None:
    found = filled(range(6), lane(rows=100, linger=5.0))

    assert found.full
    assert found.wait(0.0) == 0.0


def test_a_lane_is_full_while_what_it_holds_is_as_much_as_is_left() -> None:
    found = filled(range(6))
    assert found.full
    found.take()
    assert found.full  # a batch in flight is held too
    found.delivered()
    assert not found.full
    assert found.low


def test_busy_lanes_share_a_pool_evenly_and_one_that_comes_late_finds_room() -> None:
    pool = Pool(1200, 10**9)
    lanes = [Lane(("topic", partition), Batching(10**6, 10**9), pool) for partition in range(11)]
    for number in range(10_000):
        for each in lanes[:10]:
            if not each.full:
                each.add(Note(number), 0.0)

    assert pool.held_rows <= 1200
    assert min(len(each.buffer) for each in lanes[:10]) >= 100
    assert pool.left[0] >= 100
    assert not lanes[10].full


def test_no_more_is_asked_for_than_there_is_room_for() -> None:
    pool = Pool(10_000, 10**6)
    found = Lane(("topic", 0), Batching(), pool)
    assert pool.fetch(1000) == 100  # nobody knows yet how large they are

    for number in range(10):
        found.add(Note(number, size=50_000 - MESSAGE_OVERHEAD), 0.0)
    assert pool.fetch(1000) == 10
    found.release()
    assert pool.fetch(1000) == 20
    pool.take(10**6, 10**9)
    assert pool.fetch(1000) == 1


def test_a_lane_that_holds_nothing_is_never_full_and_lets_everything_go_at_the_end() -> None:
    pool = Pool(10, 10**9)
    crowded, empty = (Lane(("topic", partition), Batching(4), pool) for partition in range(2))
    filled(range(30), crowded)
    crowded.take()

    assert (crowded.full, empty.full, empty.low) == (True, False, True)
    crowded.release()
    assert (pool.held_rows, pool.held_bytes) == (0, 0)


def test_a_lane_begins_before_it_writes_and_tries_that_again_too() -> None:
    found = filled(range(1), lane(begun=False))
    assert found.wait(0.0) == 0.0

    found.failed("away", after=1.0, now=0.0)
    assert not found.begun
    assert found.delivered() is None
    assert found.begun
    assert len(found.buffer) == 1


def test_pauses_grow_with_jitter_and_have_an_end() -> None:
    assert 0.75 <= pause(1, 1.0) <= 1.0
    assert 3.0 <= pause(3, 1.0) <= 4.0
    assert pause(50, 1.0) <= 10.0
    assert pause(1, 120.0) >= 90.0


def test_a_write_that_does_not_come_back_is_said_where_the_worker_says_what_it_does() -> None:
    health, pool = Health("worker"), Pool(10, 10)
    hangs = Lane(("topic", 0), Batching(), pool, job=Future(), since=time.monotonic() - 45)
    Report(health).turn([hangs, lane()], pool)
    assert health.doing == "a batch is being written since 45 s"

    hangs.job, again = None, Health("worker")
    Report(again).turn([hangs], pool)
    assert again.doing == "running"


def test_sinks_of_one_topic_share_the_smallest_batches() -> None:
    assert smallest([Batching(500, 9, 0.0), Batching(50_000, 5, 2.0)]) == Batching(500, 5, 0.0)


def test_a_batch_that_is_put_back_comes_first_again_and_weighs_what_it_did() -> None:
    found = filled(range(5))
    before = found.size
    found.take()
    found.failed("away", 1.0, 0.0)

    found.anew()

    assert (found.size, found.wait(0.0), found.begun) == (before, 0.0, False)
    assert found.delivered() is None  # the sinks were told where it begins; nothing is durable by that
    assert [message.offset() for message in found.take()] == [0, 1, 2]

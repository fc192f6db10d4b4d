"""The proof can fail: with a deliberate bug the same crash and the same comparison end in differences.

Each bug is one function of the engine, changed in the worker's process alone (tests/bugs). The scenes are those in
which the engine as it is comes out equal, here or in test_crash_points.py.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer

from tailrace import topics
from tailrace.crashpoint import Processor, SinkWorker
from tailrace.deadline import Deadline, wait_for
from tailrace.errors import Unreachable
from tailrace.testing import parcel
from tests.conformed import PARTITIONS
from tests.mortal import Mortal, Parcels, Readings, with_bug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers import RunningStack

REBALANCES, REBALANCED_WITHIN = 6, 60.0


@contextmanager
def parcels_with(bug: str, stack: RunningStack, folder: Path, *only: str) -> Iterator[Parcels]:
    """Give sink workers that have a bug."""
    made = Parcels(folder / "project", stack.endpoints, only, bug)
    try:
        for worker in made.workers.values():
            worker.start()
        yield made
    finally:
        made.remove()


@contextmanager
def readings_with(bug: str, stack: RunningStack, folder: Path) -> Iterator[Readings]:
    """Give a processor that has a bug."""
    made = Readings(folder / "project", stack.endpoints, bug)
    made.apply()
    try:
        made.worker.start()
        yield made
    finally:
        made.remove()


def test_an_offset_committed_before_its_batch_is_written_is_a_difference_in_every_store(
    stack: RunningStack, tmp_path: Path
) -> None:
    with parcels_with("offset-before-write", stack, tmp_path, "dynamodb", "search", "lake") as parcels:
        for worker in parcels.workers.values():
            worker.order(SinkWorker.BATCH_TAKEN)
        parcels.send([parcels.put(parcel(number)) for number in range(90)])  # no row twice: any lost batch is seen
        for worker in parcels.workers.values():
            worker.wait_until_dead()
            worker.start()
        parcels.settle()
        found = parcels.differences()
    assert {line.partition(":")[0] for line in found if line.endswith("is missing")} == {"dynamodb", "search", "lake"}


def test_a_letter_that_nobody_waits_for_is_a_difference_after_a_kill(stack: RunningStack, tmp_path: Path) -> None:
    with parcels_with("letter-not-awaited", stack, tmp_path, "search") as parcels:
        parcels.traffic()
        parcels.settle()
        parcels.workers["search"].end()
        parcels.workers["search"].start()
        parcels.settle()
        assert parcels.differences() == ["search: not parked: poison 300"]


def woken(parcels: Parcels, bug: str, numbers: range) -> list[str]:
    """Stop a worker in a batch, have its successor write newer rows, wake it up; return what then differs."""
    zombie = parcels.workers["dynamodb"]
    zombie.order(SinkWorker.BATCH_TAKEN, "stop")
    parcels.send([parcels.put(parcel(number, note="old")) for number in numbers])
    sleeping = zombie.wait_until_stopped()
    successor = Mortal(parcels.folder, "sink", "dynamodb", **with_bug(bug))
    try:
        successor.start()  # the same static member: the group is its at once
        parcels.send([parcels.put(parcel(number, note="new"), before=parcels.rows[number]) for number in numbers])
        parcels.settle()
        assert parcels.differences() == []
        sleeping.resume()
        wait_for(lambda: zombie.process and zombie.process.poll() is not None, timeout=60, what="the zombie's end")
        found = parcels.differences()
    finally:
        successor.end()
    zombie.start()
    return found


@pytest.mark.parametrize(("bug", "wakings"), [("", 1), ("unguarded-put", 5)])
def test_a_put_without_its_guard_is_a_difference_after_a_zombie_has_woken_up(
    stack: RunningStack, tmp_path: Path, bug: str, wakings: int
) -> None:
    """A zombie that hears at once that it was replaced ends before it writes, so several have to wake up."""
    found: list[str] = []
    with parcels_with(bug, stack, tmp_path, "dynamodb") as parcels:
        for waking in range(wakings):
            first = 100 * waking * PARTITIONS
            found = found or woken(parcels, bug, range(first, first + 20 * PARTITIONS, PARTITIONS))
    assert bool(found) is bool(bug), found
    assert all(line.endswith("is different") for line in found)


def test_images_that_are_not_in_the_changelog_are_a_difference_after_a_kill(
    stack: RunningStack, tmp_path: Path
) -> None:
    with readings_with("state-without-changelog", stack, tmp_path) as readings:
        readings.worker.order(Processor.OFFSETS_COMMITTED)
        readings.traffic()
        readings.worker.wait_until_dead()
        readings.worker.start()
        readings.touch()
        readings.settle()
        found = readings.differences()
    assert any("was not sent: its TOAST value is unchanged" in line for line in found), found
    assert any("is different" in line for line in found), found


class Crowd:
    """A member of the processor's group that comes and goes, and commits nothing: each time two rebalances."""

    def __init__(self, readings: Readings) -> None:
        self._topic = readings.raw
        self._config = {
            "bootstrap.servers": readings.endpoints.kafka, "group.id": topics.group(readings.name, "conform"),
            "partition.assignment.strategy": "roundrobin", "enable.auto.commit": False, "log_level": 2,
            "session.timeout.ms": 6000, "heartbeat.interval.ms": 200,
        }  # fmt: skip

    def come_and_go(self) -> None:
        """Join the group, have a partition for a moment, and leave."""
        consumer, joined = Consumer(self._config), threading.Event()
        consumer.subscribe([self._topic], on_assign=lambda *_: joined.set())
        end = Deadline.after(REBALANCED_WITHIN)
        while not joined.is_set() and not end.passed():
            consumer.poll(0.1)
        consumer.close()
        assert joined.is_set(), "the group takes no member"


@contextmanager
def load(readings: Readings, start: int) -> Iterator[None]:
    """Write one row after the other as long as it lasts."""
    over = threading.Event()

    def write() -> None:
        number = start
        while not over.wait(0.01):
            readings.put(number, "c")
            readings.outbox.flush(30)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def wait_until_beyond(readings: Readings, offset: int) -> None:
    """Wait until what came after a moment is committed, so that what was before it was seen or dropped."""
    wait_for(lambda: sum(readings.committed().values()) > offset, timeout=60, what=f"{offset} to be committed")


def settle_with_more(readings: Readings, start: int) -> None:
    """Write a row into each partition until all is committed: the last batch may be one that was dropped."""
    numbers = itertools.count(start, readings.partitions)

    def settled() -> bool:
        first = next(numbers)
        for number in range(first, first + readings.partitions):
            readings.put(number, "c")
        readings.outbox.flush(30)
        try:
            readings.settle(timeout=5)
        except Unreachable:
            return False
        return True

    wait_for(settled, timeout=60, what="a time without rebalances")


def test_a_batch_that_is_dropped_across_a_rebalance_is_a_difference(stack: RunningStack, tmp_path: Path) -> None:
    found: list[str] = []
    with readings_with("batch-dropped", stack, tmp_path) as readings:
        crowd, turns = Crowd(readings), 0
        readings.put(1, "c")
        readings.outbox.flush(30)
        readings.settle()  # it is a member by now
        while not found and turns < REBALANCES:
            turns += 1
            with load(readings, 10_000 * turns):
                crowd.come_and_go()
                wait_until_beyond(readings, sum(readings.ends().values()))
            settle_with_more(readings, 10_000 * turns + 5_000)
            found = readings.differences()
    assert found, f"{turns} members came and went"
    assert all(line.endswith("is missing") for line in found), found
